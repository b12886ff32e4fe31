"""How an answer in chunks begins: what is known of it is what a parser says, and all else is left to the parser."""

import httptools
import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.exchange import Header
from relay.wire.opening import Opening
from tests.engines.peer import CHUNKED, chunk, whole

FIRST = CHUNKED + chunk(b"data: 1\n\n")
KNOWN = 200, ((b"transfer-encoding", b"chunked"),)


class Reading:
    """What llhttp says of the beginning of an answer. `between`: it stands after a whole chunk, and before the end."""

    def __init__(self, data: bytes) -> None:
        self.headers: list[Header] = []
        self.pieces: list[bytes] = []
        self.between = False
        parser = httptools.HttpResponseParser(self)
        parser.feed_data(data)
        self.status = parser.get_status_code()

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name, value))

    def on_body(self, piece: bytes) -> None:
        self.pieces.append(piece)

    def on_chunk_header(self) -> None:
        self.between = False

    def on_chunk_complete(self) -> None:
        self.between = True

    def on_message_complete(self) -> None:
        self.between = False


def read(data: bytes) -> tuple[int, tuple[Header, ...], bytes] | None:
    """Status, headers and the piece of an answer that has begun with one whole chunk; None of anything else."""
    try:
        reading = Reading(data)
    except httptools.HttpParserError:
        return None
    if not reading.between or len(reading.pieces) != 1:
        return None
    return reading.status, tuple(reading.headers), reading.pieces[0]


def learnt(data: bytes, piece: bytes) -> Opening:
    opening = Opening()
    opening.learn(data, piece, KNOWN)
    return opening


PARTS = st.sampled_from([
    CHUNKED, CHUNKED[:-2], b"HTTP/1.1 200 OK\r\nx-a: b\r\ntransfer-encoding: chunked\r\n\r\n", b"\r\n", b"0\r\n\r\n",
    b"5\r\nhello\r\n", b"A\r\n0123456789\r\n", b"a\r\n0123456789\r\n", b"05\r\nhello\r\n", b"5;x=y\r\nhello\r\n", b"x",
    b"5\r\nhello67",
])  # fmt: skip
PIECES = st.lists(PARTS | st.binary(min_size=1, max_size=300).map(chunk), max_size=3).map(b"".join)


@given(PARTS.map(lambda part: CHUNKED + part) | PIECES | PIECES.map(lambda rest: CHUNKED + rest))
def test_what_is_known_is_what_a_parser_says(data: bytes) -> None:
    found = learnt(FIRST, b"data: 1\n\n").piece(data)

    assert found is None or (*KNOWN, found) == read(data)


@pytest.mark.parametrize("size", [1, 15, 16, 255, 256, 4087])
def test_a_head_that_is_known_and_one_whole_chunk_need_no_parser(size: int) -> None:
    assert bytes(size) == learnt(FIRST, b"data: 1\n\n").piece(CHUNKED + chunk(bytes(size)))


@pytest.mark.parametrize(
    ("data", "piece"),
    [
        pytest.param(CHUNKED, b"", id="a head alone"),
        pytest.param(CHUNKED + chunk(b"a") + chunk(b"b"), b"ab", id="two chunks"),
        pytest.param(CHUNKED + chunk(b"a") + b"0\r\n\r\n", b"a", id="a whole answer"),
        pytest.param(CHUNKED + chunk(b"abc")[:-3], b"ab", id="half a chunk"),
        pytest.param(CHUNKED + chunk(bytes(5000)), bytes(5000), id="a large chunk"),
        pytest.param(whole(chunk(b"a")), chunk(b"a"), id="a body of known length that looks like a chunk"),
        pytest.param(b"HTTP/1.1 200 OK\r\n\r\n" + chunk(b"a"), chunk(b"a"), id="and one that ends with its connection"),
    ],
)
def test_of_anything_else_nothing_is_learnt(data: bytes, piece: bytes) -> None:
    assert learnt(data, piece).piece(data) is None


def test_the_last_head_is_the_one_that_is_known() -> None:
    opening = learnt(FIRST, b"data: 1\n\n")
    other = b"HTTP/1.1 201 OK\r\ntransfer-encoding: chunked\r\n\r\n"

    opening.learn(other + chunk(b"x"), b"x", (201, KNOWN[1]))

    assert (None, b"y") == (opening.piece(FIRST), opening.piece(other + chunk(b"y")))
    assert (other, 201) == (opening.head, opening.known[0])
