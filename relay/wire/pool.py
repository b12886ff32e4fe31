"""The pool: keep-alive connections to one origin, reused last in first out, never more than `max_connections`.

Where the upstream had closed a kept connection before it was asked over it, it has most likely closed others as well:
whoever asks once more does so over a new one, and those that are kept then are ended.
"""

import asyncio
import math
import ssl
from collections.abc import Coroutine
from time import monotonic
from typing import Any

from relay.errors import Overloaded, UpstreamError, UpstreamFault, UpstreamTimeout
from relay.exchange import UNSENT, Request, Timeouts, Upload, lines
from relay.line import Line, NoTurn
from relay.outbox import QUIET, Outbox
from relay.wire.answer import Answer
from relay.wire.connection import Connection
from relay.wire.origin import Addresses, Origin, connect, trust, unreached
from relay.wire.patience import Deadline

AGE_MAX = 60.0  # seconds a connection is used: a changed address of the upstream is found within that time
_NEARLY = 0.9  # of the first byte's limit: OpenAI's clients wait ten minutes, which is that limit, less what it takes
_SWEEPS_PER_TIMEOUT = 20  # a request is seen by the first, and found late by the last: two of them are a tenth
_SWEEP_MIN, _SWEEP_MAX = 0.02, 0.5  # seconds between two sweeps


class Wire:
    """The engine (relay.exchange.Engine) that speaks HTTP/1.1 to `origin`."""

    def __init__(self, origin: Origin, timeouts: Timeouts, max_connections: int, line: Line, keep_alive: float) -> None:
        """`line` is who waits for a connection. One is kept unused for `keep_alive` seconds, or one sweep more.

        Raises SetupFault when the origin's CA file cannot be used.
        """
        self._origin = origin
        self._timeouts = timeouts
        self._max = max_connections
        self._keep_alive = keep_alive
        self._context: ssl.SSLContext | None = trust(origin)
        self._addresses = Addresses(origin)
        self._path = origin.path
        self._fixed = b" HTTP/1.1\r\nhost: %s\r\n" % origin.authority
        self._outbox = Outbox()
        self._idle: list[Connection] = []
        self._all: set[Connection] = set()
        self._kept: list[Connection] = []  # given back, for those who were let go in the line
        self._connecting = 0
        self._line = line
        self._waiting = line.waiting
        self._retired = False
        self._sweep: asyncio.TimerHandle | None = None
        self._looked = 0.0  # when the last sweep was, or the wait for the first one began
        limits = (timeouts.first_byte, timeouts.idle, timeouts.total or timeouts.idle)
        self._period = sweep_period(min(limits))
        self._soon = _NEARLY * timeouts.first_byte  # who waits longer for a head needs no deadline of his own

    def open(
        self, request: Request, body: Upload, within: float | None = None, fresh: bool = False
    ) -> Coroutine[Any, Any, Answer]:
        """See relay.exchange.Engine."""
        head = request.written or self._written(request)
        if fresh:
            return self._opened(head, body, None, within, fresh)
        connection = self._reuse()
        if connection is None or (within is not None and within < self._soon):
            return self._opened(head, body, connection, within)
        connection.within = math.inf if within is None else within
        connection.alone = self._outbox.singles >= QUIET and len(self._all) - len(self._idle) == 1
        return connection.exchange(head, body)

    async def _opened(
        self, head: bytes, body: Upload, connection: Connection | None, within: float | None, fresh: bool = False
    ) -> Answer:
        """The exchange for which no connection was idle, or whose head has a deadline."""
        deadline = None if within is None else Deadline.of(within)
        if connection is None:
            connection = await self._fetched(deadline, fresh)
        if within is not None:
            self._watch(within)
        connection.within, connection.alone = math.inf, False
        return await connection.exchange(head, body, deadline)

    def retire(self) -> None:
        """See relay.exchange.Engine."""
        self._retired = True
        for connection in self._all:
            connection.spend()
        for connection in tuple(self._idle):
            connection.close()

    async def close(self) -> None:
        """See relay.exchange.Engine."""
        self._retired = True
        for connection in list(self._all):
            connection.cut()
        if self._sweep is not None:
            self._sweep.cancel()

    @property
    def running(self) -> int:
        """See relay.exchange.Engine."""
        return len(self._all) - len(self._idle) + self._connecting + len(self._waiting)

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
        """The connection that was idle for the shortest time."""
        if not self._idle:
            return None
        connection = self._idle.pop()
        connection.reused = True
        return connection

    async def _fetched(self, deadline: Deadline | None, fresh: bool) -> Connection:
        """A connection that was not closed on its way here: but a new one that was knows its answer, or its fault."""
        connection = await self._alone(self._acquire(deadline, fresh))
        while connection.closed and connection.reused:
            connection = await self._alone(self._acquire(deadline))
        return connection

    async def _alone(self, fetching: Coroutine[Any, Any, Connection]) -> Connection:
        """A connection, fetched in a task of its own: who asks may be a Story, and timeouts need a task around them."""
        task = self._loop().create_task(fetching)
        try:
            connection = await task
        except UpstreamFault as fault:
            fault.sent = False
            raise
        except asyncio.CancelledError as cancelled:
            if task.done() and not task.cancelled() and task.exception() is None:
                task.result().unused()  # it came just when nobody wanted it any more
            cancelled.add_note(UNSENT)
            raise
        if connection.told:  # unasked: it would answer what comes next as well
            connection.spend()
        return connection

    async def _acquire(self, deadline: Deadline | None, fresh: bool = False) -> Connection:
        """A new connection, or, while there are as many as may be, the next that comes free."""
        if fresh:
            for connection in tuple(self._idle):
                connection.close()
        found = self._reuse()
        if found is None and self._is_full:
            await self._turn(deadline)
            found = self._reuse()
        return found or await self._connect(deadline)

    @property
    def _is_full(self) -> bool:
        """Whether every place is taken, or spoken for by who was let go in the line."""
        spoken_for = self._line.called - len(self._kept)
        return len(self._all) + self._connecting + spoken_for >= self._max

    async def _turn(self, deadline: Deadline | None) -> None:
        """Wait in line until there is a place: an idle connection, or room for a new one."""
        try:
            await self._line.wait(None if deadline is None else deadline.left())
        except NoTurn as why:
            busy = f"All {self._max} connections to upstream {self._origin.name!r} are busy, and {why}."
            raise Overloaded(busy, retry_after=1) from why
        finally:
            self._share()

    def _next(self) -> None:
        """A place is free."""
        self._line.next()
        self._share()

    def _share(self) -> None:
        """What is kept for nobody any more is there for everybody."""
        while len(self._kept) > self._line.called:
            self._idle.append(self._kept.pop())

    async def _connect(self, deadline: Deadline | None) -> Connection:
        connection = Connection(self._origin.name, self._outbox, self._released)
        began = monotonic()
        self._connecting += 1
        try:
            await self._connected(connection, deadline)
        except BaseException:
            self._next()  # its place is free again
            raise
        finally:
            self._connecting -= 1
        connection.connect_ms = (monotonic() - began) * 1000
        if self._retired:
            connection.spend()
        self._all.add(connection)
        self._watch()
        return connection

    async def _connected(self, connection: Connection, deadline: Deadline | None) -> None:
        """Connect it. Raises UpstreamError and UpstreamTimeout, whatever it was that went wrong."""
        name, limit = self._origin.name, self._timeouts.connect
        late = f"Upstream {name!r} could not be connected to within {limit:g} seconds."
        if deadline is not None and deadline.left() < limit:
            limit, late = deadline.left(), deadline.late(name)
        try:
            async with asyncio.timeout(limit):
                connection.beneath = await connect(self._origin, self._addresses, self._context, connection)
        except TimeoutError as fault:
            raise UpstreamTimeout(late) from fault
        except ssl.SSLCertVerificationError as fault:
            why = f"The certificate of upstream {name!r} is not trusted: {fault.verify_message}."
            raise UpstreamError(why) from fault
        except OSError as fault:
            raise UpstreamError(f"Upstream {name!r} could not be connected to: {unreached(fault)}.") from fault
        if connection.closed:
            connection.close()  # TLS may have brought it what it is closed for before it had its transport
            raise UpstreamError(f"Upstream {name!r} closed the connection before it answered.")

    def _released(self, connection: Connection, reusable: bool) -> None:
        if reusable and not connection.closed:
            connection.since = 0.0
            if self._waiting:
                self._kept.append(connection)
                self._next()
            else:
                self._idle.append(connection)
        elif connection in self._all:  # else told of twice: when it was closed, and when its socket was
            self._forget(connection)

    def _forget(self, connection: Connection) -> None:
        """It is closed, and its place free, if not spoken for."""
        self._all.remove(connection)
        if connection in self._kept:
            self._kept.remove(connection)
            return
        if connection in self._idle:
            self._idle.remove(connection)
        self._next()
        if not self._all and self._sweep is not None:
            self._sweep.cancel()
            self._sweep = None

    @staticmethod
    def _loop() -> asyncio.AbstractEventLoop:
        return asyncio.get_running_loop()

    # --- deadlines

    def _watch(self, within: float | None = None) -> None:
        """Have a sweep come soon enough, also for who would wait only `within` seconds."""
        period = self._period if within is None else min(self._period, sweep_period(within))
        loop = self._loop()
        if self._sweep is not None:
            if self._sweep.when() <= loop.time() + period:
                return
            self._sweep.cancel()
        else:
            self._looked = monotonic()
        self._sweep = loop.call_later(period, self._swept)

    def _swept(self) -> None:
        self._sweep = None
        self.sweep(monotonic())
        if self._all:
            hurries = [hurry for connection in self._all if (hurry := connection.hurry) is not None]
            self._watch(min(hurries, default=None))

    def sweep(self, now: float) -> None:
        """End what is over its time. One look at all connections, now and then, instead of timers for each request.

        `now` is in seconds of the monotonic clock. No clock is read for a connection itself: one that is seen idle for
        the first time may be so since the last sweep, however long ago that was; one that was asked was asked just now.
        """
        looked, self._looked = self._looked, now
        for connection in list(self._all):
            old = now - connection.born >= AGE_MAX
            if old:
                connection.spend()
            if connection.busy:
                connection.expire(now, self._timeouts)
            elif (
                old or self._retired or now - connection.seen(looked) >= self._keep_alive
            ) and connection in self._idle:
                connection.close()


def sweep_period(limit: float) -> float:
    """Seconds between two sweeps that are to notice soon when `limit` seconds are over."""
    return min(_SWEEP_MAX, max(_SWEEP_MIN, limit / _SWEEPS_PER_TIMEOUT))
