"""Record: the frozen account of one finished call, with every try and edit. A value; knows no store and no clock.

Frozen structs, not dataclasses: to make one takes 2 µs instead of 9. Written down it is one JSON array, in the journal
and in the store alike: those bytes are made once, for all requests that end together, and read when somebody asks.
"""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any, Literal, NamedTuple

import msgspec
from msgspec.structs import asdict, replace

from relay.exchange import ERROR

Outcome = Literal[
    "ok", "client_disconnect", "upstream_error", "upstream_timeout", "refused", "relay_error", "incomplete"
]
Keep = Literal["full", "redacted", "none"]


UNTOLD = msgspec.Raw()  # JSON that is left out; known by being this very object


class Try(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):  # gc: values alone are in no circle
    """One call of one upstream, as it went. Times in milliseconds; None where that point was not reached."""

    upstream: str
    model: str
    status: int | None = None
    error: str | None = None
    reused: bool = False
    connect_ms: float | None = None
    first_byte_ms: float | None = None
    key: str | None = None  # the fingerprint of the upstream's key
    total_ms: float | None = None  # of a try that was given up after its first byte; the last one's end is the record's
    sent: bool = True  # the upstream may have seen the request

    @property
    def unheard(self) -> bool:
        """It went over a kept connection that had been closed before, and was sent once more at once."""
        return self.reused and self.status is None


def attempts(tries: Iterable[Try]) -> int:
    """How often upstreams were asked: not by what they cannot have heard."""
    return sum(not each.unheard for each in tries)


class Why(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """What was decided about a call, or guessed, where that was more than its one target and its model's name.

    `plan` is the candidates and the dropped ones, `patch` the edits of the body as a JSON Patch (RFC 6902). `call`: the
    id of the first of the requests in which a client made this call, of which this is retry number `retry`.
    """

    plan: msgspec.Raw = UNTOLD
    patch: msgspec.Raw = UNTOLD
    should_retry: bool | None = None  # what the caller was told,
    retry_after: float | None = None  # and after how many seconds
    retry: int = 0
    call: str | None = None
    estimate: tuple[int | None, int | None] | None = None  # tokens in and out, where the upstream left one unsaid


class Record(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Times: `started_at` in microseconds since 1970 UTC, durations as named; money in integer nano-dollars.

    None means unknown, never zero. The order of the fields is that of the array that is written down: new ones come
    last, with a default, so that what an older relay has written can be read.
    """

    id: str
    started_at: int
    key: str | None
    alias: str | None
    upstream: str | None
    model: str | None
    endpoint: str
    stream: bool
    status: int  # as the client saw it; 499 when the client left before it saw one
    outcome: Outcome
    error: str | None
    ttft_ms: float | None
    duration_ms: float
    overhead_us: int
    input_tokens: int | None
    output_tokens: int | None
    cached_tokens: int | None
    reasoning_tokens: int | None
    cost_nano: int | None
    usage_source: Literal["upstream", "estimated", "none"]  # what the cost goes by
    bytes_out: int
    client: str | None
    tags: tuple[str, ...] = ()
    tries: tuple[Try, ...] = ()
    edits: tuple[str, ...] = ()
    limits: tuple[tuple[str, int, int], ...] = ()  # name, limit, and what was left of it
    why: Why | None = None


BODY_KEPT = 1 << 20  # bytes kept of a body,
ERROR_KEPT = 64 << 10  # and of an answer that is an error
# What one log record shows, in this order, wherever it is printed.
PUBLIC = (
    *("id", "started_at", "key", "alias", "upstream", "model", "endpoint", "stream", "status", "outcome", "error"),
    *("ttft_ms", "duration_ms", "overhead_us", "input_tokens", "output_tokens", "cached_tokens", "reasoning_tokens"),
    *("cost_usd", "attempts", "client", "tags"),
)
_DETAILS = ("usage_source", "estimate", "bytes_out", "tries", "edits", "retry", "call")
_NANO = 1_000_000_000  # nano-dollars in a dollar
_PLAIN = Why()  # of a record that has none
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(list[Record]).decode
_decode_old = msgspec.msgpack.Decoder(Record).decode


class Entry(NamedTuple):
    """A record with the bodies that are kept of it; None is a body that is not kept, b"" one that was empty.

    Of a body longer than what is kept its begin is enough, as long as at least one byte more tells that there was more.
    """

    record: Record
    request: bytes | None = None
    response: bytes | None = None


class Batch(NamedTuple):
    """Entries as they are written down: lines as `written` makes them, and by index the bodies of single records."""

    lines: list[bytes]
    bodies: dict[int, tuple[bytes | None, bytes | None]]
    end: int = 0  # the place behind the last one in its segment of the journal


def written(records: Sequence[Record]) -> bytes:
    """The records as a JSON array, each an array of its fields in their order."""
    try:
        return _encode(records)
    except UnicodeEncodeError:
        return _encode([storable(record) for record in records])


def read(line: bytes) -> list[Record]:
    """The records that were written so, by this relay or by an older one. Raises msgspec.DecodeError."""
    return [_decode_old(line)] if is_old(line) else _decode(listed(line))


def listed(line: bytes) -> bytes:
    """The JSON array of records, also where an older relay wrote one record by itself."""
    return line if line.startswith(b"[[") else b"[%b]" % line


def is_old(line: bytes) -> bool:
    """Whether a still older relay wrote it: in msgpack, where an array never begins with a bracket."""
    return not line.startswith(b"[")


def kept(status: int) -> int:
    """How many bytes are kept of an answer with that status."""
    return BODY_KEPT if status < ERROR else ERROR_KEPT


def public(record: Record) -> dict[str, Any]:
    """The record as users see it: PUBLIC, with ISO time in UTC and cost in USD or null, then the details."""
    why = record.why or _PLAIN
    shown = asdict(record) | {
        "tries": [asdict(each) for each in record.tries],
        "started_at": iso(record.started_at),
        "cost_usd": None if record.cost_nano is None else record.cost_nano / _NANO,
        "attempts": attempts(record.tries),
        "estimate": estimate(record),
        "retry": why.retry,
        "call": why.call,
    }
    return {name: shown[name] for name in (*PUBLIC, *_DETAILS)}


def estimate(record: Record) -> dict[str, int | None] | None:
    """What was estimated where the upstream left something of its tokens unsaid; None where it did not."""
    guess = record.why.estimate if record.why else None
    return guess and {"input_tokens": guess[0], "output_tokens": guess[1]}


def iso(moment: int) -> str:
    """Microseconds since 1970 as ISO 8601 in UTC with milliseconds, such as 2026-01-31T12:00:00.000Z."""
    whole, micro = divmod(moment, 1_000_000)
    return f"{datetime.fromtimestamp(whole, UTC):%Y-%m-%dT%H:%M:%S}.{micro // 1000:03}Z"


def storable(record: Record) -> Record:
    """The same record without lone surrogates, which UTF-8 cannot hold.

    They come from outside (a model's name) and must not cost the record itself.
    """
    changes = {name: _storable(getattr(record, name)) for name in Record.__struct_fields__}
    return replace(record, **changes)


def _storable(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, tuple):
        return tuple(_storable(part) for part in value)
    if isinstance(value, Try):
        return replace(value, **{name: _storable(getattr(value, name)) for name in Try.__struct_fields__})
    return value
