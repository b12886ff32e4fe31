"""The fast face: uvicorn's HTTP protocol, subclassed. Relayed requests run from here; all others go on to ASGI.

Stock uvicorn has no limit on a head, merges trailers into its headers and waits for an unfinished head for ever; this
closes all three. A relayed request that is pipelined behind another is served through the ASGI face, in its turn.
A head that comes again on a connection is not parsed again, whether its body comes with it or in reads of its own.
"""

import asyncio
import logging
from typing import Any

import httptools
from msgspec.structs import replace
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from relay import call
from relay.ask import Head, read_head
from relay.endpoints import match
from relay.errors import BadRequest, HeadTooLarge, InternalError, RelayError
from relay.exchange import lines
from relay.inbound import guard
from relay.inbound.asgi import BREAK
from relay.inbound.turn import Turn, error_answer
from relay.inbound.watch import Watch
from relay.journal import Blotter
from relay.outbox import Outbox, Outgoing
from relay.repeat import Repeat

_LINGER = 2.0  # seconds in which a refused client may finish sending and read why
_PIPELINED_MAX = 8  # requests that wait behind the one that is answered, before no more are read
_NEEDED = ("on_message_begin", "on_header", "on_headers_complete", "on_body", "on_message_complete", "shutdown",
           "on_response_complete", "data_received", "connection_lost", "_start_asgi_task")  # fmt: skip
log = logging.getLogger("relay")


def usable() -> bool:
    """Whether this uvicorn still has the seams that the fast face is built on; else the ASGI face serves everything."""
    return all(callable(getattr(HttpToolsProtocol, name, None)) for name in _NEEDED)


class RelayProtocol(HttpToolsProtocol):
    """One client's connection. `app_state` brings what the lifespan made, for all of them."""

    cycle: Any  # the request in progress: a Turn, or uvicorn's own for what entered ASGI
    transport: Outgoing

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._relay: call.Relay = app_state["relay"]
        self._watch: Watch = app_state["watch"]
        self._outbox: Outbox = app_state["outbox"]
        self._blotter: Blotter = app_state["blotter"]
        self._repeat: Repeat[Head] = Repeat()  # what the next request probably begins with
        self._entered: Any = None  # the last request that entered ASGI and was begun, not the last that came
        self._whole: bytes | None = None  # the body of the relayed request that has just been read
        self._left = 0  # bytes of a body that are still to come, where a known head began it
        self._peer = ""
        self._in_head = False
        self._in_message = False
        self._deaf = False  # nothing more is heard: the connection ends with the answer that is under way
        self._read_size = 0  # bytes of the reads that brought the head so far
        self._since = 0.0  # when the head began, or it fell deaf, or a tick saw it idle; on the loop's clock
        self._untaken = 0  # bytes that wait for the client,
        self._taken_at = 0.0  # and when that was last seen to change

    # --- the connection

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's own
        transport = Outgoing(transport, self._outbox)
        super().connection_made(transport)
        self._peer = self.client[0] if self.client else ""
        self._turn = Turn(
            self._relay,
            self._blotter,
            transport,
            loop=self.loop,
            watch=self._watch,
            flow=self.flow,
            state=self.server_state,
            on_response=self._on_turn_complete,
        )
        self._since = self.loop.time()
        self._watch.connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._watch.connections.discard(self)
        self._turn.leave()
        if self._entered is not None:
            self.cycle = self._entered  # uvicorn tells this one; what waits behind it is never begun
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        self.transport.full = True
        super().pause_writing()

    def resume_writing(self) -> None:
        self.transport.full = False
        super().resume_writing()

    def eof_received(self) -> None:
        """The client sends no more, and may still read: its transport closes with what was handed to it by now."""
        self._outbox.send()

    def data_received(self, data: bytes) -> None:
        if self._deaf:
            return
        if self._left:
            self._read_on(data)
            return
        fresh = not self._in_message and (self.cycle is None or self.cycle.response_complete)
        if fresh:
            if (body := self._repeat.body(data)) is not None:
                self.cycle = self._turn
                self._turn.again(self._repeat.known, body)
                return
            if (found := self._repeat.begun(data)) is not None and sum(found) > len(data):
                self._begin_again(data, *found)
                return
        self._read_size = len(data) if not self._in_head else self._read_size + len(data)
        self._feed(data)
        if self._in_head and self._read_size > guard.HEAD_BYTES:
            self._refuse(HeadTooLarge(guard.TOO_LARGE))  # a line without end, of which no callback has told yet
        if fresh:
            self._learn(data)
        self._whole = None

    def _begin_again(self, data: bytes, begin: int, length: int) -> None:
        """A known head has come, and not yet all of its body: what a parser would say of both is known as well."""
        self._in_message, self._left, self._since = True, length, self.loop.time()
        self.cycle = self._turn
        self._turn.begin(replace(self._repeat.known, length=length), True, True)
        self._turn.admit("1.1")
        if begin < len(data):
            self._read_on(memoryview(data)[begin:])

    def _read_on(self, data: bytes | memoryview) -> None:
        """More of a body whose head was known, and perhaps what is pipelined behind it."""
        piece, rest = data[: self._left], data[self._left :]
        self._left -= len(piece)
        self.on_body(piece)
        if not self._left:
            self.on_message_complete()
            self._whole = None  # there is nothing to learn of it
        if rest:
            self.data_received(bytes(rest))

    def _learn(self, data: bytes) -> None:
        """Know the head again that this read began with, where it is that of a plain relayed request."""
        turn = self._turn
        if self._whole is not None:
            self._repeat.learn(data, self._whole, turn.head)
        elif self._awaits_body() and turn.keep_alive and turn.head.length is not None and not turn.head.expects:
            self._repeat.learn(data, turn.come, turn.head, turn.head.length)

    def _feed(self, data: bytes) -> None:
        try:
            self._parse(data)
        except httptools.HttpParserCallbackError as wrapped:
            if isinstance(wrapped.__context__, _Unheard):
                self._deaf = True
            else:
                self._refuse(_fault(wrapped))
        except httptools.HttpParserError:
            self._refuse(BadRequest("The request is not valid HTTP/1.1."))

    def _parse(self, data: bytes | memoryview) -> None:
        """Let the parser tell what it finds, as if no request wished for another protocol (RFC 9110, 7.8).

        To a parser such a request ends with its head. So another one is given that head without the wish, and the rest.
        """
        while data:
            try:
                self.parser.feed_data(data)
                data = b""
            except httptools.HttpParserUpgrade as wish:
                data, head = memoryview(data)[wish.args[0] :], self._without_wish()
                self.parser = httptools.HttpRequestParser(self)
                self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn does
                self.parser.feed_data(head)

    def _without_wish(self) -> bytes:
        """The head that was just read, but for what it says of another protocol."""
        begin = self.parser.get_method(), self.url, self.parser.get_http_version().encode()
        return b"%b %b HTTP/%b\r\n" % begin + lines([each for each in self.headers if each[0] != b"upgrade"]) + b"\r\n"

    def tick(self, now: float) -> None:
        """See Watched."""
        self._since = self._since or now  # of one that fell idle: no clock is read for that
        waited, turn = now - self._since, self._turn
        if (untaken := self.transport.untaken) != self._untaken:
            self._untaken, self._taken_at = untaken, now
        if self.pipeline and self.flow.read_paused and self.transport.left:
            self.transport.close()  # as if its end had been read
        elif self._in_head:
            self._refuse_if(guard.late_head(waited))
        elif self._has_turn() and not turn.running:
            self._refuse_if(guard.late_body(waited, turn.size))
        elif untaken:
            self._hold(now)
        elif not self._busy() and waited >= (_LINGER if self._deaf else self.timeout_keep_alive):
            self.transport.abort()

    def _hold(self, now: float) -> None:
        """A client may take its time, but not all of it: what it is sent holds a connection to an upstream as well."""
        if not self._busy():
            self._since = now  # it is not idle before it has all
        if now - self._taken_at >= guard.TAKING_SECONDS:
            log.info("a client took nothing for %g seconds of what was sent to it: disconnected", guard.TAKING_SECONDS)
            self.transport.abort()

    def cut(self) -> None:
        """See Watched."""
        self._turn.cut()

    def _busy(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _has_turn(self) -> bool:
        """Whether a relayed request is under way, perhaps with others pipelined behind it."""
        return not self._turn.response_complete

    def _awaits_body(self) -> bool:
        """Whether the head of a relayed request was let in, and not all of its body has come."""
        return self._in_message and not self._in_head and self.cycle is self._turn and self._has_turn()

    def _refuse_if(self, fault: RelayError | None) -> None:
        if fault is not None:
            self._refuse(fault)

    def _refuse(self, fault: RelayError) -> None:
        """Answer, if it is this request's turn to be answered, and end the connection after what is under way."""
        self._deaf, self._in_head = True, False
        self._since = self.loop.time()
        if self._has_turn() and not self._turn.running:
            self._turn.keep_alive = False
            self._turn.refuse(fault)
        elif self._busy():
            self.cycle.keep_alive = False
        else:
            self.transport.write(error_answer(fault))
            self._linger()

    def _linger(self) -> None:
        """Say that nothing more comes, but let the client finish sending: a hard close could lose it the answer."""
        self._deaf, self._in_head = True, False
        self._since = self.loop.time()
        if self.transport.can_write_eof():
            self.transport.write_eof()
        else:
            self.transport.close()

    # --- one request, as the parser tells it

    def on_message_begin(self) -> None:
        if self._deaf or self.transport.is_closing():
            raise _Unheard
        self.url = b""
        self.headers = []
        self._in_head = self._in_message = True
        self._since = self.loop.time()

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._in_head:  # else it is a trailer: the head is frozen
            self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        if self.parser.should_upgrade() and self.parser.get_method() != b"CONNECT":
            return  # it is told again, see `_parse`
        self._in_head = False
        version = self.parser.get_http_version()
        if self._read_size > guard.HEAD_BYTES or len(self.headers) > guard.HEAD_LINES:
            guard.check_head(self.url, self.headers)
        path, _, query = self.url.partition(b"?")
        found = None if self._busy() or self.parser.get_method() != b"POST" else match(path)
        if found is None:
            guard.check_hosts(sum(name == b"host" for name, _ in self.headers), version)
            self._enter_asgi()
            return
        head = read_head(*found, query, self.headers, self._peer)
        alive = version == "1.1" and self.parser.should_keep_alive()
        turn = self.cycle = self._turn  # the cycle is what uvicorn's pipelining and shutdown look at
        turn.begin(head, version == "1.1", alive)
        if turn.admit(version) and head.expects and version == "1.1":  # older clients know no 100 (RFC 9110, 10.1.1)
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def _enter_asgi(self) -> None:
        """Let uvicorn make its scope of the head, which the fast face had no use for. Raises BadRequest."""
        headers, url = self.headers, self.url
        _check_target(self.parser.get_method(), url)
        super().on_message_begin()
        self.scope["extensions"] = {BREAK: {"close": self.transport.close}}
        self.url = url
        for name, value in headers:
            super().on_header(name, value)
        super().on_headers_complete()
        if len(self.pipeline) < _PIPELINED_MAX:
            self.flow.resume_reading()  # who reads on while requests wait sees the client leave

    def _start_asgi_task(self, cycle: Any, app: Any) -> None:
        self._entered = cycle
        super()._start_asgi_task(cycle, app)

    def on_body(self, body: bytes | memoryview) -> None:
        if self.cycle is not self._turn:
            super().on_body(bytes(body))
        elif not self._turn.response_complete:  # else it was refused, and this is thrown away
            self._turn.receive(body)

    def on_message_complete(self) -> None:
        if self._in_head:
            return  # so says the parser of one that wishes for another protocol
        self._in_message = False
        self._read_size = 0  # what follows in this read is the next head's
        if self.cycle is not self._turn:
            super().on_message_complete()
        elif not self._turn.response_complete:
            plain = self._turn.keep_alive and not self._turn.head.expects
            body = self._turn.run()
            self._whole = body if plain else None

    def _on_turn_complete(self) -> None:
        if self._in_message or self._deaf or self.pipeline or not self._turn.keep_alive:
            self._end_after_turn()
        else:
            self._rest()

    def on_response_complete(self) -> None:
        """The answer went out: on to what is pipelined, or idle."""
        if self.pipeline:
            super().on_response_complete()
        else:
            self._rest()

    def _rest(self) -> None:
        """Idle until the next request."""
        self.server_state.total_requests += 1
        self._since = 0.0
        if self.flow.read_paused:
            self.flow.resume_reading()

    def _end_after_turn(self) -> None:
        """End the connection, at once or after the rest of a body; or go on, where that rest is soon read."""
        if self._in_message and self.cycle is self._turn and not self._turn.swallows:
            self._linger()  # the answer was a refusal, and there is more to come than is worth reading for nothing
        elif not self._turn.keep_alive or self._deaf:
            self.transport.close()
        else:
            self.on_response_complete()


class _Unheard(Exception):
    """Another request has come on a connection that ends with the answer before it."""


def _check_target(method: bytes, url: bytes) -> None:
    """Raises BadRequest for what uvicorn would find no path in."""
    if method == b"CONNECT":
        raise BadRequest("The relay opens no tunnels: CONNECT is not spoken here.")
    try:
        path = httptools.parse_url(url).path
    except httptools.HttpParserInvalidURLError:
        path = None
    if path is None:
        raise BadRequest("The request's target is neither a path nor a URL with one.")


def _fault(wrapped: httptools.HttpParserCallbackError) -> RelayError:
    """What was raised in a callback of the parser; anything but a refusal is a fault of ours."""
    if isinstance(wrapped.__context__, RelayError):
        return wrapped.__context__
    log.error("a request's head could not be handled", exc_info=wrapped.__context__)
    return InternalError("The relay failed to handle this request; its log has the details.")
