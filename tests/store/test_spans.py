"""Bodies cut into spans."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.store.spans import cut

LONG = "x" * 300


def messages(number: int) -> list[dict[str, str]]:
    return [{"role": "user", "content": f"{index} {LONG}"} for index in range(number)]


@given(
    st.binary(max_size=200)
    | st.lists(st.text(max_size=300), max_size=6).map(lambda parts: json.dumps({"input": parts}).encode())
)
def test_the_spans_are_the_body(body: bytes) -> None:
    assert body == b"".join(cut(body))


@pytest.mark.parametrize("name", ["messages", "input"])
@pytest.mark.parametrize("indent", [None, 2])
def test_a_history_that_grows_adds_its_last_turn(name: str, indent: int | None) -> None:
    shorter, longer = (
        cut(json.dumps({"model": "m", name: messages(number), "tools": [LONG]}, indent=indent).encode())
        for number in (5, 6)
    )

    assert 7 == len(shorter)
    assert 1 == len(set(longer) - set(shorter))


WHOLE = {
    "no JSON": b"{",
    "not an object": b"[1]",
    "no array": b'{"input": "text"}',
    "neither field": b'{"prompt": ["a"]}',
    "a name that is not UTF-8": b'{"\xff": ["a"]}',
    "too deep": b'{"input": ' + b"[" * 9000 + b"]" * 9000 + b"}",
}


@pytest.mark.parametrize("case", WHOLE)
def test_what_has_no_elements_is_one_span(case: str) -> None:
    assert [WHOLE[case]] == cut(WHOLE[case])


def test_an_array_of_many_numbers_is_few_spans() -> None:
    body = json.dumps({"input": list(range(100_000))}).encode()

    assert len(cut(body)) <= len(body) / 256 + 2


def test_elements_that_stand_elsewhere_too() -> None:
    body = b'{"a": ["x", "x"], "messages": ["x", "x"], "b": "x"}'

    assert body == b"".join(cut(body))


def test_nothing() -> None:
    assert [] == cut(b"")
