"""What the load takes for a right answer, and how it times what came."""

import pytest

from tests.bench.dialogue import ANSWER, END, FIRST, JSON_HEAD, LAST, SSE_HEAD, Ask, chunk, joined
from tests.bench.load import Exchange, most_open

STREAM = SSE_HEAD + FIRST + chunk(7) + chunk(9) + LAST + END
WHOLE = joined(STREAM.removeprefix(SSE_HEAD))
JSON = JSON_HEAD % len(ANSWER) + ANSWER


@pytest.mark.parametrize(
    ("ask", "answer", "expected"),
    [
        (Ask(), JSON, True),
        (Ask(), JSON.replace(b"relay", b"Relay", 1), False),
        (Ask(), JSON.replace(b"200 OK", b"500 OK"), False),
        (Ask(chunks=2), STREAM, True),
        (Ask(chunks=2), STREAM.replace(b" and on", b" and off", 1), False),
        (Ask(chunks=3), STREAM, False),
        (Ask(chunks=2), SSE_HEAD + b"%x\r\n%b\r\n" % (len(WHOLE), WHOLE) + END, True),
    ],
)
def test_an_answer_is_right_to_the_byte(ask: Ask, answer: bytes, expected: bool) -> None:
    assert expected == ask.is_right(answer)


def test_how_many_were_open() -> None:
    spans = [(1, 5), (2, 3), (3, 9), (6, 8)]

    assert 2 == most_open([Exchange(0, [(first, b""), (last, b"")]) for first, last in spans])
    assert 0 == most_open([])


def test_a_chunk_is_as_late_as_the_read_that_ended_it() -> None:
    first, second = chunk(1_000), chunk(2_000)
    exchange = Exchange(0, [(3_000, first[:-30]), (5_000, first[-30:] + second)])

    assert [4.0, 3.0] == list(exchange.delays())
    assert 3.0 == exchange.first_byte
