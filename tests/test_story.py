"""Stories: they go on at once, wait for whatever a task could wait for, and end where they are cancelled."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from relay.story import Story, bell


def nothing() -> None:
    """Nobody asks for its end."""


def story(coroutine: Coroutine[Any, Any, None], ended: Callable[[], None] = nothing) -> Story:
    found = Story("req_1", coroutine, asyncio.get_running_loop(), ended)
    found.go_on()
    return found


async def test_it_runs_at_once_and_goes_on_within_the_ring() -> None:
    ringer, seen = bell(asyncio.get_running_loop()), []

    async def told() -> None:
        seen.append("begun")
        await ringer
        seen.append("heard")

    running = story(told())
    assert (["begun"], False) == (seen, running.over)
    ringer.ring()
    ringer.ring()

    assert (["begun", "heard"], True) == (seen, running.over)


async def test_a_bell_that_rang_before_is_not_waited_for() -> None:
    ringer = bell(asyncio.get_running_loop())
    ringer.ring()

    async def told() -> None:
        await ringer

    assert story(told()).over


async def test_a_task_hears_a_bell_as_well() -> None:
    ringer = bell(asyncio.get_running_loop())
    asyncio.get_running_loop().call_soon(ringer.ring)

    async with asyncio.timeout(1):
        await ringer


async def test_it_waits_for_all_that_tasks_wait_for() -> None:
    seen, over, event = [], asyncio.Event(), asyncio.Event()

    async def inner() -> str:
        await asyncio.sleep(0)
        return "inner"

    async def told() -> None:
        await asyncio.sleep(0)
        seen.append(await asyncio.create_task(inner()))
        await asyncio.sleep(0.001)
        await event.wait()
        over.set()

    story(told())
    event.set()
    async with asyncio.timeout(1):
        await over.wait()

    assert ["inner"] == seen


async def test_its_end_is_told() -> None:
    ringer, ends = bell(asyncio.get_running_loop()), asyncio.Event()

    async def told() -> None:
        await ringer

    story(told(), ends.set)
    assert not ends.is_set()
    ringer.ring()

    assert ends.is_set()


async def test_what_it_raises_is_logged_and_its_end(caplog: pytest.LogCaptureFixture) -> None:
    ringer, ends = bell(asyncio.get_running_loop()), asyncio.Event()

    async def told() -> None:
        await ringer
        raise ValueError("no")

    running = story(told(), ends.set)
    ringer.ring()

    assert (True, True) == (running.over, ends.is_set())
    assert "request req_1 failed" in caplog.text
    assert "ValueError: no" in caplog.text


async def test_the_end_of_a_cancelled_one_is_told_too() -> None:
    ends = asyncio.Event()

    async def told() -> None:
        await bell(asyncio.get_running_loop())

    running = story(told(), ends.set)
    running.cancel()

    assert (True, True) == (running.over, ends.is_set())


async def test_it_is_cancelled_where_it_waits_for_a_bell() -> None:
    first, second, seen = bell(asyncio.get_running_loop()), bell(asyncio.get_running_loop()), []

    async def told() -> None:
        try:
            await first
        except asyncio.CancelledError:
            seen.append("cancelled")
            await second  # a last wait is still allowed
            seen.append("heard")

    running = story(told())
    running.cancel()
    first.ring()  # nobody listens any more
    assert ["cancelled"] == seen
    second.ring()
    running.cancel()

    assert (["cancelled", "heard"], True) == (seen, running.over)


async def test_what_it_waits_for_is_cancelled_with_it() -> None:
    ends, over = [], asyncio.Event()

    async def inner() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ends.append("inner")

    async def told() -> None:
        try:
            await asyncio.create_task(inner())
        finally:
            ends.append("outer")
            over.set()

    running = story(told())
    await asyncio.sleep(0)
    running.cancel()
    async with asyncio.timeout(1):
        await over.wait()

    assert (["inner", "outer"], True) == (ends, running.over)


@pytest.mark.parametrize("done", [True, False], ids=["for what is there already", "for others to go first"])
async def test_it_is_cancelled_just_before_it_goes_on(done: bool) -> None:
    seen: list[str] = []
    future = asyncio.get_running_loop().create_future()

    async def told() -> None:
        await (future if done else asyncio.sleep(0))
        seen.append("went on")

    running = story(told())
    if done:
        future.set_result(None)
    running.cancel()
    await asyncio.sleep(0.001)

    assert ([], True) == (seen, running.over)
