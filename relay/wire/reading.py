"""Reading: one answer as it is read: its head, its body as it comes, its end. Knows no socket, and nobody who waits.

Nearly all answers need no parser at their beginning: their heads are those of the last answers on their connection.
"""

import httptools

from relay.errors import UpstreamError, UpstreamFault
from relay.exchange import BODILESS, FINAL, Header
from relay.repeat import Repeat
from relay.wire.opening import Opening, Said

_HEAD_MAX = 256 * 1024  # bytes of an answer's head, its informational answers included
_LINES_MAX = 1000  # headers of an answer: of the shortest, each takes ten times the memory of its bytes
_INFORMATIONAL_MAX = 32  # 1xx answers before the real one
_INFORMATIONAL = range(100, 200)
_SWITCHING = 101


class Reading:
    """What is known of the answer under way, and of those before it on the same connection.

    `name` is the upstream's. What is wrong with an answer is left in `_fault`.
    """

    __slots__ = (
        "_between", "_body", "_clean", "_ended", "_fault", "_head", "_head_size", "_informational", "_lines", "_name",
        "_opening", "_parser", "_repeat", "_reusable", "_untold", "headers", "status",
    )  # fmt: skip

    def __init__(self, name: str) -> None:
        self._name = name
        self._parser = httptools.HttpResponseParser(self)
        self._repeat: Repeat[Said] = Repeat()
        self._opening = Opening()
        self._untold = b""  # a head that the parser has still to be told of

    def _start_over(self, *, clean: bool) -> None:
        """Be ready for the next answer. `clean`: it may be one of those that need no parser."""
        self.status = 0
        self.headers: tuple[Header, ...] = ()
        self._lines: list[Header] = []  # of the head that is coming
        self._fault: UpstreamFault | None = None
        self._body: list[bytes] = []  # what has come of it and was not handed on
        self._head_size = self._informational = 0
        self._clean = clean  # nothing was read since
        self._head = False  # the final head is in
        self._ended = False  # the answer is whole
        self._between = False  # two chunks: the next byte begins one
        self._reusable = False

    def _read(self, data: bytes) -> None:
        """Take in what has come of the answer."""
        if self._clean and (piece := self._opening.piece(data)) is not None:
            self.status, self.headers = self._opening.known
            self._untold, self._clean = self._opening.head, False
            self._head = self._between = True
            self._body.append(piece)
        else:
            self._parse(data)

    def _parse(self, data: bytes) -> None:
        began, self._clean = self._clean, False
        told, self._untold = self._untold + data, b""
        try:
            self._parser.feed_data(told)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._reusable = False
            if not self._ended:  # what comes after an answer does not make it a bad one
                self._fault = self._fault or UpstreamError(f"Upstream {self._name!r} sent something that is not HTTP.")
        if self._between and not data.endswith(b"\n"):
            self._between = False  # the size of the next chunk has begun to come
        if not self._head:
            self._head_size += len(data)
            if self._head_size > _HEAD_MAX:
                self._fault = self._too_large()
        elif began and self._fault is None and self.status not in BODILESS:  # of these no length says what follows
            found = self._repeat if self._reusable else self._opening  # whole, or begun
            found.learn(data, b"".join(self._body), (self.status, self.headers))

    # --- as the parser tells it

    def on_message_begin(self) -> None:
        if self._ended:
            self._reusable = False  # it goes on after its answer

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._head:
            return  # a trailer, or known before
        if len(self._lines) == _LINES_MAX:
            self._fault = self._too_large()
        else:
            self._lines.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        if self._head:
            return
        self.status = self._parser.get_status_code()
        if self.status in FINAL:
            self._head = True
            self.headers = tuple(self._lines)
        elif self.status == _SWITCHING:
            self._fault = UpstreamError(f"Upstream {self._name!r} wanted to switch protocols.")
        elif self.status not in _INFORMATIONAL:
            self._fault = UpstreamError(
                f"Upstream {self._name!r} answered with the status {self.status}, which is none."
            )

    def on_body(self, piece: bytes) -> None:
        if not self._ended:
            self._body.append(piece)

    def on_chunk_header(self) -> None:
        self._between = False

    def on_chunk_complete(self) -> None:
        self._between = True

    def on_message_complete(self) -> None:
        self._between = False
        if self._head:
            self._reusable = not self._ended and self._parser.should_keep_alive()
            self._ended = True
            return
        self._lines = []
        self._informational += 1
        if self._informational > _INFORMATIONAL_MAX:
            self._fault = UpstreamError(f"Upstream {self._name!r} sent too many informational answers.")

    def _too_large(self) -> UpstreamError:
        return UpstreamError(f"Upstream {self._name!r} sent too large a head.")
