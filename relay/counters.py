"""counters: who uses how much right now. `admit` lets a request in with a Lease, or refuses it; it is told the time.

The memory kind is for one process. It keeps a key's numbers while they mean anything: two minutes, or as long as one of
the key's requests runs.
"""

from typing import Protocol

from relay.errors import RateLimited
from relay.keys import Key
from relay.limits import MINUTE, Use, check


class Lease(Protocol):
    """A request's hold on its key's limits."""

    def settle(self) -> None:
        """Give back what only a running request holds. Once is enough, and more than once does no harm."""


class Counters(Protocol):
    def admit(self, key: Key, now: float) -> Lease:
        """Count one request at `now`, in seconds since 1970. Raises RateLimited with the wait in `retry_after`."""


class Free:
    """Holds nothing."""

    __slots__ = ()

    def settle(self) -> None:
        pass


FREE = Free()


class Slot:
    """One of the requests that a key may run at a time."""

    __slots__ = ("_use",)

    def __init__(self, use: Use) -> None:
        use.running += 1
        self._use: Use | None = use

    def settle(self) -> None:
        if self._use is not None:
            self._use.running -= 1
            self._use = None


class MemoryCounters:
    def __init__(self) -> None:
        self._uses: dict[str, Use] = {}
        self._tidied = 0.0

    def __len__(self) -> int:
        """How many keys are kept."""
        return len(self._uses)

    def admit(self, key: Key, now: float) -> Lease:
        if key.rpm is None and key.concurrency is None:
            return FREE
        use = self._uses.get(key.id) or self._begin(key.id, now)
        wait = check(key, use, now)
        if wait is not None:
            raise _refusal(key, use, wait)
        use.current += 1
        return FREE if key.concurrency is None else Slot(use)

    def _begin(self, key_id: str, now: float) -> Use:
        # Only a new key makes this grow, so only then is it tidied, at most once a minute.
        minute = now // MINUTE
        if minute != self._tidied:
            self._uses = {kept: use for kept, use in self._uses.items() if use.running or use.minute >= minute - 1}
            self._tidied = minute
        return self._uses.setdefault(key_id, Use())


def _refusal(key: Key, use: Use, wait: float) -> RateLimited:
    if key.concurrency is not None and use.running >= key.concurrency:
        limit = f"{key.concurrency} requests at a time and all of them run; try again in {wait:.0f} s, or when one ends"
    else:
        limit = f"{key.rpm} requests a minute; the next one fits in {wait:.3f} s"
    return RateLimited(f"The key {key.name!r} is limited to {limit}.", retry_after=wait)
