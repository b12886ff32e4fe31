"""What the log tells of a request, and what was kept of its bodies."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.client import chat
from tests.process import RelayProcess, Start
from tests.upstream import DONE, Pause, Upstream, event, response, stream

FIELDS = """id started_at key alias upstream model endpoint stream status outcome error ttft_ms duration_ms overhead_us
    input_tokens output_tokens cached_tokens reasoning_tokens cost_usd attempts client tags"""
FINISH = event({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})


def start_with(start: Start, bodies: str) -> RelayProcess:
    return start(log={"bodies": bodies}, models={"fast": "script/real", "m-*": "script/*"})


@pytest.fixture(scope="module")
def relay(start: Start) -> RelayProcess:
    return start_with(start, "full")


def shown(relay: RelayProcess, identity: str | None) -> dict[str, Any]:
    done = relay.run("show", str(identity), "--json")
    assert 0 == done.returncode, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_a_record_has_the_fields_of_the_contract(relay: RelayProcess, upstream: Upstream) -> None:
    upstream.play("real", *stream(FINISH, Pause(0.2), DONE))

    row = relay.record(relay.ask(chat("fast", stream=True), "user-agent: curl/8.5"))

    assert FIELDS.split() == list(row)
    known: dict[str, Any] = {
        "key": "tests",
        "alias": "fast",
        "upstream": "script",
        "model": "real",
        "endpoint": "/v1/chat/completions",
    }
    known |= {"stream": True, "status": 200, "outcome": "ok", "error": None, "cost_usd": None, "attempts": 1}
    assert known == {name: row[name] for name in known}
    assert "curl/8.5" in row["client"]
    assert row["ttft_ms"] < 150 < row["duration_ms"] < 2000
    assert 0 < row["overhead_us"] < 200_000
    began = datetime.fromisoformat(row["started_at"])
    assert timedelta() == began.utcoffset()
    assert abs(datetime.now(UTC) - began) < timedelta(seconds=10)


def test_kept_bodies_are_shown(relay: RelayProcess, upstream: Upstream) -> None:
    upstream.play("real", response({"choices": [{"message": {"content": "an answer 你好"}}]}))

    answer = relay.ask(chat("fast", note="a question 🦊"))
    relay.record(answer)

    text = json.dumps(shown(relay, answer.header("x-relay-id")), ensure_ascii=False)
    assert "a question" in text
    assert "an answer 你好" in text
    table = relay.run("show", str(answer.header("x-relay-id")))
    assert 0 == table.returncode
    assert "an answer" in table.stdout


def test_a_kept_stream_is_shown(relay: RelayProcess, upstream: Upstream) -> None:
    upstream.play(
        "real", *stream(event({"choices": [{"index": 0, "delta": {"content": "streamed words"}}]}), FINISH, DONE)
    )

    answer = relay.ask(chat("fast", stream=True))
    relay.record(answer)

    assert "streamed words" in json.dumps(shown(relay, answer.header("x-relay-id")))


@pytest.fixture(scope="module")
def discreet(start: Start) -> RelayProcess:
    return start_with(start, "none")


def test_no_body_is_kept_where_none_is_wanted(discreet: RelayProcess, upstream: Upstream) -> None:
    upstream.play("real", response({"choices": [{"message": {"content": "a secret answer"}}]}))

    answer = discreet.ask(chat("fast", note="a secret question"))
    discreet.record(answer)
    printed = discreet.run("show", str(answer.header("x-relay-id")), "--json").stdout
    discreet.stop()

    kept = printed.encode() + b"".join(path.read_bytes() for path in discreet.folder.rglob("*") if path.is_file())
    assert b"a secret" not in kept


def test_every_refusal_has_its_record(relay: RelayProcess) -> None:
    refused = [
        relay.ask(b"{"),
        relay.ask(chat("unknown")),
        relay.ask(chat("fast"), "content-encoding: br"),
    ]

    rows = [relay.record(answer) for answer in refused]

    assert [(400, "refused"), (404, "refused"), (415, "refused")] == [(row["status"], row["outcome"]) for row in rows]
    assert all(row["error"] for row in rows)


def test_a_table_for_people(relay: RelayProcess, upstream: Upstream, model: str) -> None:
    upstream.play(model, response({"choices": []}))
    relay.record(relay.ask(chat(model)))

    done = relay.run("log", "-n", "5")

    assert (0, "") == (done.returncode, done.stderr)
    assert model[:10] in done.stdout


FILTERS = {
    "model": (["--model", "{model}"], {"200", "429"}),
    "status": (["--model", "{model}", "--status", "4xx"], {"429"}),
    "one": (["--model", "{model}", "-n", "1"], {"429"}),
    "since": (["--model", "{model}", "--since", "1h"], {"200", "429"}),
    "key": (["--model", "{model}", "--key", "nobody"], set()),
}


@pytest.mark.parametrize("case", FILTERS)
def test_filters(relay: RelayProcess, upstream: Upstream, model: str, case: str) -> None:
    options, expected = FILTERS[case]
    upstream.play(model, response({"choices": []}))
    upstream.then(model, response({"error": {}}, status="429 Too Many Requests"))
    for answer in (relay.ask(chat(model)), relay.ask(chat(model))):
        relay.record(answer)

    done = relay.run("log", "--json", *(option.format(model=model) for option in options))

    assert (0, "") == (done.returncode, done.stderr)
    assert sorted(expected) == sorted(str(json.loads(line)["status"]) for line in done.stdout.splitlines())


def test_showing_what_is_not_there(relay: RelayProcess) -> None:
    done = relay.run("show", "nothing")

    assert done.returncode in {1, 2}
    assert 1 == len(done.stderr.strip().splitlines())
    assert "nothing" in done.stderr
