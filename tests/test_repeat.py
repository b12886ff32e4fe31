"""A repeated head: comparing it says what a parser would have said, and what is not plain is left to the parser."""

import httptools
import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.exchange import Header
from relay.repeat import Repeat

START = b"POST /v1/chat/completions HTTP/1.1\r\nhost: relay\r\n"
FIRST = START + b"content-length: 2\r\naccept: */*\r\n\r\n{}"


class Reading:
    """What llhttp says of some bytes: every request in them, and whether the last one is whole."""

    def __init__(self, data: bytes) -> None:
        self.requests: list[tuple[list[Header], bytes]] = []
        self.whole = False
        parser = httptools.HttpRequestParser(self)
        parser.feed_data(data)

    def on_message_begin(self) -> None:
        self.requests.append(([], b""))
        self.whole = False

    def on_header(self, name: bytes, value: bytes) -> None:
        self.requests[-1][0].append((name.lower(), value))

    def on_body(self, piece: bytes) -> None:
        headers, body = self.requests[-1]
        self.requests[-1] = (headers, body + piece)

    def on_message_complete(self) -> None:
        self.whole = True


def read(data: bytes) -> tuple[list[Header], bytes] | None:
    """The one whole request that `data` is: its headers without their length, and its body; None for anything else."""
    try:
        reading = Reading(data)
    except httptools.HttpParserError:
        return None
    if not reading.whole or len(reading.requests) != 1:
        return None
    headers, body = reading.requests[0]
    return [header for header in headers if header[0] != b"content-length"], body


def known(data: bytes) -> Repeat[None] | None:
    """What is kept of a request; `data` is one."""
    request = read(data)
    assert request is not None
    repeat: Repeat[None] = Repeat()
    repeat.learn(data, request[1], None)
    return repeat if repeat.body(data) is not None else None


def known_first() -> Repeat[None]:
    repeat = known(FIRST)
    assert repeat is not None
    return repeat


NAMES = st.sampled_from([b"accept", b"x-a", b"X-Content-Length", b"content-lengthy", b"cookie"])
VALUES = st.text("ab: 19\t,\\rn", max_size=12).map(lambda text: text.strip().encode())
LINES = st.lists(st.tuples(NAMES, VALUES).map(b": ".join), max_size=4)
LENGTHS = st.sampled_from([b"content-length:%d", b"Content-Length: %d", b"CONTENT-LENGTH: \t%d"])
PARTS = st.sampled_from(
    [b"\r\n\r\n", b"\r\n", b"\r\naccept: */*\r\n\r\n", b"content-length: 2", b"{}", b"7", FIRST, b"x"]
)
BODIES = st.lists(PARTS | st.binary(max_size=8), max_size=4).map(b"".join)


def whole(before: list[bytes], length: bytes, behind: list[bytes], body: bytes) -> bytes:
    lines = [*before, length % len(body), *behind]
    return START + b"\r\n".join(lines) + b"\r\n\r\n" + body


def changed(data: bytes, draw: st.DataObject) -> bytes:
    """The same with some of its bytes taken out and others put in."""
    begin = draw.draw(st.integers(0, len(data)))
    end = draw.draw(st.integers(begin, min(begin + 30, len(data))))
    return data[:begin] + draw.draw(BODIES) + data[end:]


@given(LINES, LENGTHS, LINES, BODIES, BODIES)
def test_another_body_behind_the_same_head(
    before: list[bytes], length: bytes, behind: list[bytes], one: bytes, other: bytes
) -> None:
    repeat = known(whole(before, length, behind, one))

    assert repeat is not None
    assert other == repeat.body(whole(before, length, behind, other))


@given(LINES, LENGTHS, LINES, BODIES, BODIES, st.data())
def test_whatever_comes_is_read_as_the_parser_reads_it(
    before: list[bytes], length: bytes, behind: list[bytes], one: bytes, other: bytes, data: st.DataObject
) -> None:
    """The same request, with some of its bytes taken out and others put in."""
    first, again = whole(before, length, behind, one), whole(before, length, behind, other)
    came = changed(again, data)
    repeat, known_request = known(first), read(first)
    assert repeat is not None
    assert known_request is not None

    body = repeat.body(came)

    assert body is None or (known_request[0], body) == read(came)


@given(LINES, LENGTHS, LINES, BODIES, BODIES, st.data())
def test_a_head_that_is_known_is_known_before_its_body_is_there(
    before: list[bytes], length: bytes, behind: list[bytes], one: bytes, other: bytes, data: st.DataObject
) -> None:
    repeat = known(whole(before, length, behind, one))
    assert repeat is not None
    again = whole(before, length, behind, other)
    begin = len(again) - len(other)
    come = data.draw(st.integers(0, len(again)))

    assert ((begin, len(other)) if come >= begin else None) == repeat.begun(again[:come])
    assert (begin, len(other)) == repeat.begun(again + one)


@given(LINES, LENGTHS, LINES, BODIES, st.data())
def test_what_is_known_to_begin_is_what_the_parser_reads_of_it(
    before: list[bytes], length: bytes, behind: list[bytes], one: bytes, data: st.DataObject
) -> None:
    """The same head, with some of its bytes taken out and others put in."""
    first = whole(before, length, behind, one)
    came = changed(first, data)
    repeat, known_request = known(first), read(first)
    assert repeat is not None
    assert known_request is not None

    found = repeat.begun(came)

    if found is not None:
        body = b"x" * found[1]
        assert (known_request[0], body) == read(came[: found[0]] + body)


@given(LINES, LENGTHS, LINES, BODIES, BODIES, st.data())
def test_a_head_is_learnt_before_its_body_is_there(
    before: list[bytes], length: bytes, behind: list[bytes], one: bytes, other: bytes, data: st.DataObject
) -> None:
    first, again = whole(before, length, behind, one), whole(before, length, behind, other)
    missing = data.draw(st.integers(0, len(one)))
    repeat: Repeat[None] = Repeat()

    repeat.learn(first[: len(first) - missing], one[: len(one) - missing], None, len(one))

    assert other == repeat.body(again)


END = b"\r\naccept: */*\r\n\r\n"
NOT_THE_SAME = {
    "nothing": b"",
    "half a head": FIRST[:40],
    "no body yet": FIRST[:-2],
    "half a body": FIRST[:-1],
    "a byte too many": FIRST + b"x",
    "a second request behind": FIRST * 2,
    "the head alone again": FIRST + FIRST[:-2],
    "another target": FIRST.replace(b"chat/", b""),
    "another header": FIRST.replace(b"*/*", b"*/a"),
    "a header more": FIRST.replace(b"accept", b"x: y\r\naccept"),
    "a header less": FIRST.replace(b"accept: */*\r\n", b""),
    "chunked as well": FIRST.replace(b"2\r\n", b"2\r\ntransfer-encoding: chunked\r\n"),
    "a second length": FIRST.replace(b"2\r\n", b"2\r\ncontent-length: 30\r\n"),
    "the end within another head": START + b"content-length: 2\r\nx: 1" + END + b"{}",
    "the end within the body": START + b"content-length: 20\r\n\r\n{}" + END + b"{}",
    "no length": START + b"content-length: " + END,
    "a signed length": START + b"content-length: +2" + END + b"{}",
    "a negative length": START + b"content-length: -2" + END + b"{}",
    "a negative length of a body that is missing": START + b"content-length: -1" + END,
    "a list of lengths": START + b"content-length: 2,2" + END + b"{}",
    "a length with space": START + b"content-length: 2 " + END + b"{}",
    "a length with an underscore": START + b"content-length: 1_0" + END + b"x" * 10,
    "a length in hex": START + b"content-length: a" + END + b"x" * 10,
    "digits of another script": START + "content-length: \u0662".encode() + END + b"{}",
    "too many digits": START + b"content-length: 0000000000002" + END + b"{}",
    "digits without end": START + b"content-length: " + b"9" * 10_000 + END + b"{}",
}


def test_the_begin_of_a_message_behind_a_longer_one_is_no_message() -> None:
    long = known(whole([b"x: " + b"y" * 6000], b"content-length: %d", [], b"{}"))
    assert long is not None
    assert [None, None] == [long.body(START), long.body(b"P")]

    many = known(whole([], b"content-length: %d", [], bytes(12345)))
    assert many is not None
    assert [None] * 5 == [many.body(START + b"content-length: %d\r\n\r\n" % size) for size in range(4092, 4097)]


@pytest.mark.parametrize("case", NOT_THE_SAME)
def test_what_is_not_the_same_is_left_to_the_parser(case: str) -> None:
    assert known_first().body(NOT_THE_SAME[case]) is None


BEGIN_THE_SAME = {"no body yet", "half a body", "a byte too many", "a second request behind", "the head alone again"}


@pytest.mark.parametrize("case", NOT_THE_SAME)
def test_what_begins_the_same(case: str) -> None:
    begins = (len(FIRST) - 2, 2) if case in BEGIN_THE_SAME else None

    assert begins == known_first().begun(NOT_THE_SAME[case])


def test_what_looks_like_a_head_in_a_body_is_the_body() -> None:
    body = END + FIRST

    assert body == known_first().body(START + b"content-length: %d" % len(body) + END + body)


NOT_PLAIN = {
    "chunked": START + b"transfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
    "no body at all": START + b"\r\n",
    "space behind the length": START + b"content-length: 2 \r\n\r\n{}",
    "a length of many digits": START + b"content-length: 0000000000002\r\n\r\n{}",
    "a length with zeros before it": START + b"content-length: 02\r\n\r\n{}",
    "an empty line before it": b"\r\n\r\n" + FIRST,
}


@pytest.mark.parametrize("case", NOT_PLAIN)
def test_a_head_that_is_not_plain_is_not_kept(case: str) -> None:
    assert known(NOT_PLAIN[case]) is None


@pytest.mark.parametrize("size", [0, 9, 10, 99, 100, 12345])
def test_lengths_of_any_number_of_digits(size: int) -> None:
    repeat, body = known_first(), b"x" * size

    for _ in range(2):
        assert body == repeat.body(START + b"content-length: %d" % size + END + body)


def test_another_head_takes_the_place_of_the_last_one() -> None:
    repeat, other = known_first(), START + b"content-length: 2\r\n\r\n{}"
    repeat.learn(other, b"{}", None)

    assert (None, b"{}") == (repeat.body(FIRST), repeat.body(other))


@pytest.mark.parametrize(("comes_again", "is_learnt"), [(True, True), (False, False)])
def test_heads_that_never_come_again_cease_to_be_learnt(comes_again: bool, is_learnt: bool) -> None:
    repeat: Repeat[int] = Repeat()
    data = b""
    for number in range(10):
        data = START + b"x-request-id: %d\r\ncontent-length: 2\r\n\r\n{}" % number
        repeat.learn(data, b"{}", number)
        if comes_again:
            assert (b"{}", number) == (repeat.body(data), repeat.known)

    assert is_learnt is (repeat.body(data) is not None)
