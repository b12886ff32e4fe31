"""What is refused of a head, and of a body before and while it comes."""

import pytest

from relay.errors import BadRequest, BodyTooLarge, HeadTooLarge, UnsupportedMedia
from relay.exchange import Header
from relay.inbound.guard import (
    BODY_PACE,
    BODY_SECONDS,
    HEAD_BYTES,
    HEAD_LINES,
    HEAD_SECONDS,
    check_head,
    check_length,
    check_said,
    late_body,
    late_head,
)
from tests.requests import begun

HOST: Header = (b"host", b"relay")
LIMIT = 1000

SIZES = {
    "nothing": (b"/", [], True),
    "the most lines": (b"/", [(b"a", b"b")] * HEAD_LINES, True),
    "a line too many": (b"/", [(b"a", b"b")] * (HEAD_LINES + 1), False),
    "the most bytes": (b"/", [(b"a", b"b" * (HEAD_BYTES - 6))], True),
    "a byte too many": (b"/", [(b"a", b"b" * (HEAD_BYTES - 5))], False),
    "a long name": (b"/", [(b"a" * HEAD_BYTES, b"")], False),
    "many short ones": (b"/", [(b"a", b"b" * 1000)] * 62, False),
    "a long address": (b"/" * (HEAD_BYTES + 1), [], False),
    "together": (b"/" * (HEAD_BYTES // 2), [(b"a", b"b" * (HEAD_BYTES // 2))], False),
}


@pytest.mark.parametrize("case", SIZES)
def test_the_size_of_a_head(case: str) -> None:
    url, headers, fits = SIZES[case]

    if fits:
        check_head(url, headers)
    else:
        with pytest.raises(HeadTooLarge, match="61440 bytes or 100 lines"):
            check_head(url, headers)


ARRIVALS: dict[str, tuple[str, list[Header], type[Exception] | None]] = {
    "plain": ("1.1", [HOST], None),
    "no Host": ("1.1", [], BadRequest),
    "no Host in 1.0": ("1.0", [], None),
    "two Hosts": ("1.1", [HOST, HOST], BadRequest),
    "two Hosts in 1.0": ("1.0", [HOST, (b"host", b"other")], BadRequest),
    "a body that fits": ("1.1", [HOST, (b"content-length", b"1000")], None),
    "a body too large": ("1.1", [HOST, (b"content-length", b"1001")], BodyTooLarge),
    "chunks": ("1.1", [HOST, (b"transfer-encoding", b"chunked")], None),
    "gzip": ("1.1", [HOST, (b"content-encoding", b"GZip")], None),
    "x-gzip": ("1.1", [HOST, (b"content-encoding", b"x-gzip")], None),
    "deflate": ("1.1", [HOST, (b"content-encoding", b"deflate")], None),
    "zstd": ("1.1", [HOST, (b"content-encoding", b"zstd")], None),
    "identity": ("1.1", [HOST, (b"content-encoding", b"identity")], None),
    "brotli": ("1.1", [HOST, (b"content-encoding", b"br")], UnsupportedMedia),
    "twice": ("1.1", [HOST, (b"content-encoding", b"gzip, gzip")], UnsupportedMedia),
    "no name at all": ("1.1", [HOST, (b"content-encoding", b"\xff")], UnsupportedMedia),
}


@pytest.mark.parametrize("case", ARRIVALS)
def test_what_a_head_says_of_its_request(case: str) -> None:
    version, headers, refusal = ARRIVALS[case]

    if refusal is None:
        check_said(begun(*headers), version, LIMIT)
    else:
        with pytest.raises(refusal):
            check_said(begun(*headers), version, LIMIT)


def test_the_limit_is_told() -> None:
    check_length(LIMIT, LIMIT)
    with pytest.raises(BodyTooLarge, match="larger than 1000 bytes"):
        check_length(LIMIT + 1, LIMIT)


@pytest.mark.parametrize(("waited", "is_late"), [(0.0, False), (HEAD_SECONDS - 0.1, False), (HEAD_SECONDS, True)])
def test_a_late_head(waited: float, is_late: bool) -> None:
    fault = late_head(waited)

    assert is_late == (fault is not None)
    assert fault is None or (408, "The request's head did not arrive within 10 seconds.") == (
        fault.status,
        fault.message,
    )


@pytest.mark.parametrize(
    ("waited", "size", "is_late"),
    [
        (0.0, 0, False),
        (BODY_SECONDS - 0.1, 0, False),
        (BODY_SECONDS, 0, True),
        (BODY_SECONDS, BODY_PACE, False),
        (BODY_SECONDS + 1, BODY_PACE, True),
        (BODY_SECONDS + 1000, 1001 * BODY_PACE, False),
    ],
)
def test_a_late_body(waited: float, size: int, is_late: bool) -> None:
    fault = late_body(waited, size)

    assert is_late == (fault is not None)
    assert fault is None or fault.message.startswith(f"The request's body came too slowly: {size} bytes in")
