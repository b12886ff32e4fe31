"""An upstream that fails before it answers: the caller soon gets a whole error, and the next one is served."""

import time

import pytest

from tests.client import Answer, chat
from tests.faults import HEALTHY, Cut, Fault, FaultProxy, Latency, Refused, Reset, Timeout
from tests.process import RelayProcess, Start
from tests.upstream import DONE, Upstream, event, response, stream
from tests.waiting import until

FIRST_BYTE = 0.5
LATE = 1.0  # seconds that a busy machine may add
FINE = response({"choices": []})
FINISH = event({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})


@pytest.fixture(scope="module")
def relay(start: Start, between: FaultProxy) -> RelayProcess:
    """Two connections are all it may have: a place that is not given back is missed at once."""
    limits = {"connect": "1s", "first_byte": f"{FIRST_BYTE}s", "idle": "5s"}
    return start(
        upstreams={
            "script": {"base_url": f"http://127.0.0.1:{between.port}/v1", "timeouts": limits, "max_connections": 2}
        }
    )


def assert_failed(relay: RelayProcess, answer: Answer, status: int, outcome: str) -> None:
    """A whole error of the relay's, in OpenAI's shape, with one record."""
    assert (status, True, outcome) == (answer.status, answer.complete, answer.error["code"])
    assert {"message", "type", "param", "code"} == answer.error.keys()
    assert answer.header("x-should-retry") in {"true", "false"}
    row = relay.record(answer)
    assert (status, outcome) == (row["status"], row["outcome"])


@pytest.mark.parametrize("streamed", [False, True], ids=["plain", "stream"])
@pytest.mark.parametrize("fault", [Reset(), Cut(), Reset(1), Cut(1), Reset(30), Refused()], ids=repr)
def test_an_upstream_that_breaks_off_is_a_502(
    relay: RelayProcess, proxy: FaultProxy, upstream: Upstream, model: str, fault: Fault, streamed: bool
) -> None:
    upstream.play(model, *(stream(FINISH, DONE) if streamed else [FINE]))
    for kept in (False, True):
        proxy.inflict(Refused())  # drops what was kept
        proxy.inflict(HEALTHY)
        assert until(lambda: proxy.open == 0)
        if kept:
            assert 200 == relay.ask(chat(model, stream=streamed)).status
        proxy.inflict(fault)
        began = time.monotonic()

        answer = relay.ask(chat(model, stream=streamed))

        assert time.monotonic() - began < 5
        assert_failed(relay, answer, 502, "upstream_error")
        proxy.inflict(HEALTHY)
    assert [200] * 4 == [relay.ask(chat(model, stream=streamed)).status for _ in range(4)]


def test_what_was_answered_is_not_asked_again(
    relay: RelayProcess, proxy: FaultProxy, upstream: Upstream, model: str
) -> None:
    """A byte came back: the upstream has begun to work, and to bill."""
    upstream.play(model, FINE)
    assert 200 == relay.ask(chat(model)).status
    proxy.inflict(Reset(1))

    assert 502 == relay.ask(chat(model)).status
    assert 2 == len(upstream.requests(model))


def test_an_upstream_that_accepts_and_never_answers_is_a_504(
    relay: RelayProcess, proxy: FaultProxy, upstream: Upstream, model: str
) -> None:
    upstream.play(model, FINE)
    proxy.inflict(Timeout())
    for _ in range(4):  # twice as many as there are connections
        began = time.monotonic()

        answer = relay.ask(chat(model))

        assert FIRST_BYTE * 0.8 < time.monotonic() - began < FIRST_BYTE + LATE
        assert_failed(relay, answer, 504, "upstream_timeout")
    assert until(lambda: proxy.open == 0)

    proxy.inflict(HEALTHY)
    assert [200] * 4 == [relay.ask(chat(model)).status for _ in range(4)]


@pytest.mark.parametrize("fault", [Latency(up=0.2), Latency(down=0.2)], ids=["asked late", "answers late"])
def test_a_slow_way_within_the_limits_is_no_failure(
    relay: RelayProcess, proxy: FaultProxy, upstream: Upstream, model: str, fault: Fault
) -> None:
    upstream.play(model, FINE)
    proxy.inflict(fault)

    answer = relay.ask(chat(model))

    assert (200, "ok") == (answer.status, relay.record(answer)["outcome"])
