"""What the sliding window promises, whatever the arrivals."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.limits import Use, check

START = 1_800_000_000.0  # the first second of a minute


def take(rpm: int, use: Use, now: float) -> float | None:
    wait = check(rpm, use, now)
    if wait is None:
        use.current += 1
    return wait


def arrivals(gaps: list[float]) -> list[float]:
    now, times = START, []
    for gap in gaps:
        now += gap
        times.append(now)
    return times


@pytest.mark.parametrize("rpm", [1, 2, 7, 60, 1000])
@pytest.mark.parametrize("second", [0.0, 12.5, 59.999])
def test_a_key_at_rest_may_use_all_of_its_minute_at_once(rpm: int, second: float) -> None:
    use, now = Use(), START + second

    assert [None] * rpm == [take(rpm, use, now) for _ in range(rpm)]
    assert pytest.approx(60 - second, abs=0.002) == take(rpm, use, now)


@pytest.mark.parametrize(
    ("second", "expected"),
    [
        (60, 0.001),  # ten a minute ago, and not yet faded at all
        (66, None),  # nine of them count still
        (90, None),
        (119, None),
    ],
)
def test_the_last_minute_fades_out_evenly(second: float, expected: float | None) -> None:
    use = Use(minute=START // 60 * 60, current=10)

    assert pytest.approx(expected) == check(10, use, START + second)


def test_who_is_refused_in_the_next_minute_waits_for_its_share() -> None:
    use = Use(minute=START // 60 * 60, previous=10, current=4)

    wait = check(10, use, START + 12)

    assert pytest.approx(12.001) == wait  # at second 24, six of the ten are left


def test_a_lowered_limit_holds_at_once() -> None:
    use = Use(minute=START // 60 * 60, current=100)

    wait = check(10, use, START + 30)

    assert pytest.approx(30 + 54, abs=0.002) == wait
    assert check(10, use, START + 30 + (wait or 0)) is None


def test_two_minutes_of_rest_forget_everything() -> None:
    use = Use(minute=START // 60 * 60, previous=10, current=10)

    assert [None] * 10 == [take(10, use, START + 120) for _ in range(10)]


def test_a_clock_that_was_set_back_refuses_nobody_for_an_hour() -> None:
    use = Use(minute=START // 60 * 60, current=10)

    assert check(10, use, START - 3600) is None


def test_a_check_counts_nothing() -> None:
    use = Use()

    assert [None] * 5 == [check(1, use, START) for _ in range(5)]
    assert Use(minute=START // 60 * 60) == use


gaps = st.lists(st.floats(0, 90) | st.floats(0, 2), max_size=80)


@given(rpm=st.integers(1, 12), gaps=gaps)
def test_no_minute_of_the_clock_holds_more_and_no_sixty_seconds_hold_twice_as_many(rpm: int, gaps: list[float]) -> None:
    use = Use()
    admitted = [now for now in arrivals(gaps) if take(rpm, use, now) is None]

    assert all(count <= rpm for count in Counter(now // 60 for now in admitted).values())
    assert all(sum(start <= now < start + 60 for now in admitted) <= 2 * rpm for start in admitted)


@given(rpm=st.integers(1, 12), gaps=gaps)
def test_the_stated_wait_is_true(rpm: int, gaps: list[float]) -> None:
    use = Use()
    for now in arrivals(gaps):
        wait = take(rpm, use, now)
        if wait is not None:
            early = Use(use.minute, use.previous, use.current)
            late = Use(use.minute, use.previous, use.current)

            assert 0 < wait <= 120.001
            assert wait < 0.002 or check(rpm, early, now + wait - 0.002) is not None
            assert check(rpm, late, now + wait) is None
