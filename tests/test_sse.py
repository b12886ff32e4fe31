"""However a stream is cut: whole events, the same bytes, in linear time."""

import re
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from relay.sse import BOM, LARGE, EventSplitter, data, event, events

LINES = st.sampled_from(
    [b"data: {}", b"data:x", b"data", b"data:  two", b": ping", b"id: 7", b"", b"", b"", b"data: \xe4\xbd\xa0"]
)  # fmt: skip
ENDS = st.sampled_from([b"\n", b"\r\n", b"\r"])
STREAMS = st.lists(st.tuples(LINES, ENDS), max_size=12).map(lambda lines: b"".join(map(b"".join, lines)))
CUTS = st.lists(st.integers(0, 120), max_size=8)


def reference(stream: bytes) -> tuple[list[list[bytes]], bool]:
    """The blocks of lines that a blank line ends, as the standard has it; and whether something is left behind them."""
    lines = re.split(rb"\r\n|\n|\r", stream.removeprefix(BOM))
    blocks: list[list[bytes]] = []
    block: list[bytes] = []
    for line in lines[:-1]:
        if line:
            block.append(line)
        elif block:
            blocks.append(block)
            block = []
    return blocks, bool(block or lines[-1])


def pieces(stream: bytes, cuts: list[int]) -> list[bytes]:
    places = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    return [stream[start:end] for start, end in pairwise(places)]


@given(st.sampled_from([b"", BOM, BOM[:2]]), STREAMS, CUTS)
@example(b"", b"data: {}\r\n\r\ndata: {}\r\n\r\n", [9, 10, 11, 12])
@example(b"", b"data: {}\n\r\ndata: {}\r\r\n", [9, 10, 19, 20])
@example(BOM, b"data: {}\n\n", [0, 1, 2, 3])
def test_whole_events_and_the_same_bytes(mark: bytes, stream: bytes, cuts: list[int]) -> None:
    stream = mark + stream
    splitter = EventSplitter()
    out = seen = b""
    for piece in pieces(stream, cuts):
        whole = splitter.feed(piece)
        out, seen = out + whole, seen + piece

        found, torn = reference(out)
        # A final CR may be the first half of a CR LF: then the event may wait for the other half.
        expected = (reference(seen)[0], reference(seen[:-1])[0] if seen.endswith(b"\r") else None)
        assert not torn
        assert found in expected

    assert stream.removeprefix(BOM) == out + splitter.rest()


@given(STREAMS)
def test_one_piece_is_as_good_as_single_bytes(stream: bytes) -> None:
    at_once, one_by_one = EventSplitter(), EventSplitter()

    whole = at_once.feed(stream)
    joined = b"".join(one_by_one.feed(stream[at : at + 1]) for at in range(len(stream)))

    assert whole.rstrip(b"\r\n") == joined.rstrip(b"\r\n")
    assert stream == whole + at_once.rest() == joined + one_by_one.rest()


@given(STREAMS)
def test_events_are_the_blocks_one_by_one(stream: bytes) -> None:
    whole = EventSplitter().feed(stream)
    found = events(whole)

    assert whole == b"".join(found)
    assert reference(whole)[0] == [block for each in found for block in reference(each)[0]]
    assert all(len(reference(each)[0]) <= 1 for each in found)


@given(STREAMS)
def test_data_is_what_the_standard_calls_data(stream: bytes) -> None:
    for each in events(EventSplitter().feed(stream)):
        lines = [line for block in reference(each)[0] for line in block if line.startswith(b"data:")]
        expected = b"\n".join(line[5:].removeprefix(b" ") for line in lines) if lines else None

        assert expected == data(each)


def test_what_is_left_is_given_once() -> None:
    splitter = EventSplitter()
    splitter.feed(b"data: 1\n\ndata: 2\n")

    assert (b"data: 2\n", b"") == (splitter.rest(), splitter.rest())


@given(STREAMS, CUTS, st.sets(st.integers(0, 9)))
@example(b"data:x\n\rdata:x\n\n", [6, 8], {0, 1})
@example(b"data:x\r\n\r\ndata:x\n\n", [7, 9], {0})
def test_an_event_that_is_let_go_ends_where_it_ends(stream: bytes, cuts: list[int], large: set[int]) -> None:
    splitter = EventSplitter()
    out, torn, before = b"", False, 0
    for number, piece in enumerate(pieces(stream, cuts)):
        end = splitter.end(piece) if torn else 0
        if end is None:
            out += piece
            continue
        out += piece[:end]
        if torn:
            blocks, left = reference(out)
            assert not left
            assert len(blocks) <= before + 1
        out, torn = out + splitter.feed(piece[end:]), False
        if number in large and not splitter.is_empty:
            before = len(reference(out)[0])
            out, torn = out + splitter.let_go(), True
            assert not splitter.is_empty

    assert stream + b"\n\n" * torn == out + splitter.rest()
    assert splitter.is_empty


def test_an_event_is_large_once_more_of_it_is_kept_than_may_be() -> None:
    splitter = EventSplitter()
    half = b"data: " + b"x" * (LARGE // 2 - 6)

    for _ in range(2):
        assert b"" == splitter.feed(half)
        assert b"" == splitter.feed(half)
        assert not splitter.is_large
        assert half * 2 + b"\n\n" == splitter.feed(b"\n\ndata")  # whole in time
        splitter.feed(half * 2)
        assert splitter.is_large
        assert b"data" + half * 2 == splitter.let_go()
        assert not splitter.is_large
        assert (None, 1) == (splitter.end(b"more\n"), splitter.end(b"\ndata: next"))


@pytest.mark.parametrize("line_end", [b"\n", b"\r\n", b"\r"], ids=["LF", "CRLF", "CR"])
@pytest.mark.parametrize("line", [b"x" * 65_500, b"data: x"], ids=["long lines", "short lines"])
def test_a_large_event_takes_linear_time(line: bytes, line_end: bytes) -> None:
    piece = (line + line_end) * (65_536 // len(line + line_end))
    number = (32 << 20) // len(piece)
    splitter = EventSplitter()

    held = [splitter.feed(piece) for _ in range(number)]
    whole = splitter.feed(line_end + b"data: next")

    assert not any(held)
    assert (number * len(piece) + len(line_end), b"data: next") == (len(whole), splitter.rest())


DATA = {
    "one line": (b"data: {}\n\n", b"{}"),
    "no space": (b"data:{}\n\n", b"{}"),
    "only one space goes": (b"data:  x \n\n", b" x "),
    "empty": (b"data:\n\n", b""),
    "two lines": (b"data: a\ndata: b\n\n", b"a\nb"),
    "CR LF": (b"data: a\r\n\r\n", b"a"),
    "CR": (b"data: a\r\r", b"a"),
    "CR within": (b"data: a\rdata: b\n\n", b"a\nb"),
    "mixed ends": (b"data: a\r\n\n", b"a"),
    "among other fields": (b"id: 1\nevent: e\ndata: a\n\n", b"a"),
    "a comment": (b": ping\n\n", None),
    "a blank": (b"\n\n", None),
    "no data": (b"event: e\n\n", None),
    "a longer name": (b"database: x\n\n", None),
    "characters are whole": ("data: 你好\n\n".encode(), "你好".encode()),
}


@pytest.mark.parametrize("case", DATA)
def test_data(case: str) -> None:
    given_event, expected = DATA[case]

    assert expected == data(given_event)


def test_event() -> None:
    assert b'data: {"a":1}\n\n' == event(b'{"a":1}')
    assert b'{"a":1}' == data(event(b'{"a":1}'))
