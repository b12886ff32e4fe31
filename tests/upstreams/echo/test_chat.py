"""Chat completions as echo answers them: text, counts, streams, tools."""

import json
from typing import Any

import pytest
from openai.types.chat import ChatCompletionChunk

from tests.echoed import NOW, exact, function, stream, tell, user

IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}

WHY = {"type": "object", "properties": {"why": {"type": "array", "items": {"type": "string"}}}, "required": ["why"]}
SCHEMA = {"type": "json_schema", "json_schema": {"name": "reasons", "strict": True, "schema": WHY}}


@pytest.mark.parametrize(
    ("messages", "answer"),
    [
        ([user("Good morning, echo!")], "Good morning, echo!"),
        (
            [user([{"type": "text", "text": "What is"}, IMAGE, {"type": "text", "text": "this?"}])],
            "What is [image] this?",
        ),
        ([user([{"type": "input_audio", "input_audio": {}}])], "[audio]"),
        ([user("one"), {"role": "assistant", "content": "one"}, user("two")], "two"),
        ([user("one"), {"role": "assistant", "content": None}], "one"),
        ([{"role": "system", "content": "Be brief."}], "Hello"),
        ([user("")], "Hello"),
        ([user("你好世界 🎉\n")], "你好世界 🎉\n"),
        ([user("weather?"), {"role": "tool", "tool_call_id": "a", "content": "sunny"}], "sunny"),
        (
            [
                user("weather?"),
                {"role": "tool", "tool_call_id": "a", "content": "sunny"},
                {"role": "tool", "tool_call_id": "b", "content": [{"type": "text", "text": "warm"}]},
            ],
            "sunny\nwarm",
        ),
        ([user("a"), {"role": "tool", "tool_call_id": "a", "content": "sunny"}, user("thanks")], "thanks"),
    ],
)
async def test_chat_repeats_what_it_was_told_last(messages: list[Any], answer: str) -> None:
    said = await tell("/chat/completions", messages=messages)
    message: Any = {"role": "assistant", "content": answer, "refusal": None, "annotations": []}
    assert [{"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}] == said["choices"]
    chunks = await stream("/chat/completions", messages=messages)
    assert answer == "".join(data["choices"][0]["delta"].get("content", "") for _, data in chunks[:-1])


@pytest.mark.parametrize(
    ("extra", "answer", "finish", "tokens"),
    [
        ({}, "Tell me, now: why?", "stop", 7),
        ({"max_tokens": 3}, "Tell me,", "length", 3),
        ({"max_completion_tokens": 1, "max_tokens": 3}, "Tell", "length", 1),
        ({"max_tokens": 7}, "Tell me, now: why?", "stop", 7),
        ({"stop": "now"}, "Tell me, ", "stop", 3),
        ({"stop": ["why", "", " me"], "max_tokens": 5}, "Tell", "stop", 1),
        ({"stop": None, "max_tokens": None, "n": None, "tools": None, "response_format": None}, None, "stop", 7),
        ({"response_format": {"type": "text"}}, None, "stop", 7),
        ({"n": 3, "max_tokens": 2}, "Tell me", "length", 6),
        ({"response_format": {"type": "json_object"}}, '{"echo":"Tell me, now: why?"}', "stop", 10),
        ({"response_format": SCHEMA}, '{"why":["Tell me, now: why?"]}', "stop", 10),
        ({"response_format": SCHEMA, "max_tokens": 2}, '{"why', "length", 2),
    ],
)
async def test_chat_cuts_and_counts(extra: dict[str, Any], answer: str | None, finish: str, tokens: int) -> None:
    messages = [{"role": "system", "content": "Be brief."}, user("Tell me, now: why?")]
    said = await tell("/chat/completions", messages=messages, **extra)
    told = answer or "Tell me, now: why?"
    assert [(told, finish)] * (extra.get("n") or 1) == [
        (choice["message"]["content"], choice["finish_reason"]) for choice in said["choices"]
    ]
    usage = said["usage"]
    assert (10, tokens, 10 + tokens) == (usage["prompt_tokens"], usage["completion_tokens"], usage["total_tokens"])
    assert (
        0 == usage["prompt_tokens_details"]["cached_tokens"] == usage["completion_tokens_details"]["reasoning_tokens"]
    )


async def test_ids_differ_and_the_clock_is_the_one_given() -> None:
    first, second = [await tell("/chat/completions", messages=[user("a")]) for _ in range(2)]
    assert first["id"].startswith("chatcmpl-")
    assert first.pop("id") != second.pop("id")
    assert first["created"] == NOW
    assert first == second


async def test_chat_streams_a_token_a_chunk() -> None:
    *chunks, done = await stream("/chat/completions", messages=[user("Hi, you")])
    assert done == (None, "[DONE]")
    for name, data in chunks:
        assert name is None
        exact(ChatCompletionChunk, data)
        assert "usage" not in data
    first = {"role": "assistant", "content": "", "refusal": None}
    deltas = [first, {"content": "Hi"}, {"content": ","}, {"content": " you"}, {}]
    assert deltas == [data["choices"][0]["delta"] for _, data in chunks]
    assert [data["choices"][0]["finish_reason"] for _, data in chunks] == [None] * 4 + ["stop"]
    assert len({data["id"] for _, data in chunks}) == 1


async def test_chat_streams_usage_when_asked() -> None:
    options = {"stream_options": {"include_usage": True}, "n": 2}
    *chunks, last, _ = await stream("/chat/completions", messages=[user("Hi you")], **options)
    exact(ChatCompletionChunk, last[1])
    assert [None] * len(chunks) == [data["usage"] for _, data in chunks]
    whole = await tell("/chat/completions", messages=[user("Hi you")], n=2)
    assert ([], whole["usage"]) == (last[1]["choices"], last[1]["usage"])
    assert [data["choices"][0]["index"] for _, data in chunks] == [0] * 4 + [1] * 4


@pytest.mark.parametrize(("top", "others"), [(None, 0), (0, 0), (5, 1)])
async def test_chat_is_certain_when_asked_for_logprobs(top: int | None, others: int) -> None:
    asked = {"messages": [user("é you")], "logprobs": True, "top_logprobs": top}
    said = await tell("/chat/completions", **asked)
    content = said["choices"][0]["logprobs"]["content"]
    assert [(item["token"], item["logprob"], item["bytes"]) for item in content[:1]] == [("é", 0.0, [0xC3, 0xA9])]
    assert [others, others] == [len(item["top_logprobs"]) for item in content]
    chunks = await stream("/chat/completions", **asked)
    streamed = [data["choices"][0]["logprobs"] for _, data in chunks[:-1]]
    assert content == [item for logprobs in streamed if logprobs for item in logprobs["content"]]


ADD = function("add_up", a={"type": "integer"}, b={"type": "integer"})
WEATHER = function("get_weather", city={"type": "string"})
NOTHING = {"type": "function", "function": {"name": "pingServer"}}
CUSTOM = {"type": "custom", "custom": {"name": "free"}}
RESULT = {"role": "tool", "tool_call_id": "a", "content": "sunny"}
NAMED = {"type": "function", "function": {"name": "add_up"}}


@pytest.mark.parametrize(
    ("said", "extra", "calls"),
    [
        ("Hi!", {}, []),
        ("Hi!", {"tool_choice": "auto"}, []),
        ("Hi!", {"tool_choice": "required"}, [("get_weather", {"city": "Hi!"})]),
        ("Hi!", {"tool_choice": NAMED}, [("add_up", {"a": 1, "b": 1})]),
        ("Add_up 3 please", {}, [("add_up", {"a": 3, "b": 3})]),
        ("add_up -4.5!", {}, [("add_up", {"a": -4, "b": -4})]),
        ("add_up_all 3", {}, []),
        ("The weather in Oslo?", {}, [("get_weather", {"city": "The weather in Oslo?"})]),
        ("The weather in Oslo?", {"tool_choice": "none"}, []),
        ("Ping it", {"tool_choice": "required"}, [("pingServer", {})]),
        ("Is the server up?", {}, [("pingServer", {})]),
        ("Please use a tool.", {}, [("get_weather", {"city": "Please use a tool."})]),
        ("add_up and pingServer", {}, [("add_up", {"a": 1, "b": 1}), ("pingServer", {})]),
        ("add_up and pingServer", {"parallel_tool_calls": False}, [("add_up", {"a": 1, "b": 1})]),
        ("add_up", {"tools": None}, []),
        ("use the tool", {"tools": [CUSTOM]}, []),
    ],
)
async def test_chat_calls_tools(said: str, extra: dict[str, Any], calls: list[tuple[str, Any]]) -> None:
    asked = {"messages": [user(said)], "tools": [WEATHER, ADD, NOTHING, CUSTOM]} | extra
    choice = (await tell("/chat/completions", **asked))["choices"][0]
    made = choice["message"].get("tool_calls", [])
    assert calls == [(call["function"]["name"], json.loads(call["function"]["arguments"])) for call in made]
    assert ("tool_calls", None) if calls else ("stop", said) == (choice["finish_reason"], choice["message"]["content"])
    assert all(call["id"].startswith("call_") for call in made)


@pytest.mark.parametrize(
    ("choice", "finish"), [("auto", "stop"), ("required", "stop"), (NAMED, "tool_calls"), ("none", "stop")]
)
async def test_tools_that_answered_are_not_called_again_unless_named(choice: Any, finish: str) -> None:
    asked = {"messages": [user("The weather?"), RESULT], "tools": [WEATHER, ADD], "tool_choice": choice}
    assert finish == (await tell("/chat/completions", **asked))["choices"][0]["finish_reason"]


async def test_chat_streams_calls_in_pieces() -> None:
    asked = {"messages": [user("add_up, then get_weather for 3 你好")], "tools": [WEATHER, ADD]}
    *chunks, _ = await stream("/chat/completions", **asked)
    for _, data in chunks:
        exact(ChatCompletionChunk, data)
    deltas = [call for _, data in chunks for call in data["choices"][0]["delta"].get("tool_calls", [])]
    starts = [call for call in deltas if "id" in call]
    assert [(call["index"], call["function"]["name"], call["function"]["arguments"]) for call in starts] == [
        (0, "get_weather", ""),
        (1, "add_up", ""),
    ]
    pieces = [[call["function"]["arguments"] for call in deltas if call["index"] == index] for index in (0, 1)]
    assert all(len(parts) > 3 for parts in pieces)
    assert [json.loads("".join(p)) for p in pieces] == [
        {"city": "add_up, then get_weather for 3 你好"},
        {"a": 3, "b": 3},
    ]
    assert "你好" in "".join(pieces[0])
    assert chunks[-1][1]["choices"][0]["finish_reason"] == "tool_calls"
