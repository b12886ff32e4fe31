"""Both engines: what a well-behaved upstream answers, and what it is asked."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from relay.exchange import Header, Reply, Request
from relay.story import Story
from tests.engines.asking import Taker, fetched, post, pumped, until
from tests.engines.conftest import Build
from tests.engines.peer import CHUNKED, Talk, chunk, once, peer, playing, whole

EARLY = b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n"
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


@pytest.mark.parametrize(
    ("pieces", "status", "body"),
    [
        ((whole(b"hello"),), 200, b"hello"),
        ((whole(b""),), 200, b""),
        ((whole(b"no", status=b"429 Slow Down"),), 429, b"no"),
        ((whole(b"moved", b"location: /x", status=b"302 Found"),), 302, b"moved"),
        ((whole(b"hel"), ), 200, b"hel"),
        ((whole(b"hello")[:-3], b"llo"), 200, b"hello"),
        (tuple(bytes([byte]) for byte in whole(b"hello")), 200, b"hello"),
        ((CHUNKED, chunk(b"one"), chunk(b"two"), b"0\r\n\r\n"), 200, b"onetwo"),
        ((CHUNKED + chunk(b"one") + chunk(b"two") + b"0\r\n\r\n",), 200, b"onetwo"),
        ((CHUNKED, b"3;ext=1\r\none\r\n", b"0\r\nx-trailer: 1\r\n\r\n"), 200, b"one"),
        ((CHUNKED + b"0\r\n\r\n",), 200, b""),
        ((b"HTTP/1.1 200 OK\r\n\r\n", b"until", b" the end"), 200, b"until the end"),
        ((b"HTTP/1.1 200 OK\r\n\r\n",), 200, b""),
        ((b"HTTP/1.0 200 OK\r\n\r\nold",), 200, b"old"),
        ((b"HTTP/1.1 200\r\ncontent-length: 2\r\n\r\nok",), 200, b"ok"),
        ((b"HTTP/1.1 204 No Content\r\n\r\n",), 204, b""),
        ((EARLY, EARLY, CONTINUE, whole(b"late")), 200, b"late"),
        ((EARLY + CONTINUE + whole(b"late"),), 200, b"late"),
    ],
)  # fmt: skip
async def test_an_answer_comes_whole(build: Build, pieces: tuple[bytes, ...], status: int, body: bytes) -> None:
    async with peer(once(*pieces)) as server:
        assert (status, body) == await fetched(build(server.url))


LONG = b"data:\r\n" + b"x" * 30  # 0x25 bytes: what comes of it behind the 2 looks like a whole chunk of 5


@pytest.mark.parametrize(
    ("reads", "rest"),
    [
        pytest.param((b"2", b"5\r\n" + LONG[:7], LONG[7:] + b"\r\n"), LONG, id="in the size"),
        pytest.param((b"1;x=", chunk(b"b"), chunk(b"c")), b"bc", id="in an extension"),
    ],
)
async def test_a_cut_in_the_line_before_a_chunk_changes_nothing(
    build: Build, reads: tuple[bytes, ...], rest: bytes
) -> None:
    async def script(talk: Talk) -> None:
        await talk.request()
        for read in (CHUNKED, chunk(b"1"), chunk(b"a") + reads[0], *reads[1:], b"0\r\n\r\n"):
            await talk.send(read)
            await asyncio.sleep(0.02)  # so that each is read by itself

    async with peer(script) as server:
        assert (200, b"1a" + rest) == await fetched(build(server.url))


async def test_the_names_of_headers_are_in_lower_case_and_doubles_are_kept(build: Build) -> None:
    answer = EARLY + whole(b"", b"Set-Cookie: a=1", b"SET-COOKIE: b=2", b"X-Empty:", b"X-Odd: \xe9\xff")
    async with peer(playing(answer)) as server:
        reply = await build(server.url).open(*post())
        expected: list[Header] = [
            (b"content-length", b"0"),
            (b"set-cookie", b"a=1"),
            (b"set-cookie", b"b=2"),
            (b"x-empty", b""),
            (b"x-odd", b"\xe9\xff"),
        ]
        assert expected == list(reply.headers)
        assert await pumped(reply) == b""


async def test_trailers_are_not_headers(build: Build) -> None:
    async with peer(playing(CHUNKED + chunk(b"x") + b"0\r\nx-trailer: 1\r\n\r\n")) as server:
        reply = await build(server.url).open(*post())
        assert await pumped(reply) == b"x"
        assert [(b"transfer-encoding", b"chunked")] == list(reply.headers)


async def test_a_compressed_body_is_not_decoded(build: Build) -> None:
    async with peer(playing(whole(b"\x1f\x8bjunk", b"content-encoding: gzip"))) as server:
        assert (200, b"\x1f\x8bjunk") == await fetched(build(server.url))


@pytest.mark.parametrize(
    ("path", "target", "line"),
    [
        ("", b"/chat", b"POST /chat HTTP/1.1"),
        ("/v1", b"/chat", b"POST /v1/chat HTTP/1.1"),
        ("/a%20b/v1", b"/chat?x=1&y=%2F+z", b"POST /a%20b/v1/chat?x=1&y=%2F+z HTTP/1.1"),
    ],
)
async def test_the_target_follows_the_path_of_the_base(build: Build, path: str, target: bytes, line: bytes) -> None:
    async with peer(playing(whole(b""))) as server:
        await fetched(build(server.url + path), post(target=target))
        assert line == server.requests[0].lines[0]


async def test_nothing_is_sent_but_what_was_given_and_the_framing(build: Build) -> None:
    headers = ((b"x-a", b"1"), (b"x-a", b"2"), (b"x-odd", b"\xe9"))
    async with peer(playing(whole(b"", b"set-cookie: session=1"))) as server:
        engine = build(server.url)
        for _ in range(2):
            await fetched(engine, (Request(b"POST", b"/", headers), b"body"))
        for got in server.requests:
            assert got.lines[0] == b"POST / HTTP/1.1"
            host = b"host: 127.0.0.1:%d" % server.port
            lines = [name.lower() + colon + value for name, colon, value in (x.partition(b":") for x in got.lines[1:])]
            expected = {host, b"x-a: 1", b"x-a: 2", b"x-odd: \xe9", b"content-length: 4"}
            assert (5, expected, b"body") == (len(lines), set(lines), got.body)


@pytest.mark.parametrize("size", [0, 1, 3_000_000])
async def test_a_body_of_known_length(build: Build, size: int) -> None:
    async with peer(playing(whole(b""))) as server:
        await fetched(build(server.url), post(b"x" * size))
        assert [b"%d" % size] == server.requests[0].values(b"content-length")
        assert b"x" * size == server.requests[0].body


@pytest.mark.parametrize("size", [0, 10, 3_000_000])
async def test_a_body_in_pieces(build: Build, size: int) -> None:
    whole_body = b"{" + b"x" * size + b"}"
    async with peer(playing(whole(b""))) as server:
        await fetched(build(server.url), post((b"{", memoryview(whole_body)[1:-1], b"}")))
        assert [b"%d" % len(whole_body)] == server.requests[0].values(b"content-length")
        assert whole_body == server.requests[0].body


async def test_a_body_of_unknown_length_is_sent_as_it_comes(build: Build) -> None:
    arrived = asyncio.Event()

    async def script(talk: Talk) -> None:
        await talk.reader.readuntil(b"\r\none\r\n")
        arrived.set()
        assert await talk.reader.readuntil(b"0\r\n\r\n") == b"3\r\ntwo\r\n0\r\n\r\n"
        await talk.send(whole(b"got it"))

    async def body() -> AsyncIterator[bytes]:
        yield b"one"
        await arrived.wait()
        yield b"two"

    async with peer(script) as server:
        assert (200, b"got it") == await fetched(build(server.url), post(body()))


async def test_a_large_body_of_unknown_length(build: Build) -> None:
    async def body() -> AsyncIterator[bytes]:
        for number in range(64):
            yield b"%c" % number * 65_536

    async with peer(playing(whole(b"ok"))) as server:
        engine = build(server.url)
        assert (200, b"ok") == await fetched(engine, post(body()))
        assert [b"%c" % number * 65_536 for number in range(64)] == [
            server.requests[0].body[at : at + 65_536] for at in range(0, 64 * 65_536, 65_536)
        ]
        assert (200, b"ok") == await fetched(engine, post())
        assert len(server.talks) == 1


async def test_an_answer_before_the_body_is_sent(build: Build, kind: str) -> None:
    if kind == "httpx":
        pytest.skip("httpx does not listen before it has sent the whole body")

    async def script(talk: Talk) -> None:
        await talk.reader.readuntil(b"\r\n\r\n")
        await talk.send(whole(b"too large", status=b"413 Too Large"))
        await talk.gone.wait()

    async def body() -> AsyncIterator[bytes]:
        while True:
            yield b"x" * 65_536
            await asyncio.sleep(0)

    async with peer(script) as server:
        assert (413, b"too large") == await fetched(build(server.url), post(body()))
        await server.talks[0].gone.wait()


async def test_pieces_come_as_they_are_sent(build: Build) -> None:
    go = asyncio.Event()

    async def script(talk: Talk) -> None:
        await talk.request()
        await talk.send(CHUNKED, chunk(b"first"))
        await go.wait()
        await talk.send(chunk(b"second"), b"0\r\n\r\n")

    async with peer(script) as server:
        reply = await build(server.url).open(*post())
        taker = Taker()
        pumping = asyncio.create_task(reply.pump(taker.take, taker.drained, taker.chunk))
        await taker.some.wait()
        assert [b"first"] == taker.pieces
        go.set()
        await pumping
        assert (b"firstsecond", 1) == (taker.body, taker.lasts)


@pytest.mark.parametrize("kind", ["wire"])  # httpx takes the framing off
@pytest.mark.parametrize(("size", "framed"), [(1, 2), (15, 2), (16, 2), (4088, 2), (4089, 0), (70_000, 0)])
async def test_a_whole_chunk_is_offered_as_it_stands(build: Build, size: int, framed: int) -> None:
    go = asyncio.Event()

    async def script(talk: Talk) -> None:
        await talk.request()
        await talk.send(CHUNKED, chunk(b"first"))
        for piece in (
            chunk(b"w" * size),
            chunk(b"x" * size),
            chunk(b"y") + chunk(b"z"),
            b"0001\r\n!\r\n",
            b"0\r\n\r\n",
        ):
            await go.wait()
            go.clear()
            await talk.send(piece)

    async with peer(script) as server:
        reply = await build(server.url).open(*post())
        taker = Taker()
        pumping = asyncio.create_task(reply.pump(taker.take, taker.drained, taker.chunk))
        for expected in (b"first", b"w" * size, b"x" * size, b"yz", b"!"):
            await until(lambda: taker.body.endswith(expected))  # noqa: B023  # it is over before the next one
            go.set()
        await pumping

        assert (b"first" + b"w" * size + b"x" * size + b"yz!", framed) == (taker.body, taker.framed)


async def test_ipv6(build: Build) -> None:
    try:
        async with peer(playing(whole(b"six")), host="::1") as server:
            assert (200, b"six") == await fetched(build(server.url))
            assert [b"[::1]:%d" % server.port] == server.requests[0].values(b"host")
    except OSError as missing:
        pytest.skip(f"no IPv6 here: {missing}")


async def is_over_at_its_last_piece(reply: Reply) -> bool:
    """Whether nothing more is awaited after it."""
    loop = asyncio.get_running_loop()
    over: asyncio.Future[bool] = loop.create_future()

    def take(_piece: bytes, last: bool) -> bool:
        if last:
            loop.call_soon(lambda: over.set_result(story.over))
        return False

    async def drained() -> None:
        """There is always room."""

    story = Story("one", reply.pump(take, drained), loop, lambda: None)
    story.go_on()
    return await over


@pytest.mark.parametrize("answer", [whole(b"ok"), CHUNKED + chunk(b"ok") + b"0\r\n\r\n"])
async def test_a_client_that_has_the_last_piece_may_ask_again_at_once(build: Build, answer: bytes) -> None:
    async with peer(playing(answer)) as server:
        engine = build(server.url)
        for _ in range(3):  # its head is known by now
            reply = await engine.open(*post())
            assert reply.whole is not None or await is_over_at_its_last_piece(reply)
