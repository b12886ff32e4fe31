"""Both engines: the four timeouts, each against an upstream that stalls just there. The others are far away."""

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager

import pytest

from relay.errors import UpstreamTimeout
from relay.exchange import Timeouts
from tests.engines.asking import Taker, fetched, post
from tests.engines.conftest import Build
from tests.engines.peer import CHUNKED, Talk, chunk, peer, stuck, whole

SHORT = 0.2


@contextmanager
def deaf() -> Iterator[int]:
    """A port whose queue is full: nobody is refused, nobody gets in."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        port = listening.getsockname()[1]
        waiting = [socket.socket() for _ in range(4)]
        for one in waiting:
            one.setblocking(False)
            one.connect_ex(("127.0.0.1", port))
        try:
            yield port
        finally:
            for one in waiting:
                one.close()


async def test_connect(build: Build) -> None:
    with deaf() as port:
        engine = build(f"http://127.0.0.1:{port}", timeouts=Timeouts(connect=SHORT))
        with pytest.raises(UpstreamTimeout, match=r"^Upstream 'up' could not be connected to within 0.2 seconds\.$"):
            await engine.open(*post())


async def test_connect_is_also_the_time_for_tls(build: Build) -> None:
    async def script(talk: Talk) -> None:
        await talk.gone.wait()

    async with peer(script) as server:
        engine = build(server.url.replace("http:", "https:"), timeouts=Timeouts(connect=SHORT))
        with pytest.raises(UpstreamTimeout, match=r"could not be connected to within"):
            await engine.open(*post())
        await server.talks[0].gone.wait()


@pytest.mark.parametrize("pieces", [(), (b"HTTP/1.1 2",), (b"HTTP/1.1 103 Early Hints\r\n\r\n",)])
async def test_first_byte(build: Build, pieces: tuple[bytes, ...]) -> None:
    async with peer(stuck(*pieces)) as server:
        engine = build(server.url, timeouts=Timeouts(first_byte=SHORT))
        with pytest.raises(UpstreamTimeout, match=r"^Upstream 'up' did not answer for 0.2 seconds\.$"):
            await engine.open(*post())
        await server.talks[0].gone.wait()


async def test_first_byte_starts_when_all_is_sent(build: Build) -> None:
    async def body() -> AsyncIterator[bytes]:
        for _ in range(10):
            yield b"x"
            await asyncio.sleep(SHORT / 5)

    async with peer(stuck(whole(b"ok"))) as server:
        engine = build(server.url, timeouts=Timeouts(first_byte=SHORT))
        assert (200, b"ok") == await fetched(engine, post(body()))


async def test_idle(build: Build) -> None:
    taker = Taker()
    async with peer(stuck(CHUNKED, chunk(b"so far"))) as server:
        reply = await build(server.url, timeouts=Timeouts(idle=SHORT)).open(*post())
        with pytest.raises(UpstreamTimeout, match=r"fell silent in the middle of its answer for 0.2 seconds\.$"):
            await reply.pump(taker.take, taker.drained)
        await server.talks[0].gone.wait()
    assert (b"so far", 0) == (taker.body, taker.lasts)


async def drip(talk: Talk) -> None:
    await talk.request()
    await talk.send(CHUNKED)
    while not talk.gone.is_set():
        await talk.send(chunk(b"x"))
        await asyncio.sleep(SHORT / 10)


async def test_total(build: Build) -> None:
    taker = Taker()
    async with peer(drip) as server:
        reply = await build(server.url, timeouts=Timeouts(idle=5, total=SHORT)).open(*post())
        with pytest.raises(UpstreamTimeout, match=r"^Upstream 'up' took longer than 0.2 seconds in all\.$"):
            await reply.pump(taker.take, taker.drained)
        await server.talks[0].gone.wait()
    assert taker.pieces
    assert taker.lasts == 0


async def test_total_counts_before_the_answer_too(build: Build) -> None:
    async with peer(stuck()) as server:
        with pytest.raises(UpstreamTimeout, match=r"took longer than 0.2 seconds in all"):
            await build(server.url, timeouts=Timeouts(total=SHORT)).open(*post())


async def test_a_taker_that_holds_on_is_not_the_upstreams_silence(build: Build) -> None:
    go = asyncio.Event()

    async def script(talk: Talk) -> None:
        await talk.request()
        await talk.send(CHUNKED + chunk(b"so far"))
        await go.wait()
        await talk.send(b"0\r\n\r\n")

    async with peer(script) as server:
        reply = await build(server.url, timeouts=Timeouts(idle=SHORT)).open(*post())
        taker = Taker(hold=True)
        pumping = asyncio.create_task(reply.pump(taker.take, taker.drained))
        await taker.held.wait()
        await asyncio.sleep(SHORT * 3)
        taker.go.set()
        go.set()
        await pumping
    assert (b"so far", 1) == (taker.body, taker.lasts)
