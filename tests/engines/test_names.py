"""Both engines: names are looked up in threads, and a name server that keeps silent holds up nobody else."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest

from relay.errors import UpstreamError, UpstreamTimeout
from relay.exchange import Timeouts
from tests.engines.asking import fetched, post
from tests.engines.conftest import Build
from tests.engines.peer import peer, playing, whole
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
