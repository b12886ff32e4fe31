"""Which requests are turns of one conversation."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.session import session_of
from tests.requests import ask, begun

SYSTEM = {"role": "system", "content": "Be brief."}
HELLO = {"role": "user", "content": "Hello"}
ANSWER = {"role": "assistant", "content": "Hi"}
MORE = {"role": "user", "content": "And now?"}


def of(fields: dict[str, Any], *headers: tuple[bytes, bytes]) -> bytes:
    return session_of(begun(*headers), ask(json.dumps({"model": "m", **fields}).encode()))


@pytest.mark.parametrize("field", ["messages", "input"])
def test_a_conversation_that_grows_stays_the_same(field: str) -> None:
    turns = [SYSTEM, HELLO, ANSWER, MORE]

    names = {of({field: turns[:count]}) for count in (2, 3, 4)}

    assert 1 == len(names)
    assert all(16 == len(name) for name in names)


@pytest.mark.parametrize(
    "other",
    [
        {"messages": [SYSTEM, MORE]},
        {"messages": [HELLO]},
        {"messages": [{**SYSTEM, "content": "Be long."}, HELLO]},
        {"messages": "Hello"},
        {"messages": []},
        {"input": "Hello"},
        {"prompt_cache_key": "k"},
    ],
)
def test_another_conversation_is_another(other: dict[str, Any]) -> None:
    assert of({"messages": [SYSTEM, HELLO]}) != of(other)


@pytest.mark.parametrize(
    "header", [b"session_id", b"x-session-id", b"x-claude-code-session-id", b"x-session-affinity", b"conversation_id"]
)
def test_what_an_agent_calls_it_comes_first(header: bytes) -> None:
    first = of({"messages": [HELLO], "prompt_cache_key": "a"}, (header, b"s1"))
    second = of({"messages": [MORE], "prompt_cache_key": "b"}, (header, b"s1"))
    other = of({"messages": [HELLO], "prompt_cache_key": "a"}, (header, b"s2"))

    assert first == second != other


def test_the_cache_key_comes_before_the_turns() -> None:
    assert of({"messages": [HELLO], "prompt_cache_key": "a"}) == of({"messages": [MORE], "prompt_cache_key": "a"})
    assert of({"messages": [HELLO], "prompt_cache_key": None}) == of({"messages": [HELLO]})


@pytest.mark.parametrize("first", [{"input": "Hello"}, {"input": [HELLO]}])
def test_a_text_is_the_users_first_turn(first: dict[str, Any]) -> None:
    assert of(first) == of({"input": [HELLO, ANSWER, MORE]}) != of({"input": [SYSTEM, HELLO]})


def test_a_conversation_that_the_upstream_keeps_is_one_whatever_is_said_in_it() -> None:
    first, second = of({"conversation": "c1", "input": "Hello"}), of({"conversation": {"id": "c1"}, "input": "More"})

    assert first == second != of({"conversation": "c2", "input": "Hello"})
    assert of({"conversation": None, "input": "Hello"}) == of({"conversation": {}, "input": "Hello"})


def test_where_nothing_tells_there_is_none() -> None:
    assert b"" == of({"prompt": "Hello"})


JSON = st.recursive(st.none() | st.booleans() | st.integers() | st.text(), st.lists, max_leaves=20)


@given(JSON | st.lists(st.dictionaries(st.sampled_from(["role", "content"]), JSON)))
def test_nothing_is_too_odd(turns: Any) -> None:
    assert 16 == len(of({"messages": turns}))
