"""The httpx engine over transports that are no sockets: MockTransport and respx."""

import asyncio
from collections.abc import Callable

import httpx
import pytest
import respx

from relay.errors import Overloaded, RelayError, UpstreamError, UpstreamTimeout
from relay.exchange import Request, Timeouts
from relay.upstream.over_httpx import HttpxEngine
from tests.engines.asking import Taker, fetched, post

BASE = "https://up.example/v1"


def engine(handler: Callable[[httpx.Request], httpx.Response], timeouts: Timeouts | None = None) -> HttpxEngine:
    client = httpx.AsyncClient(transport=httpx.MockTransport(handler), headers={"x-client": "not sent"})
    return HttpxEngine("up", BASE, timeouts or Timeouts(), client)


def broken(fault: Exception) -> Callable[[httpx.Request], httpx.Response]:
    def handler(_: httpx.Request) -> httpx.Response:
        raise fault

    return handler


@pytest.mark.parametrize(
    ("fault", "kind", "message"),
    [
        (httpx.PoolTimeout(""), Overloaded, "All connections to upstream 'up' are busy."),
        (httpx.ReadTimeout(""), UpstreamTimeout, "Upstream 'up' did not answer for 605 seconds."),
        (httpx.ConnectError("no route"), UpstreamError, "Upstream 'up' could not be connected to: ConnectError."),
        (httpx.ReadError(""), UpstreamError, "Upstream 'up' closed the connection before it answered."),
        (httpx.WriteError(""), UpstreamError, "Upstream 'up' closed the connection before it answered."),
        (httpx.ProxyError("407 No"), UpstreamError, "The proxy of upstream 'up' refused CONNECT with status 407."),
        (httpx.RemoteProtocolError("odd"), UpstreamError, "Upstream 'up' sent something that is not HTTP."),
        (httpx.LocalProtocolError("odd"), UpstreamError, "Upstream 'up' could not be asked: LocalProtocolError."),
        (httpx.UnsupportedProtocol("odd"), UpstreamError, "Upstream 'up' could not be asked: UnsupportedProtocol."),
        (httpx.InvalidURL("odd"), UpstreamError, "Upstream 'up' could not be asked: InvalidURL."),
    ],
)
async def test_no_exception_of_httpx_passes(fault: Exception, kind: type[RelayError], message: str) -> None:
    with pytest.raises(RelayError) as caught:
        await engine(broken(fault)).open(*post())
    assert (kind, message) == (type(caught.value), caught.value.message)


async def test_nothing_of_the_client_is_sent() -> None:
    seen: list[httpx.Request] = []

    def handler(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(200, content=b"hello")

    one = engine(handler)
    assert (200, b"hello") == await fetched(one, (Request(b"POST", b"/chat?a=%2F", ((b"x-a", b"1"),)), b"{}"))
    assert seen[0].url == f"{BASE}/chat?a=%2F"
    assert {b"Host": b"up.example", b"x-a": b"1", b"Content-Length": b"2"} == dict(seen[0].headers.raw)


async def test_a_transport_that_tells_of_no_steps_is_timed_all_the_same() -> None:
    async def handler(_: httpx.Request) -> httpx.Response:
        await asyncio.Event().wait()
        raise AssertionError

    client = httpx.AsyncClient(transport=httpx.MockTransport(handler))
    with pytest.raises(UpstreamTimeout, match=r"did not answer for 0\.2 seconds"):
        await HttpxEngine("up", BASE, Timeouts(connect=0.1, first_byte=0.1), client).open(*post())


async def test_places_are_given_back_after_faults() -> None:
    client = httpx.AsyncClient(transport=httpx.MockTransport(broken(httpx.ReadError(""))))
    one = HttpxEngine("up", BASE, Timeouts(connect=0.1), client, max_connections=1)
    for _ in range(3):
        with pytest.raises(UpstreamError):
            await one.open(*post())


async def test_an_answer_is_neither_reused_nor_connected_where_there_is_no_connection() -> None:
    reply = await engine(lambda _: httpx.Response(204)).open(*post())
    assert (False, None) == (reply.reused, reply.connect_ms)
    reply.abort()
    taker = Taker()
    await reply.pump(taker.take, taker.drained)  # nothing happens any more
    assert not taker.pieces


@respx.mock
async def test_respx_stands_in_for_an_upstream() -> None:
    route = respx.post(f"{BASE}/chat").mock(
        side_effect=[
            httpx.Response(200, json={"ok": True}, headers={"X-Request-Id": "r1"}),
            httpx.Response(302, headers={"location": "https://elsewhere.example"}),
            httpx.ConnectTimeout(""),
        ]
    )
    one = HttpxEngine("up", BASE, Timeouts(), httpx.AsyncClient(trust_env=False))
    reply = await one.open(*post())
    assert (b"x-request-id", b"r1") in reply.headers
    taker = Taker()
    await reply.pump(taker.take, taker.drained)
    assert (b'{"ok":true}', 1) == (taker.body, taker.lasts)
    assert (302, b"") == await fetched(one)
    with pytest.raises(UpstreamTimeout):
        await one.open(*post())
    assert route.call_count == 3
    assert "identity" == route.calls[0].request.headers["accept-encoding"]
    await one.close()
