"""The pool: keep-alive connections to one origin, reused last in first out, never more than `max_connections`.

The one resend of a request happens here, and only when a reused connection turns out to have been closed by the
upstream before a single byte of an answer came.
"""

import asyncio
import ssl
from collections import deque
from collections.abc import AsyncIterable, Coroutine
from time import monotonic
from typing import Any

from relay.errors import Overloaded, UpstreamError, UpstreamTimeout
from relay.exchange import Request, Timeouts, lines
from relay.wire.answer import Answer
from relay.wire.connection import Connection
from relay.wire.origin import Origin, connect, trust

_IDLE_MAX = 4.0  # seconds a connection is kept unused: below what servers allow (5 s is common), so few go stale
_SWEEPS_PER_TIMEOUT = 10


class Wire:
    """The engine (relay.exchange.Engine) that speaks HTTP/1.1 to `origin`."""

    def __init__(self, origin: Origin, timeouts: Timeouts, max_connections: int) -> None:
        """Raises SetupFault when the origin's CA file cannot be used."""
        self._origin = origin
        self._timeouts = timeouts
        self._max = max_connections
        self._context: ssl.SSLContext | None = trust(origin)
        self._path = origin.path
        self._fixed = b" HTTP/1.1\r\nhost: %s\r\n" % origin.authority
        self._idle: list[Connection] = []
        self._all: set[Connection] = set()
        self._connecting = 0
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._sweep: asyncio.TimerHandle | None = None
        limits = (timeouts.first_byte, timeouts.idle, timeouts.total or timeouts.idle)
        self._period = min(1.0, max(0.02, min(limits) / _SWEEPS_PER_TIMEOUT))

    def open(self, request: Request, body: bytes | AsyncIterable[bytes]) -> Coroutine[Any, Any, Answer]:
        """See relay.exchange.Engine."""
        head = request.written or self._written(request)
        connection = self._reuse()
        return self._over_new(head, body) if connection is None else connection.exchange(head, body, self._again)

    async def _over_new(self, head: bytes, body: bytes | AsyncIterable[bytes]) -> Answer:
        """The exchange for which no connection was idle."""
        connection = await self._alone(self._acquire())
        return await connection.exchange(head, body, self._again)

    async def _again(self, head: bytes, body: bytes) -> Answer:
        """The one resend."""
        connection = await self._alone(self._connect())
        return await connection.exchange(head, body)

    async def close(self) -> None:
        """See relay.exchange.Engine."""
        for connection in list(self._all):
            connection.cut()
        if self._sweep is not None:
            self._sweep.cancel()

    @property
    def open_connections(self) -> int:
        """How many connections there are, idle and busy."""
        return len(self._all)

    def _written(self, request: Request) -> bytes:
        """The head of the request up to its framing headers."""
        found = b"".join((request.method, b" ", self._path, request.target, self._fixed, lines(request.headers)))
        request.written = found
        return found

    # --- connections

    def _reuse(self) -> Connection | None:
        """The connection that was idle for the shortest time, if it is fresh enough."""
        while self._idle:
            connection = self._idle.pop()
            if not connection.closed and monotonic() - connection.idle_since < _IDLE_MAX:
                connection.reused = True
                return connection
            connection.close()
        return None

    async def _alone(self, fetching: Coroutine[Any, Any, Connection]) -> Connection:
        """A connection, fetched in a task of its own: who asks may be a Story, and timeouts need a task around them."""
        task = self._loop().create_task(fetching)
        try:
            return await task
        except asyncio.CancelledError:
            if task.done() and not task.cancelled() and task.exception() is None:
                self._released(task.result(), reusable=True)  # it came just when nobody wanted it any more
            raise

    async def _acquire(self) -> Connection:
        """A new connection, or, while there are as many as may be, the next that comes free within the connect time."""
        try:
            async with asyncio.timeout(self._timeouts.connect) as patience:
                while (connection := self._reuse()) is None and len(self._all) + self._connecting >= self._max:
                    await self._turn()
                if connection is not None:
                    return connection
                patience.reschedule(None)
                return await self._connect()
        except TimeoutError as fault:
            busy = f"All {self._max} connections to upstream {self._origin.name!r} are busy."
            raise Overloaded(busy, retry_after=1) from fault

    async def _turn(self) -> None:
        """Wait in line until a connection is given back."""
        turn = self._loop().create_future()
        self._waiting.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if not turn.cancelled():
                self._next()  # it was our turn, and we are gone: it is the next one's
            elif turn in self._waiting:
                self._waiting.remove(turn)
            raise

    def _next(self) -> None:
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return

    async def _connect(self) -> Connection:
        connection = Connection(self._origin.name, self._loop(), self._released)
        began = monotonic()
        self._connecting += 1
        try:
            await self._connected(connection)
        except BaseException:
            self._next()  # its place is free again
            raise
        finally:
            self._connecting -= 1
        connection.connect_ms = (monotonic() - began) * 1000
        self._all.add(connection)
        self._watch()
        return connection

    async def _connected(self, connection: Connection) -> None:
        """Connect it. Raises UpstreamError and UpstreamTimeout, whatever it was that went wrong."""
        name, limit = self._origin.name, self._timeouts.connect
        try:
            async with asyncio.timeout(limit):
                await connect(self._origin, self._context, connection)
        except TimeoutError as fault:
            raise UpstreamTimeout(f"Upstream {name!r} could not be connected to within {limit:g} seconds.") from fault
        except ssl.SSLCertVerificationError as fault:
            why = f"The certificate of upstream {name!r} is not trusted: {fault.verify_message}."
            raise UpstreamError(why) from fault
        except OSError as fault:
            reason = fault.strerror or type(fault).__name__
            raise UpstreamError(f"Upstream {name!r} could not be connected to: {reason}.") from fault
        if connection.closed:
            raise UpstreamError(f"Upstream {name!r} closed the connection before it answered.")

    def _released(self, connection: Connection, reusable: bool) -> None:
        if reusable and not connection.closed:
            connection.idle_since = monotonic()
            self._idle.append(connection)
        elif connection in self._all:
            self._all.remove(connection)
            if connection in self._idle:
                self._idle.remove(connection)
        else:
            return  # told of twice: when its answer ended, and when its socket did
        if self._waiting:
            self._next()

    @staticmethod
    def _loop() -> asyncio.AbstractEventLoop:
        return asyncio.get_running_loop()

    # --- deadlines

    def _watch(self) -> None:
        if self._sweep is None:
            self._sweep = self._loop().call_later(self._period, self._swept)

    def _swept(self) -> None:
        """End what is over its time. One look at all connections, now and then, instead of timers for each request."""
        self._sweep = None
        now = monotonic()
        for connection in list(self._all):
            if connection.busy:
                connection.expire(now, self._timeouts)
            elif now - connection.idle_since >= _IDLE_MAX and connection in self._idle:
                connection.close()
        if self._all:
            self._watch()
