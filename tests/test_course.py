"""The order of one request's tries: a table, and what holds whatever fails."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.course import LEAST, PAUSE, WAIT_MAX, Course, Step
from relay.routing import Target
from relay.verdict import Verdict

A, B, C = Target("a", "m"), Target("b", "m"), Target("c", "m")
NOW = 1000.0
ONWARD = Verdict(onward=True)
AGAIN = Verdict(onward=True, again=True)
NOTHING = Verdict()


def course(*targets: Target, more: int = 1, seconds: float = 600.0) -> Course:
    return Course(targets, more, NOW + seconds)


def waits(seconds: float) -> Verdict:
    return AGAIN._replace(wait=seconds)


@pytest.mark.parametrize(
    ("targets", "failures", "expected"),
    [
        ((A,), [NOTHING], [None]),
        ((A,), [ONWARD], [None]),
        ((A,), [AGAIN, AGAIN], [Step(A, PAUSE, True), None]),
        ((A,), [waits(1.5), AGAIN], [Step(A, 1.5, True), None]),
        ((A,), [waits(WAIT_MAX + 1)], [None]),
        ((A, B), [ONWARD, ONWARD], [Step(B), None]),
        ((A, B), [NOTHING], [None]),
        ((A, B), [ONWARD, NOTHING], [Step(B), None]),
        ((A, B), [AGAIN, ONWARD, AGAIN], [Step(B), Step(A, PAUSE, True), None]),
        ((A, B), [AGAIN, AGAIN, AGAIN, AGAIN], [Step(B), Step(A, PAUSE, True), Step(B, PAUSE, True), None]),
        ((A, B), [waits(2), waits(1), ONWARD], [Step(B), Step(B, 1, True), Step(A, 2, True)]),
        ((A, B, C), [AGAIN, NOTHING], [Step(B), None]),
    ],
)
def test_what_comes_next(targets: tuple[Target, ...], failures: list[Verdict], expected: list[Step | None]) -> None:
    way, target = course(*targets), targets[0]
    found: list[Step | None] = []
    for failure in failures:
        step = way.after(target, failure, NOW)
        found.append(step)
        target = step.target if step else target

    assert expected == found


def test_how_often_is_the_configurations() -> None:
    never, twice = course(A, more=0), course(A, more=2)

    assert never.after(A, AGAIN, NOW) is None
    assert [Step(A, PAUSE, True), Step(A, 2 * PAUSE, True), None] == [twice.after(A, AGAIN, NOW) for _ in range(3)]


@pytest.mark.parametrize(
    ("verdict", "seconds", "expected"), [(ONWARD, 0, None), (AGAIN, 0.1, None), (waits(2), 2, None)]
)
def test_nothing_is_begun_that_the_caller_would_not_wait_for(
    verdict: Verdict, seconds: float, expected: Step | None
) -> None:
    assert expected == course(A, seconds=seconds).after(A, verdict, NOW)


def test_a_time_that_was_spent_waiting_is_not_waited_for_again() -> None:
    way = course(A, B)
    assert Step(B) == way.after(A, waits(2), NOW)

    assert Step(A, 0.5, True) == way.after(B, ONWARD, NOW + 1.5)


def test_other_targets_for_what_these_refuse() -> None:
    way = course(A, more=1)

    assert Step(B) == way.instead((B, C), NOW)
    assert Step(C) == way.after(B, ONWARD, NOW)
    assert way.after(C, NOTHING, NOW) is None
    assert Step(A) == way.instead((A,), NOW)
    assert course(A).instead((), NOW) is None
    assert course(A, seconds=0).instead((B,), NOW) is None


def test_nothing_is_begun_in_the_last_moment() -> None:
    assert course(A, B, seconds=LEAST / 2).after(A, ONWARD, NOW) is None
    assert Step(B) == course(A, B, seconds=2 * LEAST).after(A, ONWARD, NOW)


VERDICTS = st.builds(Verdict, st.booleans(), st.booleans(), st.booleans(), st.none() | st.floats(0, 20))


@given(st.integers(1, 4), st.integers(0, 3), st.lists(st.tuples(VERDICTS, st.floats(0, 100)), min_size=30, max_size=30))
def test_whatever_fails_it_ends_and_asks_nobody_too_often(
    count: int, more: int, failures: list[tuple[Verdict, float]]
) -> None:
    targets = tuple(Target(f"up{number}", "m") for number in range(count))
    way, target, now = course(*targets, more=more), targets[0], NOW
    asked = [target]
    for verdict, took in failures:
        now += took
        step = way.after(target, verdict, now)
        if step is None:
            break
        assert now + step.wait < NOW + 600
        assert step.wait <= WAIT_MAX
        now, target = now + step.wait, step.target
        asked.append(target)
    else:
        pytest.fail("it went on after more failures than there can be tries")

    assert targets[: len(asked)] == tuple(asked[:count])
    assert all(asked.count(each) <= 1 + more for each in targets)
