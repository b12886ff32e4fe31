"""What a call took where nobody said so: about right, whatever it is made of, and never a fault."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay import splice, sse
from relay.estimate import Sample, answer, prompt

WORDS = "The quick brown fox jumps over the lazy dog. " * 40  # 1,800 bytes, 450 tokens
PICTURE = "data:image/png;base64," + "iVBORw0KGgo" * 20_000


def asked(**fields: Any) -> int:
    body = json.dumps({"model": "m", **fields}).encode()
    return prompt(splice.read(body))


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


def test_an_encoding_without_an_end_is_no_text_either() -> None:
    assert splice.read(b'{"input":";base64,"}')
    assert prompt(splice.read(b'{"input":";base64,"}')) <= 3


ANSWERS: dict[str, tuple[Any, int]] = {
    "a chat": ({"id": "c", "choices": [{"message": {"role": "assistant", "content": WORDS}}]}, 450),
    "two choices": ({"choices": [{"message": {"content": WORDS}}] * 2}, 900),
    "in parts": ({"choices": [{"message": {"content": [{"type": "text", "text": WORDS}]}}]}, 450),
    "thoughts": ({"choices": [{"message": {"content": WORDS, "reasoning_content": WORDS}}]}, 900),
    "a tool's call": ({"choices": [{"message": {"tool_calls": [{"function": {"arguments": WORDS}}]}}]}, 450),
    "a completion": ({"choices": [{"text": WORDS}]}, 450),
    "a response": ({"instructions": WORDS, "output": [{"content": [{"type": "output_text", "text": WORDS}]}]}, 450),
    "log probabilities": (
        {"choices": [{"text": WORDS, "logprobs": {"content": [{"token": "The", "text": WORDS}]}}]},
        450,
    ),
    "other scripts": ({"choices": [{"text": "ありがとう"}]}, 4),
    "nothing": ({"choices": []}, 0),
    "no object": ([1], 1),
    "too large to be read": ({"choices": [{"text": WORDS * 1000}]}, 450_007),
}


@pytest.mark.parametrize("case", ANSWERS)
def test_a_whole_answer(case: str) -> None:
    body, tokens = ANSWERS[case]

    assert tokens == answer(json.dumps(body).encode())


@pytest.mark.parametrize(
    "body", [b"", b"Hello", b'{"a":NaN}', b"\xff", b'{"choices":[{"text":"\\ud800"}]}', b"[" * 100_000]
)
def test_what_is_no_json_is_text(body: bytes) -> None:
    assert len(body) / 4 <= answer(body) < len(body) / 4 + 1


def event(**fields: Any) -> bytes:
    return sse.event(json.dumps(fields).encode())


def chunk(**delta: Any) -> bytes:
    return event(id="chatcmpl-1", object="chat.completion.chunk", choices=[{"index": 0, "delta": delta}])


def padded(number: int) -> bytes:
    """As OpenAI hides how long each word is."""
    choices = [{"index": 0, "delta": {"content": " fox"[: number % 4 + 1]}}]
    return event(id="chatcmpl-1", choices=choices, obfuscation="x" * (8 - number % 4))


ECHOED = event(type="response.created", response={"instructions": WORDS, "tools": [{"text": WORDS}], "text": {}})
BEGIN, HELLO = chunk(role="assistant", content=""), chunk(content="Hello")
# What comes first, and then again and again, and how many tokens each of these is.
STREAMS: dict[str, tuple[list[bytes], list[bytes], float]] = {
    "one token at a time": ([BEGIN], [chunk(content=" fox")], 1),
    "letters": ([BEGIN], [chunk(content="a")], 1),
    "padded": ([BEGIN], [padded(number) for number in range(4)], 1),
    "many at a time": ([BEGIN], [chunk(content=WORDS)], 450),
    "thoughts": ([BEGIN], [chunk(reasoning_content="well")], 1),
    "arguments": ([BEGIN], [chunk(tool_calls=[{"index": 0, "function": {"arguments": '{"a"'}}])], 1),
    "a completion": ([], [event(id="c", choices=[{"index": 0, "text": " fox"}])], 1),
    "a response": ([ECHOED], [event(type="response.output_text.delta", item_id="m", delta=" fox")], 1),
}


@pytest.mark.parametrize("together", [1, 7], ids=["each by itself", "seven in a read"])
@pytest.mark.parametrize("times", [1, 2, 5, 300])
@pytest.mark.parametrize("case", STREAMS)
def test_a_stream_that_was_cut(case: str, times: int, together: int) -> None:
    first, again, tokens = STREAMS[case]
    events = [*first, *(again[number % len(again)] for number in range(times))]
    sample, sent = Sample(), 0
    for at in range(0, len(events), together):
        read = b"".join(events[at : at + together])
        if sample.open:
            sample.add(read, sent)
        sent += len(read)

    assert sample.tokens(sent) == pytest.approx(times * tokens, rel=0.1, abs=1)


def test_one_that_did_not_speak() -> None:
    sample = Sample()
    sample.add(BEGIN, 0)

    assert (0, 0) == (Sample().tokens(1000), sample.tokens(len(BEGIN)))


def test_what_the_relay_says_itself_is_none_of_it() -> None:
    sample = Sample()
    sample.add(HELLO, 0)
    sample.own = 500

    assert 2 == sample.tokens(len(HELLO) + 500)


def test_little_is_held_of_it() -> None:
    sample = Sample()
    large = chunk(content=WORDS * 100)
    while sample.open:
        sample.add(large, 0)

    assert sum(map(len, sample.reads)) < 100_000


@given(st.lists(st.binary(max_size=80), max_size=6), st.integers(0, 10**9))
def test_anything_at_all(reads: list[bytes], sent: int) -> None:
    sample = Sample()
    for read in reads:
        sample.add(b'data: {"delta":"a"}\n\n' + read, sent)

    assert sample.tokens(sent) >= 0
    for read in reads:
        assert answer(read) >= 0
        assert prompt(splice.read(json.dumps({"input": read.decode("latin-1")}).encode())) >= 1
