"""An answer is read the same whatever came before it on its connection, and however the network cut it."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from relay.wire.reading import Reading
from tests.engines.peer import CHUNKED, chunk, whole

LIMITED = b"HTTP/1.1 429 Slow Down\r\nTransfer-Encoding: chunked\r\nretry-after: 2\r\n\r\n"
CLOSING = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n"
EARLY = b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n"


Told = tuple[object, ...]


class Telling(Reading):
    """A reading that says what it knows."""

    def __init__(self) -> None:
        super().__init__("up")

    def told(self, reads: list[bytes]) -> list[Told]:
        """What is known of the next answer after each of these reads of it."""
        self._start_over(clean=True)
        return [self._after(data) for data in reads]

    def known(self, data: bytes) -> Told | None:
        """Status and body of a whole answer whose head is known, without the parser."""
        body = self._repeat.body(data)
        return None if body is None else (self._repeat.known[0], body)

    def _after(self, data: bytes) -> Told:
        self._read(data)
        fault = self._fault and self._fault.message
        flow = self._head, self._between, self._ended, self._reusable
        return self.status, self.headers, b"".join(self._body), *flow, fault


STATUSES = st.sampled_from([b"200 OK", b"204 No Content", b"304 Not Modified"])
HEADS = st.sampled_from([CHUNKED, LIMITED, CLOSING, EARLY + CHUNKED, b"nonsense\r\n\r\n"])
CHUNKS = st.lists(st.sampled_from([b"a", b"data: {}\n\n", b"0\r\n\r\n", bytes(300)]).map(chunk), max_size=4)
ENDS = st.sampled_from([b"0\r\n\r\n", b"0\r\nx-trailer: 1\r\n\r\n", b"", b"zz\r\n", b"0\r\n\r\nmore"])


@st.composite
def answers(draw: st.DrawFn) -> list[bytes]:
    """An answer as it is read: most often as upstreams write it, the head with the first chunk, and each other one."""
    if draw(st.booleans()):
        head, chunks, end = draw(HEADS), draw(CHUNKS), draw(ENDS)
        return [head + b"".join(chunks[:1]), *chunks[1:], *([end] if end else [])]
    data = draw(st.sampled_from([whole(b"{}"), whole(b"abc"), CHUNKED + chunk(b"a") + chunk(b"b") + b"0\r\n\r\n"]))
    cuts = sorted(draw(st.sets(st.integers(1, len(data) - 1), max_size=3)))
    return [data[begin:end] for begin, end in zip([0, *cuts], [*cuts, len(data)], strict=True)]


BEGUN = CHUNKED + chunk(b"a")


@given(st.lists(st.tuples(STATUSES, st.sampled_from([b"", b"four", whole(b"evil")])), min_size=1, max_size=5))
@example([(b"204 No Content", b""), (b"204 No Content", whole(b"evil"))])
def test_a_head_that_is_known_says_of_what_follows_what_a_parser_says(sequence: list[tuple[bytes, bytes]]) -> None:
    """Also of an answer that ends with its head, whatever length that tells."""
    reading = Telling()
    for status, body in sequence:
        data = whole(body, status=status)
        parsed = Telling().told([data])[-1]
        known = reading.known(data)
        assert known in (None, (parsed[0], parsed[2]))
        if known is None:
            assert parsed == reading.told([data])[-1]
        if not parsed[-2]:
            break  # its connection has no next one


@given(st.lists(answers(), min_size=1, max_size=5))
@example([[BEGUN, b"0\r\n\r\n"], [BEGUN, BEGUN]])  # two answers where one was asked for
def test_what_came_before_changes_nothing(sequence: list[list[bytes]]) -> None:
    reading = Telling()
    for reads in sequence:
        found = reading.told(reads)
        assert Telling().told(reads) == found
        if not found[-1][-2]:
            break  # its connection has no next one


EXTENSIONS = st.sampled_from([b"", b";a=b", b';a="b;\\" c"', b";a;b=c"])
EXTENDED = st.tuples(st.sampled_from([b"a", b"data: {}\n\n", b"5\r\n", bytes(40)]), EXTENSIONS)


@given(st.lists(EXTENDED, min_size=1, max_size=4), st.data())
def test_where_one_chunk_ends_and_the_next_has_not_begun_is_known_exactly(
    pieces: list[tuple[bytes, bytes]], data: st.DataObject
) -> None:
    """A read that ends within the line before a chunk is not between two, though it has no part of what they hold."""
    come, ends = CHUNKED, set()
    for piece, extension in pieces:
        come += b"%x%b\r\n%b\r\n" % (len(piece), extension, piece)
        ends.add(len(come))
    cuts = sorted(data.draw(st.sets(st.integers(1, len(come) - 1), max_size=8)))
    reads = [come[begin:end] for begin, end in zip([0, *cuts], [*cuts, len(come)], strict=True)]

    told = Telling().told(reads)

    assert [(None, False)] * len(reads) == [
        (after[-1], after[4] and end not in ends) for after, end in zip(told, [*cuts, len(come)], strict=True)
    ]
    assert told[-1][4]


@given(st.binary(min_size=1, max_size=40), st.lists(st.binary(min_size=1, max_size=40), max_size=3))
def test_a_stream_that_began_as_the_last_one_is_read_to_its_end(first: bytes, rest: list[bytes]) -> None:
    reading = Telling()
    reads = [CHUNKED + chunk(first), *map(chunk, rest), b"0\r\n\r\n"]

    told = [reading.told(reads)[-1] for _ in range(3)]

    headers = ((b"transfer-encoding", b"chunked"),)
    assert [(200, headers, b"".join([first, *rest]), True, False, True, True, None)] * 3 == told


@pytest.mark.parametrize(("lines", "fault"), [(1000, None), (1001, "Upstream 'up' sent too large a head.")])
@pytest.mark.parametrize("early", [b"", EARLY * 3])
def test_a_head_has_so_many_lines_at_most(lines: int, fault: str | None, early: bytes) -> None:
    """Also cut in the middle; those of the answers before it are not counted."""
    head = early + b"HTTP/1.1 200 OK\r\n" + b"a:\r\n" * (lines - 1) + b"content-length: 0\r\n\r\n"

    told = [Telling().told(reads)[-1] for reads in ([head], [head[:700], head[700:]])]

    assert [fault] * 2 == [each[-1] for each in told]


def test_of_trailers_there_may_be_more() -> None:
    *_, ended, _, fault = Telling().told([CHUNKED + chunk(b"a") + b"0\r\n" + b"a:\r\n" * 2000 + b"\r\n"])[-1]

    assert (True, None) == (ended, fault)
