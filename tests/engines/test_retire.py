"""Both engines: one that was replaced goes on with what it has, and leaves nothing behind."""

import asyncio
from pathlib import Path

import pytest

from relay.exchange import Engine
from tests.engines.asking import fetched, post, pumped, until
from tests.engines.conftest import Build
from tests.engines.peer import CHUNKED, Peer, Talk, chunk, peer, playing, whole

ANSWERS = [whole(b"ok"), CHUNKED + chunk(b"ok") + b"0\r\n\r\n"]


def timers() -> int:
    """How many the loop has that would still do something."""
    loop = asyncio.get_running_loop()
    return sum(not timer.cancelled() for timer in loop._scheduled)  # type: ignore[attr-defined]  # noqa: SLF001  # there is no other way to see them


async def closed(server: Peer) -> None:
    """All connections are, and not because they were idle for too long: that takes 4 seconds."""
    await asyncio.wait_for(until(lambda: not server.open), 2)


async def at_rest(engine: Engine) -> None:
    """Nothing of it runs, and no timer is left of it."""
    await until(lambda: engine.running == 0 and timers() == 0)


async def test_idle_connections_close_now(build: Build) -> None:
    async with peer(playing(whole(b"ok"))) as server:
        engine = build(server.url)
        replies = await asyncio.gather(*(engine.open(*post()) for _ in range(3)))
        for reply in replies:
            await pumped(reply)
        assert 3 == server.open
        engine.retire()
        await closed(server)
        await at_rest(engine)


@pytest.mark.parametrize("answer", ANSWERS)
async def test_answers_that_run_come_to_their_end(build: Build, answer: bytes) -> None:
    go = asyncio.Event()

    async def script(talk: Talk) -> None:
        while True:
            await talk.request()
            await go.wait()
            await talk.send(answer)

    async with peer(script) as server:
        engine = build(server.url)
        go.set()
        for _ in range(2):  # its head is known by now
            assert (200, b"ok") == await fetched(engine)
        go.clear()
        asking = [asyncio.create_task(fetched(engine)) for _ in range(2)]
        await until(lambda: len(server.requests) == 4)
        engine.retire()
        go.set()
        assert [(200, b"ok")] * 2 == await asyncio.gather(*asking)
        await closed(server)
        await at_rest(engine)


@pytest.mark.parametrize("answer", ANSWERS)
async def test_who_still_holds_it_may_ask_and_leaves_nothing_open(build: Build, answer: bytes) -> None:
    async with peer(playing(answer)) as server:
        engine = build(server.url)
        engine.retire()
        for number in range(3):
            assert (200, b"ok") == await fetched(engine)
            assert number + 1 == len(server.talks)
            await closed(server)
        await at_rest(engine)


@pytest.mark.parametrize("answer", ANSWERS)
async def test_who_waits_in_line_is_served(build: Build, answer: bytes) -> None:
    async with peer(playing(answer)) as server:
        engine = build(server.url, max_connections=1)
        held = await engine.open(*post())
        waiting = [asyncio.create_task(fetched(engine)) for _ in range(3)]
        await until(lambda: engine.running == 4)
        engine.retire()
        await pumped(held)
        assert [(200, b"ok")] * 3 == await asyncio.gather(*waiting)
        await closed(server)
        await at_rest(engine)


async def test_a_connection_that_is_changing_hands_is_used_once_more(build: Build) -> None:
    async with peer(playing(whole(b"ok"))) as server:
        engine = build(server.url, max_connections=1)
        held = await engine.open(*post())
        waiting = asyncio.create_task(fetched(engine))
        await until(lambda: engine.running == 2)
        await pumped(held)
        engine.retire()
        assert (200, b"ok") == await waiting
        await closed(server)
        await at_rest(engine)


async def test_what_is_aborted_then_leaves_nothing_open(build: Build) -> None:
    async with peer(playing(CHUNKED + chunk(b"so far"))) as server:
        engine = build(server.url)
        reply = await engine.open(*post())
        engine.retire()
        reply.abort()
        await closed(server)
        await at_rest(engine)


async def test_who_leaves_while_a_connection_comes_about_leaves_nothing_open(build: Build) -> None:
    async with peer(playing(whole(b"ok"))) as server:
        engine = build(server.url)
        engine.retire()
        for turns in range(12):  # some of them just when the connection is there
            asking = asyncio.create_task(fetched(engine))
            for _ in range(turns):
                await asyncio.sleep(0.0002)
            asking.cancel()
            await asyncio.wait({asking})
        await closed(server)
        await until(lambda: engine.running == 0)


async def test_who_leaves_while_stale_connections_are_closed_leaves_nothing_open(build: Build) -> None:
    def files() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    async def script(talk: Talk) -> None:
        await talk.request()
        await talk.send(whole(b"ok"))
        await asyncio.sleep(0.003)  # it is kept, and closed soon after

    async with peer(script) as server:
        engine, before = build(server.url), files()
        for turns in range(20):
            await asyncio.gather(*(fetched(engine) for _ in range(10)), return_exceptions=True)
            await asyncio.sleep(0.02)
            asking = asyncio.create_task(fetched(engine))
            for _ in range(turns):
                await asyncio.sleep(0)
            asking.cancel()
            await asyncio.wait({asking})
        engine.retire()
        await closed(server)
        await until(lambda: engine.running == 0)
        await asyncio.wait_for(until(lambda: files() <= before), 2)
