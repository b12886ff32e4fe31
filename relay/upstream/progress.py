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

_CUT = ("disconnected", "peer closed")  # how httpcore and h11 tell of an end that came too early


class Progress:
    """Of one request. httpcore tells of its steps by `trace`."""

    def __init__(self, name: str, timeouts: Timeouts, deadline: Deadline | None) -> None:
        self.name = name
        self.deadline = deadline
        self.late = ""  # what is wrong when the timeout passes
        self.timeout: asyncio.Timeout | None = None
        self.pooled = False  # it is in the pool, which has not told of its first step yet
        self.unwanted = False  # nobody waits for it any more
        self.connecting = False  # so nothing of the request can have been sent
        self.stream: Any = None  # the connection that was made for this request
        self.sent_at: float | None = None
        self.connect_ms: float | None = None
        self.response: httpx.Response | None = None
        self._timeouts = timeouts
        self._loop = asyncio.get_running_loop()
        self._began = 0.0

    async def trace(self, event: str, info: Mapping[str, Any]) -> None:
        """Told by httpcore: the deadlines follow what happens, since its own are for each read and write."""
        self.pooled = False
        if self.unwanted:
            self.unwanted = False  # told once: what follows is cleaning up
            raise asyncio.CancelledError
        match event.partition(".")[2]:
            case "connect_tcp.started":
                self._began, self.connecting = self._loop.time(), True
                self._reschedule(self._until(self._timeouts.connect, "could not be connected to within"))
            case "connect_tcp.complete":
                self.stream = info["return_value"]
            case "send_request_headers.started" if info["request"].method != b"CONNECT":
                if self.stream is not None:
                    self.connect_ms = (self._loop.time() - self._began) * 1000
                self.connecting = False
                self._all_sent()

    async def uploading(self, body: AsyncIterable[bytes]) -> AsyncIterator[bytes]:
        """The body's pieces; the wait for the answer starts when all is sent."""
        async for piece in body:
            yield piece
            self._all_sent()

    def whole(self) -> float:
        """When a request is over its time for which the transport tells of no steps."""
        return self._until(self._timeouts.connect + self._timeouts.first_byte, "did not answer for")

    def idle(self) -> float:
        """When the next read of the answer has to be over."""
        return self._until(self._timeouts.idle, "fell silent in the middle of its answer for")

    def pace(self, now: float) -> Pace:
        """The pace of its answer, from now on."""
        return Pace(self._timeouts.pace or 0.0, now)

    def _all_sent(self) -> None:
        self.sent_at = self._loop.time()
        self._reschedule(self._until(self._timeouts.first_byte, "did not answer for"))

    def _reschedule(self, when: float) -> None:
        if self.timeout is not None:
            self.timeout.reschedule(when)

    def _until(self, limit: float, late: str) -> float:
        """The moment that is `limit` seconds from now, or the end of what the whole may take where that is earlier."""
        when, total = self._loop.time() + limit, self._timeouts.total
        late = f"{late} {limit:g} seconds"
        if total is not None and self.sent_at is not None and self.sent_at + total < when:
            when, late = self.sent_at + total, f"took longer than {total:g} seconds in all"
        self.late = f"Upstream {self.name!r} {late}."
        if self.deadline is not None:
            end = self._loop.time() + self.deadline.left()
            if end < when:
                when, self.late = end, self.deadline.late(self.name)
        return when


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
    where = "before it answered" if progress.response is None else "in the middle of its answer"
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
