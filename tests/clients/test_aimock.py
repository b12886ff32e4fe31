"""aimock, a mock of the OpenAI API in JavaScript, as the upstream: asked by the SDK through a real relay."""

import json
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from openai import OpenAI
from openai.types.chat import ChatCompletionUserMessageParam

from tests.clients.program import needed, serving
from tests.process import KEY, UPSTREAM_KEY, RelayProcess, Start, free_port

NODE_MODULES = needed("RELAY_NODE_MODULES")
pytestmark = pytest.mark.skipif(
    NODE_MODULES is None, reason="RELAY_NODE_MODULES names no folder with npm's @copilotkit/aimock"
)

HELLO: list[ChatCompletionUserMessageParam] = [{"role": "user", "content": "hello"}]
TEXT = "Twelve words, so that the stream has several chunks and can break."


def on(model: str, text: str = "never said", **more: Any) -> dict[str, Any]:
    return {"match": {"model": model}, "response": {"content": text}, **more}


BUSY = {"error": {"message": "Slow down", "type": "requests", "code": "rate_limit_exceeded"}, "status": 429}
FIXTURES = [
    {"match": {"endpoint": "embedding"}, "response": {"embedding": [0.25, -0.5, 1.0]}},
    {
        "match": {"toolName": "get_weather"},
        "response": {"toolCalls": [{"name": "get_weather", "arguments": {"city": "Bonn"}}]},
    },
    on("gpt-real", TEXT),
    on("limited", chaos={"rateLimitRate": 1}),
    on("dropped", chaos={"dropRate": 1}),
    on("gone", chaos={"disconnectRate": 1}),
    on("malformed", chaos={"malformedRate": 1}),
    on("cut", TEXT, latency=20, truncateAfterChunks=3),
    {"match": {"model": "busy", "sequenceIndex": 0}, "response": {**BUSY, "retryAfter": 1}},
    on("busy", TEXT),
]


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """An aimock that serves whoever shows the upstream's key, and nobody else."""
    folder, port = tmp_path_factory.mktemp("aimock"), free_port()
    (folder / "fixtures.json").write_text(json.dumps({"fixtures": FIXTURES}))
    llmock = Path(str(NODE_MODULES)) / ".bin" / "llmock"
    with serving([llmock, "-p", str(port), "-f", "fixtures.json"], port, folder, AIMOCK_API_KEYS=UPSTREAM_KEY):
        yield port


@pytest.fixture(scope="module")
def relay(start: Start, port: int) -> RelayProcess:
    upstream = {"base_url": f"http://127.0.0.1:{port}/v1", "api_key": "env:SCRIPT_KEY"}
    return start(upstreams={"aimock": upstream}, models={"fast": "aimock/gpt-real", "*": "aimock/*"})


@pytest.fixture
def client(relay: RelayProcess) -> Iterator[OpenAI]:
    with OpenAI(base_url=f"http://127.0.0.1:{relay.port}/v1", api_key=KEY, max_retries=0) as client:
        yield client


def journal(port: int) -> list[dict[str, Any]]:
    """What arrived, in order."""
    url = f"http://127.0.0.1:{port}/__aimock/journal"
    asked = urllib.request.Request(url, headers={"authorization": f"Bearer {UPSTREAM_KEY}"})
    with urllib.request.urlopen(asked) as answer:  # noqa: S310 - http, as written above
        arrived: list[dict[str, Any]] = json.load(answer)
    return arrived


def test_chat(client: OpenAI) -> None:
    answer = client.chat.completions.create(model="fast", messages=HELLO)

    assert ("gpt-real", TEXT) == (answer.model, answer.choices[0].message.content)


@pytest.mark.parametrize("usage", [False, True])
def test_stream(client: OpenAI, usage: bool) -> None:
    stream = client.chat.completions.create(
        model="fast", messages=HELLO, stream=True, stream_options={"include_usage": usage}
    )
    chunks = list(stream)

    assert TEXT == "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices)
    assert usage == any(chunk.usage for chunk in chunks)


def test_tools(client: OpenAI) -> None:
    answer = client.chat.completions.create(
        model="fast",
        messages=HELLO,
        tools=[{"type": "function", "function": {"name": "get_weather", "parameters": {"type": "object"}}}],
    )
    (call,) = answer.choices[0].message.tool_calls or []

    assert call.type == "function"
    assert ("get_weather", {"city": "Bonn"}) == (call.function.name, json.loads(call.function.arguments))


def test_responses(client: OpenAI) -> None:
    answer = client.responses.create(model="fast", input="hello")
    events = list(client.responses.create(model="fast", input="hello", stream=True))

    assert TEXT == answer.output_text
    assert TEXT == "".join(event.delta for event in events if event.type == "response.output_text.delta")
    assert "response.completed" == events[-1].type


@pytest.mark.parametrize("encoding", ["float", "base64"])
def test_embeddings(client: OpenAI, encoding: Any) -> None:
    answer = client.embeddings.create(model="fast", input="hello", encoding_format=encoding)

    vector = answer.data[0].embedding
    assert [0.25, -0.5, 1.0] == vector if encoding == "float" else vector


# What the SDK raises, with which status and code, and whether it is to try again: not where it would have to wait a
# second first, which the relay has done itself.
CHAOS: dict[str, tuple[type[openai.APIStatusError], int, str, str]] = {
    "limited": (openai.RateLimitError, 429, "chaos_ratelimit", "false"),
    "dropped": (openai.InternalServerError, 500, "chaos_drop", "true"),
    "gone": (openai.InternalServerError, 502, "upstream_error", "true"),
}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("model", CHAOS)
def test_chaos(relay: RelayProcess, client: OpenAI, model: str, stream: bool) -> None:
    kind, status, code, again = CHAOS[model]
    with pytest.raises(kind) as failure:
        client.chat.completions.create(model=model, messages=HELLO, stream=stream)

    headers = failure.value.response.headers
    assert (status, code) == (failure.value.status_code, failure.value.code)
    assert ("upstream", again) == (headers["x-relay-error-source"], headers["x-should-retry"])
    assert ("1" if model == "limited" else None) == headers.get("retry-after")
    row = next(row for row in relay.log() if row["id"] == headers["x-relay-id"])
    assert (status, "upstream_error") == (row["status"], row["outcome"])


def test_what_is_no_json_passes_as_it_came(client: OpenAI) -> None:
    raw = client.chat.completions.with_raw_response.create(model="malformed", messages=HELLO)

    assert "{malformed json: <<<chaos>>>" == raw.text


def test_a_stream_that_is_cut_raises(relay: RelayProcess, client: OpenAI) -> None:
    got: list[str] = []
    stream = client.chat.completions.create(model="cut", messages=HELLO, stream=True)
    with pytest.raises(openai.APIError, match="in the middle of its answer"):
        got.extend(chunk.choices[0].delta.content or "" for chunk in stream)

    assert [("cut", 200, "upstream_error")] == [
        (row["model"], row["status"], row["outcome"]) for row in relay.log() if row["model"] == "cut"
    ]


def test_the_relay_waits_and_tries_again(relay: RelayProcess, client: OpenAI) -> None:
    answer = client.with_options(max_retries=0).chat.completions.create(model="busy", messages=HELLO)

    assert TEXT == answer.choices[0].message.content
    assert [(200, 2)] == [(row["status"], row["attempts"]) for row in relay.log() if row["model"] == "busy"]


def test_what_arrives_is_the_real_model_and_nothing_of_the_relays(client: OpenAI, port: int) -> None:
    client.chat.completions.create(model="fast", messages=HELLO)
    client.responses.create(model="fast", input="hello")

    *_, chat, responses = journal(port)
    assert ("gpt-real", "gpt-real") == (chat["body"]["model"], responses["body"]["model"])
    assert ("/v1/chat/completions", "/v1/responses") == (chat["path"], responses["path"])
    assert KEY not in json.dumps([chat, responses])
    assert [] == [name for name in chat["headers"] if name.startswith(("x-relay", "x-stainless"))]


def test_the_relays_key_would_not_do(port: int) -> None:
    """aimock blots keys out of its journal; that it serves the relay at all says that it was shown the right one."""
    with (
        OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key=KEY, max_retries=0) as direct,
        pytest.raises(openai.AuthenticationError),
    ):
        direct.chat.completions.create(model="gpt-real", messages=HELLO)
