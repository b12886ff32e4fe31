"""Which headers pass: an allow-list each way, and no credential of one side ever on the other."""

import gzip
import json

import pytest

from tests.client import chat
from tests.process import KEY, UPSTREAM_KEY, RelayProcess, Start
from tests.upstream import DONE, Upstream, event, response, stream
from tests.waiting import until

pytestmark = pytest.mark.faces("fast", "asgi")

FINE = response({"choices": []})
CANARY = "sk-canary-2b6d9e81f07c4a53"


@pytest.fixture(scope="module")
def relay(start: Start, upstream: Upstream) -> RelayProcess:
    address = f"http://127.0.0.1:{upstream.port}/v1"
    extra = {"x-team": "blue", "openai-organization": "org-ours"}
    return start(
        upstreams={
            "keyless": {"base_url": address},
            "extra": {"base_url": address, "api_key": "env:SCRIPT_KEY", "headers": extra},
        },
        models={
            "m-*": "script/*",
            "keyless": "keyless/keyless",
            "extra": "extra/extra",
            "echoed": {"targets": [{"to": "script/served-2026"}], "response_model": "alias"},
        },
    )


PASS = {
    "retry-after": "7",
    "retry-after-ms": "6500",
    "x-should-retry": "false",
    "x-ratelimit-limit-requests": "60",
    "x-ratelimit-remaining-tokens": "149984",
    "x-ratelimit-reset-requests": "1s",
    "x-request-id": "req_upstream",
    "openai-organization": "org-x",
    "openai-processing-ms": "42",
    "openai-version": "2020-10-01",
}
STOP = {
    "set-cookie": "session=1",
    "server": "evil/1.0",
    "alt-svc": 'h3=":443"',
    "keep-alive": "timeout=77",
    "strict-transport-security": "max-age=1",
    "access-control-allow-origin": "https://evil.example",
    "location": "http://169.254.169.254/",
    "upgrade": "h2c",
    "trailer": "x-late",
    "proxy-authenticate": "Basic",
    "www-authenticate": "Bearer",
    "x-powered-by": "PHP",
    "date": "Thu, 01 Jan 1970 00:00:00 GMT",
}


@pytest.mark.parametrize("status", ["200 OK", "429 Too Many Requests"])
def test_response_headers(relay: RelayProcess, upstream: Upstream, model: str, status: str) -> None:
    lines = [f"{name}: {value}" for name, value in {**PASS, **STOP}.items()]
    upstream.play(model, response({"choices": []}, *lines, status=status))

    answer = relay.ask(chat(model))

    assert PASS == {name: answer.header(name) for name in PASS}
    assert not {value for _, value in answer.headers} & set(STOP.values())
    names = [name for name, _ in answer.headers]
    assert len(names) == len(set(names))
    assert "transfer-encoding" not in names or "content-length" not in names


def test_the_date_goes_on(relay: RelayProcess) -> None:
    def date() -> str | None:
        return relay.ask(chat("echo")).header("date")

    first = date()

    assert first
    assert until(lambda: date() != first, every=0.1)


def test_a_stream_is_not_buffered_on_its_way(relay: RelayProcess, upstream: Upstream, model: str) -> None:
    upstream.play(model, *stream(event({"choices": [{"finish_reason": "stop"}]}), DONE))

    answer = relay.ask(chat(model, stream=True))

    assert "text/event-stream" == (answer.header("content-type") or "").split(";")[0]
    assert "no" == answer.header("x-accel-buffering")
    assert {"no-cache", "no-transform"} <= {part.strip() for part in (answer.header("cache-control") or "").split(",")}


def test_the_client_cannot_inject_a_header_line(relay: RelayProcess, upstream: Upstream, model: str) -> None:
    upstream.play(model, response({"choices": []}, "x-request-id: a\x00b"))

    answer = relay.ask(chat(model))

    assert all("\x00" not in value for _, value in answer.headers)


SECRET_HEADERS = [
    "cookie: session=caller",
    "openai-organization: org-caller",
    "openai-project: proj-caller",
    "proxy-authorization: Basic caller",
    "x-forwarded-for: 10.9.8.7",
    "x-api-base: http://caller.example",
    "connection: x-hop",
    "x-hop: caller",
    "te: trailers",
    "accept-encoding: gzip, br, zstd",
]


@pytest.mark.parametrize(
    "credential", ["authorization: Bearer {}", "api-key: {}", "x-api-key: {}", "Authorization: bearer {}"]
)
def test_request_headers(relay: RelayProcess, upstream: Upstream, model: str, credential: str) -> None:
    upstream.play(model, FINE)

    answer = relay.ask(chat(model), credential.format(KEY), *SECRET_HEADERS, key=None)

    assert 200 == answer.status
    seen = upstream.requests(model)[0]
    assert f"Bearer {UPSTREAM_KEY}" == seen.header("authorization")
    assert 1 == [name for name, _ in seen.headers].count("authorization")
    assert "identity" == seen.header("accept-encoding")
    assert f"127.0.0.1:{upstream.port}" == seen.header("host")
    assert b"caller" not in seen.head
    assert b"10.9.8.7" not in seen.head
    assert KEY.encode() not in seen.head
    assert not {"api-key", "x-api-key", "cookie", "te", "expect"} & {name for name, _ in seen.headers}


def test_an_upstream_without_a_key_gets_none(relay: RelayProcess, upstream: Upstream) -> None:
    upstream.play("keyless", FINE)

    assert 200 == relay.ask(chat("keyless")).status
    assert upstream.requests("keyless")[0].header("authorization") is None


def test_configured_headers_are_sent(relay: RelayProcess, upstream: Upstream) -> None:
    upstream.play("extra", FINE)

    relay.ask(chat("extra"), "x-team: red", "openai-organization: org-caller")

    seen = upstream.requests("extra")[0]
    assert [("x-team", "blue")] == [pair for pair in seen.headers if pair[0] == "x-team"]
    assert "org-ours" == seen.header("openai-organization")


def test_an_idempotency_key_passes(relay: RelayProcess, upstream: Upstream, model: str) -> None:
    upstream.play(model, FINE)

    relay.ask(chat(model), "idempotency-key: once-7")

    assert "once-7" == upstream.requests(model)[0].header("idempotency-key")


def test_two_different_credentials_are_refused(relay: RelayProcess, upstream: Upstream, model: str) -> None:
    answer = relay.ask(chat(model), "x-api-key: sk-another-0123456789abcdef")

    assert 400 == answer.status
    assert {"message", "type", "param", "code"} == answer.error.keys()
    assert 400 == relay.ask(chat(model), f"authorization: Bearer {CANARY}").status
    assert [] == upstream.requests(model)


def test_the_same_credential_twice_is_one(relay: RelayProcess, upstream: Upstream, model: str) -> None:
    upstream.play(model, FINE)

    assert 200 == relay.ask(chat(model), f"x-api-key: {KEY}", f"api-key: {KEY}").status


COMPRESSED = gzip.compress(b'{"choices": []}')


def test_an_upstream_that_compresses_all_the_same(relay: RelayProcess, upstream: Upstream, model: str) -> None:
    upstream.play(model, response(COMPRESSED, "content-encoding: gzip"))

    answer = relay.ask(chat(model))

    body = gzip.decompress(answer.body) if answer.header("content-encoding") == "gzip" else answer.body
    assert (200, b'{"choices": []}') == (answer.status, body)


@pytest.mark.parametrize("status", ["401 Unauthorized", "403 Forbidden"])
@pytest.mark.parametrize("streamed", [False, True], ids=["plain", "stream"])
def test_a_refusal_of_our_own_key_shows_nothing_of_it(
    relay: RelayProcess, upstream: Upstream, model: str, status: str, streamed: bool
) -> None:
    said = {
        "error": {
            "message": f"Incorrect API key provided: {UPSTREAM_KEY[:9]}***{UPSTREAM_KEY[-4:]}.",
            "code": "invalid_api_key",
        }
    }
    upstream.play(model, response(said, f"x-request-id: {UPSTREAM_KEY}", status=status))

    answer = relay.ask(chat(model, stream=streamed))

    assert (502, "upstream_auth_failed") == (answer.status, answer.error["code"])
    assert "upstream" == answer.header("x-relay-error-source")
    assert "false" == answer.header("x-should-retry")
    assert UPSTREAM_KEY[-4:] not in str(answer)
    assert UPSTREAM_KEY[:9] not in str(answer)
    row = relay.record(answer)
    assert (502, "upstream_error") == (row["status"], row["outcome"])


def test_the_alias_is_shown_only_where_it_is_asked_for(relay: RelayProcess, upstream: Upstream) -> None:
    body = b'{"id":"c","model" : "served-2026-01-01","choices":[],"x":1e-7}'
    upstream.play("served-2026", response(body))

    answer = relay.ask(chat("echoed"))

    assert body.replace(b"served-2026-01-01", b"echoed") == answer.body
    assert "served-2026" == answer.header("x-relay-model")
    row = relay.record(answer)
    assert ("echoed", "served-2026") == (row["alias"], row["model"])


def test_the_alias_is_shown_in_every_event(relay: RelayProcess, upstream: Upstream) -> None:
    events = [
        b'data: {"id":"c","model":"served-2026-01-01","choices":[{"delta":{"content":"\\"model\\":\\"x\\""}}]}\n\n',
        b'data: {"choices":[{"delta":{"model":"inner"},"finish_reason":"stop"}],"model":"served-2026-01-01"}\n\n',
        b'data: {"id":"no model here"}\n\n',
        DONE,
    ]
    upstream.play("served-2026", *stream(b"".join(events)[:50], b"".join(events)[50:]))

    answer = relay.ask(chat("echoed", stream=True))

    assert b"".join(events).replace(b"served-2026-01-01", b"echoed") == answer.body


def test_the_alias_is_shown_in_a_response_object(relay: RelayProcess, upstream: Upstream) -> None:
    upstream.play("served-2026", response({"id": "resp", "model": "served-2026-01-01", "output": []}))

    answer = relay.ask({"model": "echoed", "input": "hi"}, path="/v1/responses")

    assert "echoed" == json.loads(answer.body)["model"]
