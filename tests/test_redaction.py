"""What is left of bodies and error texts."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.redaction import STRUCTURE, is_redacted, redact, scrub

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda part: st.lists(part, max_size=4) | st.dictionaries(st.text(max_size=8), part, max_size=4),
    max_leaves=12,
)

CASES = {
    "words go": ({"content": "hello"}, {"content": "[5 chars]"}),
    "structure stays": ({"model": "gpt-4o", "role": "user"}, {"model": "gpt-4o", "role": "user"}),
    "a long name is none": ({"name": "n" * 65}, {"name": "[65 chars]"}),
    "numbers and truth stay": ({"t": 0.5, "stream": True, "n": None}, {"t": 0.5, "stream": True, "n": None}),
    "lists": ({"stop": ["a", "bc"]}, {"stop": ["[1 chars]", "[2 chars]"]}),
    "tokens are words": ({"input": [1, 2, 3]}, {"input": "[3 numbers]"}),
    "depth": ({"messages": [{"role": "user", "content": [{"type": "text", "text": "hi"}]}]},
              {"messages": [{"role": "user", "content": [{"type": "text", "text": "[2 chars]"}]}]}),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_what_was_taken_out_can_be_told(case: str) -> None:
    body, expected = (json.dumps(value).encode() for value in CASES[case])

    assert (body != expected) == is_redacted(redact(body, None))
    assert not is_redacted(body)


@pytest.mark.parametrize("case", CASES)
def test_json(case: str) -> None:
    body, expected = CASES[case]

    assert expected == json.loads(redact(json.dumps(body).encode(), "application/json; charset=utf-8"))


def test_an_event_stream() -> None:
    body = b': note\r\nevent: delta\r\ndata: {"delta":{"content":"hi"}}\r\n\r\ndata: words\n\ndata: [DONE]\n\n'

    expected = b'event: delta\ndata: {"delta":{"content":"[2 chars]"}}\n\ndata: [5 bytes]\n\ndata: [DONE]\n\n'
    assert expected == redact(body, "text/event-stream")


@pytest.mark.parametrize("body", [b"plain words", b"\xff\xfe\x00", b'{"cut": "of', b"[" * 100_000])
def test_what_is_no_json(body: bytes) -> None:
    assert b"[%d bytes]" % len(body) == redact(body, None)


@given(JSON)
def test_no_string_survives_but_under_a_name_of_structure(value: object) -> None:
    def words(part: object, name: str = "") -> list[str]:
        if isinstance(part, dict):
            return [word for key, each in part.items() for word in words(each, key)]
        if isinstance(part, list):
            return [word for each in part for word in words(each, name)]
        return [part] if isinstance(part, str) and name not in STRUCTURE else []

    left = words(json.loads(redact(json.dumps(value).encode(), "application/json")))

    assert all(word.startswith("[") and word.endswith((" chars]", " numbers]")) for word in left)


SCRUBBED = {
    "Incorrect API key provided: sk-proj-abc_DEF-123.": "Incorrect API key provided: sk-***",
    "key sk-abcd****wxyz, see": "key sk-***, see",
    "Authorization: Bearer eyJhbGciOi.x.y; next": "Authorization: Bearer sk-***; next",
    '{"api-key": "0123abcd", "a": 1}': '{"api-key": "sk-***", "a": 1}',
    "x-api-key=secret": "x-api-key=sk-***",
    '{"code":"invalid_api_key","type":"t"}': '{"code":"invalid_api_key","type":"t"}',
    "risk-management of a task-force": "risk-management of a task-force",
    "the model \u4f60 \ud800 is not there": "the model \u4f60 \ud800 is not there",
}


@pytest.mark.parametrize("text", SCRUBBED)
def test_credentials_are_starred(text: str) -> None:
    assert SCRUBBED[text] == scrub(text)
    assert SCRUBBED[text] == scrub(scrub(text))
    assert SCRUBBED[text].encode(errors="surrogatepass") == scrub(text.encode(errors="surrogatepass"))
