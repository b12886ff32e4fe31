"""Both engines: through a proxy. `wire` tunnels to every origin, httpx only to https and forwards the rest."""

import asyncio
import gc
import ssl
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from relay.errors import UpstreamError, UpstreamTimeout
from relay.exchange import Timeouts
from tests.engines.asking import Taker, fetched, post, until
from tests.engines.conftest import Build
from tests.engines.peer import CHUNKED, Talk, chunk, once, peer, playing, stuck, whole

AGREED = b"HTTP/1.1 200 Connection established\r\nvia: a proxy\r\n\r\n"
LOGIN = b"Basic dXNlcjpwQHNz"  # user:p@ss


async def proxy(talk: Talk) -> None:
    """Tunnels for CONNECT; anything else goes on in origin form."""
    got = await talk.request()
    method, target, _ = got.lines[0].split(b" ")
    place = urlsplit((b"//" if method == b"CONNECT" else b"") + target)
    reader, writer = await asyncio.open_connection((place.hostname or b"").decode(), place.port)
    try:
        if method == b"CONNECT":
            await talk.send(AGREED)
        else:
            writer.write(got.head.replace(target, place.path, 1) + got.body)
        ways = [asyncio.create_task(way) for way in (carry(talk.reader, writer), carry(reader, talk.writer))]
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        for way in ways:
            way.cancel()
    finally:
        writer.close()


async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError):
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()


@pytest.mark.parametrize("secure", [False, True])
async def test_through_a_proxy(build: Build, secure: bool, tls: ssl.SSLContext, ca: Path) -> None:
    async with peer(playing(whole(b"far")), tls=tls if secure else None) as server, peer(proxy) as between:
        engine = build(server.url + "/v1", proxy=between.url, ca=ca)
        for _ in range(2):
            assert (200, b"far") == await fetched(engine)
            gc.collect()  # nothing that was left over from the connecting may close the connection
        assert [2] == [len(talk.requests) for talk in server.talks]
        assert [b"127.0.0.1:%d" % server.port] == server.requests[0].values(b"host")
        assert not between.requests[0].values(b"proxy-authorization")
        if secure:
            assert b"CONNECT 127.0.0.1:%d HTTP/1.1" % server.port == between.requests[0].lines[0]
            assert not between.requests[0].values(b"authorization")


@pytest.mark.parametrize("secure", [False, True])
async def test_with_credentials(build: Build, secure: bool, tls: ssl.SSLContext, ca: Path) -> None:
    async with peer(playing(whole(b"far")), tls=tls if secure else None) as server, peer(proxy) as between:
        login = between.url.replace("//", "//user:p%40ss@")
        assert (200, b"far") == await fetched(build(server.url, proxy=login, ca=ca))
        assert [LOGIN] == between.requests[0].values(b"proxy-authorization")
        assert not (secure and server.requests[0].values(b"proxy-authorization"))


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_a_proxy_that_refuses(build: Build, scheme: str) -> None:
    async with peer(playing(whole(b"go away", status=b"407 Proxy Authentication Required"))) as between:
        engine = build(f"{scheme}://origin.invalid", proxy=between.url, max_connections=1)
        for _ in range(2):
            with pytest.raises(UpstreamError, match=r"^The proxy .*refused .*407") as caught:
                await engine.open(*post())
            assert "go away" not in str(caught.value)
        for talk in between.talks:
            await talk.gone.wait()


@pytest.mark.parametrize("pieces", [(), (b"HTTP/1.1 200 Conn",), (b"SSH-2.0\r\n\r\n",)])
async def test_a_proxy_that_breaks_off(build: Build, pieces: tuple[bytes, ...]) -> None:
    async with peer(once(*pieces)) as between:
        with pytest.raises(UpstreamError):
            await build("https://origin.invalid", proxy=between.url).open(*post())


async def test_a_proxy_that_is_not_there(build: Build) -> None:
    async with peer(once()) as between:
        pass
    with pytest.raises(UpstreamError, match=r"could not be connected to"):
        await build("https://origin.invalid", proxy=between.url).open(*post())


@pytest.mark.parametrize("pieces", [(), (AGREED,)])
async def test_a_proxy_that_stalls(build: Build, pieces: tuple[bytes, ...]) -> None:
    async with peer(stuck(*pieces)) as between:
        engine = build("https://origin.invalid", proxy=between.url, timeouts=Timeouts(connect=0.2))
        with pytest.raises(UpstreamTimeout, match=r"could not be connected to within"):
            await engine.open(*post())
        await between.talks[0].gone.wait()


@pytest.mark.parametrize("pieces", [(), (AGREED,)])
async def test_cancelled_on_the_way(build: Build, pieces: tuple[bytes, ...]) -> None:
    async with peer(stuck(*pieces)) as between:
        asking = asyncio.create_task(build("https://origin.invalid", proxy=between.url).open(*post()))
        await until(lambda: between.requests and between.talks[0].sent == len(b"".join(pieces)))
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        await asyncio.wait_for(between.talks[0].gone.wait(), 0.5)


async def test_cancelled_in_the_body(build: Build, tls: ssl.SSLContext, ca: Path) -> None:
    async with peer(stuck(CHUNKED, chunk(b"so far")), tls=tls) as server, peer(proxy) as between:
        taker = Taker()
        reply = await build(server.url, proxy=between.url, ca=ca).open(*post())
        pumping = asyncio.create_task(reply.pump(taker.take, taker.drained, taker.chunk))
        await taker.some.wait()
        pumping.cancel()
        with pytest.raises(asyncio.CancelledError):
            await pumping
        await asyncio.wait_for(between.talks[0].gone.wait(), 0.5)
        await server.talks[0].gone.wait()
