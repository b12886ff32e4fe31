"""Who is let in, who is refused and when to come back, and how little is remembered."""

import pytest

from relay.counters import FREE, MemoryCounters
from relay.errors import RateLimited
from relay.keys import Key

NOW = 1_800_000_000.0


def key(name: str = "ci", rpm: int | None = None, concurrency: int | None = None) -> Key:
    return Key(id=f"id-{name}", name=name, digest=b"", rpm=rpm, concurrency=concurrency)


def test_a_key_without_limits_leaves_no_trace() -> None:
    counters = MemoryCounters()

    assert FREE is counters.admit(key(), NOW)
    assert 0 == len(counters)


def test_past_its_rpm_a_key_is_told_when_to_come_back() -> None:
    counters, ci = MemoryCounters(), key(rpm=2)
    for _ in range(2):
        counters.admit(ci, NOW).settle()

    with pytest.raises(RateLimited) as refused:
        counters.admit(ci, NOW + 15)

    assert "The key 'ci' is limited to 2 requests a minute; the next one fits in 45.001 s." == refused.value.message
    assert pytest.approx(45.001) == refused.value.retry_after
    counters.admit(ci, NOW + 15 + (refused.value.retry_after or 0))


def test_keys_do_not_share_their_limits() -> None:
    counters = MemoryCounters()
    counters.admit(key("a", rpm=1), NOW)

    counters.admit(key("b", rpm=1), NOW)


def test_a_slot_is_free_again_when_its_request_ends() -> None:
    counters, ci = MemoryCounters(), key(concurrency=2)
    first, _ = counters.admit(ci, NOW), counters.admit(ci, NOW)

    with pytest.raises(RateLimited) as refused:
        counters.admit(ci, NOW)
    first.settle()
    counters.admit(ci, NOW)

    expected = (
        "The key 'ci' is limited to 2 requests at a time and all of them run; try again in 1 s, or when one ends."
    )
    assert expected == refused.value.message
    assert 1.0 == refused.value.retry_after


def test_a_lease_settled_twice_frees_one_slot() -> None:
    counters, ci = MemoryCounters(), key(concurrency=2)
    first, _ = counters.admit(ci, NOW), counters.admit(ci, NOW)
    first.settle()
    first.settle()
    counters.admit(ci, NOW)

    with pytest.raises(RateLimited):
        counters.admit(ci, NOW)


def test_a_request_refused_for_its_concurrency_is_not_counted() -> None:
    counters, ci = MemoryCounters(), key(rpm=2, concurrency=1)
    first = counters.admit(ci, NOW)
    with pytest.raises(RateLimited, match="at a time"):
        counters.admit(ci, NOW)
    first.settle()

    counters.admit(ci, NOW).settle()
    with pytest.raises(RateLimited, match="requests a minute"):
        counters.admit(ci, NOW)


def test_a_changed_limit_holds_for_the_same_key_at_once() -> None:
    counters = MemoryCounters()
    counters.admit(key(rpm=10), NOW)

    with pytest.raises(RateLimited):
        counters.admit(key(rpm=1), NOW)


def test_keys_not_seen_for_two_minutes_are_forgotten() -> None:
    counters = MemoryCounters()
    for number in range(1000):
        counters.admit(key(str(number), rpm=5), NOW)
    counters.admit(key("seen", rpm=5), NOW + 60)
    assert 1001 == len(counters)

    counters.admit(key("new", rpm=5), NOW + 120)

    assert 2 == len(counters)


def test_a_running_request_keeps_its_slot_however_long() -> None:
    counters, ci = MemoryCounters(), key(concurrency=1)
    running = counters.admit(ci, NOW)
    counters.admit(key("new", rpm=5), NOW + 3600)

    with pytest.raises(RateLimited):
        counters.admit(ci, NOW + 3600)
    running.settle()
    counters.admit(ci, NOW + 3600)
