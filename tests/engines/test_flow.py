"""Both engines: back-pressure, and what is closed when nobody wants the answer any more."""

import asyncio
import random
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from relay.exchange import UNSENT, Engine
from tests.engines.asking import Taker, fetched, post, until
from tests.engines.conftest import Build
from tests.engines.peer import CHUNKED, Peer, Talk, chunk, peer, stuck, whole

PIECE = b"x" * 65_536
PLACES = 8  # connections at most
TURNS = 40  # of the loop: more than an engine needs to close what an upstream has closed
PIECES = 1000  # 64 MB: more than any kernel's buffers hold


async def pours(talk: Talk) -> None:
    await talk.request()
    await talk.send(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % (len(PIECE) * PIECES))
    for _ in range(PIECES):
        await talk.send(PIECE)


async def settled(talk: Talk) -> int:
    """What the server got rid of when it could not get rid of more."""
    before = -1
    while before < talk.sent:
        before = talk.sent
        await asyncio.sleep(0.1)
    return before


async def test_a_taker_that_holds_on_stops_the_upstream(build: Build) -> None:
    async with peer(pours) as server:
        reply = await build(server.url).open(*post())
        taker = Taker(hold=True)
        pumping = asyncio.create_task(reply.pump(taker.take, taker.drained, taker.chunk))
        await taker.held.wait()
        pushed = await settled(server.talks[0])
        assert len(taker.body) <= 2 * 256 * 1024
        assert pushed < 20_000_000
        taker.go.set()
        await pumping
        assert (len(PIECE) * PIECES, 1) == (len(taker.body), taker.lasts)


async def test_an_answer_that_nobody_takes_stops_the_upstream(build: Build) -> None:
    async with peer(pours) as server:
        reply = await build(server.url).open(*post())
        assert await settled(server.talks[0]) < 20_000_000
        reply.abort()
        await server.talks[0].gone.wait()


async def gone(talk: Talk) -> None:
    """The engine has closed this connection, as promised: within 100 ms (here with leeway for a busy machine)."""
    await asyncio.wait_for(talk.gone.wait(), 0.5)


async def talking(server: Peer) -> Talk:
    """The first connection, once its request is here."""
    await until(lambda: server.requests)
    return server.talks[0]


@pytest.mark.parametrize("times", [1, 2])
async def test_cancelled_before_the_head(build: Build, times: int) -> None:
    async with peer(stuck()) as server:
        engine = build(server.url)
        asking = asyncio.create_task(engine.open(*post()))
        talk = await talking(server)
        assert UNSENT not in await cancelled(asking, times)
        await gone(talk)


async def test_cancelled_in_the_line(build: Build) -> None:
    """Nothing had gone out, which is told."""
    async with peer(stuck()) as server:
        engine = build(server.url, max_connections=1)
        first, second = (asyncio.create_task(engine.open(*post())) for _ in range(2))
        await talking(server)
        await until(lambda: engine.running == 2)
        assert UNSENT in await cancelled(second, 1)
        assert UNSENT not in await cancelled(first, 1)


@pytest.mark.parametrize("times", [1, 2])
async def test_cancelled_in_the_body(build: Build, times: int) -> None:
    async with peer(stuck(CHUNKED, chunk(b"so far"))) as server:
        taker = Taker()
        reply = await build(server.url).open(*post())
        pumping = asyncio.create_task(reply.pump(taker.take, taker.drained, taker.chunk))
        await taker.some.wait()
        await cancelled(pumping, times)
        await gone(server.talks[0])
        assert (b"so far", 0) == (taker.body, taker.lasts)


async def test_cancelled_while_held(build: Build) -> None:
    async with peer(stuck(CHUNKED, chunk(b"so far"))) as server:
        taker = Taker(hold=True)
        reply = await build(server.url).open(*post())
        pumping = asyncio.create_task(reply.pump(taker.take, taker.drained, taker.chunk))
        await taker.held.wait()
        await cancelled(pumping, 1)
        await gone(server.talks[0])


async def test_cancelled_in_the_upload(build: Build) -> None:
    async def body() -> AsyncIterator[bytes]:
        yield b"so far"
        await asyncio.Event().wait()

    async def script(talk: Talk) -> None:
        await talk.reader.readuntil(b"so far")
        asking.cancel()
        await talk.gone.wait()

    async with peer(script) as server:
        asking = asyncio.create_task(build(server.url).open(*post(body())))
        with pytest.raises(asyncio.CancelledError):
            await asking
        await gone(server.talks[0])


async def test_cancelled_in_the_handshake(build: Build) -> None:
    async def script(talk: Talk) -> None:
        await talk.reader.readexactly(5)
        asking.cancel()
        await talk.gone.wait()

    async with peer(script) as server:
        asking = asyncio.create_task(build(server.url.replace("http:", "https:")).open(*post()))
        with pytest.raises(asyncio.CancelledError) as left:
            await asking
        assert [UNSENT] == left.value.__notes__
        await gone(server.talks[0])


@pytest.mark.parametrize("pieces", [(), (CHUNKED, chunk(b"so far"))], ids=["before the head", "in the body"])
async def test_cancelled_just_when_the_upstream_hangs_up(build: Build, pieces: tuple[bytes, ...]) -> None:
    """Some turns of the loop later, whichever it is: all connections of that upstream are closed."""
    go = asyncio.Event()

    async def script(talk: Talk) -> None:
        kept = b"/kept" in (await talk.request()).head
        await talk.send(*([whole(b"ok")] if kept else pieces))
        await go.wait()
        talk.writer.write_eof()
        await talk.gone.wait()

    async with peer(script) as server:
        engine = build(server.url)
        for turns in range(TURNS):
            asking = asyncio.create_task(fetched(engine))
            await until(lambda turns=turns: len(server.requests) > 3 * turns)  # type: ignore[misc]
            await asyncio.gather(*(fetched(engine, post(target=b"/kept")) for _ in range(2)))
            go.set()
            go.clear()
            await leaves(asking, turns)
        assert (3 * TURNS, 0) == (len(server.talks), await left(server))


async def test_cancelled_just_when_its_time_is_over(build: Build) -> None:
    async with peer(stuck()) as server:
        engine, loop = build(server.url), asyncio.get_running_loop()
        for turns in range(TURNS):
            asking, end = asyncio.create_task(engine.open(*post(), within=0.02)), loop.time() + 0.02
            while loop.time() < end:  # noqa: ASYNC110  # turn by turn
                await asyncio.sleep(0)
            await leaves(asking, turns)
        assert 0 == await left(server)


async def leaves(task: "asyncio.Task[object]", turns: int) -> None:
    """Its caller leaves after so many turns of the loop."""
    for _ in range(turns):
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait({task})


async def left(server: Peer) -> int:
    """How many connections the engine does not close."""
    for _ in range(200):
        if server.open:
            await asyncio.sleep(0.01)
    return server.open


async def test_a_fault_of_the_one_who_uploads_ends_the_request(build: Build) -> None:
    async def body() -> AsyncIterator[bytes]:
        yield b"so far"
        raise EOFError

    async with peer(stuck()) as server:
        with pytest.raises(EOFError):
            await build(server.url).open(*post(body()))
        await gone(server.talks[0])


async def test_aborted(build: Build) -> None:
    async with peer(stuck(CHUNKED, chunk(b"so far"))) as server:
        reply = await build(server.url).open(*post())
        reply.abort()
        reply.abort()
        await gone(server.talks[0])


async def test_a_fault_of_the_taker_ends_the_answer(build: Build) -> None:
    async def drained() -> None:
        raise EOFError

    async with peer(stuck(CHUNKED, chunk(b"so far"))) as server:
        reply = await build(server.url).open(*post())
        with pytest.raises(EOFError):
            await reply.pump(Taker(hold=True).take, drained)
        await gone(server.talks[0])


async def cancelled(task: "asyncio.Task[object]", times: int) -> list[str]:
    """Cancel it, perhaps again while it cleans up; return the notes of how it ended."""
    for _ in range(times):
        task.cancel()
        await asyncio.sleep(0)
    with pytest.raises(asyncio.CancelledError) as left:
        await task
    return getattr(left.value, "__notes__", [])


async def storm(engine: Engine, server: Peer, seed: int) -> None:
    """200 requests, each cancelled some time or never."""
    chance = random.Random(seed)  # noqa: S311  # a storm, not a secret

    async def one() -> None:
        patience = chance.choice([0, 0, 0.001, 0.003, 0.01, 0.03, 1])
        task = asyncio.create_task(fetched(engine))
        await asyncio.wait({task}, timeout=patience)
        task.cancel()
        await asyncio.wait({task})

    await asyncio.gather(*(one() for _ in range(200)))
    await until(lambda: server.open <= PLACES)


async def sometimes(talk: Talk) -> None:
    while True:
        await talk.request()
        await asyncio.sleep(0.002)
        await talk.send(CHUNKED, chunk(b"so"))
        await asyncio.sleep(0.002)
        await talk.send(chunk(b" far"), b"0\r\n\r\n")


@pytest.mark.parametrize("seed", range(3))
async def test_no_connection_is_lost_in_a_storm_of_cancels(build: Build, seed: int) -> None:
    async with peer(sometimes) as server:
        engine = build(server.url, max_connections=PLACES)
        await storm(engine, server, seed)
        # All of its places are free again: as many requests as there may be connections run at once.
        held = await asyncio.gather(*(engine.open(*post()) for _ in range(PLACES)))
        for reply in held:
            reply.abort()
        await until(lambda: not server.open)


async def test_no_connection_is_lost_in_a_storm_of_cancels_over_tls(
    build: Build, tls: ssl.SSLContext, ca: Path
) -> None:
    async with peer(sometimes, tls=tls) as server:
        engine = build(server.url, max_connections=PLACES, ca=ca)
        await storm(engine, server, 0)
        held = await asyncio.gather(*(engine.open(*post()) for _ in range(PLACES)))
        for reply in held:
            reply.abort()
        await until(lambda: not server.open)
