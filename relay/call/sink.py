"""Sink: where an answer is written to, whatever server is behind it. The story writes, a face of inbound sends."""

from collections.abc import Callable
from typing import Protocol

from relay.exchange import Lines

# A comment of an event stream, without the blank line that some clients would take for an event's end.
PING = b": ping\n"
LOOKS = 2  # a period's: silence is noticed when as many looks have seen nothing new


class Passage(Protocol):
    """A connection over which whole chunks of HTTP/1.1 go on as they stand, for as long as nothing is settled."""

    @property
    def now(self) -> Callable[[bytes], object]:
        """Sends one. Raises RuntimeError where the connection is closed; nothing has come of it then."""

    @property
    def full(self) -> bool:
        """The client is slow: what more there is goes through the sink's `write`, which tells to wait."""


class Sink(Protocol):
    """Writes are plain calls; only waiting for room is awaited. A head goes out together with the first bytes."""

    @property
    def gone(self) -> bool:
        """The client has left."""

    def answer(self, status: int, told: Lines, body: bytes) -> None:
        """Send a whole answer: `start` and `end` in one."""

    def start(self, status: int, told: Lines, length: int | None) -> None:
        """Set the head: what it tells but for the framing. `length` of the body in bytes, None when it is not known."""

    def beat(self, period: float) -> None:
        """From now on send PING whenever nothing was written for `period` seconds."""

    def write(self, piece: bytes) -> bool:
        """Send a piece of the body. True when the client is slow: then wait for `drained` before writing more."""

    def part(self, piece: bytes, ends: bool) -> bool:
        """Send a piece of an event that is too large to be held, as `write` does. No PING until a piece `ends` it."""

    def passage(self) -> Passage | None:
        """Where whole chunks go as they came; None where they have to be framed anew, or looked at."""

    def end(self, piece: bytes = b"") -> None:
        """Send the last piece and end the answer, in one."""

    def abort(self) -> None:
        """Break the connection, so that what was sent cannot be taken for whole."""

    async def drained(self) -> None:
        """Return when there is room again."""
