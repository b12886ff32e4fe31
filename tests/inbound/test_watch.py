"""Watch: who asks to be looked at is, as long as it says so, whatever others want."""

import asyncio
from dataclasses import dataclass, field

from relay.inbound.watch import Watch


@dataclass(eq=False)
class Heard:
    """Wants `times` looks, and is `over` after the last of them."""

    times: int
    looks: list[float] = field(default_factory=list)
    over: asyncio.Event = field(default_factory=asyncio.Event)

    def look(self, period: float) -> bool:
        self.looks.append(period)
        if len(self.looks) == self.times:
            self.over.set()
        return len(self.looks) < self.times


async def test_each_is_looked_at_until_it_says_so() -> None:
    watch, once, often, other = Watch(), Heard(1), Heard(3), Heard(2)

    watch.hear(once, 0.001)
    watch.hear(often, 0.001)
    watch.hear(often, 0.001)
    watch.hear(other, 0.002)
    async with asyncio.timeout(5):
        await often.over.wait()
        await other.over.wait()

    assert [0.001] == once.looks
    assert [0.001] * 3 == often.looks
    assert [0.002] * 2 == other.looks


async def test_one_that_comes_after_all_have_gone_is_looked_at_too() -> None:
    watch, first, second = Watch(), Heard(1), Heard(1)

    for each in (first, second):
        watch.hear(each, 0.001)
        async with asyncio.timeout(5):
            await each.over.wait()
        await asyncio.sleep(0)

    assert [0.001] == first.looks == second.looks
