"""Who is let in, who is refused and when to come back, and how little is remembered."""

import asyncio

import pytest

from relay.counters import FREE, Lease, MemoryCounters
from relay.errors import Overloaded, RateLimited
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

    with pytest.raises(Overloaded) as refused:
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

    with pytest.raises(Overloaded):
        counters.admit(ci, NOW)


def test_a_request_refused_for_its_concurrency_is_not_counted() -> None:
    counters, ci = MemoryCounters(), key(rpm=2, concurrency=1)
    first = counters.admit(ci, NOW)
    with pytest.raises(Overloaded, match="at a time"):
        counters.admit(ci, NOW)
    first.settle()

    counters.admit(ci, NOW).settle()
    with pytest.raises(RateLimited, match="requests a minute"):
        counters.admit(ci, NOW)


def queued(size: int, patience: float = 5.0) -> MemoryCounters:
    counters = MemoryCounters()
    counters.queue(size, patience)
    return counters


async def test_with_a_queue_who_finds_no_room_waits_for_the_next_that_ends() -> None:
    counters, ci = queued(2), key(concurrency=1)
    first, second, third = (counters.admit(ci, NOW) for _ in range(3))
    order: list[str] = []

    async def run(lease: Lease, name: str) -> None:
        await lease.enter(60.0)
        order.append(name)
        lease.settle()

    running = asyncio.gather(run(second, "second"), run(third, "third"))
    await asyncio.sleep(0)
    with pytest.raises(Overloaded, match="all of them run"):
        counters.admit(ci, NOW)
    assert [False, True, True, []] == [first.waits, second.waits, third.waits, order]
    first.settle()
    await running

    assert ["second", "third"] == order
    assert not counters.admit(ci, NOW).waits


@pytest.mark.parametrize(("patience", "within"), [(0.02, 60.0), (60.0, 0.02)], ids=["the queue's", "the caller's"])
async def test_a_wait_ends_with_the_shorter_patience(patience: float, within: float) -> None:
    counters, ci = queued(1, patience), key(concurrency=1)
    counters.admit(ci, NOW)
    waiting = counters.admit(ci, NOW)

    with pytest.raises(Overloaded) as refused:
        await waiting.enter(within)
    waiting.settle()

    assert 1.0 == refused.value.retry_after
    assert counters.admit(ci, NOW).waits  # its place in the line is free again, and no other one


async def test_who_comes_later_does_not_pass_those_who_wait() -> None:
    counters, ci = queued(5), key(concurrency=1)
    first, second = counters.admit(ci, NOW), counters.admit(ci, NOW)
    entering = asyncio.ensure_future(second.enter(60.0))
    await asyncio.sleep(0)

    first.settle()

    assert counters.admit(ci, NOW).waits
    await entering
    assert not second.waits


async def test_who_leaves_while_waiting_takes_nothing_with_him() -> None:
    counters, ci = queued(5), key(concurrency=1)
    first, second = counters.admit(ci, NOW), counters.admit(ci, NOW)
    entering = asyncio.ensure_future(second.enter(60.0))
    await asyncio.sleep(0)

    entering.cancel()
    await asyncio.gather(entering, return_exceptions=True)
    second.settle()
    first.settle()

    assert not counters.admit(ci, NOW).waits


def test_what_was_left_of_each_limit_is_told() -> None:
    counters, ci = MemoryCounters(), key(rpm=10, concurrency=3)

    read = [counters.admit(ci, NOW).read for _ in range(2)]

    assert [(("rpm", 10, 9), ("concurrency", 3, 2)), (("rpm", 10, 8), ("concurrency", 3, 1))] == read


def test_what_forbids_a_request_is_told() -> None:
    counters, slow, ci = MemoryCounters(), key(rpm=1), key("ci", concurrency=1)
    counters.admit(slow, NOW)
    counters.admit(ci, NOW)

    with pytest.raises(RateLimited) as limited:
        counters.admit(slow, NOW)
    with pytest.raises(Overloaded) as full:
        counters.admit(ci, NOW)

    assert ((("rpm", 1, 0),), (("concurrency", 1, 0),)) == (limited.value.read, full.value.read)


def test_a_changed_limit_holds_for_the_same_key_at_once() -> None:
    counters = MemoryCounters()
    counters.admit(key(rpm=10), NOW)

    with pytest.raises(RateLimited):
        counters.admit(key(rpm=1), NOW)


@pytest.mark.parametrize(("limit", "waits"), [(1, [True, True]), (2, [False, True]), (3, [False, False])])
async def test_a_changed_limit_holds_also_for_those_who_wait(limit: int, waits: list[bool]) -> None:
    counters = queued(5)
    running = [counters.admit(key(concurrency=2), NOW) for _ in range(2)]
    waiting = [counters.admit(key(concurrency=limit), NOW) for _ in range(2)]
    entering = [asyncio.ensure_future(lease.enter(60.0)) for lease in waiting if lease.waits]
    await asyncio.sleep(0)

    running[0].settle()
    await asyncio.sleep(0)

    assert waits == [lease.waits for lease in waiting]
    running[1].settle()
    for lease, entered in zip(waiting[-len(entering) :], entering, strict=True):
        await entered
        lease.settle()


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

    with pytest.raises(Overloaded):
        counters.admit(ci, NOW + 3600)
    running.settle()
    counters.admit(ci, NOW + 3600)
