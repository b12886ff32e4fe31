"""One HTTP exchange with an upstream, as every engine speaks it: Request, Reply, Engine. Knows no engine, no provider.

A Reply is pushed, not pulled: `pump` calls `take(piece, last)` once for each read from the network, so that a piece
costs one plain call and no task switch. `take` answers True to say "hold on", and pump then reads no more until
`drained()` returns: that is the whole of back-pressure.
"""

from collections.abc import AsyncIterable, Awaitable, Callable, Coroutine, Iterable
from dataclasses import dataclass
from typing import Any, Protocol

import msgspec

# Statuses by which the relay decides: the first that is no success, the first of an error, and one of these.
FINAL = range(200, 600)  # what the head of an answer can say: below are those that only announce it
NO_SUCCESS, ERROR = 300, 400
RATE_LIMITED = 429
BODILESS = frozenset({204, 304})  # answers that end with their heads, whatever these say of a length (RFC 9112, 6.3)

UNSENT = "nothing of the request had gone out"  # a note of a CancelledError for which that is so
JOINED_MAX = 16 << 10  # bytes of a request's body that are cheaper copied than sent in pieces, or beside its head

Header = tuple[bytes, bytes]  # names in lower case
Lines = bytes  # headers as they stand in a head: each `name: value` with its line end
Body = bytes | tuple[bytes | memoryview, ...]  # of a request: whole, or a long one in pieces, of which few were copied
Upload = Body | AsyncIterable[bytes]  # and one of unknown length as it comes
Take = Callable[[bytes, bool], bool]
Chunk = Callable[[bytes, int], bool]  # of a chunk of HTTP/1.1 as it stands, and where the piece in it begins
Drained = Callable[[], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds. `first_byte` runs from the sent request to the answer's head, `idle` between two reads of its body.

    `pace` is in bytes a second, averaged over 30 s: an answer that comes more slowly is given up. None is no limit.
    """

    connect: float = 5.0
    first_byte: float = 600.0
    idle: float = 120.0
    total: float | None = None
    pace: float | None = None


class Request(msgspec.Struct, eq=False):
    """What is asked, but for the body, so that one is made for all that a client asks of an upstream.

    `target` is the path with its query; `headers` lack host, connection and framing, which are the engine's.
    `written` is the engine's: the head as it sends it, kept from the first time on.
    """

    method: bytes
    target: bytes
    headers: tuple[Header, ...]
    written: bytes | None = None


class Reply(Protocol):
    """An answer whose head is in. Either pump it to its end or abort it; both give its connection back.

    Of one that is here as a whole already that is `whole`, and no connection is left to be given back.
    """

    @property
    def status(self) -> int: ...
    @property
    def headers(self) -> tuple[Header, ...]: ...
    @property
    def reused(self) -> bool: ...
    @property
    def connect_ms(self) -> float | None: ...
    @property
    def whole(self) -> bytes | None: ...

    async def pump(self, take: Take, drained: Drained, chunk: Chunk | None = None, /) -> None:
        """Call `take` for every piece, the last one (perhaps empty) with last=True; return then, and await nothing.

        A client that has the last piece may ask again at once, over the same connection. What begins as one chunk of
        its size is offered to `chunk` first, so that it need not be framed anew: True if that has dealt with it,
        having seen that it ends as one.

        Raises UpstreamError when the body ends early, UpstreamTimeout when it stalls. Cancelled, it closes the
        connection at once and without an await.
        """

    def begun(self) -> None:
        """The caller has got something of it: how long he waits for that counts no more."""

    def abort(self) -> None:
        """Close the connection now; nothing happens when the answer is already over."""


class Engine(Protocol):
    """A way to reach one upstream's origin."""

    @property
    def running(self) -> int:
        """How many requests it has: those whose answer is under way, and those that wait for a connection."""

    def open(
        self, request: Request, body: Upload, within: float | None = None, fresh: bool = False
    ) -> Coroutine[Any, Any, Reply]:
        """Send `request` with `body`, and return when the head of the answer is in.

        Within `within` seconds from now, waiting for a connection included, the reply has to be `begun`; None leaves it
        to the timeouts.

        Raises UpstreamError (refused, reset, garbage), UpstreamTimeout (connect, first byte, `within`), Overloaded (no
        free connection in time, or too many who wait for one). The fault's `sent` is False where the upstream cannot
        have seen anything of the request, and `stale` True where a kept connection was closed before a byte of an
        answer came: whoever asks once more wants a `fresh` one, and has it unless all are busy. Cancelled, it closes
        the connection at once; where that came before the request had gone out, the CancelledError has the note UNSENT.
        """

    def retire(self) -> None:
        """Another engine has taken its place: idle connections close now, each other one when its answer ends.

        Requests that still hold it may go on to use it. When nothing runs any more, nothing is left open.
        """

    async def close(self) -> None:
        """Close every connection; requests that still run are cut. Nobody may wait for one any more."""


def joined(body: Body) -> bytes:
    """A request's body as one."""
    return body if isinstance(body, bytes) else b"".join(body)


def unframed(framed: bytes, begin: int) -> bytes:
    """The piece in a Chunk."""
    return framed[begin:-2]


def lines(headers: Iterable[Header]) -> Lines:
    """Headers as they stand in a head."""
    return b"".join([b"%b: %b\r\n" % header for header in headers])


def headers(lines: Lines) -> list[Header]:
    """The headers in what `lines` made."""
    return [(name, value) for name, _, value in (line.partition(b": ") for line in lines.split(b"\r\n")[:-1])]
