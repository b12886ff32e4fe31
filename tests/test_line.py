"""Lines: first come first served, no turn lost, whoever is cancelled or gives up, and whenever."""

import asyncio
import random
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from relay.line import Line, NoTurn
from relay.story import Story

LONG = 60.0
Start = Callable[[Coroutine[Any, Any, None]], "Running"]


class Running:
    """One who waits, as a task or as a story."""

    def __init__(self, coroutine: Coroutine[Any, Any, None], kind: str) -> None:
        loop = asyncio.get_running_loop()
        self._runner = Story("req", coroutine, loop, lambda: None) if kind == "story" else loop.create_task(coroutine)
        if isinstance(self._runner, Story):
            self._runner.go_on()

    def cancel(self) -> None:
        self._runner.cancel()


@pytest.fixture(params=["task", "story"])
def start(request: pytest.FixtureRequest) -> Start:
    return lambda coroutine: Running(coroutine, request.param)


async def turns(times: int = 5) -> None:
    """Let everybody go on who can."""
    for _ in range(times):
        await asyncio.sleep(0)


async def told(line: Line, name: str, log: list[str], within: float | None = None) -> None:
    try:
        await line.wait(within)
    except NoTurn as why:
        log.append(f"{name}: {why}")
    else:
        log.append(name)


async def test_first_come_first_served(start: Start) -> None:
    line, log = Line(3, LONG), list[str]()
    for name in "abc":
        start(told(line, name, log))
    await turns()
    line.next()
    line.next()
    assert 2 == line.called
    await turns()

    assert (["a", "b"], 0, 1) == (log, line.called, len(line.waiting))


async def test_a_turn_is_not_kept_for_who_comes_later(start: Start) -> None:
    line, log = Line(3, LONG), list[str]()
    line.next()
    start(told(line, "a", log))
    await turns()

    assert ([], 1) == (log, len(line.waiting))


async def test_who_finds_the_line_full_is_refused_at_once(start: Start) -> None:
    line, log = Line(2, LONG), list[str]()
    for name in "abc":
        start(told(line, name, log))
    await turns()
    assert ["c: 2 wait already"] == log
    line.next()
    await turns()
    start(told(line, "d", log))
    await turns()

    assert (["c: 2 wait already", "a"], 2) == (log, len(line.waiting))


async def test_nobody_may_wait_in_a_line_without_places(start: Start) -> None:
    log = list[str]()
    start(told(Line(0, LONG), "a", log))

    await turns()
    assert ["a: 0 wait already"] == log


@pytest.mark.parametrize(("patience", "within"), [(0.02, None), (LONG, 0.02), (0.02, LONG), (LONG, 0.0)])
async def test_the_shorter_patience_counts(start: Start, patience: float, within: float | None) -> None:
    line, log = Line(1, patience), list[str]()
    start(told(line, "a", log, within))
    await asyncio.sleep(0.05)

    seconds = min(patience, LONG if within is None else within / 2)  # half of it is for what comes then
    assert ([f"a: none came free within {seconds:g} seconds"], 0) == (log, len(line.waiting))


async def test_who_leaves_makes_room(start: Start) -> None:
    line, log = Line(1, LONG), list[str]()
    one = start(told(line, "a", log))
    await turns()
    one.cancel()
    await turns()
    start(told(line, "b", log))
    await turns()
    line.next()
    await turns()

    assert ["b"] == log


async def test_who_leaves_when_just_let_go_passes_the_turn_on(start: Start) -> None:
    line, log = Line(2, LONG), list[str]()
    first, _ = start(told(line, "a", log)), start(told(line, "b", log))
    await turns()
    line.next()
    first.cancel()
    assert 1 == line.called
    await turns()

    assert (["b"], 0) == (log, line.called)


async def test_who_is_leaving_is_not_let_go(start: Start) -> None:
    line, log = Line(2, LONG), list[str]()
    first, _ = start(told(line, "a", log)), start(told(line, "b", log))
    await turns()
    first.cancel()
    line.next()
    await turns()

    assert (["b"], 0) == (log, line.called)


class Crossing:
    """A few places with a line before them, used as they are to be used."""

    def __init__(self, places: int, line: Line) -> None:
        self.line, self.places, self.taken, self.most = line, places, 0, 0
        self.leaving: deque[asyncio.Event] = deque()
        self.went: list[int] = []

    async def cross(self, number: int) -> None:
        if self.taken + self.line.called >= self.places:
            await self.line.wait()
            self.went.append(number)
        self.taken += 1
        self.most = max(self.most, self.taken)
        leaving = asyncio.Event()
        self.leaving.append(leaving)
        try:
            await leaving.wait()
        finally:
            self.taken -= 1
            self.line.next()


@pytest.mark.parametrize("seed", range(40))
async def test_no_turn_is_lost_and_none_is_given_twice(seed: int) -> None:
    chance = random.Random(seed)  # noqa: S311  # a storm, not a secret
    places = chance.randint(1, 4)
    crossing = Crossing(places, Line(chance.choice([2, 30]), chance.choice([0.001, LONG])))
    running: list[asyncio.Task[None]] = []
    for number in range(300):
        match chance.choice(["come", "come", "cancel", "leave", "leave", "turn", "late"]):
            case "come":
                running.append(asyncio.create_task(crossing.cross(number)))
            case "cancel" if running:
                chance.choice(running).cancel()
            case "leave" if crossing.leaving:
                crossing.leaving.popleft().set()
            case "turn":
                await asyncio.sleep(0)
            case "late" if number % 5 == 0:
                await asyncio.sleep(0.0015)
    assert crossing.most <= places
    while not all(task.done() for task in running):  # those who are left are let through, one after the other
        await asyncio.sleep(0.0005)
        while crossing.leaving:
            crossing.leaving.popleft().set()
    await asyncio.gather(*running, return_exceptions=True)

    assert (0, 0, 0) == (crossing.taken, crossing.line.called, len(crossing.line.waiting))
    assert crossing.most <= places
    assert sorted(crossing.went) == crossing.went
