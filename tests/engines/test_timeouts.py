"""Both engines: the timeouts, each against an upstream that stalls just there. The others are far away."""

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from time import monotonic

import pytest

from relay.errors import UpstreamTimeout
from relay.exchange import Reply, Timeouts
from relay.wire import Wire
from relay.wire.patience import PACE_WINDOW
from relay.wire.pool import sweep_period
from tests.engines.asking import Taker, fetched, post, pumped, until
from tests.engines.conftest import Build
from tests.engines.peer import CHUNKED, Talk, chunk, peer, playing, silent_after, stuck, whole
from tests.requests import begun

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


@pytest.mark.parametrize("limit", [0.4, 1, 2, 6, 9.9, 10, 600])
def test_who_waits_is_told_while_it_still_listens(limit: float) -> None:
    """One sweep finds a request, and one that its time is over: both within what is spared of a client's patience."""
    head = begun((b"x-stainless-read-timeout", b"%g" % limit))

    assert 2 * sweep_period(limit) <= limit - head.patience + 1e-9


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


async def test_a_request_that_is_not_answered_in_time_is_not_sent_again(build: Build) -> None:
    """Also over a connection that was used before: the upstream may be at work for it."""
    async with peer(silent_after(whole(b"ok"))) as server:
        engine = build(server.url, timeouts=Timeouts(first_byte=SHORT))
        assert (200, b"ok") == await fetched(engine)
        with pytest.raises(UpstreamTimeout, match=r"did not answer for 0\.2 seconds"):
            await engine.open(*post())
        assert [2] == [len(talk.requests) for talk in server.talks]


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
            await reply.pump(taker.take, taker.drained, taker.chunk)
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
            await reply.pump(taker.take, taker.drained, taker.chunk)
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
        pumping = asyncio.create_task(reply.pump(taker.take, taker.drained, taker.chunk))
        await taker.held.wait()
        await asyncio.sleep(SHORT * 3)
        taker.go.set()
        go.set()
        await pumping
    assert (b"so far", 1) == (taker.body, taker.lasts)


ALL = "all that the caller, or retry.deadline, allows"


@pytest.mark.parametrize("reused", [False, True])
async def test_what_the_caller_would_wait_for_the_head(build: Build, reused: bool) -> None:
    """Found soon, although the other limits are minutes away and are looked after seldom."""

    async def script(talk: Talk) -> None:
        if reused:
            await talk.request()
            await talk.send(whole(b"ok"))
        await talk.gone.wait()

    async with peer(script) as server:
        engine = build(server.url)
        if reused:
            assert (200, b"ok") == await fetched(engine)
        began = monotonic()
        with pytest.raises(
            UpstreamTimeout, match=rf"^Upstream 'up' did not answer within 0\.2 seconds, {ALL}\.$"
        ) as late:
            await engine.open(*post(), within=SHORT)
        assert late.value.sent
        assert SHORT <= monotonic() - began < SHORT + 0.5  # the limit itself; a machine may be busy
        await server.talks[-1].gone.wait()


async def test_what_the_caller_would_wait_counts_connecting_too(build: Build) -> None:
    with deaf() as port:
        engine = build(f"http://127.0.0.1:{port}", timeouts=Timeouts(connect=30))
        with pytest.raises(UpstreamTimeout, match=rf"did not answer within 0\.2 seconds, {ALL}") as late:
            await engine.open(*post(), within=SHORT)
    assert not late.value.sent


async def test_what_the_caller_would_wait_counts_the_line_too(build: Build) -> None:
    async with peer(stuck()) as server:
        engine = build(server.url, max_connections=1)
        first = asyncio.create_task(engine.open(*post()))
        await until(lambda: server.requests)
        second = asyncio.create_task(engine.open(*post(), within=1.0))
        await asyncio.sleep(0.4)  # of the half that may be waited there
        first.cancel()
        began = monotonic()
        with pytest.raises(UpstreamTimeout, match=rf"did not answer within 1 seconds, {ALL}"):
            await second
        assert monotonic() - began < 0.9


@pytest.mark.parametrize("comes", [b"", b": still here\n\n"], ids=["nothing", "nothing that the caller gets"])
async def test_what_the_caller_would_wait_goes_on_behind_the_head(build: Build, comes: bytes) -> None:
    async def script(talk: Talk) -> None:
        await talk.request()
        await talk.send(CHUNKED, chunk(comes) if comes else b"")
        await talk.gone.wait()

    async with peer(script) as server:
        reply = await build(server.url).open(*post(), within=SHORT)
        began = monotonic()
        with pytest.raises(UpstreamTimeout, match=rf"did not answer within 0\.2 seconds, {ALL}"):
            await pumped(reply)
        assert monotonic() - began < SHORT + 0.5
        await server.talks[-1].gone.wait()


@pytest.mark.parametrize("reused", [False, True])
async def test_who_waits_longer_than_a_head_may_take_waits_for_a_body_no_longer_than_he_says(
    build: Build, reused: bool
) -> None:
    async def script(talk: Talk) -> None:
        if reused:
            await talk.request()
            await talk.send(whole(b"ok"))
        await talk.request()
        await talk.send(CHUNKED)
        while not talk.gone.is_set():
            await talk.send(chunk(b": still here\n\n"))
            await asyncio.sleep(0.05)

    async with peer(script) as server:
        engine = build(server.url, timeouts=Timeouts(first_byte=SHORT))
        if reused:
            assert (200, b"ok") == await fetched(engine)
        reply = await engine.open(*post(), within=SHORT * 3)
        began = monotonic()
        with pytest.raises(UpstreamTimeout, match=rf"did not answer within 0\.6 seconds, {ALL}"):
            await pumped(reply)
        assert monotonic() - began < SHORT * 3 + 0.5


async def test_an_answer_that_has_begun_may_take_longer_than_the_caller_would_wait(build: Build) -> None:
    async def script(talk: Talk) -> None:
        await talk.request()
        await talk.send(CHUNKED, chunk(b"so"))
        await asyncio.sleep(SHORT * 2)
        await talk.send(chunk(b" far"), b"0\r\n\r\n")

    async with peer(script) as server:
        reply = await build(server.url).open(*post(), within=SHORT)
        reply.begun()
        assert b"so far" == await pumped(reply)


async def test_the_time_of_one_request_is_not_the_next_ones(build: Build) -> None:
    answers = 0

    async def script(talk: Talk) -> None:
        nonlocal answers
        while True:
            await talk.request()
            answers += 1
            await asyncio.sleep(SHORT * 2 if answers == 3 else 0)
            await talk.send(whole(b"ok"))

    async with peer(script) as server:
        engine = build(server.url)
        for within in (SHORT, SHORT, None):
            reply = await engine.open(*post(), within=within)
            await pumped(reply)
        assert (3, 1) == (answers, len(server.talks))


async def test_many_with_little_time_at_once(build: Build) -> None:
    """Each has its own: the first of them ends neither the others' nor the looking after them."""
    async with peer(stuck()) as server:
        engine = build(server.url)

        async def one(within: float) -> float:
            began = monotonic()
            with pytest.raises(UpstreamTimeout, match=ALL):
                await engine.open(*post(), within=within)
            return monotonic() - began

        limits = [0.9, 0.1, 0.3, 0.6]
        took = await asyncio.gather(*map(one, limits))
        assert all(limit <= seconds < limit + 0.5 for limit, seconds in zip(limits, took, strict=True))
        assert 0 == engine.running


# The pace is told over half a minute, so these tests say themselves what time it is: to the fast engine here, to the
# other one in test_httpx_scripted.py.


class Paced:
    """An answer of the fast engine, and an upstream that sends more of it when told to."""

    def __init__(self, engine: Wire, talk: Talk, reply: Reply, taker: Taker) -> None:
        self.engine, self.talk, self.taker = engine, talk, taker
        self.pumping = asyncio.create_task(reply.pump(taker.take, taker.drained, taker.chunk))

    async def sends(self, size: int) -> None:
        """So many bytes, and they are taken."""
        expected = len(self.taker.body) + size
        await self.talk.send(chunk(b"x" * size))
        await until(lambda: len(self.taker.body) == expected)

    async def ends(self) -> None:
        await self.talk.send(b"0\r\n\r\n")
        await self.pumping


async def paced(build: Build, url: str, talks: list[Talk], *, hold: bool = False, pace: float | None = 10.0) -> Paced:
    engine = build(url, timeouts=Timeouts(idle=1000, pace=pace))
    assert isinstance(engine, Wire)
    reply = await engine.open(*post())
    return Paced(engine, talks[0], reply, Taker(hold=hold))


@pytest.mark.parametrize("kind", ["wire"])
@pytest.mark.parametrize(
    ("sizes", "late"),
    [
        ([400, 400, 400], False),
        ([10, 10, 290, 300], False),  # it counts what came in the whole window
        ([250], True),
        ([400, 250], True),
        ([0, 0, 400], False),  # silence is judged elsewhere
        ([0, 1], True),
    ],
)
async def test_pace(build: Build, sizes: list[int], late: bool) -> None:
    async with peer(stuck(CHUNKED)) as server:
        one = await paced(build, server.url, server.talks)
        now = monotonic()
        one.engine.sweep(now)
        steps = 3 if sizes[0] == 10 else 1
        for number, size in enumerate(sizes):
            if size:
                await one.sends(size)
            one.engine.sweep(now + (number + 1) * PACE_WINDOW / steps)
        if late:
            with pytest.raises(UpstreamTimeout, match=r"^The answer of upstream 'up' came more slowly than 10 bytes a"):
                await one.pumping
            await server.talks[0].gone.wait()
        else:
            await one.ends()
        assert sum(sizes) == len(one.taker.body)


@pytest.mark.parametrize("kind", ["wire"])
async def test_who_takes_slowly_is_not_the_upstreams_pace(build: Build) -> None:
    async with peer(stuck(CHUNKED)) as server:
        one = await paced(build, server.url, server.talks, hold=True)
        one.engine.sweep(monotonic() - PACE_WINDOW + 0.5)  # so the window is over in half a second
        await one.sends(1)
        await one.taker.held.wait()
        await asyncio.sleep(0.7)
        one.engine.sweep(monotonic() + PACE_WINDOW)
        one.taker.hold = False
        one.taker.go.set()
        await one.sends(1)
        one.engine.sweep(monotonic())
        await one.ends()


@pytest.mark.parametrize("kind", ["wire"])
async def test_no_pace_is_asked_for_unless_configured(build: Build) -> None:
    async with peer(stuck(CHUNKED)) as server:
        one = await paced(build, server.url, server.talks, pace=None)
        now = monotonic()
        for number in range(4):
            await one.sends(1)
            one.engine.sweep(now + number * PACE_WINDOW)
        await one.ends()


async def test_answers_that_come_at_once_have_any_pace(build: Build) -> None:
    async with peer(playing(whole(b"ok"))) as server:
        engine = build(server.url, timeouts=Timeouts(pace=1e9))
        for _ in range(3):
            assert (200, b"ok") == await fetched(engine)
