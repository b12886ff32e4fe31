"""Turn: the relayed request that has its turn on a client's connection, from head to last byte; the fast face's Sink.

To uvicorn it looks like the request in progress (its "cycle"): pipelined requests wait for `response_complete`, and a
shutdown takes `keep_alive` away.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence

from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import STATUS_LINE
from uvicorn.server import ServerState

from relay import call
from relay.ask import Head
from relay.call.account import Account
from relay.call.sink import LOOKS, PING, Passage
from relay.errors import RelayError
from relay.exchange import BODILESS, Header, Lines, lines
from relay.inbound import guard
from relay.inbound.watch import Watch
from relay.journal import Blotter
from relay.outbox import Outgoing
from relay.story import Story

log = logging.getLogger("relay")


class Unheard:
    """Stands for the event by which uvicorn tells an ASGI application of a message; a Turn is told by calls."""

    def set(self) -> None:
        """Nobody waits."""


class Turn:
    """`on_response` is called once the answer is over and the connection is free for the next request.

    A connection has one for all of its relayed requests, which come one after the other: `begin` makes it the next.
    """

    message_event = Unheard()

    __slots__ = (
        "_account", "_bodiless", "_body", "_chunks", "_defaults", "_flow", "_head", "_journal", "_loop",
        "_on_response", "_pause", "_quiet", "_relay", "_said", "_seen", "_state", "_story", "_torn", "_transport",
        "_watch", "disconnected", "head", "keep_alive", "response_complete", "size",
    )  # fmt: skip

    def __init__(
        self,
        relay: call.Relay,
        journal: Blotter,
        transport: Outgoing,
        *,
        loop: asyncio.AbstractEventLoop,
        watch: Watch,
        flow: FlowControl,
        state: ServerState,
        on_response: Callable[[], None],
    ) -> None:
        self._relay = relay
        self._journal = journal
        self._transport = transport
        self._loop = loop
        self._watch = watch
        self._flow = flow
        self._state = state
        self._on_response = on_response
        self._defaults: Sequence[Header] = ()  # the server's own headers,
        self._said = b""  # and how they are written
        self._body: list[bytes | memoryview] = []  # what has come of it,
        self.size = 0  # and how many bytes that are
        self._account = Account(journal)
        self._story: Story | None = None
        self._pause = 0.0  # seconds between two looks whether its stream is silent; 0 while there is none
        self._seen = self._quiet = 0  # what had been sent at the last look, and how many saw nothing new
        self._torn = False  # what was sent last ends within an event
        self.disconnected = False
        self.response_complete = True

    def begin(self, head: Head, chunks: bool, keep_alive: bool) -> None:
        """A request with this head has arrived. `chunks`: an answer of unknown length may go out in chunks."""
        if self._account.began:  # what was made in advance was for a request that was refused
            self._account = Account(self._journal)
        self._account.open(head, self._relay.setup)
        self.head = head
        self._chunks = chunks
        self.keep_alive = keep_alive
        self.response_complete = False
        self._head: bytes | None = None

    def again(self, head: Head, body: bytes) -> None:
        """A request has arrived whole, whose head was found to be sound before: only what may have changed is asked."""
        self.begin(head, True, True)
        account = self._account
        try:
            call.admit(self._relay, account)
            guard.check_length(len(body), account.setup.max_body)
        except RelayError as fault:
            self.refuse(fault)
        else:
            self.serve(body)

    @property
    def running(self) -> bool:
        """The request is wholly here and being served."""
        return self._story is not None

    @property
    def swallows(self) -> bool:
        """Whether what still comes of a refused request's body is worth reading, to keep the connection."""
        head = self.head
        return not head.expects and head.length is not None and head.length <= guard.SHORT

    # --- the request comes in

    def admit(self, version: str) -> bool:
        """Let the request, of that version of HTTP, in; or answer it at once, before its body is read."""
        try:
            call.admit(self._relay, self._account)
            guard.check_said(self.head, version, self._account.setup.max_body)
        except RelayError as fault:
            self.refuse(fault)
            return False
        return True

    @property
    def come(self) -> bytes:
        """What has come of the body."""
        return b"".join(self._body)

    def receive(self, piece: bytes | memoryview) -> None:
        """A piece of the body. Raises BodyTooLarge."""
        self.size += len(piece)
        guard.check_length(self.size, self._account.setup.max_body)
        self._body.append(piece)

    def run(self) -> bytes:
        """The body is whole: serve the request, and return the body."""
        body = self.come
        self._body, self.size = [], 0
        self._account.ready_at = time.perf_counter_ns()
        self.serve(body)
        return body

    def serve(self, body: bytes) -> None:
        """Serve the request, whose body this is."""
        account = self._account
        serving = call.serve(self._relay, account, body, self)
        self._story = story = Story(account.id, serving, self._loop, self._ended)
        story.go_on()

    def _ended(self) -> None:
        if not (self.response_complete or self.disconnected):
            log.error("request %s ended without an answer", self._account.id)
            self.abort()
        self._account = Account(self._journal)  # of the next one, which is in a hurry; what this one said is let go
        self._story = None

    def refuse(self, fault: RelayError) -> None:
        """Answer with an error, and take no more of the body."""
        self._body, self.size = [], 0
        call.refuse(self._account, fault, self)

    def leave(self) -> None:
        """The client has left: end what is under way for it."""
        self.disconnected = True
        if not self.response_complete:
            if self._story is None:
                self._account.settle("client_disconnect", "the client left before its request was whole")
            else:
                self._story.cancel()
        if self._story is None:  # nothing is under way any more
            del self._on_response  # it knows us: two that know each other are left to the garbage collector

    def cut(self) -> None:
        """The relay shuts down: end what is under way, which tells the client so."""
        if not self.response_complete and self._story is not None:
            self._story.cancel()

    # --- the answer goes out: see relay.call.sink.Sink

    @property
    def gone(self) -> bool:
        """See Sink."""
        return self.disconnected

    def answer(self, status: int, told: Lines, body: bytes) -> None:
        """See Sink."""
        if self.keep_alive and status not in BODILESS:
            self.response_complete = True
            if not self.disconnected:
                framing = b"content-length: %d\r\n\r\n" % len(body)
                self._transport.write(b"".join((STATUS_LINE[status], self._server(), told, framing, body)))
            self._on_response()
        else:
            self.start(status, told, len(body))
            self.end(body)

    def start(self, status: int, told: Lines, length: int | None) -> None:
        """See Sink."""
        self._torn = False
        self._bodiless = status in BODILESS  # the answer ends with its head
        if length is None or self._bodiless:
            framing = self._unmeasured()
        else:
            self._chunks = False
            framing = b"content-length: %d\r\n" % length
        if not self.keep_alive:
            framing += b"connection: close\r\n"
        self._head = b"%b%b%b%b\r\n" % (STATUS_LINE[status], self._server(), told, framing)

    def _server(self) -> Lines:
        """The server's own headers, which it makes anew for every second's date."""
        if self._defaults is not self._state.default_headers:
            self._defaults = self._state.default_headers
            self._said = lines(self._defaults)
        return self._said

    def _unmeasured(self) -> Lines:
        """The framing of an answer without a body, or whose length is not known."""
        if self._bodiless:
            self._chunks = False
        elif self._chunks:
            return b"transfer-encoding: chunked\r\n"
        else:
            self.keep_alive = False
        return b""

    def beat(self, period: float) -> None:
        """See Sink."""
        self._pause, self._seen, self._quiet = period / LOOKS, self._account.bytes_out, -1  # the first may come at once
        self._watch.hear(self, self._pause)

    def look(self, period: float) -> bool:
        """See Heard: nothing is noted for it where pieces are written. What is settled has said all, or `[DONE]`."""
        over = self.response_complete or self.disconnected or self._account.outcome is not None
        if period != self._pause or over:
            return False
        seen, self._seen = self._seen, self._account.bytes_out
        self._quiet = self._quiet + 1 if seen == self._seen else 0
        if self._quiet >= LOOKS and not (self._torn or self._transport.full):
            self.write(PING)
            self._quiet = 0
        return True

    def write(self, piece: bytes) -> bool:
        """See Sink."""
        data = piece
        if self._chunks and piece:
            data = b"%x\r\n%s\r\n" % (len(piece), piece)
        elif self._bodiless:
            data = b""
        if self._head is not None:
            data, self._head = self._head + data, None
        if not self.disconnected:
            # Once it is settled, its record goes before it: the outbox sees to that.
            send = self._transport.at_once if self._account.outcome is None else self._transport.write
            send(data)
        return self._transport.full

    def part(self, piece: bytes, ends: bool) -> bool:
        """See Sink."""
        self._torn = not ends
        return self.write(piece)

    def passage(self) -> Passage | None:
        """See Sink."""
        return self._transport if self._chunks and self._head is None else None

    def end(self, piece: bytes = b"") -> None:
        """See Sink."""
        if self._chunks:
            piece = b"%x\r\n%s\r\n0\r\n\r\n" % (len(piece), piece) if piece else b"0\r\n\r\n"
        elif self._bodiless:
            piece = b""
        if self._head is not None:
            piece, self._head = self._head + piece, None
        self.response_complete = True
        self._pause = 0.0
        if piece and not self.disconnected:
            self._transport.write(piece)
        self._on_response()

    def abort(self) -> None:
        """See Sink."""
        self.keep_alive = False
        self.response_complete = True
        self._transport.abort()

    async def drained(self) -> None:
        """See Sink."""
        await self._flow.drain()


def error_answer(fault: RelayError) -> bytes:
    """A whole answer for a request that never became one; the connection closes after it."""
    body = fault.body()
    kind, length = (b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))
    told = lines([kind, (b"connection", b"close"), *fault.headers(), length])
    return b"%b%b\r\n%b" % (STATUS_LINE[fault.status], told, body)
