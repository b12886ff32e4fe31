"""Tokens: joined they are the text, and a cut text has no more of them than it may."""

from hypothesis import given
from hypothesis import strategies as st

from relay.upstream.echo.tokens import count, cut, tokens

TEXTS = st.text(st.sampled_from(" \n\tab.,!_é你🎉"))


def test_a_token_is_a_word_or_a_run_of_punctuation() -> None:
    assert list(tokens("Hello, wor_ld ?! 42\n")) == ["Hello", ",", " wor_ld", " ?!", " 42\n"]


@given(TEXTS)
def test_tokens_joined_are_the_text(text: str) -> None:
    assert text == "".join(tokens(text))


@given(TEXTS, st.lists(st.sampled_from(["a", ".", "b ", ""])), st.integers(0, 5))
def test_a_cut_text_keeps_to_its_bounds(text: str, stop: list[str], limit: int) -> None:
    kept, finish = cut(text, stop, limit)
    assert text.startswith(kept)
    assert count(kept) <= limit
    assert not any(mark and mark in kept for mark in stop)
    assert finish == "stop" or count(kept) == limit
