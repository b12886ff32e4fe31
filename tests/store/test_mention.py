"""A text is found in a record, in bodies, and in what a stream spells out."""

import json

import pytest

from relay import sse
from relay.store.mention import mentions
from tests.records import record

RECORD = record("one", alias="gpt-Nightly")


def spelt(*pieces: dict[str, object]) -> bytes:
    return b"".join(sse.event(json.dumps(piece).encode()) for piece in pieces) + sse.event(sse.DONE)


def chat(**delta: object) -> dict[str, object]:
    return {"choices": [{"index": 0, "delta": delta, "finish_reason": None}], "usage": None}


SAID = spelt(
    chat(role="assistant", content=""), chat(content='The "qu'), chat(content='ick" Bro'), chat(content="wn fö"),
    chat(content="x on C:\\"), chat(content="tmp"),
)  # fmt: skip
CASES: dict[str, tuple[str, bytes | None, bytes | None, bool]] = {
    "the record": ("nightly", None, None, True),
    "nowhere": ("dayly", b"{}", b"{}", False),
    "the request": ("Hi There", b'{"content":"hi there"}', None, True),
    "the answer": ("there", None, b'{"content":"Hi There"}', True),
    "as JSON writes it": ('a "b"\n', None, rb'{"content":"a \"b\"\n"}', True),
    "in ASCII": ("fö", None, b'{"content":"f\\u00f6"}', True),
    "a stream's pieces": ('the "quick" brown', None, SAID, True),
    "pieces in ASCII": ("brown föx on", None, SAID, True),
    "a backslash between": ("c:\\tmp", None, SAID, True),
    "other pieces": ("brown fox", None, SAID, False),
    "behind a comment": ("hello", None, b": ping\n\n" + spelt(chat(content="hel"), chat(content="lo")), True),
    "thoughts": ("hello", None, spelt(chat(reasoning_content="hel"), chat(reasoning_content="lo")), True),
    "arguments": ("paris", None, spelt(chat(tool_calls=[{"function": {"arguments": "Pa"}}]),
        chat(tool_calls=[{"function": {"arguments": "ris"}}])), True),
    "completions": ("hello", None, spelt({"choices": [{"text": "hel"}]}, {"choices": [{"text": "lo"}]}), True),
    "responses": ("hello", None, spelt({"type": "response.output_text.delta", "delta": "hel"},
        {"type": "response.output_text.delta", "delta": "lo"}), True),
    "messages of their own": ("hello", b'[{"content":"hel"},{"content":"lo"}]', None, False),
    "no text": ("hello", b"\xff\xfe", b"data: \xff\n\n", False),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_mentions(case: str) -> None:
    text, request, response, expected = CASES[case]

    assert expected == mentions(text, RECORD, lambda: (request, response))


def test_bodies_are_not_asked_for_where_the_record_says_it() -> None:
    assert mentions("nightly", RECORD, lambda: pytest.fail("asked"))
