"""The second engine: httpx, for what `wire` does not speak (HTTP/2, proxies over https, any httpx transport).

Every name and every exception of httpx stays here and in relay.upstream.progress; no provider and no JSON is known.
"""

import asyncio
import ssl
import string
from collections.abc import AsyncIterator, Callable, Coroutine
from importlib.util import find_spec
from time import monotonic
from typing import Any, Self, TypeVar
from urllib.parse import quote_from_bytes
from weakref import WeakKeyDictionary

import httpx

from relay import config
from relay.errors import Overloaded, UpstreamError, UpstreamTimeout
from relay.exchange import FINAL, UNSENT, Chunk, Drained, Request, Take, Timeouts, Upload, joined
from relay.line import Line, NoTurn
from relay.upstream.progress import Progress, wall
from relay.wire import Origin
from relay.wire.origin import trust
from relay.wire.patience import Deadline
from relay.wire.pool import AGE_MAX

_SWITCHING = 101
_PROXY_REFUSES = 407
# From a response to the parser of its connection: there is no public way to see what came after an answer.
_TO_PARSER = ("stream", "_stream", "_httpcore_stream", "_stream", "_connection", "_h11_state")
# From a client to its connections: nor is there one to close those that are idle.
_TO_CONNECTIONS = ("_transport", "_pool", "connections")

_SWEEP = 1.0  # seconds until it is looked again for connections whose time is over

T = TypeVar("T")


class HttpxEngine:
    """The engine (relay.exchange.Engine) over `client`, of which only the transport is used: it adds no header.

    `line` is who waits for a connection, which is kept unused for `keep_alive` seconds; `clock` gives the seconds by
    which an answer's pace and a connection's age go.
    """

    def __init__(
        self,
        name: str,
        base_url: str,
        timeouts: Timeouts,
        client: httpx.AsyncClient,
        line: Line,
        *,
        max_connections: int = 1000,
        keep_alive: float = 3.5,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._name = name
        self._base = httpx.URL(base_url)
        self._path = self._base.raw_path.rstrip(b"/")
        self._timeouts = timeouts
        self._client = client
        self._tasks = _Tasks(name, max_connections, line, client, keep_alive, clock)

    @classmethod
    def of(cls, spec: config.Upstream, line: Line) -> Self:
        """The engine that `spec` describes. Raises SetupFault when its CA file cannot be used."""
        context = trust(Origin(spec.name, spec.base_url, ca=spec.ca)) or ssl.create_default_context()
        proxy = None
        if spec.proxy is not None:
            proxy = httpx.Proxy(spec.proxy, ssl_context=context if spec.proxy.startswith("https:") else None)
        transport = httpx.AsyncHTTPTransport(
            verify=context,
            proxy=proxy,
            trust_env=False,
            http2=find_spec("h2") is not None,
            # The engine counts for itself: httpcore loses a place when who waits for one is cancelled.
            limits=httpx.Limits(keepalive_expiry=spec.keep_alive),
        )
        client = httpx.AsyncClient(transport=transport, trust_env=False)
        most, keep_alive = spec.max_connections, spec.keep_alive
        return cls(spec.name, spec.base_url, spec.timeouts, client, line, max_connections=most, keep_alive=keep_alive)

    @property
    def running(self) -> int:
        """See relay.exchange.Engine."""
        return self._tasks.requests

    async def open(
        self,
        request: Request,
        body: Upload,
        within: float | None = None,
        fresh: bool = False,  # noqa: ARG002  # nobody can say of a connection of httpx that it was stale
    ) -> "HttpxReply":
        """See relay.exchange.Engine."""
        progress = Progress(self._name, self._timeouts, None if within is None else Deadline.of(within))
        try:
            response = await self._tasks.alone(self._sent(request, body, progress), progress)
        except BaseException:
            if progress.response is not None:  # it came just when nobody wanted it any more
                self._tasks.end(progress.response)
            raise
        finally:
            progress.response = None  # whose request knows it
        return HttpxReply(response, progress, self._tasks)

    def retire(self) -> None:
        """See relay.exchange.Engine."""
        self._tasks.retire()

    async def close(self) -> None:
        """See relay.exchange.Engine."""
        await self._tasks.stop()
        await self._client.aclose()

    async def _sent(self, request: Request, body: Upload, progress: Progress) -> httpx.Response:
        """The response whose head is in."""
        await self._tasks.place(progress.deadline)
        try:
            with wall(progress):
                progress.asking()
                progress.pooled = self._tasks.pools
                response = await self._client.send(
                    self._built(request, body, progress), stream=True, auth=None, follow_redirects=False
                )
        except BaseException:
            if progress.stream is not None and progress.sent_at is None:
                await progress.stream.aclose()  # httpcore loses it when it is cut off in the middle of TLS or CONNECT
            self._tasks.free()
            raise
        self._tasks.is_old(response)  # its connection's time begins
        progress.answered = True
        if progress.unwanted:
            self._tasks.end(response)
            raise asyncio.CancelledError
        progress.response = response
        if response.status_code == _SWITCHING:
            raise UpstreamError(f"Upstream {self._name!r} wanted to switch protocols.")
        if response.status_code not in FINAL:
            told = f"answered with the status {response.status_code}, which is none"
            raise UpstreamError(f"Upstream {self._name!r} {told}.")
        if response.status_code == _PROXY_REFUSES:
            raise UpstreamError(f"The proxy of upstream {self._name!r} refused with status {_PROXY_REFUSES}.")
        return response

    def _built(self, request: Request, body: Upload, progress: Progress) -> httpx.Request:
        # httpx takes ASCII alone; the rest of the target stays as it is.
        target = quote_from_bytes(self._path + request.target, safe=string.punctuation).encode()
        patience = self._timeouts.connect
        return httpx.Request(
            request.method.decode("ascii"),
            self._base.copy_with(raw_path=target),
            headers=list(request.headers),
            content=joined(body) if isinstance(body, (bytes, tuple)) else progress.uploading(body),
            extensions={
                "timeout": {"connect": patience, "pool": patience, "read": None, "write": None},
                "trace": progress.trace,
            },
        )


class HttpxReply:
    """The Reply of one request."""

    def __init__(self, response: httpx.Response, progress: Progress, tasks: "_Tasks") -> None:
        self.status = response.status_code
        self.headers = tuple((name.lower(), value) for name, value in response.headers.raw)
        self.reused = progress.sent_at is not None and progress.stream is None
        self.connect_ms = progress.connect_ms
        self.whole = None
        self._response: httpx.Response | None = response
        self._progress = progress
        self._tasks = tasks

    async def pump(self, take: Take, drained: Drained, _chunk: Chunk | None = None) -> None:
        """See relay.exchange.Reply."""
        response, self._response = self._response, None
        if response is not None:
            try:
                await self._tasks.alone(self._pumped(response, take, drained), self._progress)
            finally:
                ending = self._tasks.end(response)
            await asyncio.shield(ending)
            take(b"", True)

    def begun(self) -> None:
        """See relay.exchange.Reply."""
        self._progress.deadline = None

    def abort(self) -> None:
        """See relay.exchange.Reply."""
        response, self._response = self._response, None
        if response is not None:
            self._tasks.end(response)

    async def _pumped(self, response: httpx.Response, take: Take, drained: Drained) -> None:
        # Not aiter_raw: at its end it gives the connection back before anyone can look at what else came on it.
        pieces = aiter(response.stream)  # type: ignore[arg-type]  # an AsyncClient's stream is an asynchronous one
        clock, pace = self._tasks.clock, self._progress.pace(self._tasks.clock())
        while (piece := await self._next(pieces)) is not None:
            if late := pace.late(self._progress.name, clock()):
                raise UpstreamTimeout(late)
            if self._progress.unwanted:
                return
            pace.volume += len(piece)
            if piece and take(piece, False):
                held_at = clock()
                await drained()
                pace.since += clock() - held_at
        if _has_surplus(response) or self._tasks.is_old(response):
            await response.extensions["network_stream"].aclose()

    async def _next(self, pieces: AsyncIterator[bytes]) -> bytes | None:
        """The next piece; None after the last."""
        with wall(self._progress), self._progress.reading():
            return await anext(pieces, None)


class _Tasks:
    """What runs for one engine, and how much of it at once.

    httpcore cleans up with awaits, which nobody may cut short: so it does everything in tasks of its own.
    """

    def __init__(  # noqa: PLR0917  # all of it is the engine's own
        self,
        name: str,
        most: int,
        line: Line,
        client: httpx.AsyncClient,
        keep_alive: float,
        clock: Callable[[], float],
    ) -> None:
        self.clock = clock
        self._keep_alive = keep_alive
        self._tidying: asyncio.TimerHandle | None = None
        self._name = name
        self._most = most
        self._taken = 0  # of the places
        self._line = line
        self._client = client
        self._retired = False
        self._born: WeakKeyDictionary[object, float] = WeakKeyDictionary()  # when a connection gave its first answer
        self._running: set[asyncio.Task[Any]] = set()
        self._ending: set[asyncio.Task[None]] = set()

    @property
    def requests(self) -> int:
        """Those that have a place, and those that wait for one."""
        return self._taken + len(self._line.waiting)

    @property
    def pools(self) -> bool:
        """Whether requests come by their connections in httpcore's pool."""
        return _behind(self._client, _TO_CONNECTIONS) is not None

    async def alone(self, work: Coroutine[Any, Any, T], progress: Progress) -> T:
        """Run `work` in a task of its own, for as long as `progress` allows; cancelled, do not wait for its end.

        Limits end it here and not in there, so that it is cancelled once: a second time would hit the cleaning up.
        """
        task = self._begun(work)
        with progress.limited() as over:
            either: set[asyncio.Future[Any]] = {task, over}
            try:
                await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            except asyncio.CancelledError as cancelled:
                progress.give_up(task)
                if progress.sent_at is None:
                    cancelled.add_note(UNSENT)
                raise
        if not task.done():
            if progress.give_up(task):
                await asyncio.wait({task})  # its place is free then
            raise progress.overdue()
        if task.cancelled():
            raise UpstreamError(f"Upstream {self._name!r} was let go of in the middle of a request.")
        return task.result()

    def end(self, response: httpx.Response) -> asyncio.Task[None]:
        """Give a response's connection back if it is over, else close it; its place is free then."""
        task = asyncio.create_task(self._end(response))
        self._ending.add(task)
        task.add_done_callback(self._ended)
        return task

    async def _end(self, response: httpx.Response) -> None:
        await response.aclose()
        del response.stream  # it knows the response, and with that the request
        if self._retired:
            await self._close_idle()
        elif self._tidying is None and self.pools:
            self._tidying = asyncio.get_running_loop().call_later(self._keep_alive, self._tidy)

    def _tidy(self) -> None:
        """Close what was unused for too long: httpcore does so when it is asked next, which may be never."""
        self._tidying = None
        self._begun(self._close_idle(expired=True))
        if any(connection.is_idle() for connection in self._connections):
            self._tidying = asyncio.get_running_loop().call_later(_SWEEP, self._tidy)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._ending.discard(task)
        self.free()

    def _begun(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        task = asyncio.create_task(work)
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return task

    async def place(self, deadline: Deadline | None) -> None:
        """Take one of the places, in line where none is free; `free` and `end` free it. Raises Overloaded."""
        if self._taken + self._line.called >= self._most:
            try:
                await self._line.wait(None if deadline is None else deadline.left())
            except NoTurn as why:
                busy = f"All {self._most} connections to upstream {self._name!r} are busy, and {why}."
                raise Overloaded(busy, retry_after=1) from why
        self._taken += 1

    def free(self) -> None:
        """Give a place back."""
        self._taken -= 1
        self._line.next()

    def is_old(self, response: httpx.Response) -> bool:
        """Whether a connection is used no more: one at least of those that carry a single answer at a time."""
        stream = response.extensions.get("network_stream")
        if stream is None or response.http_version != "HTTP/1.1":
            return False
        return self.clock() - self._born.setdefault(stream, self.clock()) >= AGE_MAX

    def retire(self) -> None:
        """Close what is idle, now and after each answer."""
        self._retired = True
        self._begun(self._close_idle())

    @property
    def _connections(self) -> list[Any]:
        return list(_behind(self._client, _TO_CONNECTIONS) or ())

    async def _close_idle(self, *, expired: bool = False) -> None:
        """Close every connection that nobody uses, or those alone whose time is over."""
        for connection in self._connections:
            if connection.is_idle() and (connection.has_expired() or not expired):
                await connection.aclose()

    async def stop(self) -> None:
        if self._tidying is not None:
            self._tidying.cancel()
        for task in self._running:
            task.cancel()
        if tasks := {*self._running, *self._ending}:
            await asyncio.wait(tasks)


def _has_surplus(response: httpx.Response) -> bool:
    """Whether the upstream went on after its answer: the next request would take that for its own answer."""
    parser = _behind(response, _TO_PARSER)
    return parser is not None and bool(parser.trailing_data[0])


def _behind(place: Any, names: tuple[str, ...]) -> Any:
    """What is reached by these names, one after the other; None where one of them is missing."""
    for name in names:
        place = getattr(place, name, None)
    return place
