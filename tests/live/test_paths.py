"""Which paths reach which handler, and which reach none."""

import pytest

from tests.client import chat, request
from tests.process import KEY, RelayProcess, Start
from tests.upstream import DONE, Close, Upstream, event, opening, piece, response, stream


@pytest.fixture(scope="module")
def relay(start: Start) -> RelayProcess:
    return start(models={"fast": "script/real", "a/b:c": "script/real"})


ENDPOINTS = ["chat/completions", "completions", "embeddings", "responses", "moderations", "images/generations"]
PREFIXES = {"/v1/": "", "/": "", "/openai/v1/": "", "/openai/deployments/fast/": "?api-version=2024-10-21"}


@pytest.mark.parametrize("endpoint", ENDPOINTS)
@pytest.mark.parametrize("prefix", PREFIXES)
def test_every_spelling_reaches_the_same_handler(
    relay: RelayProcess, upstream: Upstream, prefix: str, endpoint: str
) -> None:
    upstream.play("real", response({"object": "list"}))

    answer = relay.ask(chat("fast"), path=prefix + endpoint + PREFIXES[prefix])

    assert 200 == answer.status, answer
    assert f"/v1/{endpoint}" == upstream.requests("real")[-1].target
    assert f"/v1/{endpoint}" == relay.record(answer)["endpoint"]


def test_a_deployment_needs_no_model_in_the_body(relay: RelayProcess, upstream: Upstream) -> None:
    upstream.play("real", response({"object": "list"}))

    answer = relay.ask(
        b'{"messages": [], "x": 1e-7}',
        f"api-key: {KEY}",
        path="/openai/deployments/fast/chat/completions?api-version=2024-10-21",
        key=None,
    )

    assert 200 == answer.status
    assert {"messages", "x", "model"} == upstream.requests("real")[-1].json().keys()
    assert "real" == upstream.requests("real")[-1].json()["model"]


@pytest.mark.faces("fast", "asgi")
def test_the_name_of_a_deployment_is_percent_encoded(relay: RelayProcess, upstream: Upstream) -> None:
    upstream.play("real", response({"object": "list"}))

    answers = [
        relay.ask(b"{}", path=f"/openai/deployments/{name}/chat/completions") for name in ("a%2Fb%3ac", "%C3%A9", "%C3")
    ]
    other = relay.ask(method="GET", path="/openai/deployments/a%2Fb%3ac/chat/completions")

    assert (200, "a/b:c") == (answers[0].status, relay.record(answers[0])["alias"])
    assert [(404, "model_not_found"), (404, "unknown_url")] == [
        (each.status, each.error["code"]) for each in answers[1:]
    ]
    assert "é" == relay.record(answers[1])["alias"]
    assert 405 == other.status


NOWHERE = [
    "/v1%2fchat/completions",
    "/v1/chat%2Fcompletions",
    "/v1/../v1/chat/completions",
    "/v1/chat/../chat/completions",
    "/v1/chat/completions/..%2f..",
    "/v1/%2e%2e/v1/chat/completions",
    "/v1//chat/completions",
    "//v1/chat/completions",
    "/v1/chat/completions%00",
    "/v1/chat/completions%0d%0ax:%20y",
    "/v1/chat/completions%5c",
    "/v1\\chat\\completions",
    "/v1/chat/completions/",
    "/V1/chat/completions",
    "/v1/chat/completions;x=1",
    "/openai/deployments/../chat/completions",
    "/openai/deployments/fast%2f..%2fother/chat/completions",
    "/openai/deployments//chat/completions",
    "/v1/files",
    "/v1/chat/completions/x",
    "/admin%2f..%2fv1/chat/completions",
    "*",
]


@pytest.mark.parametrize("path", NOWHERE)
def test_other_paths_reach_none(relay: RelayProcess, upstream: Upstream, path: str) -> None:
    upstream.play("real", response({"object": "list"}))
    before = len(upstream.requests("real"))

    answer = relay.ask(chat("fast"), path=path)

    assert answer.status in {400, 404}
    assert {"message", "type", "param", "code"} == answer.error.keys()
    assert before == len(upstream.requests("real"))


def test_an_absolute_target_is_read_as_its_path(relay: RelayProcess, upstream: Upstream) -> None:
    """Proxies send them (RFC 9112, 3.2.2); the host in it changes nothing."""
    upstream.play("real", response({"object": "list"}))

    answer = relay.ask(chat("fast"), path="http://evil.example/v1/chat/completions")

    assert answer.status in {200, 400, 404}
    assert f"127.0.0.1:{upstream.port}" == upstream.requests("real")[-1].header("host")


def test_models_are_listed_from_the_configuration(relay: RelayProcess) -> None:
    listed = relay.ask(method="GET", path="/v1/models")

    assert (200, "list") == (listed.status, listed.json()["object"])
    assert ["fast", "a/b:c"] == [entry["id"] for entry in listed.json()["data"] if entry["id"] != "echo"]
    assert all({"id", "object", "created", "owned_by"} <= entry.keys() for entry in listed.json()["data"])
    one = relay.ask(method="GET", path="/v1/models/a/b:c")
    assert (200, "a/b:c") == (one.status, one.json()["id"])
    missing = relay.ask(method="GET", path="/v1/models/none")
    assert (404, "model_not_found") == (missing.status, missing.error["code"])
    assert 401 == relay.ask(method="GET", path="/v1/models", key=None).status


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
def test_health_needs_no_key(relay: RelayProcess, path: str) -> None:
    assert 200 == relay.ask(method="GET", path=path, key=None).status


def test_a_relay_whose_only_upstream_is_off_is_not_ready(start: Start) -> None:
    """Though the built-in echo answers: nobody who is sent here comes for that."""
    off = start(upstreams={"script": {"base_url": "http://127.0.0.1:1/v1", "api_key": "env:NOT_THERE"}})

    answer = off.ask(method="GET", path="/readyz", key=None)

    assert (503, "no upstream can be used") == (answer.status, answer.json()["status"])
    assert 200 == off.ask(method="GET", path="/healthz", key=None).status


def piece_of_text(content: str, finish: str | None = None) -> bytes:
    return event({"choices": [{"index": 0, "delta": {"content": content}, "finish_reason": finish}]})


def test_chat_stream_gives_words_alone(relay: RelayProcess, upstream: Upstream) -> None:
    upstream.play("real", *stream(piece_of_text("你"), piece_of_text("好 🦊"), piece_of_text("", "stop"), DONE))

    answer = relay.ask({"messages": [{"role": "user", "content": "hi"}], "model": "fast"}, path="/chat/stream")

    assert (200, "你好 🦊", True) == (answer.status, answer.body.decode(), answer.complete)
    assert "text/plain" == (answer.header("content-type") or "").split(";")[0]
    sent = upstream.requests("real")[-1].json()
    assert ([{"role": "user", "content": "hi"}], "real", True) == (sent["messages"], sent["model"], sent["stream"])


def test_chat_stream_without_messages_or_model(relay: RelayProcess, upstream: Upstream) -> None:
    upstream.play("real", *stream(piece_of_text("yes", "stop"), DONE))

    for body in (b"{}", b""):
        answer = relay.ask(body, path="/chat/stream")

        assert (200, b"yes") == (answer.status, answer.body)
        assert [{"role": "user", "content": "Hello"}] == upstream.requests("real")[-1].json()["messages"]
        assert "fast" == relay.record(answer)["alias"]


def test_chat_stream_as_events(relay: RelayProcess, upstream: Upstream) -> None:
    upstream.play("real", *stream(piece_of_text("a\nb"), piece_of_text("c", "stop"), DONE))

    answer = relay.ask(b"{}", "accept: text/event-stream", path="/chat/stream")

    assert "text/event-stream" == (answer.header("content-type") or "").split(";")[0]
    assert b"data: a\ndata: b\n\n" in answer.body
    assert b"data: c\n\n" in answer.body
    assert b"a\nbc" == relay.ask(b"{}", "accept: text/event-stream;q=0", path="/chat/stream").body


def test_chat_stream_of_an_upstream_that_does_not_stream(relay: RelayProcess, upstream: Upstream) -> None:
    upstream.play("real", response({"choices": [{"index": 0, "message": {"content": "你好 🦊"}}]}))

    answer = relay.ask(b"{}", path="/chat/stream")

    assert (200, "你好 🦊", True) == (answer.status, answer.body.decode(), answer.complete)
    assert "text/plain" == (answer.header("content-type") or "").split(";")[0]
    assert "ok" == relay.record(answer)["outcome"]


def test_chat_stream_that_breaks_is_broken_off_and_nobody_complains(relay: RelayProcess, upstream: Upstream) -> None:
    """Of its words all are sent, also to who pipelines; where the relay runs its own server, that is not reported."""
    upstream.play("real", opening(), piece(piece_of_text("half ")), piece(piece_of_text("a")), Close())
    asked = request(b"{}", path="/chat/stream", key=KEY)

    long = request(chat("fast", padding="x" * 200_000), key=KEY)

    for sent in (asked, asked * 3, asked + long):
        with relay.connect(timeout=5) as client:
            client.send(sent)
            answer = client.answer()
            assert b"" == client.rest()

        assert (200, b"half a", False) == (answer.status, answer.body, answer.complete)
        assert "upstream_error" == relay.record(answer)["outcome"]
    assert [] == [told for told in ("without completing", "Traceback") if told in relay.output]


def test_a_head_request_has_no_body(relay: RelayProcess) -> None:
    with relay.connect() as client:
        client.send(request(method="HEAD", path="/healthz") + request(method="GET", path="/v1/models", key=KEY))
        head = client.read_to(b"\r\n\r\n")

        assert head.startswith(b"HTTP/1.1 200 ")
        assert 200 == client.answer().status
