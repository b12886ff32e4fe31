"""echo: the built-in model, an upstream in this very process. Offline and deterministic; only ids and times differ.

It answers the JSON endpoints of the OpenAI API in their exact shapes, so that a program which works with OpenAI works
with no account. It repeats what it is told, calls tools, and fills in schemas: turn.py says when and how.
"""

import asyncio
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http import HTTPStatus

from relay.errors import MethodNotAllowed, RelayError, UnknownUrl, UpstreamError
from relay.exchange import Chunk, Drained, Header, Request, Take, Upload, joined
from relay.upstream.echo import chat, completions, embeddings, images, moderations, responses
from relay.upstream.echo.body import Served, fresh

ENDPOINTS: tuple[tuple[str, Callable[[bytes, int], Served]], ...] = (  # the first that the path ends in
    ("/chat/completions", chat.serve),
    ("/completions", completions.serve),
    ("/embeddings", embeddings.serve),
    ("/responses", responses.serve),
    ("/moderations", moderations.serve),
    ("/images/generations", images.serve),
)


@dataclass(slots=True)
class EchoReply:
    """An answer whose pieces are made as they are pumped. `connect_ms` is None: there is no connection."""

    status: int
    headers: tuple[Header, ...]
    pieces: Iterator[bytes]
    reused: bool = False
    connect_ms: float | None = None
    whole: bytes | None = None
    aborted: bool = False

    async def pump(self, take: Take, drained: Drained, _chunk: Chunk | None = None) -> None:
        """Push every piece, each in a turn of the loop of its own. Raises UpstreamError when aborted on the way."""
        piece = next(self.pieces)
        for after in self.pieces:
            if take(piece, False):
                await drained()
            await asyncio.sleep(0)
            if self.aborted:
                raise UpstreamError("The echo upstream was cut off.")
            piece = after
        take(piece, True)

    def begun(self) -> None:
        """See relay.exchange.Reply: it is never late."""

    def abort(self) -> None:
        """Make no more pieces."""
        self.aborted = True


@dataclass(frozen=True, slots=True)
class EchoEngine:
    """The engine that answers by itself. `clock` gives seconds since 1970."""

    clock: Callable[[], float] = time.time

    @property
    def running(self) -> int:
        """0: it is never busy, since an answer is there as soon as it is asked for."""
        return 0

    async def open(
        self,
        request: Request,
        body: Upload,
        within: float | None = None,  # noqa: ARG002  # it answers at once,
        fresh: bool = False,  # noqa: ARG002  # and over nothing
    ) -> EchoReply:
        """Answer; what the OpenAI API would refuse is an answer too, with its status and error body."""
        asked = joined(body) if isinstance(body, (bytes, tuple)) else b"".join([part async for part in body])
        try:
            served = _serve(request, asked, int(self.clock()))
        except RelayError as refusal:
            return _reply(refusal.status, refusal.body())
        return _reply(HTTPStatus.OK.value, served)

    def retire(self) -> None:
        """Nothing is held."""

    async def close(self) -> None:
        """Nothing is held."""


def _serve(request: Request, body: bytes, now: int) -> Served:
    method, path = request.method.decode("latin-1"), request.target.decode("latin-1").partition("?")[0]
    for ending, serve in ENDPOINTS:
        if path.endswith(ending):
            if method != "POST":
                raise MethodNotAllowed(f"Not allowed to {method} on {path} (HINT: Perhaps you meant to make a POST.)")
            return serve(body, now)
    raise UnknownUrl(f"Invalid URL ({method} {path})")


def _reply(status: int, served: Served) -> EchoReply:
    identity = (b"x-request-id", fresh("req_").encode())
    if isinstance(served, bytes):
        head = ((b"content-type", b"application/json"), (b"content-length", b"%d" % len(served)), identity)
        return EchoReply(status, head, iter((served,)))
    return EchoReply(status, ((b"content-type", b"text/event-stream; charset=utf-8"), identity), served)
