"""Progress: how far one request over httpx has come, how long it may wait there, and what its failing there means.

The wall behind which the exceptions of httpx stay. Knows no engine, no provider and no JSON.
"""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterable, AsyncIterator, Iterator, Mapping
from typing import Any

import httpx

from relay.errors import Overloaded, RelayError, UpstreamError, UpstreamTimeout
from relay.exchange import Timeouts
from relay.wire.origin import unreached
from relay.wire.patience import Deadline, Pace

_CLEANING = "response_closed"  # the step in which httpcore closes a connection, or keeps it
_CUT = ("disconnected", "peer closed")  # how httpcore and h11 tell of an end that came too early


class Progress:
    """Of one request. httpcore tells of its steps by `trace`."""

    def __init__(self, name: str, timeouts: Timeouts, deadline: Deadline | None) -> None:
        self.name = name
        self.deadline = deadline
        self.late = ""  # what is wrong when the timeout passes
        self.pooled = False  # it has come to httpcore's pool
        self.connecting = False  # so nothing of the request can have been sent
        self.stream: Any = None  # the connection that was made for this request
        self.sent_at: float | None = None
        self.connect_ms: float | None = None
        self.answered = False  # the head of its answer is in,
        self.response: httpx.Response | None = None  # which nobody has taken yet
        self.unwanted = False  # it is to end before its next step, or with its answer
        self._timeouts = timeouts
        self._over: asyncio.Future[None] | None = None  # done when the time is over for what happens just now
        self._timer: asyncio.TimerHandle | None = None
        self._step = ""  # of httpcore's, under way
        self._loop = asyncio.get_running_loop()
        self._began = 0.0

    async def trace(self, event: str, info: Mapping[str, Any]) -> None:
        """Told by httpcore: the deadlines follow what happens, since its own are for each read and write."""
        _, step, stage = event.split(".")
        begins = stage == "started" and not self._step  # else it is a step within another one
        if begins:
            self._step = step
        elif stage != "started" and step == self._step:
            self._step = ""
        match f"{step}.{stage}":
            case "connect_tcp.started":
                self._began, self.connecting = self._loop.time(), True
                self._limit(self._timeouts.connect, "could not be connected to within")
            case "connect_tcp.complete":
                self.stream = info["return_value"]
            case "send_request_headers.started" if info["request"].method != b"CONNECT":
                if self.stream is not None:
                    self.connect_ms = (self._loop.time() - self._began) * 1000
                self.connecting = False
                self._all_sent()
        if self.unwanted and begins and step != _CLEANING:
            self._step = ""
            raise asyncio.CancelledError

    def give_up(self, task: asyncio.Task[Any]) -> bool:
        """End `task`, which nobody waits for any more. Returns whether at once.

        Cancelled between two steps or while it cleans up, httpcore would lose the connections that it has in hand:
        there the task is left alone, and ends at its next step, or by itself.
        """
        at_once = not self.pooled or self._step not in {"", _CLEANING}
        if at_once:
            task.cancel()
        else:
            self.unwanted = True
        task.add_done_callback(_heard)
        return at_once

    @contextlib.contextmanager
    def limited(self) -> Iterator[asyncio.Future[None]]:
        """For who waits for it: gives what is done when the time is over for what happens just then."""
        self._over = self._loop.create_future()
        try:
            yield self._over
        finally:
            self._over = None
            self._stop()

    def overdue(self) -> UpstreamTimeout:
        """What is wrong when the time is over."""
        fault = UpstreamTimeout(self.late)
        fault.sent = not self.connecting
        return fault

    async def uploading(self, body: AsyncIterable[bytes]) -> AsyncIterator[bytes]:
        """The body's pieces; the wait for the answer starts when all is sent."""
        async for piece in body:
            yield piece
            self._all_sent()

    def asking(self) -> None:
        """It begins: the limit for a transport that tells of no steps."""
        self._limit(self._timeouts.connect + self._timeouts.first_byte, "did not answer for")

    @contextlib.contextmanager
    def reading(self) -> Iterator[None]:
        """While the answer is read; what is done with a piece of it has no limit."""
        self._limit(self._timeouts.idle, "fell silent in the middle of its answer for")
        try:
            yield
        finally:
            self._stop()

    def pace(self, now: float) -> Pace:
        """The pace of its answer, from now on."""
        return Pace(self._timeouts.pace or 0.0, now)

    def _all_sent(self) -> None:
        self.sent_at = self._loop.time()
        self._limit(self._timeouts.first_byte, "did not answer for")

    def _limit(self, limit: float, late: str) -> None:
        """What happens now may take `limit` seconds, or until the end of what the whole may take if that is earlier."""
        self._stop()
        if self._over is None or self._over.done():  # nobody waits any more
            return
        when, total = self._loop.time() + limit, self._timeouts.total
        late = f"{late} {limit:g} seconds"
        if total is not None and self.sent_at is not None and self.sent_at + total < when:
            when, late = self.sent_at + total, f"took longer than {total:g} seconds in all"
        self.late = f"Upstream {self.name!r} {late}."
        if self.deadline is not None:
            end = self._loop.time() + self.deadline.left()
            if end < when:
                when, self.late = end, self.deadline.late(self.name)
        self._timer = self._loop.call_at(when, self._over.set_result, None)

    def _stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def _heard(task: asyncio.Task[Any]) -> None:
    """asyncio logs a fault that nobody asks for."""
    if not task.cancelled():
        task.exception()


@contextlib.contextmanager
def wall(progress: Progress) -> Iterator[None]:
    """No exception of httpx, or of what is below it, passes."""
    try:
        yield
    except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError, OSError) as fault:
        told = _told(fault, progress)
        told.sent = told.sent and not progress.connecting
        raise told from fault
    except AttributeError as fault:
        # anyio looks at the socket of a new connection, and has none where that was lost just then.
        if not progress.connecting:
            raise
        told = UpstreamError(f"Upstream {progress.name!r} closed the connection before it answered.")
        told.sent = False
        raise told from fault


def _told(fault: Exception, progress: Progress) -> RelayError:
    name = progress.name
    match fault:
        case httpx.PoolTimeout():
            return Overloaded(f"All connections to upstream {name!r} are busy.", retry_after=1)
        case httpx.TimeoutException() | TimeoutError():
            return UpstreamTimeout(progress.late)
    return UpstreamError(_broken(fault, progress))


def _broken(fault: Exception, progress: Progress) -> str:
    name = progress.name
    where = "before it answered" if not progress.answered else "in the middle of its answer"
    match fault:
        case httpx.ProxyError():
            return f"The proxy of upstream {name!r} refused CONNECT with status {str(fault)[:3]}."
        case httpx.ConnectError():
            return _unreachable(fault, name)
        case httpx.RemoteProtocolError() if not any(word in str(fault) for word in _CUT):
            return f"Upstream {name!r} sent something that is not HTTP."
        case httpx.NetworkError() | httpx.RemoteProtocolError() | OSError():
            return f"Upstream {name!r} closed the connection {where}."
    return f"Upstream {name!r} could not be asked: {type(fault).__name__}."


def _unreachable(fault: BaseException, name: str) -> str:
    """Why there is no connection: the certificate, or what the operating system says of it."""
    reason = type(fault).__name__
    cause: BaseException | None = fault
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return f"The certificate of upstream {name!r} is not trusted: {cause.verify_message}."
        if isinstance(cause, OSError):
            reason = unreached(cause) if cause.strerror else reason
        cause = cause.__cause__ or cause.__context__
    return f"Upstream {name!r} could not be connected to: {reason}."
