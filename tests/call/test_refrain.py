"""The refrain: what is the last plain event with other words goes on as it came, and nothing else does."""

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay import sse
from relay.call.account import Account
from relay.call.refrain import Refrain
from relay.journal import Journal
from relay.record import Keep
from relay.usage import Meter
from tests.requests import account
from tests.upstream import piece

EVENT = b'data: {"choices":[{"index":0,"delta":{"content":"%b"},"finish_reason":null}],"usage":null}\n\n'


class Way:
    """A passage that keeps what goes over it."""

    def __init__(self) -> None:
        self.full = self.closed = False
        self.sent: list[bytes] = []

    def now(self, framed: bytes) -> None:
        if self.closed:
            raise RuntimeError
        self.sent.append(framed)


Sing = Callable[[Keep], tuple[Refrain, Account, Way]]


@pytest.fixture
def sing(tmp_path: Path) -> Sing:
    def made(keep: Keep) -> tuple[Refrain, Account, Way]:
        found = account(Journal(tmp_path), keep=keep)
        refrain, way = Refrain(found, keep != "none"), Way()
        refrain.passage = way
        return refrain, found, way

    return made


def taken(refrain: Refrain, whole: bytes) -> bool:
    """Whether these events are taken, as one chunk."""
    framed = piece(whole)
    return refrain.chunk(framed, len(framed) - len(whole) - 2)


@pytest.mark.parametrize(("keep", "kept"), [("none", []), ("full", [EVENT % b"two"])])
def test_the_same_event_with_other_words_goes_on_as_it_came(sing: Sing, keep: Keep, kept: list[bytes]) -> None:
    refrain, account, way = sing(keep)
    assert not taken(refrain, EVENT % b"one")
    refrain.learn(EVENT % b"one")

    assert taken(refrain, EVENT % b"two")

    assert ([piece(EVENT % b"two")], len(EVENT % b"two"), kept) == (way.sent, account.bytes_out, account.response)


SAME = {
    "none": b"",
    "a string without its end": b"a\\",
    "an escaped line end": b"a\\n",
    "any language": "\u4f60".encode(),
    "many": b"x" * 300,
}
OTHER = {
    "a quote": EVENT % b'"',
    "a line end": EVENT % b"\n",
    "another line end": EVENT % b"\r",
    "an end": EVENT % b'x"},"finish_reason":"stop"',
    "two": (EVENT % b"one") * 2,
    "more behind it": EVENT % b"one" + b"\n",
    "less than what stands around the words": EVENT.replace(b'"%b"', b'"'),
    "another": EVENT.replace(b"content", b"refusal") % b"one",
}


@pytest.mark.parametrize("words", SAME)
def test_any_words_will_do(sing: Sing, words: str) -> None:
    refrain, _, _ = sing("none")
    refrain.learn(EVENT % b"one")

    assert taken(refrain, EVENT % SAME[words])


@pytest.mark.parametrize("other", OTHER)
def test_what_is_not_the_same_is_not_taken(sing: Sing, other: str) -> None:
    refrain, account, way = sing("full")
    refrain.learn(EVENT % b"one")

    assert not taken(refrain, OTHER[other])
    assert ([], 0, []) == (way.sent, account.bytes_out, account.response)


def test_what_does_not_end_as_a_chunk_is_not_taken(sing: Sing) -> None:
    refrain, _, way = sing("none")
    refrain.learn(EVENT % b"one")
    framed = piece(EVENT % b"two")

    assert not refrain.chunk(framed[:-2] + b"\n\n", framed.find(b"d"))
    assert not way.sent


@pytest.mark.parametrize("event", [EVENT % b"a\\", (EVENT % b"one") * 2, b"data: {}\n\n"])
def test_what_is_no_event_with_words_is_not_learnt(sing: Sing, event: bytes) -> None:
    refrain, _, _ = sing("none")
    refrain.learn(event)

    assert not taken(refrain, event)


def test_nothing_is_taken_where_it_cannot_go(sing: Sing) -> None:
    refrain, account, way = sing("full")
    refrain.learn(EVENT % b"one")

    refrain.passage = None
    assert not taken(refrain, EVENT % b"two")
    refrain.passage, way.full = way, True
    assert not taken(refrain, EVENT % b"two")
    way.full, way.closed = False, True
    assert not taken(refrain, EVENT % b"two")

    assert ([], 0, []) == (way.sent, account.bytes_out, account.response)


# What could stand where words stand, and end them.
ENDINGS = (
    b"Hi",
    b"\\",
    b"\\\\",
    b'\\"',
    b'"',
    b'"},"finish_reason":"stop"}]}\n\ndata: {"choices":[{"delta":{"content":"',
    b"\n\ndata: [DONE]\n\n",
    b"\r\rdata: [DONE]\r\r",
    b'","error":{"message":"',
    b'"}}],"usage":{"prompt_tokens":1},"x":[{"y":{"z":"',
)


@given(st.lists(st.lists(st.sampled_from(ENDINGS), max_size=3), min_size=1, max_size=6))
def test_who_has_learnt_plain_events_is_not_fooled_by_others_like_them(
    tmp_path_factory: pytest.TempPathFactory, words: list[list[bytes]]
) -> None:
    refrain, meter = Refrain(account(Journal(tmp_path_factory.mktemp("journal"))), keeps=False), Meter()
    refrain.passage = Way()

    for each in words:
        whole = EVENT % b"".join(each)
        plain = taken(refrain, whole) or meter.plain(whole)
        if plain:
            refrain.learn(whole)
            fresh = Meter()
            assert not any(fresh.read(event) for event in sse.events(whole))
            assert (None, False, False, False) == (fresh.usage, fresh.finished, fresh.done, fresh.errored)
