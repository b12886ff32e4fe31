"""Both engines: which connections are used again, and what is told of one that was closed too soon."""

import asyncio
import select
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from pathlib import Path
from time import monotonic

import httpx
import pytest

from relay.errors import UpstreamError
from relay.exchange import Body, Timeouts, Upload
from relay.line import Line
from relay.outbox import QUIET
from relay.upstream.over_httpx import HttpxEngine
from relay.wire import Wire
from tests.engines.asking import Taker, fetched, post, pumped, until
from tests.engines.conftest import Build
from tests.engines.peer import CHUNKED, Talk, chunk, peer, playing, whole


async def test_one_connection_serves_one_request_after_the_other(build: Build) -> None:
    async with peer(playing(whole(b"a"), CHUNKED + chunk(b"b") + b"0\r\n\r\n", b"HTTP/1.1 204 x\r\n\r\n")) as server:
        engine = build(server.url)
        first = await engine.open(*post())
        assert (False, True) == (first.reused, first.connect_ms is not None)
        assert await pumped(first) == b"a"
        second = await engine.open(*post())
        assert (True, None) == (second.reused, second.connect_ms)
        assert await pumped(second) == b"b"
        assert (204, b"") == await fetched(engine)
        assert [3] == [len(talk.requests) for talk in server.talks]


@pytest.mark.parametrize(
    "rest",
    [
        pytest.param((chunk(b"rest") + b"0\r\n\r\n",), id="the rest in one read"),
        pytest.param((chunk(b"re"), chunk(b"st"), b"0\r\n\r\n"), id="each chunk by itself"),
        pytest.param((b"4\r\nre", b"st\r\n0\r\n", b"x-trailer: 1\r\n\r\n"), id="cut anywhere"),
    ],
)
async def test_streams_that_begin_alike_are_read_to_their_ends(build: Build, rest: tuple[bytes, ...]) -> None:
    async def script(talk: Talk) -> None:
        while True:
            await talk.request()
            await talk.send(CHUNKED + chunk(b"first and "), *rest)

    async with peer(script) as server:
        engine = build(server.url)
        assert [(200, b"first and rest")] * 4 == [await fetched(engine) for _ in range(4)]
        assert [4] == [len(talk.requests) for talk in server.talks]


def has_come(talk: Talk) -> bool:
    """Whether something has arrived that nobody has read yet."""
    readable, _, _ = select.select([talk.writer.get_extra_info("socket").fileno()], [], [], 0)
    return bool(readable)


@pytest.mark.parametrize(("before", "at_once"), [(QUIET - 1, False), (QUIET, True)])
async def test_when_it_is_quiet_a_request_that_is_alone_does_not_wait_for_the_end_of_the_turn(
    build: Build, kind: str, before: int, at_once: bool
) -> None:
    if kind == "httpx":
        pytest.skip("httpx sends by itself")
    async with peer(playing(whole(b"ok"))) as server:
        engine = build(server.url)
        for _ in range(before):
            await fetched(engine)
        alone = engine.open(*post())

        alone.send(None)

        assert at_once == has_come(server.talks[0])
        alone.close()


async def test_requests_that_are_not_alone_go_out_together(build: Build, kind: str) -> None:
    if kind == "httpx":
        pytest.skip("httpx sends by itself")
    async with peer(playing(whole(b"ok"))) as server:
        engine = build(server.url)
        await asyncio.gather(fetched(engine), fetched(engine))
        for _ in range(QUIET):
            await fetched(engine)
        both = [engine.open(*post()) for _ in range(2)]

        for each in both:
            each.send(None)

        assert [False, True] == sorted(has_come(talk) for talk in server.talks)
        for each in both:
            each.close()


@pytest.mark.parametrize(
    "answer",
    [
        whole(b"a", b"connection: close"),
        b"HTTP/1.0 200 OK\r\ncontent-length: 1\r\n\r\na",
        whole(b"a") + b"surplus",
        whole(b"a") + whole(b"poison"),
        CHUNKED + chunk(b"a") + b"0\r\n\r\n" + whole(b"poison"),
        whole(b"a", b"connection: close") + whole(b"poison"),
    ],
)
async def test_a_connection_is_not_used_again_after(build: Build, answer: bytes) -> None:
    async with peer(playing(answer)) as server:
        engine = build(server.url)
        for _ in range(3):
            assert (200, b"a") == await fetched(engine)
        assert [1, 1, 1] == [len(talk.requests) for talk in server.talks]
        for talk in server.talks:
            await talk.gone.wait()


@pytest.mark.parametrize("status", [b"204 No Content", b"304 Not Modified"])
async def test_what_follows_the_head_of_an_answer_without_a_body_is_nobodys(build: Build, status: bytes) -> None:
    async with peer(playing(whole(b"", status=status), whole(whole(b"evil"), status=status), whole(b"ok"))) as server:
        engine = build(server.url)
        for _ in range(2):
            assert (int(status[:3]), b"") == await fetched(engine)
        assert (200, b"ok") == await fetched(engine)
        assert [2, 1] == [len(talk.requests) for talk in server.talks]


HUGE = 32_000_000  # bytes: more than any kernel's buffers hold


async def streamed() -> AsyncIterator[bytes]:
    yield bytes(HUGE)


@pytest.mark.parametrize("kind", ["wire"])
@pytest.mark.parametrize("secure", [False, True])
@pytest.mark.parametrize("before", [0, 2])  # requests, by which the head of the answer is known
@pytest.mark.parametrize("read_on", [False, True])  # before the answer ends
@pytest.mark.parametrize(
    "body", [lambda: bytes(HUGE), lambda: (b"{", bytes(HUGE)), streamed], ids=["whole", "in pieces", "as it comes"]
)
async def test_a_connection_whose_request_was_not_wholly_sent_is_not_used_again(
    build: Build, secure: bool, before: int, read_on: bool, body: Callable[[], Upload], tls: ssl.SSLContext, ca: Path
) -> None:
    """When its answer came: the upstream may read no more of it, though it does not close either."""

    async def script(talk: Talk) -> None:
        while len(server.requests) < before or len(server.talks) > 1:
            await talk.request()
            await talk.send(whole(b"a"))
        await talk.reader.readuntil(b"\r\n\r\n")
        talk.writer.transport.pause_reading()  # type: ignore[attr-defined]  # typeshed: a transport that only writes
        if read_on:
            await talk.send(whole(b"a")[:-1])
            talk.writer.transport.resume_reading()  # type: ignore[attr-defined]  # as above
            await talk.reader.readexactly(HUGE)
        await talk.send(whole(b"a")[-1:] if read_on else whole(b"a"))
        await asyncio.Event().wait()

    async with peer(script, tls=tls if secure else None) as server:
        engine = build(server.url, ca=ca)
        for _ in range(before):
            assert (200, b"a") == await fetched(engine)
        assert (200, b"a") == await fetched(engine, post(body()))
        assert (200, b"a") == await asyncio.wait_for(fetched(engine), 5)
        assert 2 == len(server.talks)


@pytest.mark.parametrize("secure", [False, True])
@pytest.mark.parametrize("body", [bytes(1_000_000), (b"{", bytes(1_000_000))], ids=["whole", "in pieces"])
async def test_a_connection_that_took_a_long_request_is_used_again(
    build: Build, secure: bool, body: Body, tls: ssl.SSLContext, ca: Path
) -> None:
    async with peer(playing(whole(b"a")), tls=tls if secure else None) as server:
        engine = build(server.url, ca=ca)
        for _ in range(3):
            assert (200, b"a") == await fetched(engine, post(body))
        assert [3] == [len(talk.requests) for talk in server.talks]


async def test_what_an_upstream_says_unasked_is_nobodys_answer(build: Build) -> None:
    said = asyncio.Event()

    async def script(talk: Talk) -> None:
        await talk.request()
        await talk.send(whole(b"mine"))
        await said.wait()
        await talk.send(whole(b"poison"))
        await talk.request()
        await talk.send(whole(b"poison"))

    async with peer(script) as server:
        engine = build(server.url)
        assert (200, b"mine") == await fetched(engine)
        said.set()
        await until(lambda: server.talks[0].sent > len(whole(b"mine")))
        await asyncio.sleep(0.02)
        assert (200, b"mine") == await fetched(engine)
        assert len(server.talks) == 2


async def test_an_answer_that_is_not_taken_is_not_mixed_up_with_the_next(build: Build) -> None:
    async with peer(playing(whole(b"first"), whole(b"second"))) as server:
        engine = build(server.url)
        reply = await engine.open(*post())
        reply.abort()
        reply.abort()
        assert (200, b"second") == await fetched(engine)
        await server.talks[0].gone.wait()


async def test_a_request_that_starts_at_the_very_end_of_another(build: Build) -> None:
    """It starts after the last piece, before the one that pumped runs again: neither may disturb the other."""
    go = asyncio.Event()

    async def script(talk: Talk) -> None:
        while True:
            await talk.request()
            await talk.send(CHUNKED, chunk(b"whole"))
            await go.wait()
            await talk.send(b"0\r\n\r\n")

    async with peer(script) as server:
        engine = build(server.url)
        following: list[asyncio.Task[tuple[int, bytes]]] = []
        taker = Taker()

        def take(piece: bytes, last: bool) -> bool:
            if last:
                following.append(asyncio.create_task(fetched(engine)))
            return taker.take(piece, last)

        reply = await engine.open(*post())
        pumping = asyncio.create_task(reply.pump(take, taker.drained))
        await asyncio.sleep(0)
        go.set()
        await pumping
        assert taker.body == b"whole"
        assert (200, b"whole") == await following[0]


@pytest.mark.parametrize("kind", ["wire"])
@pytest.mark.parametrize("turns", range(8))
async def test_who_asks_once_more_does_so_over_a_new_connection(build: Build, turns: int) -> None:
    """Not over one that was kept meanwhile, as the upstream may have closed that as well."""
    both, four = asyncio.Event(), asyncio.Event()

    async def script(talk: Talk) -> None:
        number = len(server.talks)
        await talk.request()
        if len(server.requests) == 2:
            both.set()
        await both.wait()
        await talk.send(whole(b"ok"))
        await talk.request()
        if len(server.requests) == 4:
            four.set()
        await four.wait()
        if number == 2:  # it answers a little later, and closes then
            for _ in range(turns):
                await asyncio.sleep(0)
            await talk.send(whole(b"ok"))
            await talk.request()
        talk.reset()

    async def asking() -> tuple[bool, bytes]:
        """As the door does it."""
        try:
            reply = await engine.open(*post())
        except UpstreamError:
            reply = await engine.open(*post(), fresh=True)
            assert not reply.reused
        return reply.reused, await pumped(reply)

    async with peer(script) as server:
        engine = build(server.url)
        assert [(200, b"ok")] * 2 == await asyncio.gather(*[fetched(engine) for _ in range(2)])
        first, second = await asyncio.gather(*[asking() for _ in range(2)])
        assert {(False, b"ok"), (True, b"ok")} == {first, second}


@pytest.mark.parametrize("kind", ["wire"])
async def test_what_is_kept_when_somebody_asks_once_more_is_ended(build: Build) -> None:
    """It makes room as well: there is no connection too many."""
    both = asyncio.Event()

    async def script(talk: Talk) -> None:
        await talk.request()
        if len(server.requests) == 2:
            both.set()
        await both.wait()
        await talk.send(whole(b"ok"))
        await talk.request()
        talk.reset()

    async with peer(script) as server:
        engine = build(server.url, max_connections=2)
        assert [(200, b"ok")] * 2 == await asyncio.gather(*[fetched(engine) for _ in range(2)])
        with pytest.raises(UpstreamError, match=r"before it answered") as caught:
            await engine.open(*post())
        assert (True, True) == (caught.value.stale, caught.value.sent)
        reply = await engine.open(*post(), fresh=True)
        assert (False, b"ok") == (reply.reused, await pumped(reply))
        assert [1, 1, 2] == sorted(len(talk.requests) for talk in server.talks)


@pytest.mark.parametrize("kind", ["wire"])
async def test_who_was_at_work_on_it_for_a_while_had_heard_it(build: Build) -> None:
    async def script(talk: Talk) -> None:
        await talk.request()
        await talk.send(whole(b"ok"))
        await talk.request()
        await asyncio.sleep(1.6)  # a second, and what passes before the first look at the time

    async with peer(script) as server:
        engine = build(server.url)
        assert (200, b"ok") == await fetched(engine)
        with pytest.raises(UpstreamError, match=r"before it answered") as caught:
            await engine.open(*post())
        assert not caught.value.stale


async def test_one_whose_answer_came_before_anybody_took_it_reads_the_next(build: Build) -> None:
    body = b"x" * 300_000

    async def script(talk: Talk) -> None:
        await talk.request()
        await talk.send(whole(body))
        await talk.request()
        await talk.send(whole(b"ok"))

    async with peer(script) as server:
        engine = build(server.url)
        reply = await engine.open(*post())
        await asyncio.sleep(0.1)
        assert body == await pumped(reply)
        assert (200, b"ok") == await fetched(engine)


@pytest.mark.parametrize("kind", ["wire"])
async def test_for_what_is_sent_once_more_there_is_no_connection_too_many(build: Build) -> None:
    """Those who wait in line get the place of the connection that was closed, or who sends once more gets it."""
    here: set[int] = set()
    most = 0

    async def script(talk: Talk) -> None:
        nonlocal most
        here.add(id(talk))
        most = max(most, len(here))
        with suppress(asyncio.IncompleteReadError):
            while True:
                await talk.request()
                if len(server.requests) == 2:
                    await until(lambda: engine.running == 4)
                    break
                await talk.send(whole(b"ok"))
        here.remove(id(talk))

    async def insisting() -> tuple[int, bytes]:
        with suppress(UpstreamError):
            return await fetched(engine)
        reply = await engine.open(*post(), fresh=True)
        return reply.status, await pumped(reply)

    async with peer(script) as server:
        engine = build(server.url, max_connections=1)
        assert (200, b"ok") == await fetched(engine)
        assert [(200, b"ok")] * 4 == await asyncio.gather(*[insisting() for _ in range(4)])
        assert (1, 6) == (most, len(server.requests))


@pytest.mark.parametrize("kept", [True, False])
async def test_it_was_not_closed_before_where_a_byte_came_back_or_where_it_is_new(build: Build, kept: bool) -> None:
    async def script(talk: Talk) -> None:
        await talk.request()
        if kept:
            await talk.send(whole(b"ok"))
            await talk.request()
            await talk.send(b"H")

    async with peer(script) as server:
        engine = build(server.url)
        if kept:
            assert (200, b"ok") == await fetched(engine)
        with pytest.raises(UpstreamError, match=r"before it answered") as caught:
            await engine.open(*post())
        assert not caught.value.stale
        assert [1 + kept] == [len(talk.requests) for talk in server.talks]


async def test_a_connection_that_was_closed_while_idle_is_not_used(build: Build) -> None:
    async def script(talk: Talk) -> None:
        await talk.request()
        await talk.send(whole(b"ok"))

    async with peer(script) as server:
        engine = build(server.url)
        for _ in range(3):
            assert (200, b"ok") == await fetched(engine)
            await asyncio.sleep(0.02)
        assert [1, 1, 1] == [len(talk.requests) for talk in server.talks]


@pytest.mark.parametrize("kind", ["wire"])
@pytest.mark.parametrize(
    ("fields", "looks", "connections"),
    [
        ({}, [0.5, 3.4], 1),
        ({}, [0.5, 3.5], 2),  # idle since the look before the first that found it so
        ({}, [8.0], 2),  # nobody looked while the process stood still
        ({"keep_alive": 20.0}, [0.5, 19.9], 1),
        ({"keep_alive": 20.0}, [0.5, 20.0], 2),
    ],
)
async def test_an_idle_connection_is_not_kept_for_long(
    build: Build, fields: dict[str, float], looks: list[float], connections: int
) -> None:
    now = monotonic()
    async with peer(playing(*[whole(b"ok")] * 3)) as server:
        engine = build(server.url, **fields)
        assert isinstance(engine, Wire)
        assert (200, b"ok") == await fetched(engine)
        engine.sweep(now + 0.5)
        assert (200, b"ok") == await fetched(engine)  # which begins its time anew
        for look in looks:
            engine.sweep(now + 0.5 + look)
        assert (200, b"ok") == await fetched(engine)
        assert connections == len(server.talks)


async def test_idle_connections_are_closed_also_when_nobody_asks_any_more(build: Build) -> None:
    async with peer(playing(whole(b"ok"))) as server:
        engine = build(server.url, keep_alive=0.2)
        assert [(200, b"ok")] * 3 == await asyncio.gather(*[fetched(engine) for _ in range(3)])
        assert 3 == len(server.talks)
        for talk in server.talks:
            await asyncio.wait_for(talk.gone.wait(), 10)


@pytest.mark.parametrize(("keep_alive", "connections"), [(0.2, 2), (20.0, 1)])
async def test_how_long_an_idle_connection_is_kept_is_written(
    build: Build, keep_alive: float, connections: int
) -> None:
    async with peer(playing(*[whole(b"ok")] * 2)) as server:
        engine = build(server.url, keep_alive=keep_alive)
        assert (200, b"ok") == await fetched(engine)
        await asyncio.sleep(1.5)
        assert (200, b"ok") == await fetched(engine)
        assert connections == len(server.talks)


@pytest.mark.parametrize("kind", ["wire"])
@pytest.mark.parametrize(("age", "connections"), [(59, 1), (60, 2)])
@pytest.mark.parametrize("answer", [whole(b"ok"), CHUNKED + chunk(b"ok") + b"0\r\n\r\n"])
async def test_an_old_connection_is_not_used_again(build: Build, age: float, connections: int, answer: bytes) -> None:
    """Also one that is always busy when it is looked at, and the answer under way comes to its end."""
    go = asyncio.Event()

    async def script(talk: Talk) -> None:
        while True:
            await talk.request()
            await go.wait()
            await talk.send(answer)

    async with peer(script) as server:
        engine = build(server.url)
        assert isinstance(engine, Wire)
        go.set()
        for _ in range(2):  # its head is known by now
            assert (200, b"ok") == await fetched(engine)
        go.clear()
        asking = asyncio.create_task(fetched(engine))
        await until(lambda: len(server.requests) == 3)
        engine.sweep(monotonic() + age)
        go.set()
        assert (200, b"ok") == await asking
        assert (200, b"ok") == await fetched(engine)
        assert connections == len(server.talks)
        if connections > 1:
            await server.talks[0].gone.wait()


@pytest.mark.parametrize(("age", "connections"), [(59, 1), (60, 2)])
async def test_an_old_connection_of_httpx_is_not_used_again(age: float, connections: int) -> None:
    now = [0.0]
    async with peer(playing(whole(b"ok"))) as server:
        client = httpx.AsyncClient(trust_env=False)
        engine = HttpxEngine("up", server.url, Timeouts(), client, Line(0, 0), clock=lambda: now[0])
        assert (200, b"ok") == await fetched(engine)
        now[0] = float(age)
        for _ in range(2):
            assert (200, b"ok") == await fetched(engine)
        assert connections == len(server.talks)
        await engine.close()
