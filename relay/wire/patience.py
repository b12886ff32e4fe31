"""Patience: how long an answer may take, and how slowly it may come. Knows seconds and bytes; no connection."""

from time import monotonic
from typing import NamedTuple

import msgspec

from relay.exchange import Timeouts

PACE_WINDOW = 30.0  # seconds over which an answer's pace is averaged


class Deadline(NamedTuple):
    """Until the caller hears something: `within` seconds of the request's beginning, which is `at` that moment."""

    within: float
    at: float

    @classmethod
    def of(cls, within: float) -> "Deadline":
        """The one of a request that begins now."""
        return cls(within, monotonic() + within)

    def left(self) -> float:
        """Seconds from now on; 0 when it is over."""
        return max(0.0, self.at - monotonic())

    def late(self, upstream: str) -> str:
        """What is wrong when it is over."""
        why = f"did not answer within {self.within:.3g} seconds, all that the caller, or retry.deadline, allows"
        return f"Upstream {upstream!r} {why}."


class Pace(msgspec.Struct):
    """Whether an answer comes at `limit` bytes a second: it came to `volume` bytes `since` that monotonic moment.

    `since` is moved on by the time in which it was the answer's taker who held things up.
    """

    limit: float
    since: float
    volume: int = 0

    def late(self, upstream: str, now: float) -> str | None:
        """What is wrong, if a window is over and too little came in it; the next window begins when one is over.

        A window in which nothing came is mere silence, for which there is a limit of its own.
        """
        seconds = now - self.since
        if seconds < PACE_WINDOW:
            return None
        volume, self.volume, self.since = self.volume, 0, now
        if 0 < volume < self.limit * seconds:
            return f"The answer of upstream {upstream!r} came more slowly than {self.limit:g} bytes a second."
        return None


def late(
    upstream: str, timeouts: Timeouts, now: float, *, sent_at: float, read_at: float | None, deadline: Deadline | None
) -> str | None:
    """What is wrong with an answer that is not whole at that moment; None when it has time.

    `read_at` is when its body was read from for the last time; None before its head is in. `deadline` is None once the
    caller has got something of it.
    """
    if deadline is not None and now >= deadline.at:
        return deadline.late(upstream)
    limit, since, what = timeouts.first_byte, sent_at, "did not answer"
    if read_at is not None:
        limit, since, what = timeouts.idle, read_at, "fell silent in the middle of its answer"
    if now - since >= limit:
        return f"Upstream {upstream!r} {what} for {limit:g} seconds."
    if timeouts.total is not None and now - sent_at >= timeouts.total:
        return f"Upstream {upstream!r} took longer than {timeouts.total:g} seconds in all."
    return None
