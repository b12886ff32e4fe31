"""Both engines: names are looked up in threads, and a name server that keeps silent holds up nobody else.

And what it says is believed for as long as a connection is used.
"""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from time import monotonic
from typing import Any

import httpx
import pytest

from relay.errors import UpstreamError, UpstreamTimeout
from relay.exchange import Timeouts
from relay.line import Line
from relay.upstream.over_httpx import HttpxEngine
from relay.wire import Wire
from tests.engines.asking import fetched, post
from tests.engines.conftest import Build
from tests.engines.peer import Peer, peer, playing, whole
from tests.process import free_port


class Threads(ThreadPoolExecutor):
    """Two threads for the loop, in which a look-up of localhost ends only when `speak` is set. `asked`: how many."""

    def __init__(self) -> None:
        super().__init__(2)
        self.speak = threading.Event()
        self.asked = 0

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> "Future[Any]":
        if "localhost" not in repr((fn, args)):
            return super().submit(fn, *args, **kwargs)
        self.asked += 1

        def slow() -> Any:
            self.speak.wait(10)
            return fn(*args, **kwargs)

        return super().submit(slow)


@contextmanager
def silent() -> Iterator[Threads]:
    threads = Threads()
    asyncio.get_running_loop().set_default_executor(threads)
    try:
        yield threads
    finally:
        threads.speak.set()


OLD, NEW = "127.0.0.1", "127.0.0.2"
MOVING = "upstream.test"


class Moving(ThreadPoolExecutor):
    """The loop's threads, in which MOVING is looked up as `address`. `asked`: how often."""

    def __init__(self) -> None:
        super().__init__(2)
        self.address = OLD
        self.asked = 0

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> "Future[Any]":
        if args[:1] not in {(MOVING,), (MOVING.encode(),)}:
            return super().submit(fn, *args, **kwargs)
        self.asked += 1
        return super().submit(fn, self.address, *args[1:], **kwargs)


@asynccontextmanager
async def moving() -> AsyncIterator[tuple[Moving, str, Peer, Peer]]:
    """Who knows where MOVING is, its URL, and who is there before it moves and after."""
    threads = Moving()
    asyncio.get_running_loop().set_default_executor(threads)
    async with (
        peer(playing(whole(b"old")), host=OLD) as old,
        peer(playing(whole(b"new")), host=NEW, port=old.port) as new,
    ):
        yield threads, f"http://{MOVING}:{old.port}", old, new


@pytest.fixture
async def server_url() -> AsyncIterator[str]:
    async with peer(playing(whole(b"ok"))) as server:
        yield server.url


async def test_a_slow_name_server_is_waited_for_as_long_as_for_a_connection(build: Build, server_url: str) -> None:
    with silent():
        engine = build(server_url.replace("127.0.0.1", "localhost"), timeouts=Timeouts(connect=0.2))
        with pytest.raises(UpstreamTimeout, match=r"could not be connected to within 0\.2 seconds") as caught:
            await engine.open(*post())
    assert not caught.value.sent


async def test_it_holds_up_no_other_upstream(build: Build, kind: str, server_url: str) -> None:
    if kind == "httpx":
        pytest.skip("httpx looks a name up for every connection")
    with silent() as threads:
        slow = build(server_url.replace("127.0.0.1", "localhost"))
        waiting = [asyncio.create_task(fetched(slow)) for _ in range(8)]
        assert (200, b"ok") == await fetched(build(server_url))
        assert (1, False) == (threads.asked, any(task.done() for task in waiting))
        threads.speak.set()
        assert [(200, b"ok")] * 8 == await asyncio.gather(*waiting)


async def test_the_loop_goes_on_meanwhile(build: Build, server_url: str) -> None:
    lags = []
    for _ in range(3):
        with silent() as threads:
            slow = build(server_url.replace("127.0.0.1", "localhost"))
            waiting = [asyncio.create_task(fetched(slow)) for _ in range(8)]
            lags.append(await lag(0.1))
            assert (True, False) == (threads.asked > 0, any(task.done() for task in waiting))
            threads.speak.set()
            assert [(200, b"ok")] * 8 == await asyncio.gather(*waiting)
    assert min(lags) < 0.05  # the machine has other things to do


async def lag(seconds: float) -> float:
    """By how much the loop is late at worst meanwhile."""
    loop, worst = asyncio.get_running_loop(), 0.0
    end = loop.time() + seconds
    while (began := loop.time()) < end:
        await asyncio.sleep(0.001)
        worst = max(worst, loop.time() - began - 0.001)
    return worst


async def test_who_leaves_does_not_end_the_look_up_of_the_others(build: Build, server_url: str) -> None:
    with silent() as threads:
        slow = build(server_url.replace("127.0.0.1", "localhost"))
        first, second = (asyncio.create_task(fetched(slow)) for _ in range(2))
        while not threads.asked:  # noqa: ASYNC110  # the threads have no event of the loop's
            await asyncio.sleep(0.001)
        first.cancel()
        await asyncio.wait({first})
        threads.speak.set()
        assert (200, b"ok") == await second


async def test_a_place_where_nobody_listens_is_told_in_the_systems_words(build: Build) -> None:
    engine = build(f"http://127.0.0.1:{free_port()}")
    with pytest.raises(UpstreamError, match=r"^Upstream 'up' could not be connected to: Connection refused\.$"):
        await engine.open(*post())


async def test_a_name_that_nobody_has_is_a_fault_before_anything_was_sent(build: Build) -> None:
    engine = build("http://nowhere.invalid")
    for _ in range(2):
        with pytest.raises(UpstreamError, match=r"^Upstream 'up' could not be connected to: ") as caught:
            await engine.open(*post())
        assert (502, False) == (caught.value.status, caught.value.sent)


async def test_a_new_connection_goes_to_where_the_name_is_now(build: Build) -> None:
    async with moving() as (names, url, old, new):
        engine = build(url)
        assert (200, b"old") == await fetched(engine)
        names.address = NEW
        answers = await asyncio.gather(*[fetched(engine) for _ in range(2)])  # the first over the one that there is
        assert [(200, b"old"), (200, b"new")] == answers
        assert (2, 1, 1) == (names.asked, len(old.talks), len(new.talks))


@pytest.mark.parametrize("kind", ["wire"])
async def test_a_changed_address_is_found_within_a_minute(build: Build) -> None:
    """Though the old place still answers, and the connection to it was never idle for long."""
    async with moving() as (names, url, old, new):
        engine = build(url, keep_alive=3600.0)
        assert isinstance(engine, Wire)
        assert (200, b"old") == await fetched(engine)
        began = monotonic()
        names.address = NEW
        engine.sweep(began + 59)
        assert (200, b"old") == await fetched(engine)
        engine.sweep(began + 60)
        await old.talks[0].gone.wait()
        assert [(200, b"new")] * 2 == [await fetched(engine) for _ in range(2)]
        assert (2, 1, 1) == (names.asked, len(old.talks), len(new.talks))


async def test_httpx_finds_it_after_the_answer_that_is_a_minute_old() -> None:
    now = [0.0]
    async with moving() as (names, url, old, new), httpx.AsyncClient(trust_env=False) as client:
        engine = HttpxEngine("up", url, Timeouts(), client, Line(0, 0), clock=lambda: now[0])
        assert (200, b"old") == await fetched(engine)
        names.address = NEW
        for seconds, said in ((59, b"old"), (60, b"old"), (60, b"new")):
            now[0] = float(seconds)
            assert (200, said) == await fetched(engine)
        await old.talks[0].gone.wait()
        assert (2, 1, 1) == (names.asked, len(old.talks), len(new.talks))
        await engine.close()
