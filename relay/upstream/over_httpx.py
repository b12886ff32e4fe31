"""The second engine: httpx, for what `wire` does not speak (HTTP/2, proxies over https, any httpx transport).

Every name and every exception of httpx stays in this module; it knows no provider and no JSON.
"""

import asyncio
import contextlib
import ssl
import string
from collections.abc import AsyncIterable, AsyncIterator, Coroutine, Iterator, Mapping
from importlib.util import find_spec
from typing import Any, Self, TypeVar
from urllib.parse import quote_from_bytes

import httpx

from relay import config
from relay.errors import Overloaded, RelayError, UpstreamError, UpstreamTimeout
from relay.exchange import Drained, Request, Take, Timeouts
from relay.wire import Origin
from relay.wire.origin import trust

_IDLE_MAX = 4.0  # seconds a connection is kept unused, as in relay.wire
_SWITCHING = 101
_PROXY_REFUSES = 407
_CUT = ("disconnected", "peer closed")  # how httpcore and h11 tell of an end that came too early
# From a response to the parser of its connection: there is no public way to see what came after an answer.
_TO_PARSER = ("stream", "_stream", "_httpcore_stream", "_stream", "_connection", "_h11_state")

T = TypeVar("T")


class HttpxEngine:
    """The engine (relay.exchange.Engine) over `client`, of which only the transport is used: it adds no header."""

    def __init__(
        self, name: str, base_url: str, timeouts: Timeouts, client: httpx.AsyncClient, max_connections: int = 1000
    ) -> None:
        self._name = name
        self._base = httpx.URL(base_url)
        self._path = self._base.raw_path.rstrip(b"/")
        self._timeouts = timeouts
        self._client = client
        self._tasks = _Tasks(name, max_connections)

    @classmethod
    def of(cls, spec: config.Upstream) -> Self:
        """The engine that `spec` describes. Raises SetupFault when its CA file cannot be used."""
        context = trust(Origin(spec.name, spec.base_url, ca=spec.ca)) or ssl.create_default_context()
        proxy = None
        if spec.proxy is not None:
            proxy = httpx.Proxy(spec.proxy, ssl_context=context if spec.proxy.startswith("https:") else None)
        client = httpx.AsyncClient(
            verify=context,
            proxy=proxy,
            trust_env=False,
            follow_redirects=False,
            http2=find_spec("h2") is not None,
            # The engine counts for itself: httpcore loses a place when who waits for one is cancelled.
            limits=httpx.Limits(keepalive_expiry=_IDLE_MAX),
        )
        return cls(spec.name, spec.base_url, spec.timeouts, client, spec.max_connections)

    async def open(self, request: Request, body: bytes | AsyncIterable[bytes]) -> "HttpxReply":
        """See relay.exchange.Engine."""
        course = _Course(self._name, self._timeouts)
        try:
            response = await self._tasks.alone(self._sent(request, body, course))
        except BaseException:
            if course.response is not None:  # it came just when nobody wanted it any more
                self._tasks.end(course.response)
            raise
        return HttpxReply(response, course, self._tasks)

    async def close(self) -> None:
        """See relay.exchange.Engine."""
        await self._tasks.stop()
        await self._client.aclose()

    async def _sent(self, request: Request, body: bytes | AsyncIterable[bytes], course: "_Course") -> httpx.Response:
        """The response whose head is in."""
        await self._tasks.place(self._timeouts.connect)
        try:
            with _wall(course):
                async with asyncio.timeout_at(course.whole()) as course.deadline:
                    response = await self._client.send(
                        self._built(request, body, course), stream=True, auth=None, follow_redirects=False
                    )
        except BaseException:
            if course.stream is not None and course.sent_at is None:
                await course.stream.aclose()  # httpcore loses it when it is cut off in the middle of TLS or CONNECT
            self._tasks.places.release()
            raise
        course.response = response
        if response.status_code == _SWITCHING:
            raise UpstreamError(f"Upstream {self._name!r} wanted to switch protocols.")
        if response.status_code == _PROXY_REFUSES:
            raise UpstreamError(f"The proxy of upstream {self._name!r} refused with status {_PROXY_REFUSES}.")
        return response

    def _built(self, request: Request, body: bytes | AsyncIterable[bytes], course: "_Course") -> httpx.Request:
        # httpx takes ASCII alone; the rest of the target stays as it is.
        target = quote_from_bytes(self._path + request.target, safe=string.punctuation).encode()
        patience = self._timeouts.connect
        return httpx.Request(
            request.method.decode("ascii"),
            self._base.copy_with(raw_path=target),
            headers=list(request.headers),
            content=body if isinstance(body, bytes) else course.uploading(body),
            extensions={
                "timeout": {"connect": patience, "pool": patience, "read": None, "write": None},
                "trace": course.trace,
            },
        )


class HttpxReply:
    """The Reply of one request."""

    def __init__(self, response: httpx.Response, course: "_Course", tasks: "_Tasks") -> None:
        self.status = response.status_code
        self.headers = tuple((name.lower(), value) for name, value in response.headers.raw)
        self.reused = course.sent_at is not None and course.stream is None
        self.connect_ms = course.connect_ms
        self.whole = None
        self._response: httpx.Response | None = response
        self._course = course
        self._tasks = tasks

    async def pump(self, take: Take, drained: Drained) -> None:
        """See relay.exchange.Reply."""
        response, self._response = self._response, None
        if response is not None:
            try:
                await self._tasks.alone(self._pumped(response, take, drained))
            finally:
                ending = self._tasks.end(response)
            await asyncio.shield(ending)

    def abort(self) -> None:
        """See relay.exchange.Reply."""
        response, self._response = self._response, None
        if response is not None:
            self._tasks.end(response)

    async def _pumped(self, response: httpx.Response, take: Take, drained: Drained) -> None:
        # Not aiter_raw: at its end it gives the connection back before anyone can look at what else came on it.
        pieces = aiter(response.stream)  # type: ignore[arg-type]  # an AsyncClient's stream is an asynchronous one
        while (piece := await self._next(pieces)) is not None:
            if piece and take(piece, False):
                await drained()
        if _has_surplus(response):
            await response.extensions["network_stream"].aclose()
        take(b"", True)

    async def _next(self, pieces: AsyncIterator[bytes]) -> bytes | None:
        """The next piece; None after the last."""
        with _wall(self._course):
            async with asyncio.timeout_at(self._course.idle()):
                return await anext(pieces, None)


class _Course:
    """How far one request has come, and how long it may wait there. httpcore tells of its steps by `trace`."""

    def __init__(self, name: str, timeouts: Timeouts) -> None:
        self.name = name
        self.late = ""  # what is wrong when the deadline passes
        self.deadline: asyncio.Timeout | None = None
        self.stream: Any = None  # the connection that was made for this request
        self.sent_at: float | None = None
        self.connect_ms: float | None = None
        self.response: httpx.Response | None = None
        self._timeouts = timeouts
        self._loop = asyncio.get_running_loop()
        self._began = 0.0

    async def trace(self, event: str, info: Mapping[str, Any]) -> None:
        """Told by httpcore: the deadlines follow what happens, since its own are for each read and write."""
        match event.partition(".")[2]:
            case "connect_tcp.started":
                self._began = self._loop.time()
                self._reschedule(self._until(self._timeouts.connect, "could not be connected to within"))
            case "connect_tcp.complete":
                self.stream = info["return_value"]
            case "send_request_headers.started" if info["request"].method != b"CONNECT":
                if self.stream is not None:
                    self.connect_ms = (self._loop.time() - self._began) * 1000
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

    def _all_sent(self) -> None:
        self.sent_at = self._loop.time()
        self._reschedule(self._until(self._timeouts.first_byte, "did not answer for"))

    def _reschedule(self, when: float) -> None:
        if self.deadline is not None:
            self.deadline.reschedule(when)

    def _until(self, limit: float, late: str) -> float:
        """The moment that is `limit` seconds from now, or the end of the total time where that is earlier."""
        when, total = self._loop.time() + limit, self._timeouts.total
        late = f"{late} {limit:g} seconds"
        if total is not None and self.sent_at is not None and self.sent_at + total < when:
            when, late = self.sent_at + total, f"took longer than {total:g} seconds in all"
        self.late = f"Upstream {self.name!r} {late}."
        return when


class _Tasks:
    """What runs for one engine, and how much of it at once.

    httpcore cleans up with awaits, which nobody may cut short: so it does everything in tasks of its own.
    """

    def __init__(self, name: str, most: int) -> None:
        self._name = name
        self._most = most
        self.places = asyncio.Semaphore(most)
        self._running: set[asyncio.Task[Any]] = set()
        self._ending: set[asyncio.Task[None]] = set()

    async def alone(self, work: Coroutine[Any, Any, T]) -> T:
        """Run `work` in a task of its own; cancelled, cancel that once and do not wait for it."""
        task = asyncio.create_task(work)
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            if task.cancelled() and not _is_cancelled():
                raise UpstreamError(f"Upstream {self._name!r} was let go of in the middle of a request.") from None
            task.cancel()
            raise

    def end(self, response: httpx.Response) -> asyncio.Task[None]:
        """Give a response's connection back if it is over, else close it; its place is free then."""
        task = asyncio.create_task(response.aclose())
        self._ending.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._ending.discard(task)
        self.places.release()

    async def place(self, patience: float) -> None:
        """Wait for one of the places, which `end` frees. Raises Overloaded when `patience` seconds are over."""
        try:
            async with asyncio.timeout(patience):
                await self.places.acquire()
        except TimeoutError as fault:
            raise Overloaded(
                f"All {self._most} connections to upstream {self._name!r} are busy.", retry_after=1
            ) from fault

    async def stop(self) -> None:
        for task in self._running:
            task.cancel()
        if tasks := {*self._running, *self._ending}:
            await asyncio.wait(tasks)


def _is_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _has_surplus(response: httpx.Response) -> bool:
    """Whether the upstream went on after its answer: the next request would take that for its own answer."""
    place: Any = response
    for name in _TO_PARSER:
        place = getattr(place, name, None)
    return place is not None and bool(place.trailing_data[0])


@contextlib.contextmanager
def _wall(course: _Course) -> Iterator[None]:
    """No exception of httpx, or of what is below it, passes."""
    try:
        yield
    except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError, OSError) as fault:
        raise _told(fault, course) from fault


def _told(fault: Exception, course: _Course) -> RelayError:
    name = course.name
    match fault:
        case httpx.PoolTimeout():
            return Overloaded(f"All connections to upstream {name!r} are busy.", retry_after=1)
        case httpx.TimeoutException() | TimeoutError():
            return UpstreamTimeout(course.late)
    return UpstreamError(_broken(fault, course))


def _broken(fault: Exception, course: _Course) -> str:
    name = course.name
    where = "before it answered" if course.response is None else "in the middle of its answer"
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
            reason = cause.strerror or reason
        cause = cause.__cause__ or cause.__context__
    return f"Upstream {name!r} could not be connected to: {reason}."
