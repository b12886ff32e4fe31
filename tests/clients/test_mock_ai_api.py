"""mock-ai-api, a mock of the OpenAI API with odd shapes and failures by the model's suffix, as the upstream."""

from collections.abc import Iterator
from pathlib import Path

import openai
import pytest
from openai import OpenAI
from openai.types.chat import ChatCompletionUserMessageParam

from tests.clients.program import needed, serving
from tests.process import KEY, RelayProcess, Start, free_port

COMMAND = needed("MOCK_AI_API")
pytestmark = pytest.mark.skipif(COMMAND is None, reason="MOCK_AI_API does not name the command mock-ai-api")

HELLO: list[ChatCompletionUserMessageParam] = [{"role": "user", "content": "hello"}]
GREETING = "Hello. It's nice to meet you."


@pytest.fixture(scope="module")
def relay(start: Start, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RelayProcess]:
    """The command itself leaves its two servers running when it is ended, so the one that is needed runs without it."""
    port = free_port()
    server = Path(str(COMMAND)).resolve().with_name("uvicorn")
    with serving([server, "app.openai_app:app", "--port", str(port)], port, tmp_path_factory.mktemp("mock")):
        upstream = {"base_url": f"http://127.0.0.1:{port}/v1", "api_key": "env:SCRIPT_KEY"}
        yield start(upstreams={"mock": upstream}, models={"*": "mock/*"})


@pytest.fixture
def client(relay: RelayProcess) -> Iterator[OpenAI]:
    with OpenAI(base_url=f"http://127.0.0.1:{relay.port}/v1", api_key=KEY, max_retries=0) as client:
        yield client


def test_chat(client: OpenAI) -> None:
    answer = client.chat.completions.create(model="gpt-4.1:mock-text", messages=HELLO)

    assert ("gpt-4.1", GREETING) == (answer.model, answer.choices[0].message.content)


@pytest.mark.parametrize(
    ("model", "text"), [("gpt-4.1:mock-text", GREETING), ("gpt-4.1:mock-delay", "Mock stream for: hello")]
)
def test_a_stream_whose_usage_is_on_its_last_chunk(relay: RelayProcess, client: OpenAI, model: str, text: str) -> None:
    stream = client.chat.completions.create(model=model, messages=HELLO, stream=True)

    chunks = list(stream)

    assert text == "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    assert "stop" == chunks[-1].choices[0].finish_reason
    assert chunks[-1].usage is not None
    rows = [row for row in relay.log() if row["alias"] == model and row["stream"]]
    assert [("ok", chunks[-1].usage.completion_tokens)] == [(row["outcome"], row["output_tokens"]) for row in rows]


@pytest.mark.parametrize(
    ("model", "arguments"),
    [
        ("gpt-4.1:mock-tool-call", '{"path": "tmp/mock-file.txt", "contents": "mock output"}'),
        ("gpt-4.1:mock-bad-tool-json", '{"path":"tmp/mock-file.txt","contents":"unterminated"'),
    ],
)
def test_tools(client: OpenAI, model: str, arguments: str) -> None:
    answer = client.chat.completions.create(model=model, messages=HELLO)
    (call,) = answer.choices[0].message.tool_calls or []

    assert call.type == "function"
    assert ("Write", arguments) == (call.function.name, call.function.arguments)


def test_tools_of_a_stream(client: OpenAI) -> None:
    with client.chat.completions.stream(model="gpt-4.1:mock-tool-stream", messages=HELLO) as stream:
        (call,) = stream.get_final_completion().choices[0].message.tool_calls or []

    assert "Write" == call.function.name


def test_responses(client: OpenAI) -> None:
    answer = client.responses.create(model="gpt-4.1:mock-text", input="hello")
    events = list(client.responses.create(model="gpt-4.1:mock-text", input="hello", stream=True))

    assert GREETING == answer.output_text
    assert "response.completed" == events[-1].type


FAILURES: dict[str, tuple[type[openai.APIStatusError], int, str]] = {
    "mock-400": (openai.BadRequestError, 400, "false"),
    "mock-401": (
        openai.InternalServerError,
        502,
        "false",
    ),  # the relay's own key was refused: no business of the caller
    "mock-429": (openai.RateLimitError, 429, "true"),
    "mock-500": (openai.InternalServerError, 500, "true"),
    "mock-503": (openai.InternalServerError, 503, "false"),  # the relay has tried it again itself
}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("scenario", FAILURES)
def test_failures(relay: RelayProcess, client: OpenAI, scenario: str, stream: bool) -> None:
    kind, status, again = FAILURES[scenario]
    with pytest.raises(kind) as failure:
        client.chat.completions.create(model=f"gpt-4.1:{scenario}", messages=HELLO, stream=stream)

    headers = failure.value.response.headers
    assert (status, again) == (failure.value.status_code, headers["x-should-retry"])
    assert (status != 502) == (f"Mock scenario {scenario} triggered" in failure.value.message)
    row = next(row for row in relay.log() if row["id"] == headers["x-relay-id"])
    assert (status, "upstream_error") == (row["status"], row["outcome"])
