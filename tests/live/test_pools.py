"""Several keys for one upstream, and several requests for one place: who serves, who waits, and who is sent away."""

import json
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.client import Answer, chat
from tests.process import RelayProcess, Start
from tests.upstream import Pause, Upstream, response

FINE = response({"choices": []})
KEYS = {"KEY_A": "sk-upstream-key-a-000000", "KEY_B": "sk-upstream-key-b-000000"}


def refusal(status: str, *headers: str) -> bytes:
    return response({"error": {"message": "no"}}, *headers, status=status)


@pytest.fixture
def relay(start: Start, upstream: Upstream) -> RelayProcess:
    """A relay of its own for each case, since what was refused is remembered."""
    base = f"http://127.0.0.1:{upstream.port}/v1"
    return start(
        environ=KEYS,
        upstreams={
            "pool": {"base_url": base, "api_keys": ["env:KEY_A", "env:KEY_B"]},
            "narrow": {"base_url": base, "max_connections": 2},
        },
        models={"pool/*": "pool/*", "narrow/*": "narrow/*"},
        queue={"size": 3, "wait": "400ms"},
    )


@pytest.fixture
def pooled(model: str) -> str:
    """A model of the upstream with two keys."""
    return f"pool/{model}"


@pytest.fixture
def narrow(model: str) -> str:
    """A model of the upstream with two connections."""
    return f"narrow/{model}"


def shown(upstream: Upstream, model: str) -> list[str]:
    """The last letter-bearing part of the keys that the upstream saw, in order."""
    return [str(seen.header("authorization")).split("-")[3] for seen in upstream.requests(model)]


def test_keys_take_turns(relay: RelayProcess, upstream: Upstream, pooled: str) -> None:
    upstream.play(pooled, FINE)

    assert [200] * 4 == [relay.ask(chat(pooled)).status for _ in range(4)]

    assert sorted(shown(upstream, pooled)) == ["a", "a", "b", "b"]


@pytest.mark.parametrize("status", ["401 No", "402 Pay", "403 Never"])
def test_a_refused_key_is_out(relay: RelayProcess, upstream: Upstream, pooled: str, status: str) -> None:
    upstream.play(pooled, refusal(status))
    upstream.then(pooled, FINE)

    assert [200] * 4 == [relay.ask(chat(pooled)).status for _ in range(4)]

    first, *others = shown(upstream, pooled)
    assert 4 == len(others)
    assert {first}.isdisjoint(others)


def test_a_rate_limited_key_rests_as_long_as_the_answer_says(
    relay: RelayProcess, upstream: Upstream, pooled: str
) -> None:
    upstream.play(pooled, refusal("429 Wait", "retry-after-ms: 700"))
    upstream.then(pooled, FINE)

    began = time.monotonic()
    statuses = [relay.ask(chat(pooled)).status for _ in range(3)]
    assert time.monotonic() - began < 0.7, "the machine is too slow for what is tested here"
    resting = shown(upstream, pooled)
    while time.monotonic() - began < 0.75:
        time.sleep(0.01)
    statuses += [relay.ask(chat(pooled)).status for _ in range(2)]

    assert [200] * 5 == statuses
    assert 1 == resting.count(resting[0])
    assert {"a", "b"} == set(shown(upstream, pooled)[-2:])


def test_a_server_error_leaves_the_key(relay: RelayProcess, upstream: Upstream, pooled: str) -> None:
    upstream.play(pooled, refusal("500 Broken"))

    assert [500] * 4 == [relay.ask(chat(pooled)).status for _ in range(4)]

    assert ["a", "a", "b", "b"] == sorted(shown(upstream, pooled))


def test_no_key_is_told_in_full_anywhere(relay: RelayProcess, upstream: Upstream, pooled: str) -> None:
    upstream.play(pooled, refusal("401 No"))

    answer = relay.ask(chat(pooled))

    assert (502, "upstream_auth_failed") == (answer.status, answer.error["code"])
    record = relay.run("show", str(answer.header("x-relay-id")), "--json").stdout
    assert 2 == len({each["key"] for each in json.loads(record)["tries"]})
    told = record + relay.output + relay.ask(method="GET", path="/readyz").body.decode()
    assert not [key for key in KEYS.values() if key in told]


def at_once(relay: RelayProcess, body: bytes, times: int, **parts: Any) -> list[tuple[Answer, float]]:
    """Answers to that many requests made together, and the seconds that each took."""

    def one(_: int) -> tuple[Answer, float]:
        began = time.monotonic()
        return relay.ask(body, **parts), time.monotonic() - began

    with ThreadPoolExecutor(times) as pool:
        return list(pool.map(one, range(times)))


def test_past_the_line_for_an_upstream_is_told_at_once(relay: RelayProcess, upstream: Upstream, narrow: str) -> None:
    upstream.play(narrow, Pause(0.15), FINE)  # the last in line is served well before its wait is over

    answers = at_once(relay, chat(narrow), 8)

    fine = [answer for answer, _ in answers if answer.status == 200]
    full = [(answer, seconds) for answer, seconds in answers if answer.status == 503]
    assert (5, 3) == (len(fine), len(full))
    for answer, seconds in full:
        assert ("overloaded", "true", "1") == (
            answer.error["code"],
            answer.header("x-should-retry"),
            answer.header("retry-after"),
        )
        assert seconds < 0.15


def test_in_the_line_nobody_waits_longer_than_it_says(relay: RelayProcess, upstream: Upstream, narrow: str) -> None:
    upstream.play(narrow, Pause(1.5), FINE)

    answers = at_once(relay, chat(narrow), 4)

    late = [seconds for answer, seconds in answers if answer.status == 503]
    assert 2 == len(late)
    assert all(0.3 < seconds < 1.4 for seconds in late)


def test_a_keys_own_requests_wait_for_each_other(start: Start, upstream: Upstream, model: str) -> None:
    relay = start(
        environ={"KEY_TWO": "sk-test-of-two-at-a-time"},
        keys=[{"name": "tests", "key": "env:CALLER_KEY"}, {"name": "two", "key": "env:KEY_TWO", "concurrency": 2}],
        queue={"size": 3, "wait": "5s"},
    )
    upstream.play(model, Pause(0.2), FINE)

    answers = at_once(relay, chat(model), 8, key="sk-test-of-two-at-a-time")

    assert [200] * 5 + [503] * 3 == sorted(answer.status for answer, _ in answers)
    told = {(answer.error["code"], answer.header("retry-after")) for answer, _ in answers if answer.status == 503}
    assert {("overloaded", "1")} == told
    assert 5 == len(upstream.requests(model))


def test_many_names_can_be_looked_up_at_a_time(start: Start, upstream: Upstream, model: str) -> None:
    """Half of the threads are for that, so that a few name servers that keep silent hold up nobody else."""
    relay = start(upstreams={"named": {"base_url": f"http://localhost:{upstream.port}/v1"}}, models={"*": "named/*"})
    upstream.play(model, FINE)
    before = relay.threads()

    assert 200 == relay.ask(chat(model)).status

    assert 64 == relay.threads() - before


def test_an_address_is_connected_to_without_a_thread(relay: RelayProcess, upstream: Upstream, narrow: str) -> None:
    """The loop has few, which names without an answer may all be waiting in."""
    upstream.play(narrow, FINE)
    before = relay.threads()

    assert 200 == relay.ask(chat(narrow)).status

    assert before == relay.threads()
