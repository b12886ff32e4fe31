"""A request is sent a second time only when a kept connection had died under it, and never more than once."""

import json

import pytest

from tests.client import chat
from tests.process import RelayProcess, Start
from tests.upstream import Close, Reset, Step, Upstream, opening, response

FINE = response({"choices": []})


@pytest.fixture
def relay(start: Start) -> RelayProcess:
    """A relay of its own for each case: what counts is the state of its connections."""
    return start()


@pytest.mark.parametrize("end", [Close(), Reset()], ids=["close", "reset"])
def test_a_stale_connection_is_replaced_once(
    relay: RelayProcess, upstream: Upstream, model: str, end: Close | Reset
) -> None:
    upstream.play(model, FINE)
    upstream.then(model, end)
    upstream.then(model, FINE)

    answers = [relay.ask(chat(model)) for _ in range(2)]
    assert [(200, "1"), (200, "1")] == [(each.status, each.header("x-relay-attempts")) for each in answers]
    name = relay.record(answers[1])["id"]
    tries = json.loads(relay.run("why", name, "--json").stdout)["tries"]
    assert [(None, True), (200, False)] == [(each["status"], each["reused"]) for each in tries]

    first, stale, again = (seen.connection for seen in upstream.requests(model))
    assert first == stale != again
    assert 1 == len({seen.body for seen in upstream.requests(model)})


def test_only_once(relay: RelayProcess, upstream: Upstream, model: str) -> None:
    upstream.play(model, FINE)
    upstream.then(model, Close())

    assert [200, 502] == [relay.ask(chat(model)).status for _ in range(2)]
    assert 3 == len(upstream.requests(model))


ANSWERED: dict[str, tuple[Step, ...]] = {
    "one byte": (b"H", Close()),
    "a head": (opening(), Close()),
    "an interim answer": (b"HTTP/1.1 102 Processing\r\n\r\n", Close()),
}


@pytest.mark.parametrize("case", ANSWERED)
def test_not_once_a_byte_came_back(relay: RelayProcess, upstream: Upstream, model: str, case: str) -> None:
    upstream.play(model, FINE)
    upstream.then(model, *ANSWERED[case])

    assert [200, 502] == [relay.ask(chat(model, stream=stream)).status for stream in (False, True)]
    assert 2 == len(upstream.requests(model))


def test_not_on_a_fresh_connection(relay: RelayProcess, upstream: Upstream, model: str) -> None:
    upstream.play(model, Close())

    assert 502 == relay.ask(chat(model)).status
    assert 1 == len(upstream.requests(model))


@pytest.mark.parametrize("keep", ["connection: close", "connection: keep-alive", "keep-alive: timeout=0"])
def test_a_connection_is_kept_only_where_the_upstream_keeps_it(
    relay: RelayProcess, upstream: Upstream, model: str, keep: str
) -> None:
    upstream.play(model, response({"choices": []}, keep), *([Close()] if "close" in keep else []))

    assert [200, 200, 200] == [relay.ask(chat(model)).status for _ in range(3)]
    assert 3 == len(upstream.requests(model))


def test_an_unasked_answer_on_a_kept_connection_reaches_nobody(
    relay: RelayProcess, upstream: Upstream, model: str
) -> None:
    upstream.play(model, FINE + response({"choices": [{"message": {"content": "for somebody else"}}]}))
    upstream.then(model, FINE)

    answers = [relay.ask(chat(model)).body for _ in range(2)]

    assert [b'{"choices": []}'] * 2 == answers
