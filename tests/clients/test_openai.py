"""The OpenAI SDK, its sync and its async client, through a real relay: what a program sees, and what the log says."""

import base64
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from typing import Any, TypeVar

import openai
import pytest
from openai import AsyncAzureOpenAI, AsyncOpenAI, AzureOpenAI, OpenAI
from openai.types.chat import ChatCompletionFunctionToolParam, ChatCompletionUserMessageParam
from pydantic import BaseModel

from relay.upstream.echo.images import pixel
from tests.process import KEY, RelayProcess, Start
from tests.upstream import Upstream, response

NARROW_KEY = "sk-test-narrow-60f1b2c8d94a7e53"
NOBODY = "http://127.0.0.1:1/v1"  # nothing listens there
T = TypeVar("T")
Client = OpenAI | AsyncOpenAI


class City(BaseModel):
    name: str
    inhabitants: int


WEATHER: dict[str, Any] = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
    "required": ["city", "days"],
    "additionalProperties": False,
}
TOOLS: list[ChatCompletionFunctionToolParam] = [
    {"type": "function", "function": {"name": "get_weather", "parameters": WEATHER, "strict": True}},
    {"type": "function", "function": {"name": "get_news", "parameters": {"type": "object", "properties": {}}}},
]
RESPONSE_TOOLS: list[dict[str, Any]] = [
    {"type": "function", "name": "get_weather", "parameters": WEATHER, "strict": True},
]
ARGUMENTS = '{"city":"get_weather for 3 days","days":3}'


def user(text: str) -> list[ChatCompletionUserMessageParam]:
    return [{"role": "user", "content": text}]


@pytest.fixture(scope="module")
def upstream() -> Iterator[Upstream]:
    with Upstream() as running:
        yield running


@pytest.fixture(scope="module")
def relay(start: Start, upstream: Upstream) -> RelayProcess:
    return start(
        environ={"NARROW_KEY": NARROW_KEY},
        upstreams={
            "dead": {"base_url": NOBODY},
            "script": {"base_url": f"http://127.0.0.1:{upstream.port}/v1", "api_key": "env:SCRIPT_KEY"},
        },
        models={"alias": "echo/served", "dead": "dead/model", "refused": "script/refused", "broken": "script/broken"},
        keys=[
            {"name": "tests", "key": "env:CALLER_KEY"},
            {"name": "narrow", "key": "env:NARROW_KEY", "models": ["alias"]},
        ],
    )


@pytest.fixture(params=["sync", "async"])
async def client(relay: RelayProcess, request: pytest.FixtureRequest) -> AsyncIterator[Client]:
    """Either client."""
    settings: dict[str, Any] = {"base_url": f"http://127.0.0.1:{relay.port}/v1", "api_key": KEY, "max_retries": 0}
    if request.param == "sync":
        with OpenAI(**settings) as blocking:
            yield blocking
    else:
        async with AsyncOpenAI(**settings) as waiting:
            yield waiting


async def settled(answer: T | Awaitable[T]) -> T:
    """What either client answers."""
    return await answer if isinstance(answer, Awaitable) else answer


async def every(items: Iterable[T] | AsyncIterable[T]) -> list[T]:
    """What either client's stream or page holds."""
    if isinstance(items, AsyncIterable):
        return [item async for item in items]
    return list(items)


async def streamed(answer: Any) -> list[Any]:
    """The chunks or events of either client's answer to `stream=True`."""
    return await every(await settled(answer))


async def opened(
    manager: AbstractContextManager[Any] | AbstractAsyncContextManager[Any], final: str
) -> tuple[Any, Any]:
    """The events of either client's `.stream()` helper, and what its method `final` then returns."""
    if isinstance(manager, AbstractAsyncContextManager):
        async with manager as stream:
            return [event async for event in stream], await getattr(stream, final)()
    with manager as stream:
        return list(stream), getattr(stream, final)()


async def test_chat(client: Client) -> None:
    answer = await settled(client.chat.completions.create(model="echo", messages=user("Good morning")))

    assert "Good morning" == answer.choices[0].message.content
    assert "stop" == answer.choices[0].finish_reason
    assert answer.usage is not None
    assert (2, 2, 4) == (answer.usage.prompt_tokens, answer.usage.completion_tokens, answer.usage.total_tokens)


async def test_several_choices(client: Client) -> None:
    answer = await settled(client.chat.completions.create(model="echo", messages=user("Hi"), n=3))

    assert [(0, "Hi"), (1, "Hi"), (2, "Hi")] == [(each.index, each.message.content) for each in answer.choices]


async def test_chat_stream(client: Client) -> None:
    chunks = await streamed(client.chat.completions.create(model="echo", messages=user("one two three"), stream=True))

    assert "one two three" == "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    assert "stop" == chunks[-1].choices[0].finish_reason
    assert [None] * len(chunks) == [chunk.usage for chunk in chunks]


async def test_chat_stream_with_usage(client: Client) -> None:
    *chunks, last = await streamed(
        client.chat.completions.create(
            model="echo", messages=user("one two"), stream=True, stream_options={"include_usage": True}
        )
    )

    assert [None] * len(chunks) == [chunk.usage for chunk in chunks]
    assert [] == last.choices
    assert last.usage is not None
    assert (2, 2) == (last.usage.prompt_tokens, last.usage.completion_tokens)


async def test_chat_stream_helper(client: Client) -> None:
    manager = client.chat.completions.stream(model="echo", messages=user("one two"))
    events, whole = await opened(manager, "get_final_completion")

    assert "one two" == "".join(event.delta for event in events if event.type == "content.delta")
    assert ["one two"] == [event.content for event in events if event.type == "content.done"]
    assert ("one two", "stop") == (whole.choices[0].message.content, whole.choices[0].finish_reason)


async def test_chat_parse(client: Client) -> None:
    answer = await settled(
        client.chat.completions.parse(model="echo", messages=user("Bonn 330000"), response_format=City)
    )

    assert City(name="Bonn 330000", inhabitants=330000) == answer.choices[0].message.parsed


async def test_chat_stream_helper_parses(client: Client) -> None:
    manager = client.chat.completions.stream(model="echo", messages=user("Bonn 330000"), response_format=City)
    _, whole = await opened(manager, "get_final_completion")

    assert City(name="Bonn 330000", inhabitants=330000) == whole.choices[0].message.parsed


CHOICES: dict[str, tuple[str, dict[str, Any], list[str]]] = {
    "forced": ("3 days", {"tool_choice": {"type": "function", "function": {"name": "get_news"}}}, ["get_news"]),
    "required": ("3 days", {"tool_choice": "required"}, ["get_weather"]),
    "auto, named": ("get_weather for 3 days", {}, ["get_weather"]),
    "auto, not named": ("Good morning", {"tool_choice": "auto"}, []),
    "none": ("get_weather", {"tool_choice": "none"}, []),
    "in parallel": ("get_weather and get_news", {}, ["get_weather", "get_news"]),
    "not in parallel": ("get_weather and get_news", {"parallel_tool_calls": False}, ["get_weather"]),
}


@pytest.mark.parametrize("case", CHOICES)
async def test_tools(client: Client, case: str) -> None:
    text, options, names = CHOICES[case]
    answer = await settled(client.chat.completions.create(model="echo", messages=user(text), tools=TOOLS, **options))
    choice = answer.choices[0]

    assert names == [call.function.name for call in choice.message.tool_calls or [] if call.type == "function"]
    assert ("tool_calls" if names else "stop") == choice.finish_reason
    assert (None if names else text) == choice.message.content


async def test_tools_of_a_stream(client: Client) -> None:
    manager = client.chat.completions.stream(model="echo", messages=user("get_weather for 3 days"), tools=TOOLS)
    events, whole = await opened(manager, "get_final_completion")

    calls = whole.choices[0].message.tool_calls
    assert [("get_weather", ARGUMENTS)] == [(call.function.name, call.function.arguments) for call in calls]
    pieces = [event.arguments_delta for event in events if event.type == "tool_calls.function.arguments.delta"]
    assert ARGUMENTS == "".join(pieces)
    assert 1 < len(pieces)


async def test_a_tool_answers(client: Client) -> None:
    asked = await settled(
        client.chat.completions.create(model="echo", messages=user("get_weather for 3 days"), tools=TOOLS)
    )
    call = (asked.choices[0].message.tool_calls or [])[0]
    told = {"role": "tool", "tool_call_id": call.id, "content": "Rain"}
    history: list[Any] = [*user("get_weather"), asked.choices[0].message, told]

    answer = await settled(client.chat.completions.create(model="echo", messages=history, tools=TOOLS))

    assert "Rain" == answer.choices[0].message.content


async def test_embeddings(client: Client) -> None:
    packed = await settled(client.embeddings.create(model="echo", input=["a", "b"], dimensions=8))
    plain = await settled(client.embeddings.create(model="echo", input="a", dimensions=8, encoding_format="float"))

    assert [8, 8] == [len(each.embedding) for each in packed.data]
    assert pytest.approx(plain.data[0].embedding) == packed.data[0].embedding
    assert packed.data[0].embedding != packed.data[1].embedding


async def test_completions(client: Client) -> None:
    answer = await settled(client.completions.create(model="echo", prompt=["one two", "three"]))
    chunks = await streamed(client.completions.create(model="echo", prompt="one two", stream=True))

    assert ["one two", "three"] == [each.text for each in answer.choices]
    assert "one two" == "".join(chunk.choices[0].text for chunk in chunks)


async def test_responses(client: Client) -> None:
    answer = await settled(client.responses.create(model="echo", instructions="Be brief.", input="Good morning"))

    assert ("completed", "Good morning") == (answer.status, answer.output_text)
    assert answer.usage is not None
    assert 2 == answer.usage.output_tokens


async def test_responses_stream(client: Client) -> None:
    events = await streamed(client.responses.create(model="echo", input="one two", stream=True))

    assert list(range(len(events))) == [event.sequence_number for event in events]
    assert ("response.created", "response.completed") == (events[0].type, events[-1].type)
    assert "one two" == "".join(event.delta for event in events if event.type == "response.output_text.delta")


async def test_responses_stream_helper(client: Client) -> None:
    _, whole = await opened(client.responses.stream(model="echo", input="one two"), "get_final_response")

    assert "one two" == whole.output_text


async def test_responses_parse(client: Client) -> None:
    answer = await settled(client.responses.parse(model="echo", input="Bonn 330000", text_format=City))

    assert City(name="Bonn 330000", inhabitants=330000) == answer.output_parsed


async def test_responses_tools(client: Client) -> None:
    asked: dict[str, Any] = {"model": "echo", "input": "get_weather for 3 days", "tools": RESPONSE_TOOLS}
    answer = await settled(client.responses.create(**asked))
    _, streamed = await opened(client.responses.stream(**asked), "get_final_response")

    for response_made in (answer, streamed):
        (item,) = response_made.output
        assert ("function_call", "get_weather", ARGUMENTS) == (item.type, item.name, item.arguments)


async def test_moderations(client: Client) -> None:
    answer = await settled(client.moderations.create(model="echo", input=["a", "b"]))

    assert [False, False] == [result.flagged for result in answer.results]


async def test_images(client: Client) -> None:
    answer = await settled(client.images.generate(model="echo", prompt="a grey pixel"))

    assert [pixel()] == [base64.b64decode(image.b64_json or "") for image in answer.data or []]


async def test_models(client: Client) -> None:
    assert {"alias", "dead", "refused", "broken", "echo"} == {model.id for model in await every(client.models.list())}
    assert "alias" == (await settled(client.models.retrieve("alias"))).id
    with pytest.raises(openai.NotFoundError):
        await settled(client.models.retrieve("nothing"))


async def test_headers_and_the_log(relay: RelayProcess, client: Client) -> None:
    raw = await settled(client.chat.completions.with_raw_response.create(model="alias", messages=user("Good morning")))
    seen = {name: raw.headers[f"x-relay-{name}"] for name in ("upstream", "model", "attempts")}

    assert {"upstream": "echo", "model": "served", "attempts": "1"} == seen
    assert "Good morning" == raw.parse().choices[0].message.content
    row = logged(relay, raw.headers["x-relay-id"])
    expected = {"key": "tests", "alias": "alias", "upstream": "echo", "model": "served", "status": 200, "outcome": "ok"}
    assert expected == {name: row[name] for name in expected}
    assert f"{type(client).__name__}/Python {openai.__version__}" in row["client"]


def logged(relay: RelayProcess, identity: str) -> dict[str, Any]:
    return next(row for row in relay.log() if row["id"] == identity)


@pytest.mark.parametrize("stream", [False, True])
async def test_every_request_is_logged(relay: RelayProcess, client: Client, stream: bool) -> None:
    before = len(relay.log())
    asks: list[tuple[Callable[..., Any], dict[str, Any]]] = [
        (client.chat.completions.create, {"messages": user("one two")}),
        (client.completions.create, {"prompt": "one two"}),
        (client.responses.create, {"input": "one two"}),
    ]
    for create, said in asks:
        answer = create(model="alias", stream=stream, **said)
        await (streamed(answer) if stream else settled(answer))

    rows = relay.log()
    names = ("endpoint", "model", "stream", "outcome", "input_tokens", "output_tokens")
    endpoints = ["/v1/responses", "/v1/completions", "/v1/chat/completions"]
    assert [(each, "served", stream, "ok", 2, 2) for each in endpoints] == [
        tuple(row[name] for name in names) for row in rows[: len(rows) - before]
    ]


FAILURES: dict[str, tuple[str, str, type[openai.APIStatusError], int, str, str]] = {
    "wrong key": ("sk-wrong", "echo", openai.AuthenticationError, 401, "invalid_api_key", "refused"),
    "unknown model": (KEY, "nothing", openai.NotFoundError, 404, "model_not_found", "refused"),
    "model not allowed": (NARROW_KEY, "echo", openai.PermissionDeniedError, 403, "model_not_allowed", "refused"),
    "upstream dead": (KEY, "dead", openai.InternalServerError, 502, "upstream_error", "upstream_error"),
}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("case", FAILURES)
async def test_failures(relay: RelayProcess, client: Client, case: str, stream: bool) -> None:
    key, model, kind, status, code, outcome = FAILURES[case]
    create: Callable[..., Any] = client.with_options(api_key=key).chat.completions.create
    with pytest.raises(kind) as failure:
        await settled(create(model=model, messages=user("Hi"), stream=stream))

    assert (status, code) == (failure.value.status_code, failure.value.code)
    row = logged(relay, failure.value.response.headers["x-relay-id"])
    assert (status, outcome) == (row["status"], row["outcome"])


@pytest.mark.parametrize(
    ("model", "told", "tries"), [("dead", "false", 1), ("refused", "false", 1), ("broken", "true", 3)]
)
async def test_the_sdk_tries_again_only_where_it_is_told_to(
    relay: RelayProcess, upstream: Upstream, client: Client, model: str, told: str, tries: int
) -> None:
    upstream.play("refused", response({"error": {"message": "Incorrect API key"}}, status="401 Unauthorized"))
    upstream.play("broken", response({"error": {"message": "Oh"}}, status="500 Broken"))
    status = 500 if model == "broken" else 502
    before = len(relay.log())
    with pytest.raises(openai.APIStatusError) as failure:
        await settled(client.with_options(max_retries=2).chat.completions.create(model=model, messages=user("Hi")))

    assert (status, told) == (failure.value.status_code, failure.value.response.headers["x-should-retry"])
    assert tries == len(relay.log()) - before


def azure(relay: RelayProcess) -> dict[str, Any]:
    endpoint = f"http://127.0.0.1:{relay.port}"
    return {"azure_endpoint": endpoint, "api_key": KEY, "api_version": "2024-10-21", "max_retries": 0}


async def test_azure(relay: RelayProcess) -> None:
    with AzureOpenAI(**azure(relay)) as client:
        answer = client.chat.completions.create(model="alias", messages=user("Hi there"))
        vectors = client.embeddings.create(model="alias", input="a", dimensions=4)
    async with AsyncAzureOpenAI(**azure(relay)) as waiting:
        stream = await waiting.chat.completions.create(model="alias", messages=user("Hi there"), stream=True)
        chunks = await every(stream)

    assert ("served", "Hi there") == (answer.model, answer.choices[0].message.content)
    assert 4 == len(vectors.data[0].embedding)
    assert "Hi there" == "".join(chunk.choices[0].delta.content or "" for chunk in chunks)


def test_the_deployment_of_an_azure_path_decides(relay: RelayProcess) -> None:
    with AzureOpenAI(**azure(relay), azure_deployment="alias") as client:
        answer = client.chat.completions.create(model="of no importance", messages=user("Hi there"))

    assert "served" == answer.model
