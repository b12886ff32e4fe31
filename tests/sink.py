"""A Sink that keeps what is written to it, for a test to look at."""

from collections.abc import Callable, Sequence

from relay.call.sink import Passage
from relay.exchange import Header, Lines, headers, unframed


class KeptSink:
    """`on_end` is called when the last piece is sent, just before it is kept; `slow`: the client wants no more yet."""

    def __init__(self, on_end: Callable[[], None] = lambda: None) -> None:
        self.gone = False
        self.slow = False
        self.status = 0
        self.headers: Sequence[Header] = ()
        self.length: int | None = None
        self.body = b""
        self.ended = self.aborted = False
        self.waits = 0
        self.torn = False  # within an event that came in parts
        self.chunks = 0  # pieces that came as they were framed
        self.period = 0.0
        self._on_end = on_end

    def answer(self, status: int, told: Lines, body: bytes) -> None:
        self.start(status, told, len(body))
        self.end(body)

    def start(self, status: int, told: Lines, length: int | None) -> None:
        assert (self.status, self.over) == (0, False)
        self.status, self.headers, self.length = status, headers(told), length

    def beat(self, period: float) -> None:
        assert self.status
        self.period = period

    def write(self, piece: bytes) -> bool:
        assert self.status
        assert not self.over
        self.body += piece
        return self.slow

    def part(self, piece: bytes, ends: bool) -> bool:
        self.torn = not ends
        return self.write(piece)

    def passage(self) -> Passage:
        return self

    @property
    def full(self) -> bool:
        return self.slow

    def now(self, framed: bytes) -> None:
        self.chunks += 1
        self.write(unframed(framed, framed.index(b"\r\n") + 2))

    def end(self, piece: bytes = b"") -> None:
        assert self.status
        assert not self.over
        self._on_end()
        self.body += piece
        self.ended = True

    def abort(self) -> None:
        assert not self.over
        self.aborted = True

    async def drained(self) -> None:
        self.waits += 1
        self.slow = False

    @property
    def over(self) -> bool:
        return self.ended or self.aborted

    def header(self, name: bytes) -> bytes | None:
        found = [value for each, value in self.headers if each == name]
        assert len(found) <= 1
        return found[0] if found else None
