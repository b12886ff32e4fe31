"""Both engines: upstreams that break off, talk nonsense, or cannot be reached."""

import asyncio
import socket
from contextlib import suppress

import pytest

from relay.errors import Overloaded, UpstreamError
from tests.engines.asking import Taker, fetched, post, pumped, until
from tests.engines.conftest import Build
from tests.engines.peer import CHUNKED, Talk, chunk, once, peer, playing, silent_after, stuck, whole

AGREED = b"HTTP/1.1 200 Connection established\r\n\r\n"


@pytest.mark.parametrize(
    "pieces",
    [
        (),
        (b"HTTP/1.1 20",),
        (b"HTTP/1.1 200 OK\r\ncontent-le",),
        (b"HTTP/1.1 103 Early Hints\r\n\r\n",),
    ],
)
async def test_a_connection_that_ends_before_the_head(build: Build, pieces: tuple[bytes, ...]) -> None:
    async with peer(once(*pieces)) as server:
        with pytest.raises(UpstreamError, match=r"^Upstream 'up' closed the connection before it answered\.$"):
            await build(server.url).open(*post())
        assert len(server.requests) == 1


@pytest.mark.parametrize("status", [600, 999])
async def test_a_status_that_is_none(build: Build, status: int) -> None:
    async with peer(playing(b"HTTP/1.1 %d Odd\r\ncontent-length: 2\r\n\r\nok" % status)) as server:
        with pytest.raises(UpstreamError, match=rf"^Upstream 'up' answered with the status {status}, which is none\.$"):
            await build(server.url).open(*post())
        await until(lambda: not server.open)


async def test_a_connection_that_is_reset_before_the_head(build: Build) -> None:
    async def script(talk: Talk) -> None:
        await talk.request()
        talk.reset()

    async with peer(script) as server:
        with pytest.raises(UpstreamError, match=r"closed the connection before it answered"):
            await build(server.url).open(*post())
        assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("pieces", "came"),
    [
        ((b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n", b"so ", b"far"), b"so far"),
        ((b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nso far",), b"so far"),
        ((b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n",), b""),
        ((CHUNKED, chunk(b"so "), chunk(b"far")), b"so far"),
        ((CHUNKED, chunk(b"so "), b"5\r\nfar"), b"so far"),
        ((CHUNKED, chunk(b"so far"), b"0\r\n"), b"so far"),
    ],
)
async def test_what_came_before_the_end_is_handed_on(build: Build, pieces: tuple[bytes, ...], came: bytes) -> None:
    taker = Taker()
    async with peer(once(*pieces)) as server:
        reply = await build(server.url).open(*post())
        with pytest.raises(UpstreamError, match=r"^Upstream 'up' closed the connection in the middle of its answer\.$"):
            await reply.pump(taker.take, taker.drained, taker.chunk)
    assert (came, 0) == (taker.body, taker.lasts)


async def test_what_came_before_the_end_is_handed_on_also_to_who_comes_late(build: Build) -> None:
    taker = Taker()
    async with peer(once(CHUNKED + chunk(b"so far"))) as server:
        reply = await build(server.url).open(*post())
        await asyncio.sleep(0.05)  # by now the end of the connection has come too
        with pytest.raises(UpstreamError, match=r"in the middle of its answer"):
            await reply.pump(taker.take, taker.drained, taker.chunk)
    assert (b"so far", 0) == (taker.body, taker.lasts)


async def reset_midway(build: Build, *sent: bytes) -> Taker:
    """Send, and reset once something of it was taken: a fault; what was taken."""
    arrived = asyncio.Event()

    async def script(talk: Talk) -> None:
        await talk.request()
        await talk.send(*sent)
        await arrived.wait()
        talk.reset()

    taker = Taker()
    async with peer(script) as server:
        reply = await build(server.url).open(*post())
        pumping = asyncio.create_task(reply.pump(taker.take, taker.drained, taker.chunk))
        await taker.some.wait()
        arrived.set()
        with pytest.raises(UpstreamError, match=r"in the middle of its answer"):
            await pumping
    return taker


async def test_a_reset_in_the_middle(build: Build) -> None:
    taker = await reset_midway(build, CHUNKED, chunk(b"so far"))

    assert (b"so far", 0) == (taker.body, taker.lasts)


async def test_a_body_without_length_that_is_reset_is_not_whole(build: Build) -> None:
    taker = await reset_midway(build, b"HTTP/1.1 200 OK\r\n\r\nso far")

    assert taker.lasts == 0


@pytest.mark.parametrize(
    ("garbage", "came"),
    [(b"zz\r\n", b"so far"), (chunk(b"torn")[:-2] + b"zz", b"so fartorn")],
    ids=["no size of a chunk", "no end of a chunk"],
)
async def test_garbage_in_the_middle(build: Build, garbage: bytes, came: bytes) -> None:
    taker = Taker()
    async with peer(stuck(CHUNKED, chunk(b"so far"), garbage)) as server:
        reply = await build(server.url).open(*post())
        with pytest.raises(UpstreamError, match=r"^Upstream 'up' sent something that is not HTTP\.$"):
            await reply.pump(taker.take, taker.drained, taker.chunk)
        await server.talks[0].gone.wait()
    assert (came, 0) == (taker.body, taker.lasts)


@pytest.mark.parametrize(
    "head",
    [
        b"SSH-2.0-OpenSSH_9.6\r\n\r\n\r\n",
        b"HTTP/1.1 twohundred OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nx: " + b"y" * 600_000,
        b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 100_000,
        b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n",
    ],
    ids=["ssh", "status", "length", "lengths", "colon", "long", "many", "switch"],
)
async def test_a_head_that_is_refused(build: Build, head: bytes) -> None:
    async with peer(stuck(head)) as server:
        with pytest.raises(UpstreamError, match=r"^Upstream 'up' (sent|wanted)"):
            await build(server.url).open(*post())
        await server.talks[0].gone.wait()
        assert len(server.requests) == 1


async def test_a_port_where_nobody_listens(build: Build) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    engine = build(f"http://127.0.0.1:{port}", max_connections=1)
    for _ in range(3):  # and its place is free again
        with pytest.raises(UpstreamError, match=r"^Upstream 'up' could not be connected to: .*[Cc]onnect"):
            await engine.open(*post())


async def test_a_name_that_nobody_has(build: Build) -> None:
    with pytest.raises(UpstreamError, match=r"^Upstream 'up' could not be connected to: "):
        await build("http://nowhere.invalid").open(*post())


@pytest.mark.parametrize("pieces", [(), (CHUNKED, chunk(b"so far"))])
async def test_closing_an_engine_cuts_what_runs(build: Build, pieces: tuple[bytes, ...]) -> None:
    taker = Taker()
    async with peer(stuck(*pieces)) as server:
        engine = build(server.url)

        async def ask() -> None:
            await (await engine.open(*post())).pump(taker.take, taker.drained, taker.chunk)

        asking = asyncio.create_task(ask())
        await until(lambda: server.requests and (taker.pieces or not pieces))
        await engine.close()
        with pytest.raises(UpstreamError, match=r"^Upstream 'up' was let go of"):
            await asking
        await server.talks[0].gone.wait()


async def test_a_request_that_is_cut_is_not_sent_again(build: Build) -> None:
    async with peer(silent_after(whole(b"ok"))) as server:
        engine = build(server.url)
        assert (200, b"ok") == await fetched(engine)
        asking = asyncio.create_task(engine.open(*post()))
        await until(lambda: len(server.requests) == 2)
        await engine.close()
        with pytest.raises(UpstreamError, match=r"was let go of"):
            await asking
        assert [2] == [len(talk.requests) for talk in server.talks]


async def test_who_finds_all_connections_busy_waits_and_is_refused(build: Build) -> None:
    async with peer(playing(whole(b"ok"))) as server:
        engine = build(server.url, max_connections=2, queue=(4, 0.2))
        held = [await engine.open(*post()) for _ in range(2)]
        with pytest.raises(Overloaded, match=r"^All .*connections to upstream 'up' are busy"):
            await engine.open(*post())
        waiting = [asyncio.create_task(fetched(engine)) for _ in range(4)]
        await asyncio.sleep(0)
        for reply in held:
            assert await pumped(reply) == b"ok"
        assert [(200, b"ok")] * 4 == await asyncio.gather(*waiting)
        assert len(server.talks) == 2


BUSY = whole(b"busy", b"connection: close", status=b"503 Busy")


@pytest.mark.parametrize("kind", ["wire"])
@pytest.mark.parametrize("turns", range(6))
@pytest.mark.parametrize("through_a_proxy", [False, True])
async def test_what_an_upstream_says_before_it_was_asked_is_its_answer(
    build: Build, turns: int, through_a_proxy: bool
) -> None:
    """As it is connected to, or some turns of the loop later."""

    async def script(talk: Talk) -> None:
        if through_a_proxy:
            await talk.request()
            talk.writer.write(AGREED)
        for _ in range(turns):
            await asyncio.sleep(0)
        await talk.send(BUSY)
        await talk.gone.wait()

    async with peer(script) as server:
        engine = build("http://origin.invalid" if through_a_proxy else server.url, proxy=server.url * through_a_proxy)
        for _ in range(3):
            assert (503, b"busy") == await asyncio.wait_for(fetched(engine), 5)
        assert 3 == len(server.talks)
        await until(lambda: not server.open)


@pytest.mark.parametrize("kind", ["wire"])
@pytest.mark.parametrize("turns", range(6))
@pytest.mark.parametrize("said", [BUSY, b"", b"SSH-2.0-x\r\n"], ids=["an answer", "nothing", "no HTTP"])
async def test_an_upstream_that_leaves_before_it_was_asked_is_not_waited_for(
    build: Build, turns: int, said: bytes
) -> None:
    async def script(talk: Talk) -> None:
        for _ in range(turns):
            await asyncio.sleep(0)
        await talk.send(said)

    async with peer(script) as server:
        engine = build(server.url, max_connections=1)
        for _ in range(3):
            with suppress(UpstreamError):
                assert (503, b"busy") == await asyncio.wait_for(fetched(engine), 5)
        assert 0 == engine.running


@pytest.mark.parametrize("kind", ["wire"])
async def test_who_talks_before_he_was_asked_is_asked_nothing_else(build: Build) -> None:
    """Over that connection: what he says then is an answer to the request that has one already."""

    async def script(talk: Talk) -> None:
        await talk.request()
        await talk.send(AGREED + whole(b"unasked"))
        while True:
            await talk.request()
            await talk.send(whole(b"late"))

    async with peer(script) as between:
        engine = build("http://origin.invalid", proxy=between.url)
        for _ in range(3):
            assert (200, b"unasked") == await fetched(engine)
        assert 3 == len(between.talks)


@pytest.mark.parametrize("kind", ["wire"])
async def test_an_upstream_that_talks_where_tls_should_begin_is_not_waited_for(build: Build) -> None:
    async def script(talk: Talk) -> None:
        await talk.send(BUSY)
        await talk.gone.wait()

    async with peer(script) as server:
        engine = build(server.url.replace("http:", "https:"))
        for _ in range(3):
            with pytest.raises(UpstreamError, match=r"^Upstream 'up' "):
                await asyncio.wait_for(engine.open(*post()), 5)
        await until(lambda: not server.open)


@pytest.mark.parametrize("kind", ["wire"])
async def test_who_talks_first_and_is_asked_nothing_is_let_go_of(build: Build) -> None:
    async def script(talk: Talk) -> None:
        await talk.send(BUSY)
        await talk.gone.wait()

    async with peer(script) as server:
        engine = build(server.url, max_connections=1)
        for turns in range(12):
            asking = asyncio.create_task(fetched(engine))
            for _ in range(turns):
                await asyncio.sleep(0)
            asking.cancel()
            await asyncio.wait({asking})
        assert (503, b"busy") == await asyncio.wait_for(fetched(engine), 5)
        await until(lambda: not server.open)
