"""Guard: what a request's head and body may look like, and how long they may take to come. Pure; knows no server."""

from collections.abc import Sequence

from relay.ask import Head
from relay.errors import BadRequest, BodyTooLarge, HeadTooLarge, RequestTimeout, UnsupportedMedia
from relay.exchange import Header

HEAD_BYTES = 60 * 1024
HEAD_LINES = 100
HEAD_SECONDS = 10.0
BODY_SECONDS = 30.0  # for any body, and more for one that comes at BODY_PACE at least
BODY_PACE = 10_000  # bytes a second
TAKING_SECONDS = 120.0  # in which a client takes something of what waits for it; the system tells that in steps
SHORT = 1 << 20  # bytes of a refused request's body that are read and thrown away, to keep the connection
TOO_LARGE = f"The request's head is larger than {HEAD_BYTES} bytes or {HEAD_LINES} lines."
_VERSIONS = frozenset({"1.0", "1.1"})
_LINE = 4  # bytes of a header line beside its name and value
_ENCODINGS = frozenset({b"", b"identity", b"gzip", b"x-gzip", b"deflate", b"zstd"})


def check_head(url: bytes, headers: Sequence[Header]) -> None:
    """Raises HeadTooLarge."""
    if len(headers) > HEAD_LINES or len(url) + sum(len(n) + len(v) + _LINE for n, v in headers) > HEAD_BYTES:
        raise HeadTooLarge(TOO_LARGE)


def check_said(head: Head, version: str, limit: int) -> None:
    """What can be said before the body comes. Raises BadRequest, UnsupportedMedia, BodyTooLarge."""
    check_hosts(head.hosts, version)
    if head.encoding not in _ENCODINGS:
        kind = head.encoding.decode("latin-1")
        raise UnsupportedMedia(f"The content-encoding {kind!r} is not supported; send gzip, deflate, zstd or none.")
    if head.length is not None:
        check_length(head.length, limit)


def check_hosts(hosts: int, version: str) -> None:
    """Raises BadRequest for a version that is not ours, and for more or fewer Hosts than one (RFC 9112, 3.2)."""
    if version not in _VERSIONS:
        raise BadRequest(f"HTTP/{version} is not spoken here; use HTTP/1.1.")
    if hosts != 1 and (hosts or version == "1.1"):
        raise BadRequest("A request must have one Host header.")


def check_length(size: int, limit: int) -> None:
    """Raises BodyTooLarge."""
    if size > limit:
        raise BodyTooLarge(f"The request's body is larger than {limit} bytes, the most that this relay takes.")


def late_head(waited: float) -> RequestTimeout | None:
    """The fault of a head that has been coming for `waited` seconds, if that is too long."""
    if waited < HEAD_SECONDS:
        return None
    return RequestTimeout(f"The request's head did not arrive within {HEAD_SECONDS:g} seconds.")


def patience(size: int) -> float:
    """How many seconds a body may take of which `size` bytes have come, until more of it does."""
    return BODY_SECONDS + size / BODY_PACE


def late_body(waited: float, size: int) -> RequestTimeout | None:
    """The fault of a body of which `size` bytes have come in `waited` seconds, if that is too slow."""
    return None if waited < patience(size) else too_slow(waited, size)


def too_slow(waited: float, size: int) -> RequestTimeout:
    """The fault of a body of which no more than `size` bytes have come in `waited` seconds."""
    return RequestTimeout(f"The request's body came too slowly: {size} bytes in {waited:.0f} seconds.")
