"""Three times as much as the upstream can do: it does all that it can, and who is too much is told so at once."""

import asyncio
import time
from dataclasses import dataclass, field

import pytest

from tests.client import chat, request
from tests.process import KEY, RelayProcess, Start
from tests.upstream import Pause, Upstream, response
from tests.waiting import until

PLACES, TAKES = 20, 0.2  # connections, and seconds that each answer takes
CAPACITY = PLACES / TAKES  # answers a second
SECONDS, OFFERED = 60, int(3 * CAPACITY)  # requests a second
LINE = 10
GROWTH = 4 << 20  # bytes, half of them the cache of the store that it is still filling
FINE = (Pause(TAKES), response({"choices": []}))


@dataclass(frozen=True, slots=True)
class Told:
    """An answer: when it was whole, and after how many seconds."""

    status: int
    head: bytes
    at: float
    took: float


@dataclass
class Crowd:
    """Clients who come at their own times, whether or not those before them were answered."""

    port: int
    asked: bytes
    told: list[Told] = field(default_factory=list)
    _idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = field(default_factory=list)

    async def come(self, count: int, rate: float) -> None:
        """So many of them, `rate` a second. Returns when all were answered."""
        began = time.monotonic()
        async with asyncio.TaskGroup() as coming:
            for number in range(count):
                await asyncio.sleep(began + number / rate - time.monotonic())
                coming.create_task(self._one())
        for _, writer in self._idle:
            writer.close()

    async def _one(self) -> None:
        kept = self._idle.pop() if self._idle else None
        reader, writer = kept or await asyncio.open_connection("127.0.0.1", self.port)
        began = time.monotonic()
        writer.write(self.asked)
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        await reader.readexactly(int(head.partition(b"content-length: ")[2].split(b"\r\n")[0]))
        now = time.monotonic()
        self.told.append(Told(int(head.split()[1]), head, now, now - began))
        self._idle.append((reader, writer))


def offer(relay: RelayProcess, model: str, count: int, rate: float) -> list[Told]:
    crowd = Crowd(relay.port, request(chat(model), key=KEY))
    asyncio.run(crowd.come(count, rate))
    return crowd.told


@pytest.fixture
def relay(start: Start, upstream: Upstream) -> RelayProcess:
    base = f"http://127.0.0.1:{upstream.port}/v1"
    return start(
        upstreams={"script": {"base_url": base, "max_connections": PLACES}}, queue={"size": LINE, "wait": "2s"}
    )


@pytest.mark.timeout(180)
def test_three_times_as_much_as_there_is_room_for(relay: RelayProcess, upstream: Upstream, model: str) -> None:
    upstream.play(model, *FINE)
    before = offer(relay, model, int(CAPACITY), CAPACITY / 2)
    assert {200} == {each.status for each in before}
    before += offer(relay, model, 2 * OFFERED, OFFERED)  # what it needs once, it needs once
    usual = relay.memory()
    relay.forget_peak()
    began = time.monotonic()

    told = offer(relay, model, SECONDS * OFFERED, OFFERED)

    ended = time.monotonic()
    grown = relay.peak() - usual
    served = [each for each in told if each.status == 200]
    refused = sorted(each.took for each in told if each.status == 503)
    assert SECONDS * OFFERED == len(told) == len(served) + len(refused)
    in_time = sum(each.at - began < SECONDS for each in served)
    took = [refused[len(refused) * share // 100] for share in (50, 99)]
    print(f"{in_time / SECONDS / CAPACITY:.0%} of the capacity; refused in {took}; {grown >> 10} KB more")  # noqa: T201
    assert in_time >= 0.9 * SECONDS * CAPACITY
    assert all(b"\r\nretry-after: 1\r\n" in each.head for each in told if each.status == 503)
    assert took[1] < 0.05  # not the slowest of all: the machine has other things to do
    assert max(each.took for each in served) < TAKES + LINE / CAPACITY + 1  # nobody waited behind more than the line
    assert grown < GROWTH

    assert until(lambda: relay.ask(chat(model)).status == 200)
    after = offer(relay, model, int(CAPACITY), CAPACITY / 2)
    assert time.monotonic() - ended < 5
    assert {200} == {each.status for each in after}
    assert sorted(each.took for each in after)[len(after) // 2] < TAKES + 0.05
    assert 0 == relay.stop()
    rows = relay.log(2 * SECONDS * OFFERED)
    expected = len(before) + len(told) + len(after) + 1
    assert expected == len(rows) == len({row["id"] for row in rows})
