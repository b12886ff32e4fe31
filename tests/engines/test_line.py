"""Both engines: what happens to requests while all connections are busy."""

import asyncio

import pytest

from relay.errors import Overloaded
from relay.exchange import Engine, Reply
from tests.engines.asking import Asked, fetched, post, pumped, until
from tests.engines.conftest import Build
from tests.engines.peer import Talk, peer, playing, stuck, whole


async def waiters(engine: Engine, *asked: Asked) -> list["asyncio.Task[tuple[int, bytes]]"]:
    """Tasks that wait in line, in this order, while one request or more has all connections."""
    before, found = engine.running, []
    for one in asked:
        found.append(asyncio.create_task(fetched(engine, one)))
        await until(lambda: engine.running == before + len(found))
    return found


async def test_one_more_than_may_wait_is_refused_at_once(build: Build) -> None:
    async with peer(playing(whole(b"ok"))) as server:
        engine = build(server.url, max_connections=1, queue=(2, 60.0))
        held = await engine.open(*post())
        waiting = await waiters(engine, post(), post())
        with pytest.raises(
            Overloaded, match=r"^All 1 connections to upstream 'up' are busy, and 2 wait already\.$"
        ) as no:
            await asyncio.wait_for(engine.open(*post()), 5)
        assert (503, 1, False) == (no.value.status, no.value.retry_after, no.value.sent)
        await pumped(held)
        assert [(200, b"ok")] * 2 == await asyncio.gather(*waiting)
        assert (1, 0) == (len(server.talks), engine.running)


async def test_nobody_waits_longer_than_the_queue_allows(build: Build) -> None:
    async with peer(stuck()) as server:
        engine = build(server.url, max_connections=1, queue=(2, 0.1))
        held = asyncio.create_task(engine.open(*post()))
        await until(lambda: server.requests)
        with pytest.raises(Overloaded, match=r"are busy, and none came free within 0\.1 seconds\.$"):
            await engine.open(*post())
        held.cancel()


async def test_nobody_waits_longer_than_is_left_for_the_try(build: Build) -> None:
    async with peer(stuck()) as server:
        engine = build(server.url, max_connections=1, queue=(2, 60.0))
        held = asyncio.create_task(engine.open(*post()))
        await until(lambda: server.requests)
        with pytest.raises(Overloaded, match=r"none came free within 0\.[12]\d* seconds"):
            await engine.open(*post(), within=0.2)
        held.cancel()


@pytest.mark.parametrize("headers", [(), (b"connection: close",)])
async def test_first_come_first_served_whoever_comes_while_a_place_changes_hands(
    build: Build, headers: tuple[bytes, ...]
) -> None:
    async with peer(playing(whole(b"ok", *headers))) as server:
        engine = build(server.url, max_connections=1)
        held = await engine.open(*post())
        waiting = await waiters(engine, post(target=b"/first"), post(target=b"/second"))
        pumping = asyncio.create_task(pumped(held))
        late: list[asyncio.Task[tuple[int, bytes]]] = []
        while not (len(server.requests) > 1):  # somebody new at every turn of the loop
            if len(late) < 200:
                late.append(asyncio.create_task(fetched(engine, post(target=b"/late"))))
            await asyncio.sleep(0)
        await asyncio.gather(pumping, *waiting, *late)
        targets = [got.lines[0].split()[1] for got in server.requests]
    assert [b"/chat", b"/first", b"/second", b"/late"] == targets[:4]
    assert len(server.talks) == (len(targets) if headers else 1)


async def test_who_leaves_the_line_frees_his_place_in_it(build: Build) -> None:
    async with peer(playing(whole(b"ok"))) as server:
        engine = build(server.url, max_connections=1, queue=(1, 60.0))
        held = await engine.open(*post())
        (gone,) = await waiters(engine, post())
        gone.cancel()
        await until(lambda: engine.running == 1)
        (waiting,) = await waiters(engine, post())
        await pumped(held)
        assert (200, b"ok") == await waiting


async def test_a_place_that_comes_free_with_a_closed_connection_is_the_next_ones(build: Build) -> None:
    async with peer(playing(whole(b"ok", b"connection: close"))) as server:
        engine = build(server.url, max_connections=2)
        held = [await engine.open(*post()) for _ in range(2)]
        waiting = await waiters(engine, *[post()] * 6)
        for reply in held:
            await pumped(reply)
        assert [(200, b"ok")] * 6 == await asyncio.gather(*waiting)
        assert (8, 0) == (len(server.talks), engine.running)


async def test_a_connection_that_nobody_takes_after_all_is_there_for_everybody(build: Build) -> None:
    async with peer(playing(whole(b"ok"))) as server:
        engine = build(server.url, max_connections=1)
        held = await engine.open(*post())
        (gone,) = await waiters(engine, post())
        await pumped(held)  # it is being let go just now
        gone.cancel()
        await asyncio.wait({gone})
        assert (200, b"ok") == await asyncio.wait_for(fetched(engine), 5)
        assert 0 == engine.running
        assert server.open <= 1


async def test_how_many_run(build: Build) -> None:
    begun = asyncio.Event()

    async def script(talk: Talk) -> None:
        while True:
            await talk.request()
            await begun.wait()
            await talk.send(whole(b"ok"))

    async with peer(script) as server:
        engine = build(server.url, max_connections=3)
        assert 0 == engine.running
        asking = [asyncio.create_task(engine.open(*post())) for _ in range(5)]
        await until(lambda: len(server.requests) == 3)
        assert 5 == engine.running
        begun.set()
        replies: list[Reply] = []
        for reply in asyncio.as_completed(asking):
            replies.append(await reply)
            await pumped(replies[-1])
        await until(lambda: engine.running == 0)
    assert 5 == len(replies)
