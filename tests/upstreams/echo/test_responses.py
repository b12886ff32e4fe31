"""Responses as echo answers them: text, tools, schemas, and the sequence of events."""

import json
from typing import Any

import pytest
from openai.types.responses import ResponseStreamEvent

from tests.echoed import exact, function, stream, tell, user

LOOK_UP = {
    "type": "function",
    "name": "look_up",
    "strict": True,
    "parameters": function("look_up", city={"type": "string"})["function"]["parameters"],
}
ANSWERED = [
    user("look_up Oslo"),
    {"type": "reasoning", "id": "rs_1", "summary": []},
    {"type": "function_call", "call_id": "c", "name": "look_up", "arguments": "{}"},
    {"type": "function_call_output", "call_id": "c", "output": "sunny"},
]
PLACE = {"type": "json_schema", "name": "place", "strict": True, "schema": LOOK_UP["parameters"]}


@pytest.mark.parametrize(
    ("asked", "text", "calls"),
    [
        ({"input": "Hi, you"}, "Hi, you", []),
        ({}, "Hello", []),
        ({"input": [user([{"type": "input_text", "text": "See"}, {"type": "input_image"}])]}, "See [image]", []),
        ({"input": [{"type": "message", "role": "developer", "content": "x"}], "instructions": "y"}, "Hello", []),
        ({"input": "Hi", "tools": [LOOK_UP, {"type": "web_search"}]}, "Hi", []),
        ({"input": "Hi", "tools": [LOOK_UP], "tool_choice": "required"}, "", [("look_up", {"city": "Hi"})]),
        (
            {"input": "Hi", "tools": [LOOK_UP], "tool_choice": {"type": "function", "name": "look_up"}},
            "",
            [("look_up", {"city": "Hi"})],
        ),
        ({"input": ANSWERED, "tools": [LOOK_UP]}, "sunny", []),
        ({"input": "Hi", "text": {"format": {"type": "json_object"}}}, '{"echo":"Hi"}', []),
        ({"input": "Hi", "text": {"format": PLACE}}, '{"city":"Hi"}', []),
        ({"input": "Hi", "text": {"format": {"type": "text"}, "verbosity": "low"}}, "Hi", []),
    ],
)
async def test_responses(asked: dict[str, Any], text: str, calls: list[tuple[str, Any]]) -> None:
    said = await tell("/responses", **asked)
    output = said["output"]
    assert text == "".join(part["text"] for item in output for part in item.get("content", []))
    assert calls == [(item["name"], json.loads(item["arguments"])) for item in output if "call_id" in item]
    assert (said["status"], said["incomplete_details"]) == ("completed", None)
    events = await stream("/responses", **asked)
    final = events[-1][1]["response"]
    assert [item | {"id": "", "call_id": ""} for item in output] == [
        item | {"id": "", "call_id": ""} for item in final["output"]
    ]
    assert said["usage"] == final["usage"]


async def test_responses_repeat_the_request() -> None:
    repeated = {
        "instructions": "Be brief.",
        "metadata": {"a": "b"},
        "temperature": 0.5,
        "tools": [LOOK_UP],
        "user": "u",
    }
    said = await tell("/responses", input="Hi", previous_response_id="resp_0", **repeated)
    assert repeated | {"previous_response_id": "resp_0"} == {
        name: said[name] for name in [*repeated, "previous_response_id"]
    }
    assert said["usage"]["input_tokens"] == 4


@pytest.mark.parametrize(
    ("asked", "kinds"),
    [
        (
            {"input": "Hi you"},
            ["content_part.added", "output_text.delta", "output_text.delta", "output_text.done", "content_part.done"],
        ),
        (
            {"input": "Hi", "tools": [LOOK_UP], "tool_choice": "required"},
            ["function_call_arguments.delta"] * 5 + ["function_call_arguments.done"],
        ),
    ],
)
async def test_responses_stream_in_the_proper_sequence(asked: dict[str, Any], kinds: list[str]) -> None:
    events = await stream("/responses", **asked)
    for _, data in events:
        exact(ResponseStreamEvent, data)
    whole = ["created", "in_progress", "output_item.added", *kinds, "output_item.done", "completed"]
    assert (
        [f"response.{kind}" for kind in whole] == [name for name, _ in events] == [data["type"] for _, data in events]
    )
    assert list(range(len(events))) == [data["sequence_number"] for _, data in events]
    item = events[-1][1]["response"]["output"][0]
    assert item == events[-2][1]["item"]
    deltas = "".join(data["delta"] for _, data in events if "delta" in data)
    assert deltas == item["arguments"] if "arguments" in item else item["content"][0]["text"]
    assert {item["id"]} == {data["item_id"] for _, data in events[3:-2]}


async def test_a_response_that_was_cut_is_incomplete() -> None:
    asked = {"input": "Hi you", "max_output_tokens": 1}
    said = await tell("/responses", **asked)
    assert (said["status"], said["incomplete_details"]) == ("incomplete", {"reason": "max_output_tokens"})
    assert (await stream("/responses", **asked))[-1][0] == "response.incomplete"
