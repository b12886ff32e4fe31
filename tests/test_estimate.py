"""What a call took where nobody said so: about right, whatever it is made of, and never a fault."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay import splice, sse
from relay.estimate import prompt, spoken, tokens, written

WORDS = "The quick brown fox jumps over the lazy dog. " * 40  # 1,800 bytes, 450 tokens
PICTURE = "data:image/png;base64," + "iVBORw0KGgo" * 20_000


def asked(**fields: Any) -> int:
    body = json.dumps({"model": "m", **fields}).encode()
    return prompt(body, splice.read(body))


def user(content: Any) -> list[dict[str, Any]]:
    return [{"role": "user", "content": content}]


PROMPTS: dict[str, tuple[dict[str, Any], int, int]] = {
    "a chat": ({"messages": user(WORDS)}, 450, 470),
    "a completion": ({"prompt": WORDS}, 450, 455),
    "a response": ({"input": WORDS, "instructions": WORDS}, 900, 910),
    "embeddings": ({"input": [WORDS, WORDS]}, 900, 910),
    "with tools": ({"messages": user("Hi"), "tools": [{"function": {"description": WORDS}}]}, 450, 500),
    "what is no part of it": ({"messages": user("Hi"), "user": WORDS, "metadata": {"a": WORDS}}, 1, 20),
    "nothing": ({}, 0, 0),
    "a picture": (
        {"messages": user([{"type": "text", "text": WORDS}, {"type": "image_url", "image_url": {"url": PICTURE}}])},
        1450,
        1500,
    ),
    "a picture by its address": (
        {"input": user([{"type": "input_image", "image_url": "https://x/y.png"}])},
        1000,
        1030,
    ),
    "two pictures": ({"messages": user([{"image_url": {"url": PICTURE}}] * 2)}, 2000, 2040),
    "a sound": ({"messages": user([{"input_audio": {"data": "UklGR" * 9000, "format": "wav"}}])}, 1000, 1030),
    "a file": ({"messages": user([{"file": {"file_data": PICTURE}}])}, 1000, 1030),
}


@pytest.mark.parametrize("case", PROMPTS)
def test_a_request(case: str) -> None:
    fields, least, most = PROMPTS[case]

    assert least <= asked(**fields) <= most


@pytest.mark.parametrize("begin", [";base64,", '"data":', ";base64,x", '"data":"'])
def test_an_encoding_without_an_end_is_no_text_either(begin: str) -> None:
    assert 0 <= asked(input=begin) <= 5


def test_a_body_of_nothing_but_marks_is_looked_at_in_part() -> None:
    """What is beyond that counts as text: nobody waits for who makes a request of a million of them."""
    assert 1_900_000 < asked(input=[{"data": ""}] * 1_000_000) < 3_500_000


def test_of_a_long_body_the_begin_tells_how_much_of_it_is_text() -> None:
    assert 40 * len(PICTURE) > 8 << 20
    assert asked(messages=user([{"image_url": {"url": PICTURE}}] * 40)) == pytest.approx(40_000, rel=0.1)


SAID = len(WORDS)
# What it says, and how many bytes of words that is.
ANSWERS: dict[str, tuple[Any, int]] = {
    "a chat": ({"id": "c", "choices": [{"message": {"role": "assistant", "content": WORDS}}]}, SAID),
    "two choices": ({"choices": [{"message": {"content": WORDS}}] * 2}, 2 * SAID),
    "thoughts": ({"choices": [{"message": {"content": WORDS, "reasoning_content": WORDS}}]}, 2 * SAID),
    "a refusal": ({"choices": [{"message": {"content": None, "refusal": WORDS}}]}, SAID),
    "a tool's call": (
        {"choices": [{"message": {"tool_calls": [{"function": {"name": "f", "arguments": WORDS}}]}}]},
        SAID + 1,
    ),
    "a completion": ({"choices": [{"text": WORDS}]}, SAID),
    "a response": ({"instructions": WORDS, "output": [{"content": [{"type": "output_text", "text": WORDS}]}]}, SAID),
    "a response's thoughts": ({"output": [{"type": "reasoning", "summary": [{"text": WORDS}]}]}, SAID),
    "a response's call": ({"output": [{"type": "function_call", "name": "f", "arguments": WORDS}]}, SAID + 1),
    "log probabilities": ({"choices": [{"text": WORDS, "logprobs": {"content": [{"token": WORDS}] * 99}}]}, SAID),
    "a sound": ({"choices": [{"message": {"content": None, "audio": {"data": WORDS * 99}}}]}, 0),
    "four letters": ({"choices": [{"text": "null"}]}, 4),
    "nothing": ({"choices": []}, 0),
}


@pytest.mark.parametrize("case", ANSWERS)
def test_a_whole_answer(case: str) -> None:
    body, size = ANSWERS[case]

    assert size == written(json.dumps(body).encode())


def test_words_in_parts_count_with_what_is_around_them() -> None:
    parts = [{"type": "text", "text": WORDS}]

    assert SAID < written(json.dumps({"choices": [{"message": {"content": parts}}]}).encode()) < SAID + 50


@pytest.mark.parametrize("body", [b"", b"Hello", b'{"a":NaN}', b"\xff", b'{"choices":[[]]}', b"[1]", b"[" * 100_000])
def test_of_what_makes_no_sense_all_is_words(body: bytes) -> None:
    assert len(body) == written(body)


@pytest.mark.parametrize(("size", "expected"), [(0, 0), (1, 1), (4, 1), (5, 2), (1800, 450)])
def test_tokens(size: int, expected: int) -> None:
    assert expected == tokens(size)


def event(**fields: Any) -> bytes:
    return sse.event(json.dumps(fields).encode())


def chunk(**delta: Any) -> bytes:
    return event(id="chatcmpl-1", object="chat.completion.chunk", choices=[{"index": 0, "delta": delta}])


ECHOED = event(type="response.created", response={"instructions": WORDS, "tools": [{"text": WORDS}], "text": {}})
DONE = event(type="response.output_text.done", text=WORDS)
BEGIN, HELLO = chunk(role="assistant", content=""), chunk(content="Hello")
STREAMS: dict[str, tuple[bytes, int]] = {
    "a word": (HELLO, 5),
    "its begin": (BEGIN, 0),
    "its end": (event(choices=[{"index": 0, "delta": {}, "finish_reason": "stop"}]), 0),
    "many choices": (BEGIN * 4 + HELLO * 4, 20),
    "padded": (event(choices=[{"index": 0, "delta": {"content": " fox"}}], obfuscation="x" * 8), 4),
    "thoughts": (chunk(reasoning_content="well"), 4),
    "arguments": (chunk(tool_calls=[{"index": 0, "function": {"arguments": "a1"}}]), 2),
    "a completion": (event(id="c", choices=[{"index": 0, "text": " fox"}]), 4),
    "a response": (ECHOED + event(type="response.output_text.delta", item_id="m", delta=" fox") + DONE, 4),
    "a response's sound": (event(type="response.audio.delta", delta="UklGR" * 99), 0),
    "a comment": (b": ping\n\n", 0),
    "in lines": (b'event: a\r\ndata: {"choices":[\r\ndata: {"text":"fox"}]}\r\n\r\n', 3),
    "no JSON": (b"data: [DONE]\n\n" + b"data: {\n\n" + b'data: {"choices":7}\n\n' + HELLO, 5),
}


@pytest.mark.parametrize("case", STREAMS)
def test_events(case: str) -> None:
    events, size = STREAMS[case]

    assert size == spoken(events)


@given(st.binary(max_size=200))
def test_anything_at_all(data: bytes) -> None:
    assert spoken(data) >= 0
    assert written(data) >= 0
    assert asked(input=data.decode("latin-1")) >= 0
