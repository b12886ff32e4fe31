"""What a caller does with an engine: a request, and a taker that keeps what it is given."""

import asyncio
from collections.abc import Callable

from relay.exchange import Engine, Header, Reply, Request, Upload, unframed
from tests.upstream import piece

Asked = tuple[Request, Upload]  # what `open` takes
HEADERS: tuple[Header, ...] = ((b"authorization", b"Bearer k"), (b"accept-encoding", b"identity"))


def post(body: Upload = b"{}", target: bytes = b"/chat") -> Asked:
    return Request(b"POST", target, HEADERS), body


class Taker:
    """Keeps what it takes. `hold` says to hold on after every piece, until `go` is set."""

    def __init__(self, *, hold: bool = False) -> None:
        self.pieces: list[bytes] = []
        self.framed = 0  # pieces that came as chunks
        self.lasts = 0
        self.hold = hold
        self.held = asyncio.Event()
        self.go = asyncio.Event()
        self.some = asyncio.Event()

    def take(self, piece: bytes, last: bool) -> bool:
        assert not self.lasts, "a piece after the last one"
        self.pieces.append(piece)
        self.lasts += last
        self.some.set()
        return self.hold

    def chunk(self, framed: bytes, begin: int) -> bool:
        if not framed.endswith(b"\r\n"):
            return False
        assert framed == piece(unframed(framed, begin))
        self.framed += 1
        return not self.hold and not self.take(unframed(framed, begin), False)

    async def drained(self) -> None:
        self.held.set()
        await self.go.wait()

    @property
    def body(self) -> bytes:
        return b"".join(self.pieces)


async def pumped(reply: Reply) -> bytes:
    """The whole body, its last piece marked as such."""
    taker = Taker()
    await reply.pump(taker.take, taker.drained, taker.chunk)
    assert taker.lasts == 1
    return taker.body


async def fetched(engine: Engine, asked: Asked | None = None) -> tuple[int, bytes]:
    reply = await engine.open(*(asked or post()))
    return reply.status, await pumped(reply)


async def until(found: Callable[[], object]) -> None:
    """Wait for what the other side sees: it has no event for everything."""
    while not found():  # noqa: ASYNC110  # see above
        await asyncio.sleep(0.001)
