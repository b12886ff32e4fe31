"""The ASGI face: the same requests over plain ASGI. For servers other than uvicorn, test clients, and mounting.

ASGI can only be written to by waiting, and a delivery writes by plain calls: so a piece is put down, and "hold on" is
always the answer, until `drained` has sent it. That makes the server's own back-pressure ours.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine, MutableMapping
from contextlib import suppress
from typing import Any
from urllib.parse import quote

from relay import call
from relay.ask import read_head
from relay.call.account import Account
from relay.call.sink import LOOKS, PING, Sink
from relay.endpoints import TEXT, Endpoint, match
from relay.errors import RelayError, RequestTimeout
from relay.exchange import BODILESS, Lines, headers
from relay.inbound import guard
from relay.inbound.text import TextSink, question, wants_events

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
BREAK = "relay.break"  # an extension of our own server: how to break a connection, for which ASGI has no message
log = logging.getLogger("relay")


def relayed(scope: Scope) -> tuple[Endpoint, str | None] | None:
    """The endpoint (and Azure's alias) that this scope asks for; None when it is not for relaying."""
    if scope["type"] != "http" or scope["method"] != "POST":
        return None
    root: str = scope.get("root_path", "")
    path: str = scope["path"].removeprefix(root)
    if path == TEXT.name:
        return TEXT, None
    raw: bytes = scope.get("raw_path") or quote(path).encode()  # `path` has its escapes decoded
    return match(raw.removeprefix(quote(root).encode()) if b"%" in raw else path.encode())


class AsgiSink:
    """Collects what is written until it is sent."""

    def __init__(self, send: Send, account: Account) -> None:
        self._send = send
        self._account = account
        self._messages: list[Message] = []
        self._sending = asyncio.Lock()
        self._beating: asyncio.Task[None] | None = None
        self._quiet = 0  # looks since something was written
        self._torn = False  # which ends within an event
        self.gone = False
        self.broken = False  # the answer is never ended
        self.closes = False  # the connection ends with the answer

    def answer(self, status: int, told: Lines, body: bytes) -> None:
        """See Sink."""
        self.start(status, told, len(body))
        self.end(body)

    def start(self, status: int, told: Lines, length: int | None) -> None:
        """See Sink."""
        framing = [] if length is None or status in BODILESS else [(b"content-length", b"%d" % length)]
        if self.closes:
            framing.append((b"connection", b"close"))
        self._messages.append({"type": "http.response.start", "status": status, "headers": [*headers(told), *framing]})

    def beat(self, period: float) -> None:
        """See Sink. `still` ends it."""
        self._beating = asyncio.ensure_future(self._beats(period / LOOKS))

    async def _beats(self, pause: float) -> None:
        """Send PING whenever a look is one too many that nothing was written; `pause`: seconds between two looks."""
        while True:
            await asyncio.sleep(pause)
            self._quiet += 1
            if self._account.outcome is not None:  # all is said, or `[DONE]`
                return
            if self._quiet > LOOKS and not (self._torn or self._sending.locked()):
                self.write(PING)
                self._quiet = 1  # a look was just now
                await self.drained()

    def still(self) -> None:
        """End the beat."""
        if self._beating is not None:
            self._beating.cancel()

    def write(self, piece: bytes) -> bool:
        """See Sink."""
        self._quiet = 0
        self._messages.append({"type": "http.response.body", "body": piece, "more_body": True})
        return True

    def part(self, piece: bytes, ends: bool) -> bool:
        """See Sink."""
        self._torn = not ends
        return self.write(piece)

    def passage(self) -> None:
        """See Sink: the framing is the server's."""

    def end(self, piece: bytes = b"") -> None:
        """See Sink."""
        self._messages.append({"type": "http.response.body", "body": piece, "more_body": False})

    def abort(self) -> None:
        """See Sink: an answer that is never ended makes the server break the connection."""
        self.broken = True

    async def drained(self) -> None:
        """See Sink. One that is cancelled while the server holds on keeps what it did not send, for the last words."""
        async with self._sending:
            while self._messages:
                with suppress(OSError):  # the client has left, which `receive` tells too
                    await self._send(self._messages[0])
                del self._messages[0]


async def serve(
    relay: call.Relay, found: tuple[Endpoint, str | None], scope: Scope, receive: Receive, send: Send
) -> None:
    """One relayed request over ASGI; `found` is what `relayed` said of its scope."""
    endpoint = found[0]
    said = [(name.lower(), value) for name, value in scope["headers"]]
    peer = scope["client"][0] if scope.get("client") else ""
    head = read_head(*found, scope.get("query_string", b""), said, peer)
    account = Account(relay.journal).open(head, relay.setup)
    outward = AsgiSink(send, account)
    sink: Sink = TextSink(outward, events=wants_events(said)) if endpoint is TEXT else outward
    try:
        call.admit(relay, account)
        guard.check_said(head, scope["http_version"], account.setup.max_body)
        body = await _body(receive, account.setup.max_body)
        account.ready_at = time.perf_counter_ns()
        if endpoint is TEXT:
            body = question(account, body)
    except RelayError as fault:
        outward.closes = isinstance(fault, RequestTimeout) and scope["http_version"].startswith("1")
        call.refuse(account, fault, sink)
    except _ClientLeft:
        pass
    else:
        await _until_left(_serve(relay, account, body, sink, outward), receive, outward)
    finally:
        # Of one that was answered this says nothing; of one that the server cancelled it says the last words.
        account.settle("client_disconnect", "the client left before its request was whole")
        await outward.drained()
        if outward.broken and (extension := (scope.get("extensions") or {}).get(BREAK)):
            extension["close"]()
            await _left(receive)  # it would complain of who ends without an answer while the client is there


class _ClientLeft(Exception):
    """The server said so while the body was awaited."""


async def _body(receive: Receive, limit: int) -> bytes:
    """The whole body. Raises BodyTooLarge, RequestTimeout, _ClientLeft."""
    pieces: list[bytes] = []
    size = 0
    began = asyncio.get_running_loop().time()
    while True:
        message = await _next(receive, began, size)
        if message["type"] == "http.disconnect":
            raise _ClientLeft
        piece: bytes = message.get("body", b"")
        size += len(piece)
        guard.check_length(size, limit)
        pieces.append(piece)
        if not message.get("more_body", False):
            return b"".join(pieces)


async def _next(receive: Receive, began: float, size: int) -> Message:
    """What comes next of a body of which `size` bytes have come since `began`. Raises RequestTimeout."""
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout_at(began + guard.patience(size)):
            return await receive()
    except TimeoutError as late:
        raise guard.too_slow(loop.time() - began, size) from late


async def _serve(relay: call.Relay, account: Account, body: bytes, sink: Sink, outward: AsgiSink) -> None:
    try:
        await call.serve(relay, account, body, sink)
    except Exception:
        log.exception("request %s failed", account.id)
    await outward.drained()


async def _until_left(serving: Coroutine[Any, Any, None], receive: Receive, outward: AsgiSink) -> None:
    """Run `serving`, and cancel it as soon as the client leaves."""
    task = asyncio.ensure_future(serving)
    leaving = asyncio.ensure_future(_left(receive))
    try:
        await asyncio.wait({task, leaving}, return_when=asyncio.FIRST_COMPLETED)
        outward.gone = not task.done()
    finally:
        leaving.cancel()
        task.cancel()
        outward.still()
        await asyncio.gather(task, leaving, return_exceptions=True)


async def _left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
