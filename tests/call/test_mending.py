"""What is no proper event and says something whole is made one, in the middle or at the end; else it stays as it is."""

import pytest

from relay import sse
from relay.call.mending import completed, mended

ERROR = b'{"error":{"message":"no","code":503}}'
EVENT = b"data: %s\n\n" % ERROR
BARE = {
    "an error": (ERROR + b"\n\n", EVENT),
    "behind a line end": (b"\r\n" + ERROR + b"\r\n\r\n", EVENT),
    "over lines": (ERROR.replace(b",", b"\r\n,") + b"\n\n", EVENT.replace(b",", b" ,")),
    "in words": (b'{"error":"no"}\n\n', b'data: {"error":"no"}\n\n'),
    "by its type": (b'{"type":"error","message":"no"}\n\n', b'data: {"type":"error","message":"no"}\n\n'),
}
PROPER = {
    "an error event": EVENT,
    "its type told": b"event: error\n" + EVENT,
    "no error": b'{"error":null,"choices":[]}\n\n',
    "something else": b'{"choices":[]}\n\n',
    "no JSON": b'{"error"\n\n',
    "any depth": b'{"error":' * 100_000 + b"\n\n",
    "an event behind it": ERROR + b"\n" + EVENT,
    "a comment": b": ping\n\n",
    "a blank": b"\n\n",
}


@pytest.mark.parametrize("case", BARE)
def test_a_bare_error_becomes_an_event(case: str) -> None:
    bare, event = BARE[case]

    assert event == mended(bare)
    assert [event] == sse.events(mended(bare))
    assert event == completed(bare.rstrip())


@pytest.mark.parametrize("case", PROPER)
def test_whatever_else_stays_as_it_is(case: str) -> None:
    assert PROPER[case] == mended(PROPER[case])


@pytest.mark.parametrize(
    ("rest", "expected"),
    [
        (b"", b""),
        (b"\n", b"\n"),
        (b"data: [DONE]\r\n", b"data: [DONE]\n\n"),
        (b'id: 1\ndata: {"a":1}', b'id: 1\ndata: {"a":1}\n\n'),
        (b'{"a":1}', b'data: {"a":1}\n\n'),
        (b'data: {"a":', b""),
        (b"data: hello", b""),
        (b": comment", b""),
        (b'{"a":', b""),
    ],
)
def test_an_end_is_completed_if_it_says_something_whole(rest: bytes, expected: bytes) -> None:
    assert expected == completed(rest)
