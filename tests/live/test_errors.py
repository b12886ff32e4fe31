"""Every failure has its status and OpenAI's shape; what the upstream said passes as it was said."""

import json

import openai
import pytest

from tests.client import Answer, chat, request
from tests.process import KEY, RelayProcess, Start
from tests.upstream import DONE, END, Close, Pause, Reset, Step, Upstream, event, opening, piece, response, stream

pytestmark = pytest.mark.faces("fast", "asgi")

FIRST = event({"id": "c", "choices": [{"index": 0, "delta": {"content": "Hel"}}]})
SECOND = event({"id": "c", "choices": [{"index": 0, "delta": {"content": "lo"}}]})
FAULT = event({"choices": [], "error": {"code": 502, "message": "Provider returned error"}})
TOO_MANY = (
    b'{ "error": {"message":"Slow down","type":"requests","param":null,"code":"rate_limit_exceeded","extra":1.0} }\n'
)


@pytest.fixture(scope="module")
def relay(start: Start) -> RelayProcess:
    return start(
        server={"max_body": 100_000},
        models={"fast": "script/gpt-fast", "m-*": "script/*"},
        default_model="fast",  # which is for the short form alone
        keys=[
            {"name": "tests", "key": "env:CALLER_KEY"},
            {"name": "narrow", "key": "env:NARROW_KEY", "models": ["fast"]},
        ],
        environ={"NARROW_KEY": "sk-test-narrow-60f1b2c8d94a7e53"},
    )


def assert_own_error(answer: Answer, status: int, code: str | None) -> None:
    """The relay's own refusal: status, OpenAI's four fields, and the headers that tell whose fault it is."""
    assert (status, True) == (answer.status, answer.complete), answer
    assert "application/json" == (answer.header("content-type") or "").split(";")[0]
    assert {"error"} == answer.json().keys()
    assert {"message", "type", "param", "code"} == answer.error.keys()
    assert code == answer.error["code"]
    assert isinstance(answer.error["message"], str)
    assert isinstance(answer.error["type"], str)
    assert isinstance(answer.error["param"], str | None)
    assert answer.header("x-should-retry") in {"true", "false"}


OWN = {
    "no such route": ({"path": "/v1/nothing"}, chat("fast"), (), 404, "unknown_url"),
    "no such page": ({"path": "/nothing", "method": "GET"}, b"", (), 404, "unknown_url"),
    "method": ({"method": "GET"}, b"", (), 405, "method_not_allowed"),
    "too large": ({}, chat("fast", padding="x" * 200_000), (), 413, "request_too_large"),
    "encoding": ({}, chat("fast"), ("content-encoding: br",), 415, "unsupported_media_type"),
    "not JSON": ({}, b'{"model": "fast", ', (), 400, None),
    "empty": ({}, b"", (), 400, None),
    "no object": ({}, b'["fast"]', (), 400, None),
    "no model": ({}, b'{"messages": []}', (), 400, None),
    "model no string": ({}, b'{"model": 7}', (), 400, None),
    "model too long": ({}, chat("m-" + "x" * 600), (), 400, None),
    "model null": ({}, b'{"model": null}', (), 400, None),
    "another spelling of model": ({}, b'{"model": "fast", "Model": "smart"}', (), 400, None),
    "another spelling of stream": ({}, b'{"model": "fast", "STREAM": true}', (), 400, None),
    "bad UTF-8": ({}, b'{"model": "fast\xff"}', (), 400, None),
    "too deep": ({}, b'{"model": "fast", "a": ' + b"[" * 40_000 + b"]" * 40_000 + b"}", (), 400, None),
    "lone surrogate": ({}, b'{"model": "fast\\ud800"}', (), 400, None),
    "unknown model": ({}, chat("other"), (), 404, "model_not_found"),
}


@pytest.mark.parametrize("case", OWN)
def test_own_errors(relay: RelayProcess, case: str) -> None:
    parts, body, headers, status, code = OWN[case]

    answer = relay.ask(body, *headers, **parts)

    if status == 400:
        code = answer.error["code"]  # whatever names the reason
    assert_own_error(answer, status, code)
    assert "relay" == answer.header("x-relay-error-source")
    assert "false" == answer.header("x-should-retry")
    if code not in {"unknown_url", "method_not_allowed"}:  # where nothing is relayed there is no record to name
        assert relay.record(answer)


def test_a_key_that_may_not_use_the_model(relay: RelayProcess, upstream: Upstream) -> None:
    answer = relay.ask(chat("m-other"), key="sk-test-narrow-60f1b2c8d94a7e53")

    assert_own_error(answer, 403, "model_not_allowed")
    assert "refused" == relay.record(answer)["outcome"]
    assert [] == upstream.requests("m-other")


STRANGERS = {
    "none": (),
    "unknown": ("authorization: Bearer sk-nobody-0123456789abcdef",),
    "empty": ("authorization: Bearer ",),
    "other scheme": ("authorization: Basic c2s6c2s=",),
    "api-key": ("api-key: sk-nobody-0123456789abcdef",),
    "injection": ("x-api-key: ' OR 1=1 --",),
    "half": (f"authorization: Bearer {KEY[:-1]}",),
    "more": (f"authorization: Bearer {KEY}0",),
}


@pytest.mark.parametrize("case", STRANGERS)
def test_strangers(relay: RelayProcess, upstream: Upstream, model: str, case: str) -> None:
    answer = relay.ask(chat(model), *STRANGERS[case], key=None)

    assert_own_error(answer, 401, "invalid_api_key")
    assert "relay" == answer.header("x-relay-error-source")
    assert [] == upstream.requests(model)
    assert b"nobody" not in answer.body


def test_a_stranger_is_refused_before_the_body_is_read(relay: RelayProcess) -> None:
    with relay.connect() as client:
        client.send(b"POST /v1/chat/completions HTTP/1.1\r\nhost: relay\r\ncontent-length: 90000\r\n\r\n{")

        assert 401 == client.answer().status


@pytest.mark.parametrize("framing", ["content-length: 90000000", "transfer-encoding: chunked"])
def test_a_body_that_is_too_large_is_refused_while_it_comes(relay: RelayProcess, framing: str) -> None:
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: relay\r\nauthorization: Bearer {KEY}\r\n{framing}\r\n\r\n"

    with relay.connect() as client:
        client.send(head.encode())
        if "chunked" in framing:
            client.send(piece(b'{"model": "' + b"x" * 200_000))

        assert_own_error(client.answer(), 413, "request_too_large")


UPSTREAM_SAID = {
    "429": ("429 Too Many Requests", TOO_MANY),
    "400": ("400 Bad Request", b'{"error":{"message":"no","type":"invalid_request_error","param":"n","code":null}}'),
    "404": ("404 Not Found", b'{"error": {"message": "The model does not exist", "code": "model_not_found"}}'),
    "422": ("422 Unprocessable Entity", b'{"detail":[{"loc":["body","x"],"msg":"extra"}]}'),
    "500": ("500 Internal Server Error", b'{"error":{"message":"oops","type":"server_error"}}'),
    "503": ("503 Service Unavailable", b""),
    "529": ("529 Overloaded", b'{"type":"error","error":{"type":"overloaded_error"}}'),
}


@pytest.mark.parametrize("streamed", [False, True], ids=["plain", "stream"])
@pytest.mark.parametrize("case", UPSTREAM_SAID)
def test_what_the_upstream_refused_passes_unchanged(
    relay: RelayProcess, upstream: Upstream, model: str, case: str, streamed: bool
) -> None:
    status, body = UPSTREAM_SAID[case]
    upstream.play(model, response(body, "retry-after: 7", "retry-after-ms: 6500", status=status))

    answer = relay.ask(chat(model, stream=streamed, stream_options={"include_usage": True}))

    assert (int(case), body, True) == (answer.status, answer.body, answer.complete)
    assert ("7", "6500") == (answer.header("retry-after"), answer.header("retry-after-ms"))
    assert "upstream" == answer.header("x-relay-error-source")
    row = relay.record(answer)
    assert (int(case), "upstream_error") == (row["status"], row["outcome"])


def test_the_sdk_sees_a_rate_limit(relay: RelayProcess, upstream: Upstream, model: str) -> None:
    upstream.play(model, response(TOO_MANY, "retry-after: 7", status="429 Too Many Requests"))

    with (
        openai.OpenAI(base_url=f"http://127.0.0.1:{relay.port}/v1", api_key=KEY, max_retries=0) as sdk,
        pytest.raises(openai.RateLimitError) as raised,
    ):
        sdk.chat.completions.create(model=model, messages=[{"role": "user", "content": "hi"}], stream=True)

    assert "7" == raised.value.response.headers["retry-after"]
    assert TOO_MANY == raised.value.response.content


DEAD: dict[str, tuple[Step, ...]] = {
    "accept, then close": (Close(),),
    "accept, then reset": (Reset(),),
    "garbage": (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", Close()),
    "half a head": (b"HTTP/1.1 200 OK\r\ncontent-le", Close()),
    "endless head": (b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 200_000, Close()),
}


@pytest.mark.faces("fast")  # the upstream's side alone, which both faces share
@pytest.mark.parametrize("streamed", [False, True], ids=["plain", "stream"])
@pytest.mark.parametrize("case", DEAD)
def test_an_upstream_that_says_nothing_sensible(
    relay: RelayProcess, upstream: Upstream, model: str, case: str, streamed: bool
) -> None:
    upstream.play(model, *DEAD[case])

    answer = relay.ask(chat(model, stream=streamed))

    assert_own_error(answer, 502, "upstream_error")
    assert "true" == answer.header("x-should-retry")
    assert "upstream_error" == relay.record(answer)["outcome"]


EMPTY: dict[str, tuple[Step, ...]] = {
    "head, then close": (opening(), Close()),
    "head, then a proper end": (opening(), END),
    "half an event, then close": (opening(), piece(b'data: {"id":"c","obj'), Close()),
    "first event is an error": (*stream(FAULT, DONE),),
    "first event is an error after a comment": (*stream(b": hello\n\n", FAULT, DONE),),
    "raw error instead of events": (opening(), piece(b'{"error": {"message": "no", "code": 502}}'), END),
    "raw error with a blank line": (*stream(b'{"error": {"message": "no", "code": 502}}\n\n', DONE),),
}


@pytest.mark.parametrize("case", EMPTY)
def test_a_stream_that_fails_before_its_first_event_is_an_http_error(
    relay: RelayProcess, upstream: Upstream, model: str, case: str
) -> None:
    upstream.play(model, *EMPTY[case])

    answer = relay.ask(chat(model, stream=True))

    assert 502 == answer.status
    assert "error" in answer.json()
    assert "upstream" == answer.header("x-relay-error-source")
    row = relay.record(answer)
    assert (502, "upstream_error") == (row["status"], row["outcome"])


def test_a_later_error_event_passes_and_is_a_failure_in_the_log(
    relay: RelayProcess, upstream: Upstream, model: str
) -> None:
    upstream.play(model, *stream(FIRST, SECOND, FAULT))

    answer = relay.ask(chat(model, stream=True))

    assert (200, FIRST + SECOND + FAULT, True) == (answer.status, answer.body, answer.complete)
    assert "upstream_error" == relay.record(answer)["outcome"]


@pytest.mark.parametrize("end", [(END,), (Close(),), (Pause(0.05), END)], ids=["end", "close", "later"])
@pytest.mark.parametrize("blank", [b"", b"\n\n"], ids=["unfinished", "with a blank line"])
def test_a_raw_error_at_the_end_becomes_an_event(
    relay: RelayProcess, upstream: Upstream, model: str, end: tuple[Step, ...], blank: bytes
) -> None:
    raw = b'{"error":{"message":"flex capacity","type":"server_error","param":null,"code":503}}'
    upstream.play(model, opening(), piece(FIRST), piece(raw + blank), *end)

    answer = relay.ask(chat(model, stream=True))

    assert (200, True) == (answer.status, answer.complete)
    assert answer.body.startswith(FIRST + b"data: {")
    assert 2 == answer.body.count(b"\n\n")
    last = json.loads(answer.body.removeprefix(FIRST).removeprefix(b"data: "))
    assert "flex capacity" == last["error"]["message"]
    assert "upstream_error" == relay.record(answer)["outcome"]


def test_the_answer_names_who_served_it(relay: RelayProcess, upstream: Upstream) -> None:
    upstream.play("gpt-fast", response({"choices": []}))

    answer = relay.ask(chat("fast"))

    assert ("script", "gpt-fast", "1") == tuple(
        answer.header(f"x-relay-{name}") for name in ("upstream", "model", "attempts")
    )
    row = relay.record(answer)
    expected = {
        "alias": "fast",
        "upstream": "script",
        "model": "gpt-fast",
        "key": "tests",
        "outcome": "ok",
        "status": 200,
    }
    assert expected == {name: row[name] for name in expected}


SERVED: dict[str, tuple[bool, tuple[Step, ...], int]] = {
    "whole": (False, (response({"choices": []}),), 200),
    "stream": (True, stream(event({"choices": [{"finish_reason": "stop"}]}), DONE), 200),
    "refused": (False, (response(TOO_MANY, status="429 Too Many Requests"),), 429),
    "dead": (True, (Close(),), 502),
}


@pytest.mark.parametrize("case", SERVED)
def test_every_answer_names_its_way(relay: RelayProcess, upstream: Upstream, model: str, case: str) -> None:
    streamed, script, status = SERVED[case]
    upstream.play(model, *script)

    answer = relay.ask(chat(model, stream=streamed))

    names = ("upstream", "model", "attempts", "error-source")
    source = "upstream" if status > 200 else None
    assert (status, "script", model, "1", source) == (
        answer.status,
        *(answer.header(f"x-relay-{name}") for name in names),
    )
    assert answer.header("x-should-retry") == ("true" if status > 200 else None)


def test_a_refused_request_leaves_the_connection_usable(relay: RelayProcess, upstream: Upstream, model: str) -> None:
    from_client = [b'{"model": ', chat("other"), chat(model)]
    upstream.play(model, response({"choices": []}))

    with relay.connect() as client:
        statuses = []
        for body in from_client:
            client.send(request(body, key=KEY))
            statuses.append(client.answer().status)

    assert [400, 404, 200] == statuses
