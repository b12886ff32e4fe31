"""counters: who uses how much right now. `admit` lets a request in with a Lease, or refuses it; it is told the time.

The memory kind is for one process. It keeps a key's numbers while they mean anything: two minutes, or as long as one of
the key's requests runs.
"""

from typing import Protocol

import msgspec

from relay.errors import Overloaded, RateLimited
from relay.keys import Key
from relay.limits import MINUTE, Use, check, left
from relay.line import Line, NoTurn

_SOON = 1.0  # seconds after which to ask again for what hangs on another request's end

Reading = tuple[str, int, int]  # a limit's name, the limit, and what was left of it once the request was counted


class Lease(Protocol):
    """A request's hold on its key's limits, and what was read of them. One that `waits` has to `enter` first."""

    @property
    def read(self) -> tuple[Reading, ...]: ...
    @property
    def waits(self) -> bool: ...

    async def enter(self, within: float) -> None:
        """Wait until there is room, at most so many seconds. Raises Overloaded when there is none in time."""

    def settle(self) -> None:
        """Give back what only a running request holds. Once is enough, and more than once does no harm."""


class Counters(Protocol):
    def admit(self, key: Key, now: float) -> Lease:
        """Count one request at `now`, in seconds since 1970. Raises RateLimited with the wait in `retry_after`.

        Raises Overloaded when the key runs all that it may at a time, and nobody more may wait.
        """

    def queue(self, size: int, patience: float) -> None:
        """From now on so many requests of a key may wait while all that it may run at a time do, for so many seconds.

        None wait where this was never said.
        """


class Free(msgspec.Struct, eq=False, gc=False):  # gc: values alone are in no circle
    """Holds nothing."""

    read: tuple[Reading, ...] = ()
    waits: bool = False

    async def enter(self, within: float) -> None:
        """There is room."""

    def settle(self) -> None:
        """There is nothing to give back."""


FREE = Free()


class Slot:
    """One of the requests that a key may run at a time; it waits while all of them run."""

    __slots__ = ("_holds", "_key", "_line", "_use", "read", "waits")

    def __init__(self, key: Key, use: Use, line: Line, read: tuple[Reading, ...]) -> None:
        self._key = key
        self._use = use
        self._line = line
        self.read = read
        self._holds = False
        self.waits = True

    def take(self) -> None:
        """Run from now on."""
        self._use.running += 1
        self._holds = True
        self.waits = False

    async def enter(self, within: float) -> None:
        """See Lease."""
        try:
            await self._line.wait(within)
        except NoTurn as fault:
            raise _full(self._key, self.read) from fault
        self.take()

    def settle(self) -> None:
        """See Lease."""
        if self._holds:
            self._holds = False
            use, line = self._use, self._line
            use.running -= 1
            while line.waiting and use.running + line.called < use.limit:  # which may be another one by now
                line.next()


class MemoryCounters:
    def __init__(self) -> None:
        self._size, self._patience = 0, 0.0
        self._uses: dict[str, Use] = {}
        self._lines: dict[str, Line] = {}
        self._tidied = 0.0

    def __len__(self) -> int:
        """How many keys are kept."""
        return len(self._uses)

    def queue(self, size: int, patience: float) -> None:
        """See Counters."""
        self._size, self._patience = size, patience
        for line in self._lines.values():
            line.change(size, patience)

    def admit(self, key: Key, now: float) -> Lease:
        """See Counters."""
        rpm, limit = key.rpm, key.concurrency
        if rpm is None and limit is None:
            return FREE
        use = self._uses.get(key.id) or self._begin(key.id, now)
        wait = check(rpm, use, now)
        if wait is not None:
            raise _over_rate(key, wait)
        read: tuple[Reading, ...] = () if rpm is None else (("rpm", rpm, left(rpm, use, now) - 1),)
        lease = Free(read) if limit is None else self._slot(key, limit, use, read)
        use.current += 1
        return lease

    def _slot(self, key: Key, limit: int, use: Use, read: tuple[Reading, ...]) -> Slot:
        """A place among those that run, or in the line for one. Raises Overloaded."""
        line = self._lines.get(key.id) or self._lines.setdefault(key.id, Line(self._size, self._patience))
        use.limit = limit
        free = limit - use.running - line.called
        slot = Slot(key, use, line, (*read, ("concurrency", limit, max(0, free - 1))))
        if free > 0:
            slot.take()
        elif line.is_full:
            raise _full(key, slot.read)
        return slot

    def _begin(self, key_id: str, now: float) -> Use:
        # Only a new key makes this grow, so only then is it tidied, at most once a minute.
        minute = now // MINUTE * MINUTE
        if minute != self._tidied:
            last = minute - MINUTE
            self._uses = {kept: use for kept, use in self._uses.items() if use.running or use.minute >= last}
            self._lines = {kept: line for kept, line in self._lines.items() if kept in self._uses}
            self._tidied = minute
        return self._uses.setdefault(key_id, Use())


def _over_rate(key: Key, wait: float) -> RateLimited:
    limit = f"{key.rpm} requests a minute; the next one fits in {wait:.3f} s"
    read = ("rpm", key.rpm or 0, 0)
    return RateLimited(f"The key {key.name!r} is limited to {limit}.", retry_after=wait, read=(read,))


def _full(key: Key, read: tuple[Reading, ...]) -> Overloaded:
    limit = f"{key.concurrency} requests at a time and all of them run; try again in 1 s, or when one ends"
    return Overloaded(f"The key {key.name!r} is limited to {limit}.", retry_after=_SOON, read=read)
