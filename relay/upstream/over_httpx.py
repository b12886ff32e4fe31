"""The second engine: httpx, for what `wire` does not speak (HTTP/2, proxies over https, any httpx transport).

Every name and every exception of httpx stays in this module; it knows no provider and no JSON.
"""

import asyncio
import contextlib
import ssl
import string
from collections.abc import AsyncIterable, AsyncIterator, Callable, Coroutine, Iterator, Mapping, Sequence
from importlib.util import find_spec
from typing import Any, Self, TypeVar
from urllib.parse import quote_from_bytes

import httpx

from relay import config
from relay.errors import Overloaded, RelayError, UpstreamError, UpstreamTimeout
from relay.exchange import Drained, Header, Reply, Request, Take, Timeouts
from relay.wire import Origin
from relay.wire.origin import trust

_IDLE_MAX = 4.0  # seconds a connection is kept unused, as in relay.wire
_SWITCHING = 101
_PROXY_REFUSES = 407
# From a response to the parser of its connection: httpx and httpcore show no other way to what came after an answer.
_TO_PARSER = ("stream", "_stream", "_httpcore_stream", "_stream", "_connection", "_h11_state")

T = TypeVar("T")


class HttpxEngine:
    """The engine (relay.exchange.Engine) over an httpx client. What the client adds by itself is not sent."""

    def __init__(self, name: str, base_url: str, timeouts: Timeouts, client: httpx.AsyncClient) -> None:
        self._name = name
        self._base = httpx.URL(base_url)
        self._path = self._base.raw_path.rstrip(b"/")
        self._timeouts = timeouts
        self._client = client
        self._running: set[asyncio.Task[Any]] = set()
        self._ending: set[asyncio.Task[Any]] = set()

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
            limits=httpx.Limits(max_connections=spec.max_connections, keepalive_expiry=_IDLE_MAX),
        )
        return cls(spec.name, spec.base_url, spec.timeouts, client)

    async def open(self, request: Request) -> Reply:
        """See relay.exchange.Engine."""
        course = _Course(self._timeouts)
        try:
            response = await self._alone(self._send(request, course))
        except BaseException:
            # httpcore forgets a connection whose TLS was not done when it was cancelled.
            if course.stream is not None and not course.sent:
                self.end(course.stream.aclose())
            if course.response is not None:
                self.end(course.response.aclose())
            raise
        return HttpxReply(self, response, course)

    async def close(self) -> None:
        """See relay.exchange.Engine."""
        for task in self._running:
            task.cancel()
        if tasks := {*self._running, *self._ending}:
            await asyncio.wait(tasks)
        await self._client.aclose()

    # --- for its replies

    @property
    def timeouts(self) -> Timeouts:
        return self._timeouts
