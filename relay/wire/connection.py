"""One connection to an upstream: sends a request, reads the answer, hands its body on as it comes. Knows no pool.

The life of a connection: idle -> (send) -> waiting for the head -> body -> idle again, or closed. Bytes that come
before anyone asks for the body are kept; the flow stops at `_KEPT_MAX` of them.

Nearly all reads need no parser: a whole answer whose head is the last one's, a stream that begins like the last one,
and in a stream one whole chunk.
"""

import asyncio
from collections.abc import AsyncIterable, Callable
from math import inf
from time import monotonic

from relay.errors import UpstreamError, UpstreamFault, UpstreamTimeout
from relay.exchange import JOINED_MAX, Body, Chunk, Drained, Take, Timeouts, Upload
from relay.outbox import Outbox, Outgoing
from relay.story import Bell, bell
from relay.wire.answer import Answer
from relay.wire.chunk import BEGINNINGS, SIZED
from relay.wire.patience import Deadline, Pace, late
from relay.wire.reading import Reading

_KEPT_MAX = 256 * 1024  # bytes of body kept before pump is called
_STALE_MAX = 1.0  # seconds: who closes later than that after he was asked had heard it
_FRAMING = frozenset({b"content-length", b"transfer-encoding"})

Released = Callable[["Connection", bool], None]


class Connection(Reading, asyncio.Protocol):
    """`released` is called once an answer is over, or it is closed: with True when it can be used again."""

    __slots__ = (
        "_bell", "_came", "_chunk", "_deadline", "_delivered", "_handed", "_held", "_loop", "_outbox", "_pace",
        "_paused", "_paused_at", "_released", "_spent", "_take", "_transport", "_uploaded", "_writable",
        "alone", "beneath", "born", "busy", "closed", "connect_ms", "reused", "since", "touched", "within",
    )  # fmt: skip

    def __init__(self, name: str, outbox: Outbox, released: Released) -> None:
        super().__init__(name)
        self._loop = asyncio.get_running_loop()
        self._outbox = outbox
        self._released = released
        self._transport: Outgoing | None = None
        self.beneath: asyncio.WriteTransport | None = None  # the transport that TLS writes to; the same without TLS
        self._bell: Bell | None = None  # wakes exchange at the head, pump at the end or when held
        self._writable: asyncio.Future[None] | None = None
        self.connect_ms: float | None = None
        self._deadline: Deadline | None = None
        self.within = inf  # seconds: the same, for who waits so long that only a slow body can be too late
        self.alone = False  # what is asked now need not wait for the end of the turn
        self.busy = True  # it is made for who asks over it: what comes before he does is his answer too
        self.closed = self.reused = self._paused = self._spent = False
        self._uploaded = False  # the request was short, or has left before its answer came
        self._handed = False  # the transport has all of a long one, which takes its time to leave
        self.born = monotonic()
        self.since = self.touched = self._paused_at = 0.0  # `since` as `seen` says it
        self._begin()

    def _begin(self) -> None:
        """Ready for the next answer."""
        self._take: Take | None = None
        self._chunk: Chunk | None = None
        self._start_over(clean=not self._spent)
        self._delivered = False  # and all of it was taken
        self._held = False  # the taker said to hold on
        self._came = 0  # bytes since the last look at deadlines, about
        self._pace: Pace | None = None

    # --- what the pool does with it

    async def exchange(self, head: bytes, body: Upload, deadline: Deadline | None = None) -> Answer:
        """Send a request (`head` is its head up to the framing headers) and wait for the head of the answer."""
        self.busy, self.since, self._deadline = True, 0.0, deadline
        waiting: Bell | None = None
        try:
            if isinstance(body, (bytes, tuple)):
                self._send(head, body)
            else:
                await self._upload(head, body)
            if not self._head and self._fault is None:
                waiting = self._bell = bell(self._loop)
                whole: Answer | None = await waiting
                if whole is not None:
                    return whole
        except BaseException:
            # One that rang with a whole answer has given the connection back: it may be somebody else's by now.
            if waiting is None or not waiting.done() or waiting.cancelled() or waiting.result() is None:
                self.abort()
            raise
        if self._fault is not None:
            raise self._fault
        return Answer(self, self.status, self.headers, self.reused, None if self.reused else self.connect_ms)

    async def pump(self, take: Take, drained: Drained, chunk: Chunk | None = None) -> None:
        """See relay.exchange.Reply."""
        self._take, self._chunk = take, chunk
        try:
            self._hand_on(take)
            while not self._delivered and self._fault is None:
                if self._held:
                    self._pause()
                    await drained()
                    self._resume()
                else:
                    self._resume()
                    self._bell = bell(self._loop)
                    await self._bell
        except BaseException:
            self.abort()
            raise
        if self._fault is not None:
            raise self._fault
        # Not a moment earlier: it starts over all that the lines above look at.
        self._finish(reusable=self._reusable and self._uploaded and not self._spent)

    def begun(self) -> None:
        """See relay.exchange.Reply."""
        self._deadline, self.within = None, inf

    def abort(self) -> None:
        """Close now if an answer is still under way; afterwards nothing more is handed on."""
        self._finish(reusable=False)

    def cut(self) -> None:
        """Close now; who still waits for an answer under way gets UpstreamError."""
        if self.busy and not self._ended:
            self._fail(UpstreamError(f"Upstream {self._name!r} was let go of in the middle of a request."))
        self.close()

    def expire(self, now: float, timeouts: Timeouts) -> None:
        """End the answer under way if a deadline has passed. `now` in seconds of the monotonic clock."""
        sent_at = self.seen(now)
        came, self._came = self._came, 0
        if came or self._held:  # what came since the last look came about now: no clock is read for it
            self.touched = now
        if self._pace is not None:
            self._pace.volume += came
        elif self._head and timeouts.pace is not None:
            self._pace = Pace(timeouts.pace, now)
        if self._held or self._ended or not self.busy:
            return
        read_at = self.touched if self._head else None
        deadline = self._deadline or Deadline(self.within, sent_at + self.within)
        wrong = late(self._name, timeouts, now, sent_at=sent_at, read_at=read_at, deadline=deadline)
        if wrong is None and self._pace is not None and not self._paused:
            wrong = self._pace.late(self._name, now)
        if wrong is not None:
            self._fail(UpstreamTimeout(wrong))

    def seen(self, moment: float) -> float:
        """The monotonic seconds since which it is idle, or was asked: `moment`, where no look found it so before."""
        self.since = self.since or moment
        return self.since

    @property
    def told(self) -> bool:
        """Something of the answer has come."""
        return self._head or self._head_size > 0

    def unused(self) -> None:
        """Who had it for a request does not send one."""
        self.busy = True
        self._finish(reusable=not (self.told or self._spent))

    @property
    def hurry(self) -> float | None:
        """The seconds that were given for an answer of which the caller has got nothing yet."""
        return self._deadline.within if self._deadline is not None and self.busy else None

    def spend(self) -> None:
        """Have no further request: the connection is closed after the answer that is under way, or to come."""
        self._spent, self._clean = True, False

    def close(self) -> None:
        """Close at once, without lingering; nobody is to have it from this moment on."""
        self.closed = True
        self._lines = []  # of a head that never came whole: they can be many
        if self._transport is not None:
            self._transport.abort()
        if not self.busy:
            self._released(self, False)

    # --- sending

    def _send(self, head: bytes, body: Body) -> None:
        transport = self._transport
        if transport is None:
            return
        if isinstance(body, bytes) and len(body) <= JOINED_MAX:
            self._uploaded = True
            send = transport.at_once if self.alone else transport.write
            send(b"%bcontent-length: %d\r\n\r\n%b" % (head, len(body), body))
        else:
            self._uploaded, self._handed = False, True
            pieces = (body,) if isinstance(body, bytes) else body
            transport.writelines((b"%bcontent-length: %d\r\n\r\n" % (head, sum(map(len, pieces))), *pieces))

    async def _upload(self, head: bytes, body: AsyncIterable[bytes]) -> None:
        """Send a body of unknown length in chunks; an early answer ends the sending."""
        self._uploaded = self._handed = False
        transport = self._transport
        if transport is None:
            return
        transport.write(head + b"transfer-encoding: chunked\r\n\r\n")
        async for piece in body:
            if self._writable is not None:
                await self._writable
            if self._head or self._fault:
                return
            if piece:
                transport.write(b"%x\r\n%b\r\n" % (len(piece), piece))
            self.since = 0.0  # the wait for the answer starts when all is sent
        transport.write(b"0\r\n\r\n")
        self._handed = True

    def _is_sent(self) -> bool:
        """Whether all of a long request has left, now that its answer comes.

        Who answers before that may read no more of it, nor of another one.
        """
        waits = any(each.get_write_buffer_size() for each in (self._transport, self.beneath) if each is not None)
        self._uploaded = self._handed and not waits
        return self._uploaded

    def _wake(self) -> None:
        waiting, self._bell = self._bell, None
        if waiting is not None:
            waiting.ring()

    # --- receiving

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = Outgoing(transport, self._outbox)  # type: ignore[arg-type]  # asyncio types the base only

    def data_received(self, data: bytes) -> None:
        chunk = self._chunk
        if chunk is not None and self._between:
            size = len(data)
            if size < SIZED:
                line = BEGINNINGS[size]
                begin = len(line)
                if data[:begin] == line:  # as `piece_in` has it, without a call for each chunk
                    if chunk(data, begin):
                        self._came += size
                        return
                    if data[-2:] == b"\r\n":
                        self._came += size
                        self._body.append(data[begin:-2])
                        self._after_read()
                        return
        elif not self.busy:  # nobody asked: a server that talks first is not trusted with the next request
            self.close()
            return
        elif self._clean and (self._uploaded or self._is_sent()) and (body := self._repeat.body(data)) is not None:
            waiting = self._bell
            if waiting is not None and not waiting.done():  # else who waited is being cancelled
                status, headers = self._repeat.known
                answer = Answer(None, status, headers, self.reused, None if self.reused else self.connect_ms, body)
                self._bell, self.busy = None, False
                self._released(self, True)
                waiting.ring(answer)
                return
        self._came += len(data)
        self._read(data)
        self._after_read()

    def _after_read(self) -> None:
        if self._fault is not None:
            self._fail(self._fault)
        elif self._take is not None:
            self._hand_on(self._take)
            if self._held or self._delivered:
                self._wake()
        elif self._head:
            self._wake()
            if not self._ended and sum(map(len, self._body)) > _KEPT_MAX:
                self._pause()

    def _hand_on(self, take: Take) -> None:
        """Give the taker what has come, as one piece; with the last piece pump's work is done."""
        body, ended = self._body, self._ended
        if self._delivered or not (body or ended):
            return
        self._body = []
        self._delivered = ended
        self._held = take(body[0] if len(body) == 1 else b"".join(body), ended) and not ended

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed = True
        self.resume_writing()
        if not self.busy:
            self._released(self, False)
        elif self._ended:
            self._reusable = False  # all of it is here: it can still be taken
        elif self._head and exc is None and not any(name in _FRAMING for name, _ in self.headers):
            self._ended = True  # a body that ends with its connection
            self._after_read()
        else:
            where = "in the middle of its answer" if self._head else "before it answered"
            fault = UpstreamError(f"Upstream {self._name!r} closed the connection {where}.")
            asked = monotonic() - self.since if self.since else 0.0  # seconds ago, about
            fault.stale = self.reused and not self.told and asked < _STALE_MAX
            self._fail(fault)

    # --- flow and end

    def pause_writing(self) -> None:
        self._writable = self._loop.create_future()

    def resume_writing(self) -> None:
        if self._writable is not None and not self._writable.done():
            self._writable.set_result(None)
        self._writable = None

    def _pause(self) -> None:
        if self._transport is not None and not self._paused and not self._transport.is_closing():
            self._paused, self._paused_at = True, monotonic()
            self._transport.pause_reading()

    def _resume(self) -> None:
        self._held = False
        if self._transport is not None and self._paused and not self._transport.is_closing():
            self._paused = False
            self.touched = monotonic()
            if self._pace is not None:
                self._pace.since += self.touched - self._paused_at
            self._transport.resume_reading()

    def _fail(self, fault: UpstreamFault) -> None:
        """The answer cannot come to its end. What of it has come is handed on first, or kept for pump to do so."""
        self._fault = fault
        self._clean = False
        if self._take is not None:
            self._hand_on(self._take)
        self._finish(reusable=False)

    def _finish(self, *, reusable: bool) -> None:
        """The answer is over: give the connection back, and wake who waits."""
        if not self.busy:
            return
        self.busy = False
        if reusable:
            self._begin()  # now, since the next request is in a hurry
            self._released(self, True)
        else:
            self._take = self._chunk = None
            self.close()
        self._wake()
