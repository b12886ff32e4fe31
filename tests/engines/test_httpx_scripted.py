"""The httpx engine over transports that are no sockets: MockTransport and respx."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pytest
import respx

from relay.errors import Overloaded, RelayError, UpstreamError, UpstreamTimeout
from relay.exchange import Drained, Request, Timeouts
from relay.line import Line
from relay.upstream.over_httpx import HttpxEngine
from tests.engines.asking import Taker, fetched, post
from tests.waiting import until

BASE = "https://up.example/v1"


def engine(handler: Callable[[httpx.Request], httpx.Response], timeouts: Timeouts | None = None) -> HttpxEngine:
    client = httpx.AsyncClient(transport=httpx.MockTransport(handler), headers={"x-client": "not sent"})
    return over(client, timeouts)


def over(client: httpx.AsyncClient, timeouts: Timeouts | None = None, **more: Any) -> HttpxEngine:
    return HttpxEngine("up", BASE, timeouts or Timeouts(), client, Line(0, 0.1), **more)


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


@pytest.mark.parametrize(("step", "kind"), [("connect_tcp", UpstreamError), ("receive_response", AttributeError)])
async def test_a_connection_that_is_lost_when_it_has_just_come_about(step: str, kind: type[Exception]) -> None:
    """The transport then looks at a socket that is not there; anywhere else that is a fault of its own."""

    async def handler(request: httpx.Request) -> httpx.Response:
        await request.extensions["trace"](f"connection.{step}.started", {})
        raise AttributeError("getpeername")

    client = httpx.AsyncClient(transport=httpx.MockTransport(handler))
    with pytest.raises(kind) as caught:
        await over(client).open(*post())
    if isinstance(caught.value, UpstreamError):
        told = "Upstream 'up' closed the connection before it answered."
        assert (told, False) == (caught.value.message, caught.value.sent)


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
        await over(client, Timeouts(connect=0.1, first_byte=0.1)).open(*post())


async def test_places_are_given_back_after_faults() -> None:
    client = httpx.AsyncClient(transport=httpx.MockTransport(broken(httpx.ReadError(""))))
    one = over(client, max_connections=1)
    for _ in range(3):
        with pytest.raises(UpstreamError):
            await one.open(*post())


async def test_an_answer_is_neither_reused_nor_connected_where_there_is_no_connection() -> None:
    reply = await engine(lambda _: httpx.Response(204)).open(*post())
    assert (False, None) == (reply.reused, reply.connect_ms)
    reply.abort()
    taker = Taker()
    await reply.pump(taker.take, taker.drained, taker.chunk)  # nothing happens any more
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
    one = over(httpx.AsyncClient(trust_env=False))
    reply = await one.open(*post())
    assert (b"x-request-id", b"r1") in reply.headers
    taker = Taker()
    await reply.pump(taker.take, taker.drained, taker.chunk)
    assert (b'{"ok":true}', 1) == (taker.body, taker.lasts)
    assert (302, b"") == await fetched(one)
    with pytest.raises(UpstreamTimeout):
        await one.open(*post())
    assert route.call_count == 3
    assert "identity" == route.calls[0].request.headers["accept-encoding"]
    await one.close()


@respx.mock
@pytest.mark.parametrize("leaves", [False, True], ids=["its time is over", "the caller leaves"])
async def test_an_answer_that_nobody_waits_for_any_more_gives_its_place_back(leaves: bool) -> None:
    """respx stands before a pool that never tells of a step, so a request cannot be cut off where that is safe."""
    goes_on = asyncio.Event()

    async def late(_: httpx.Request) -> httpx.Response:
        await goes_on.wait()
        return httpx.Response(200)

    respx.post(f"{BASE}/chat").mock(side_effect=late)
    one = over(httpx.AsyncClient(trust_env=False), Timeouts(0.05, 0.05), max_connections=1)
    asking = asyncio.create_task(one.open(*post()))
    if leaves:
        await asyncio.sleep(0.01)
        asking.cancel()
    with pytest.raises(asyncio.CancelledError if leaves else UpstreamTimeout):
        await asking
    goes_on.set()
    assert await asyncio.to_thread(until, lambda: not one.running)

    assert (200, b"") == await fetched(one)
    await one.close()


@respx.mock
async def test_nothing_is_taken_of_an_answer_that_fell_silent() -> None:
    goes_on, over_with = asyncio.Event(), asyncio.Event()

    class Late(httpx.AsyncByteStream):
        async def __aiter__(self) -> AsyncIterator[bytes]:
            yield b"one"
            await goes_on.wait()
            yield b"late"

        async def aclose(self) -> None:
            over_with.set()

    respx.post(f"{BASE}/chat").mock(return_value=httpx.Response(200, stream=Late()))
    one = over(httpx.AsyncClient(trust_env=False), Timeouts(idle=0.05))
    reply, taker = await one.open(*post()), Taker()
    with pytest.raises(UpstreamTimeout):
        await reply.pump(taker.take, taker.drained, taker.chunk)
    goes_on.set()
    async with asyncio.timeout(5):
        await over_with.wait()
    await asyncio.sleep(0)

    assert (b"one", 0) == (taker.body, taker.lasts)
    await one.close()


class Told(httpx.AsyncByteStream):
    """A body that tells the time: `clock` is at the first of a pair when the second is read."""

    def __init__(self, *pieces: tuple[float, int]) -> None:
        self.pieces = pieces
        self.now = 0.0

    def clock(self) -> float:
        return self.now

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for now, size in self.pieces:
            self.now = now
            yield b"x" * size


async def paced(told: Told, drained: Drained | None = None) -> int:
    """How much of it is taken at 10 bytes a second or more."""
    client = httpx.AsyncClient(transport=httpx.MockTransport(lambda _: httpx.Response(200, stream=told)))
    one = over(client, Timeouts(pace=10.0), clock=told.clock)
    taker = Taker(hold=drained is not None)
    reply = await one.open(*post())
    await reply.pump(taker.take, drained or taker.drained)
    assert 0 == one.running
    return len(taker.body)


@pytest.mark.parametrize("pieces", [[(0, 300), (30, 300), (60, 1)], [(100, 5), (110, 300), (130, 1)], [(29, 1)]])
async def test_pace(pieces: list[tuple[float, int]]) -> None:
    assert sum(size for _, size in pieces) == await paced(Told(*pieces))


@pytest.mark.parametrize("pieces", [[(0, 299), (30, 300)], [(0, 300), (30, 1), (59, 1), (60, 300)]])
async def test_an_answer_that_comes_too_slowly(pieces: list[tuple[float, int]]) -> None:
    with pytest.raises(
        UpstreamTimeout, match=r"^The answer of upstream 'up' came more slowly than 10 bytes a second\.$"
    ):
        await paced(Told(*pieces))


async def test_who_takes_slowly_is_not_the_upstreams_pace() -> None:
    told = Told((0, 100), (210, 300), (430, 1))

    async def drained() -> None:
        told.now += 200

    assert 401 == await paced(told, drained)
