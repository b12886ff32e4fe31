"""One target fails and the next one answers: what the caller sees, what each upstream saw, and what the log says."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.client import chat, request
from tests.process import KEY, RelayProcess, Start, free_port
from tests.upstream import END, Close, Never, Pause, Reset, Step, Upstream, event, opening, piece, response, stream
from tests.waiting import until

FINE = response({"choices": [{"message": {"content": "fine"}}]})
SAID = event({"choices": [{"index": 0, "delta": {"content": "fine"}}]})
ENDED = event({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
FINE_STREAM = stream(SAID, ENDED, b"data: [DONE]\n\n")
ERROR = {"error": {"message": "not now", "type": "server_error", "param": None, "code": None}}


def failing(status: str, *headers: str) -> bytes:
    return response(ERROR, *headers, status=status)


@pytest.fixture(scope="module")
def other() -> Iterator[Upstream]:
    """The second upstream."""
    with Upstream() as running:
        yield running


@pytest.fixture
def relay(start: Start, upstream: Upstream, other: Upstream) -> RelayProcess:
    """A relay of its own for each case, since what failed is remembered."""
    timeouts = {"first_byte": "500ms", "connect": "500ms"}
    first, second, third = (
        {"base_url": f"http://127.0.0.1:{port}/v1", "timeouts": timeouts}
        for port in (upstream.port, other.port, free_port())
    )
    return start(
        upstreams={"script": {**first, "api_key": "env:SCRIPT_KEY"}, "other": second, "dead": third},
        models={
            "both": ["script/first", "other/second"],
            "dead-first": ["dead/gone", "other/second"],
            "all-dead": ["dead/gone", "dead/lost"],
            "alone": "script/first",
            "long": {"targets": ["script/first"], "fallback": {"context_window": ["other/big"]}},
            "strict": {"targets": ["script/first"], "fallback": {"content_policy": ["other/second"]}},
        },
    )


def record(relay: RelayProcess, name: str | None) -> dict[str, Any]:
    shown: dict[str, Any] = json.loads(relay.run("show", str(name), "--json").stdout)
    return shown


FAILURES: dict[str, tuple[Step, ...]] = {
    "500": (failing("500 Broken"),),
    "503": (failing("503 Full"),),
    "429": (failing("429 Too Many"),),
    "408": (failing("408 Slow"),),
    "reset before a byte": (Reset(),),
    "closed before a byte": (Close(),),
    "closed within the head": (b"HTTP/1.1 200 OK\r\ncontent-le", Close()),
    "cut within its JSON": (response(b'{"choices":[{"mess' + b" " * 400)[:-100], Close()),
    "no HTTP": (b"SSH-2.0-OpenSSH\r\n", Close()),
    "no answer in time": (Never(),),
    "a redirect": (response(b"", "location: http://elsewhere", status="302 Found"),),
    "our key refused": (failing("401 No"),),
    "an error as the first event": stream(event(ERROR)),
    "a 200 that is nothing but an error": (response(ERROR),),
    "a stream that ends with nothing": stream(b": hello\n\n"),
}


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("case", FAILURES)
def test_the_next_target_answers(
    relay: RelayProcess, upstream: Upstream, other: Upstream, case: str, streamed: bool
) -> None:
    upstream.play("first", *FAILURES[case])
    other.play("second", *(FINE_STREAM if streamed else (FINE,)))

    answer = relay.ask(chat("both", stream=streamed))

    assert (200, True) == (answer.status, answer.complete)
    assert b"fine" in answer.body
    assert b"not now" not in answer.body
    assert ("other", "second", "2") == tuple(
        answer.header(f"x-relay-{name}") for name in ("upstream", "model", "attempts")
    )
    shown = record(relay, answer.header("x-relay-id"))
    assert ("ok", 200, "other", "second") == tuple(shown[name] for name in ("outcome", "status", "upstream", "model"))
    first, second = shown["tries"]
    assert "script" == first["upstream"]
    assert first["error"] or first["status"] >= 300
    assert ("other", 200, None) == (second["upstream"], second["status"], second["error"])


@pytest.mark.parametrize("status", ["400 Bad", "404 None", "413 Large", "422 Odd", "409 Conflict"])
def test_what_is_wrong_with_the_request_is_the_callers(
    relay: RelayProcess, upstream: Upstream, other: Upstream, status: str
) -> None:
    upstream.play("first", failing(status))
    before = len(other.requests("second"))

    answer = relay.ask(chat("both"))

    assert int(status[:3]) == answer.status
    assert ERROR == answer.json()
    assert "1" == answer.header("x-relay-attempts")
    assert before == len(other.requests("second"))


def test_a_target_that_cannot_be_reached(relay: RelayProcess, other: Upstream) -> None:
    other.play("second", FINE)

    answer = relay.ask(chat("dead-first"))

    assert (200, "2") == (answer.status, answer.header("x-relay-attempts"))


def test_when_nobody_can_be_reached_each_was_tried_twice_and_the_caller_need_not(relay: RelayProcess) -> None:
    answer = relay.ask(chat("all-dead"))

    assert (502, "upstream_error", "4") == (
        answer.status,
        answer.error["code"],
        answer.header("x-relay-attempts"),
    )
    assert ("upstream", "false") == (answer.header("x-relay-error-source"), answer.header("x-should-retry"))
    shown = record(relay, answer.header("x-relay-id"))
    assert ["gone", "lost", "gone", "lost"] == [each["model"] for each in shown["tries"]]


@pytest.mark.parametrize(
    ("status", "headers", "attempts", "again"),
    [
        ("503 Full", (), "2", "false"),
        ("529 Busy", (), "2", "false"),
        ("503 Full", ("retry-after-ms: 50",), "2", "false"),
        ("503 Full", ("retry-after: 30",), "1", "true"),
        ("429 Wait", ("retry-after: 30",), "1", "true"),
        ("429 Wait", ("retry-after-ms: 50",), "2", "false"),
        ("429 Wait", (), "1", "true"),
        ("500 Broken", (), "1", "true"),
        ("400 Bad", (), "1", "false"),
    ],
)
def test_one_target_alone_is_asked_once_more_where_that_may_help(
    relay: RelayProcess, upstream: Upstream, status: str, headers: tuple[str, ...], attempts: str, again: str
) -> None:
    upstream.play("first", failing(status, *headers))

    answer = relay.ask(chat("alone"))

    assert (int(status[:3]), ERROR) == (answer.status, answer.json())
    assert (attempts, again) == (answer.header("x-relay-attempts"), answer.header("x-should-retry"))
    assert [line.partition(": ")[2] for line in headers] == [answer.header(line.partition(": ")[0]) for line in headers]


def test_a_second_try_that_works_is_all_that_the_caller_sees(relay: RelayProcess, upstream: Upstream) -> None:
    upstream.play("first", failing("503 Full", "retry-after-ms: 20"))
    upstream.then("first", FINE)

    answer = relay.ask(chat("alone"), "idempotency-key: abc")

    assert (200, "2") == (answer.status, answer.header("x-relay-attempts"))
    first, second = upstream.requests("first")[-2:]
    assert first.body == second.body
    assert "abc" == first.header("idempotency-key") == second.header("idempotency-key")
    assert 0.02 <= second.at - first.at


def test_nothing_is_tried_again_once_a_byte_went_out(relay: RelayProcess, upstream: Upstream, other: Upstream) -> None:
    upstream.play("first", *stream(SAID)[:-1], Close())
    other.play("second", *FINE_STREAM)
    before = len(other.requests("second"))

    answer = relay.ask(chat("both", stream=True))

    assert (200, "script", "1") == (
        answer.status,
        answer.header("x-relay-upstream"),
        answer.header("x-relay-attempts"),
    )
    assert b"upstream_error" in answer.body
    assert b"[DONE]" not in answer.body
    assert before == len(other.requests("second"))


LENGTH = {"error": {"message": "too long", "code": "context_length_exceeded"}}
TOO_LONG = (response(LENGTH, status="400 Bad"),)
REFUSED = (response({"error": {"message": "no", "code": "content_policy_violation"}}, status="400 Bad"),)


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize(
    ("alias", "refusal", "upstream_name"),
    [
        ("long", TOO_LONG, "other"),
        ("strict", REFUSED, "other"),
        ("long", REFUSED, "script"),
        ("both", TOO_LONG, "script"),
    ],
)
def test_what_one_model_refuses_another_may_take(
    relay: RelayProcess,
    upstream: Upstream,
    other: Upstream,
    alias: str,
    refusal: tuple[Step, ...],
    upstream_name: str,
    streamed: bool,
) -> None:
    upstream.play("first", *refusal)
    for model in ("big", "second"):
        other.play(model, *(FINE_STREAM if streamed else (FINE,)))

    answer = relay.ask(chat(alias, stream=streamed))

    assert (upstream_name, 200 if upstream_name == "other" else 400) == (
        answer.header("x-relay-upstream"),
        answer.status,
    )


def test_a_stream_that_begins_with_such_a_refusal(relay: RelayProcess, upstream: Upstream, other: Upstream) -> None:
    upstream.play("first", *stream(event(LENGTH)))
    other.play("big", *FINE_STREAM)

    answer = relay.ask(chat("long", stream=True))

    assert (200, "big") == (answer.status, answer.header("x-relay-model"))


@pytest.mark.parametrize("case", FAILURES)
def test_the_refusal_stands_where_the_other_fails(
    relay: RelayProcess, upstream: Upstream, other: Upstream, case: str
) -> None:
    upstream.play("first", *TOO_LONG)
    other.play("big", *FAILURES[case])

    answer = relay.ask(chat("long"))

    assert (400, LENGTH) == (answer.status, json.loads(answer.body))
    assert ("script", "upstream") == (answer.header("x-relay-upstream"), answer.header("x-relay-error-source"))
    told = json.loads(relay.run("why", relay.record(answer)["id"], "--json").stdout)
    assert {"context_window": {"targets": ["other/big"], "dropped": []}} == told["fallback"]
    assert ["script/first", "other/big"] == list(dict.fromkeys(each["target"] for each in told["tries"]))


SILENT: dict[str, tuple[Step, ...]] = {
    "no head": (Never(),),
    "a head alone": (opening(), Never()),
    "a head and a comment": (opening(), piece(b": still here\n\n"), Never()),
}


@pytest.mark.parametrize("silent", SILENT)
def test_no_try_lasts_longer_than_the_caller_waits(
    relay: RelayProcess, upstream: Upstream, other: Upstream, silent: str
) -> None:
    upstream.play("first", Pause(0.3), failing("500 Broken"))
    other.play("second", *SILENT[silent])

    answer = relay.ask(chat("both", stream=True), "x-stainless-read-timeout: 0.6")

    assert (504, "upstream_timeout", "2") == (
        answer.status,
        answer.error["code"],
        answer.header("x-relay-attempts"),
    )


def test_who_hardly_waits_makes_nobody_ill(relay: RelayProcess, upstream: Upstream) -> None:
    upstream.play("first", Pause(0.3), FINE)

    hurried = [relay.ask(chat("alone"), "x-stainless-read-timeout: 0.2").status for _ in range(6)]

    assert ([504] * 6, 200) == (hurried, relay.ask(chat("alone")).status)
    told = relay.ask(method="GET", path="/readyz").json()["targets"]["script/first"]
    assert ("well", 0) == (told["state"], told["failures"])


def test_half_of_the_callers_patience_is_left_for_who_is_free(
    start: Start, upstream: Upstream, other: Upstream, model: str
) -> None:
    first, second = (f"http://127.0.0.1:{each.port}/v1" for each in (upstream, other))
    running = start(
        upstreams={"full": {"base_url": first, "max_connections": 1}, "free": {"base_url": second}},
        models={"both": [f"full/{model}", f"free/{model}"]},
        queue={"wait": "5s"},
    )
    upstream.play(model, opening(), Never())
    other.play(model, FINE)
    with running.connect() as holding:
        holding.send(request(chat("both", stream=True), key=KEY))
        assert until(lambda: upstream.requests(model))

        answer = running.ask(chat("both"), "x-stainless-read-timeout: 1")

    assert (200, "free") == (answer.status, answer.header("x-relay-upstream"))


def test_who_waits_no_longer_for_a_body_makes_nobody_ill(relay: RelayProcess, upstream: Upstream) -> None:
    upstream.play("first", opening().replace(b"text/event-stream", b"application/json"), Pause(0.8), piece(b"{}"), END)

    hurried = [relay.ask(chat("alone"), "x-stainless-read-timeout: 0.2").status for _ in range(6)]
    patient = relay.ask(chat("alone"))

    assert ([504] * 6, 200) == (hurried, patient.status)
    assert "well" == relay.ask(method="GET", path="/readyz").json()["targets"]["script/first"]["state"]


def test_the_clients_own_tries_are_one_call(relay: RelayProcess, upstream: Upstream) -> None:
    upstream.play("first", failing("500 Broken"))
    upstream.then("first", failing("500 Broken"))
    upstream.then("first", FINE)

    answers = [relay.ask(chat("alone"), f"x-stainless-retry-count: {count}") for count in range(3)]

    assert [500, 500, 200] == [answer.status for answer in answers]
    names = [answer.header("x-relay-id") for answer in answers]
    shown = [json.loads(line) for line in relay.run("log", "--json").stdout.splitlines()]
    assert [(2, names[0]), (1, names[0]), (0, None)] == [(each.get("retry", 0), each.get("call")) for each in shown]
