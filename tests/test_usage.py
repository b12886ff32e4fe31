"""What an upstream says of its tokens, and what of that is believed."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay import sse
from relay.usage import Meter, Usage, of_body, of_tail, tail

CHAT = {
    "prompt_tokens": 9,
    "completion_tokens": 12,
    "total_tokens": 21,
    "prompt_tokens_details": {"cached_tokens": 4, "audio_tokens": 0},
    "completion_tokens_details": {"reasoning_tokens": 5, "accepted_prediction_tokens": 0},
}
RESPONSES = {
    "input_tokens": 9,
    "input_tokens_details": {"cached_tokens": 4},
    "output_tokens": 12,
    "output_tokens_details": {"reasoning_tokens": 5},
    "total_tokens": 21,
}
SAID = Usage(9, 12, 4, 5)

STATED: dict[str, tuple[Any, Usage | None]] = {
    "chat": ({"usage": CHAT}, SAID),
    "responses": ({"usage": RESPONSES}, SAID),
    "wrapped": ({"type": "response.completed", "response": {"id": "r", "usage": RESPONSES}}, SAID),
    "embeddings": ({"data": [], "usage": {"prompt_tokens": 8, "total_tokens": 8}}, Usage(8)),
    "zero": ({"usage": {"prompt_tokens": 0, "completion_tokens": 0}}, Usage(0, 0)),
    "null details": ({"usage": {"prompt_tokens": 1, "prompt_tokens_details": None}}, Usage(1)),
    "null in details": ({"usage": {"prompt_tokens": 1, "prompt_tokens_details": {"cached_tokens": None}}}, Usage(1)),
    "null for one": ({"usage": {"prompt_tokens": 3, "completion_tokens": None}}, Usage(3)),
    "unknown fields": ({"usage": {"prompt_tokens": 3, "queue_time": 0.1, "cost": "1"}}, Usage(3)),
    "more cached than there was": (
        {"usage": {"prompt_tokens": 9, "completion_tokens": 3, "prompt_tokens_details": {"cached_tokens": 10}}},
        Usage(None, 3),
    ),
    "all of it cached": (
        {"usage": {"prompt_tokens": 9, "prompt_tokens_details": {"cached_tokens": 9}}},
        Usage(9, None, 9),
    ),
    "none": ({"id": "c"}, None),
    "null": ({"usage": None}, None),
    "empty": ({"usage": {}}, None),
    "all null": ({"usage": {"prompt_tokens": None, "completion_tokens": None}}, None),
    "negative": ({"usage": {"prompt_tokens": -1, "completion_tokens": 2}}, None),
    "a fraction": ({"usage": {"prompt_tokens": 1.5}}, None),
    "a string": ({"usage": {"prompt_tokens": "12"}}, None),
    "a boolean": ({"usage": {"prompt_tokens": True}}, None),
    "1e30": ({"usage": {"prompt_tokens": 1e30}}, None),
    "30 digits": ({"usage": {"prompt_tokens": 10**30}}, None),
    "5000 digits": ({"usage": {"prompt_tokens": 10**4000}}, None),
    "NaN": ({"usage": {"prompt_tokens": float("nan")}}, None),
    "Infinity": ({"usage": {"prompt_tokens": float("inf")}}, None),
    "an array": ({"usage": [1, 2]}, None),
    "a word": ({"usage": "lots"}, None),
    "further in": ([{"usage": CHAT}], SAID),
    "a tool's field of that name behind it": (
        {"usage": CHAT, "tools": [{"properties": {"usage": {"type": "string"}}}]},
        SAID,
    ),
    "another's usage behind it": ({"usage": CHAT, "choices": [{"stats": {"usage": {"prompt_tokens": 555}}}]}, SAID),
    "braces in a note": ({"usage": CHAT | {"note": "}{"}}, SAID),
    "its name among the words": ({"usage": CHAT, "text": 'the "usage":{"prompt_tokens":7}'}, SAID),
}


@pytest.mark.parametrize("case", STATED)
def test_of_a_body(case: str) -> None:
    body, expected = STATED[case]

    assert expected == of_body(json.dumps(body).encode())
    assert expected == of_body(json.dumps(body, indent=2).encode())


DEEP = b"[" * 100_000 + b"]" * 100_000


@pytest.mark.parametrize("body", [b'{"usage":{"prompt_tokens":1,"x":' + DEEP + b"}}", b'{"usage":' + DEEP + b"}"])
def test_of_what_is_too_deep(body: bytes) -> None:
    assert of_body(body) is None


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b'{"usage":{"prompt_tokens":1', b'{"a":' + b"[" * 100_000])
def test_of_what_is_no_json(body: bytes) -> None:
    assert of_body(body) is None


LONG = "x" * (1 << 20)
TAILS: dict[str, tuple[Any, Usage | None]] = {
    "at the end": ({"data": LONG, "usage": CHAT}, SAID),
    "before the end": ({"data": LONG, "usage": RESPONSES, "service_tier": {"a": {}}}, SAID),
    "far from the end": ({"usage": CHAT, "data": LONG}, SAID),
    "the last one counts": ({"usage": {"prompt_tokens": 1}, "data": LONG, "usage ": 1, "z": {"usage": CHAT}}, SAID),
    "said in a string": ({"usage": CHAT, "data": LONG, "text": '"usage": {"prompt_tokens": 77}'}, SAID),
    "a lie": ({"data": LONG, "usage": {"prompt_tokens": -1}}, None),
    "long": ({"data": LONG, "usage": {"prompt_tokens": 1, "note": "y" * 2000}}, Usage(1)),
    "null": ({"data": LONG, "usage": None}, None),
    "none": ({"data": LONG}, None),
}


@pytest.mark.parametrize("case", TAILS)
@pytest.mark.parametrize("separators", [(",", ":"), (", ", ": ")], ids=["compact", "spaced"])
def test_of_a_large_body_from_its_end(case: str, separators: tuple[str, str]) -> None:
    body, expected = TAILS[case]

    assert expected == of_body(json.dumps(body, separators=separators).encode())


@given(st.binary(max_size=60), st.integers(0, 200))
def test_any_tail_is_searched_without_a_fault(junk: bytes, cut: int) -> None:
    body = json.dumps({"usage": CHAT}).encode()

    assert of_tail(junk + body[cut:] + junk) in (None, SAID)


def chunk(**fields: Any) -> bytes:
    return sse.event(json.dumps({"id": "c", "object": "chat.completion.chunk", **fields}).encode())


def choice(finish_reason: Any = None) -> dict[str, Any]:
    return {"index": 0, "delta": {"content": "Hi"}, "finish_reason": finish_reason}


FAULT = {"message": "no", "type": "server_error", "param": None, "code": None}
# What is read of an event: the usage, and which of finished, done, errored and usage-only it makes true.
READ: dict[str, tuple[bytes, Usage | None, set[str]]] = {
    "content": (chunk(choices=[choice()]), None, set()),
    "content, usage null": (chunk(choices=[choice()], usage=None), None, set()),
    "finish": (chunk(choices=[choice("stop")]), None, {"finished"}),
    "finish of the second": (chunk(choices=[choice(), choice("length")]), None, {"finished"}),
    "usage alone": (chunk(choices=[], usage=CHAT), SAID, {"alone"}),
    "usage alone, not believed": (chunk(choices=[], usage={"prompt_tokens": -1}), None, {"alone"}),
    "usage with the finish": (chunk(choices=[choice("stop")], usage=CHAT), SAID, {"finished"}),
    "usage with content": (chunk(choices=[choice()], usage=CHAT), SAID, set()),
    "usage, no choices": (chunk(usage=CHAT), SAID, set()),
    "no choices, usage null": (chunk(choices=[], usage=None), None, set()),
    "Azure's filter results": (chunk(choices=[], prompt_filter_results=[{"prompt_index": 0}]), None, set()),
    "Azure's, with usage": (chunk(choices=[], prompt_filter_results=[], usage=CHAT), SAID, set()),
    "an error with usage": (chunk(choices=[], usage=CHAT, error=FAULT), SAID, {"errored"}),
    "an error": (chunk(error=FAULT), None, {"errored"}),
    "an error in words": (sse.event(b'{"error":"no"}'), None, {"errored"}),
    "error null": (chunk(choices=[choice()], error=None), None, set()),
    "an error event": (b'event: error\ndata: {"type":"error","message":"no"}\n\n', None, {"errored", "finished"}),
    "done": (b"data: [DONE]\n\n", None, {"done"}),
    "done, no space": (b"data:[DONE]\n\n", None, {"done"}),
    "done, CR LF": (b"data: [DONE]\r\n\r\n", None, {"done"}),
    "done with an id": (b"id: 9\ndata: [DONE] \n\n", None, {"done"}),
    "done in the text": (chunk(choices=[{"delta": {"content": "[DONE]"}}]), None, set()),
    "completed": (sse.event(b'{"type":"response.completed","response":{"usage":{"input_tokens":9}}}'),
        Usage(9), {"finished"}),
    "incomplete": (sse.event(b'{"type": "response.incomplete", "response": {}}'), None, {"finished"}),
    "failed": (sse.event(b'{"type":"response.failed","response":{"error":{"code":"x"}}}'), None,
        {"errored", "finished"}),
    "an image": (sse.event(b'{"type":"image_generation.completed","usage":{"input_tokens":9}}'),
        Usage(9), {"finished"}),
    "an image's part": (sse.event(b'{"type":"image_generation.partial_image","b64_json":"aGk="}'), None, set()),
    "created": (sse.event(b'{"type":"response.created","response":{"error":null,"usage":null}}'), None, set()),
    "two lines": (b'data: {"choices":[],\ndata: "usage":{"prompt_tokens":9}}\n\n', Usage(9), {"alone"}),
    "a comment": (b": ping\n\n", None, set()),
    "no JSON": (b"data: hello\n\n", None, set()),
    "no UTF-8": (b'data: {"type":"\xff"}\n\n', None, set()),
    "no object": (b"data: [1]\n\n", None, set()),
    "depth": (b"data: " + b"[" * 100_000 + b"\n\n", None, set()),
}  # fmt: skip


def speaking() -> Meter:
    """A meter that has seen an event which says something."""
    meter = Meter()
    meter.read(b"data: 1\n\n")
    return meter


def found(meter: Meter, event: bytes) -> set[str]:
    """What `meter` reads of `event`, beside the usage."""
    alone = meter.read(event)
    said = {"alone": alone, "finished": meter.finished, "done": meter.done, "errored": meter.errored}
    return {name for name, is_so in said.items() if is_so}


@pytest.mark.parametrize("case", READ)
def test_read(case: str) -> None:
    event, usage, expected = READ[case]
    meter = Meter()

    assert expected == found(meter, event)
    assert usage == meter.usage
    assert not (speaking().plain(event) and (expected or usage))


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        (b": ping\n\n", False),
        (b"\n", False),
        (b"data:\n\n", False),
        (b": data: {}\n\n", False),
        (b"data: {}\n\n", True),
        (b"data: hello\n\n", True),
        (b"event: a\ndata: 1\n\n", True),
        (b"data: [DONE]\n\n", True),
        (b'data: {"error":{}}\n\n', True),
    ],
)
def test_an_event_with_data_speaks_whether_it_is_read_or_found_plain(event: bytes, expected: bool) -> None:
    read, plain = Meter(), Meter()
    read.read(event)
    if not plain.plain(event):
        plain.read(event)

    assert (expected, expected) == (read.spoke, plain.spoke)


def test_the_last_usage_counts_and_a_lie_takes_nothing_back() -> None:
    meter = Meter()

    for usage in (
        {"prompt_tokens": 9, "completion_tokens": 1},
        {"prompt_tokens": 9, "completion_tokens": 2},
        {"prompt_tokens": -9},
        None,
    ):
        meter.read(chunk(choices=[choice()], usage=usage))

    assert Usage(9, 2) == meter.usage


IMAGE = {"type": "image_generation.completed", "b64_json": LONG, "usage": RESPONSES}
# An event that is too large to be read, whether its blank line came, what is read of it, and what of usage.
SKIMMED: dict[str, tuple[bytes, bool, set[str], Usage | None]] = {
    "an image": (chunk(**IMAGE), True, {"finished"}, SAID),
    "without its blank line": (chunk(**IMAGE).rstrip(), False, {"finished"}, SAID),
    "torn": (chunk(**IMAGE)[:-9], False, set(), None),
    "with its name": (b"event: image_edit.completed\n" + chunk(**IMAGE), True, {"finished"}, SAID),
    "another order": (chunk(**dict(reversed(IMAGE.items()))), True, {"finished"}, SAID),
    "an image's part": (chunk(type="image_generation.partial_image", b64_json=LONG), True, set(), None),
    "a response": (chunk(type="response.completed", response={"output": [{"type": "x", "a": LONG}], "error": None,
        "usage": RESPONSES, "text": {"type": "text"}}), True, {"finished"}, SAID),
    "a failed one": (chunk(type="response.failed", response={"output": LONG}), True, {"finished", "errored"}, None),
    "an error further in": (chunk(type="a", response={"output": LONG, "e": {"type": "x"}}), True, set(), None),
    "content": (chunk(choices=[{"delta": {"images": LONG}, "finish_reason": None}], usage=None), True, set(), None),
    "the last": (chunk(choices=[{"delta": {"images": LONG}, "finish_reason": "stop"}]), True, {"finished"}, None),
    "with a finish before": (chunk(choices=[{"finish_reason": "stop", "delta": LONG}]), True, {"finished"}, None),
    "with usage": (chunk(choices=[{"delta": LONG}], usage=CHAT), True, set(), SAID),
    "in words": (chunk(choices=[{"delta": LONG + ' "finish_reason": "stop", "type": "error"'}]), True, set(), None),
    "no event": (json.dumps(IMAGE).encode(), False, set(), None),
    "no JSON": (b"data: " + LONG.encode() + b"\n\n", True, set(), None),
    "no UTF-8": (b'data: {"type":"\xff' + LONG.encode() + b'","type":"\xff"}\n\n', True, set(), None),
}  # fmt: skip


@pytest.mark.parametrize("case", SKIMMED)
@pytest.mark.parametrize("size", [1 << 14, 1 << 19, 1 << 21])
def test_what_is_too_large_to_be_read_is_read_at_both_of_its_ends(case: str, size: int) -> None:
    event, ended, expected, usage = SKIMMED[case]
    meter = Meter()

    for at in range(0, len(event), size):
        meter.skim(event[at : at + size])
        assert meter.spoke
        assert (False, False, None) == (meter.finished, meter.errored, meter.usage)
    meter.skimmed(ended)

    assert expected == {name for name in ("finished", "errored", "done") if getattr(meter, name)}
    assert usage == meter.usage
    assert (b"", b"") == (meter.head, meter.tail)


@given(st.lists(st.integers(0, 70_000), max_size=8))
def test_the_tail_is_the_end_of_all_that_came(sizes: list[int]) -> None:
    came, end = b"", b""
    for number, size in enumerate(sizes):
        piece = bytes([number]) * size
        came, end = came + piece, tail(end, piece)

    assert came[-65_536:] == end


WORDS = st.sampled_from(
    ["", "Hi", "finish_reason", '"finish_reason":null', '"usage":null', '"usage"', "[DONE]", '"error"', "red", "é\n"]
)  # fmt: skip
TYPES = st.sampled_from(
    ["response.completed", "response.failed", "response.incomplete", "error", "image_edit.completed", "x"]
)  # fmt: skip
USAGES = st.sampled_from([None, CHAT, RESPONSES, {}, {"prompt_tokens": 0}, {"prompt_tokens": -1}, 7, "usage"])
CHOICES = st.lists(
    st.fixed_dictionaries(
        {}, optional={"delta": WORDS, "finish_reason": st.sampled_from([None, "stop", "", 0]), "text": WORDS}
    ),
    max_size=2,
)
CHUNKS = st.fixed_dictionaries(
    {},
    optional={
        "id": WORDS,
        "type": TYPES,
        "choices": CHOICES,
        "usage": USAGES,
        "error": st.sampled_from([None, FAULT, "no", ""]),
        "response": st.fixed_dictionaries({}, optional={"usage": USAGES}),
    },
)
SEPARATORS = st.sampled_from([(",", ":"), (", ", ": "), (" ,", " :")])


@given(st.lists(CHUNKS | st.just("[DONE]"), max_size=3), SEPARATORS, st.booleans())
def test_what_is_called_plain_says_nothing(chunks: list[Any], separators: tuple[str, str], ascii_only: bool) -> None:
    texts = [
        each if each == "[DONE]" else json.dumps(each, separators=separators, ensure_ascii=ascii_only)
        for each in chunks
    ]
    whole = b"".join(sse.event(text.encode()) for text in texts)
    meter = Meter()
    said = [found(meter, event) for event in sse.events(whole)]

    if speaking().plain(whole):
        assert not any(said)
        assert meter.usage is None


def test_mere_content_is_plain() -> None:
    content = b'data: {"choices":[{"index":0,"delta":{"content":"Hi"},"finish_reason":null}],"usage":null}\n\n'

    assert Meter().plain(content * 3)
    assert not Meter().plain(content + content.replace(b":null}]", b':"stop"}]'))
