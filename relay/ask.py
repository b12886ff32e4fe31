"""Ask: one request as it was read, head first. Knows headers and JSON fields; no server, no upstream, no price.

The head is frozen before a byte of the body is looked at: what a trailer says later counts for nothing.
"""

import math
import random
import zlib
from collections.abc import Iterator, Mapping, Sequence

import msgspec
import zstandard

from relay import splice
from relay.endpoints import Endpoint
from relay.errors import BadRequest, BodyTooLarge, UnsupportedMedia
from relay.exchange import Header, Request
from relay.record import Keep

# What goes on to the upstream. Never a credential, a cookie, an organization, a hop's own header.
FORWARDED = frozenset({
    b"accept", b"content-type", b"user-agent", b"idempotency-key", b"openai-beta", b"x-client-request-id",
    b"traceparent", b"tracestate",
})  # fmt: skip
_LENGTH_DIGITS = 18  # of a content-length that is one
_MODEL_LENGTH = 512  # characters of a model's name, which stands in logs, metrics and headers
_COUNT_DIGITS = 3  # of a number of retries
_PATIENCES = (b"x-stainless-read-timeout", b"x-stainless-timeout")  # seconds: of the client for Python, and JavaScript
_LEAST_PATIENCE = 0.05  # seconds
# As agents send them: Codex, Claude Code, OpenCode, and OpenRouter's clients.
_SESSIONS = (
    b"session_id", b"session-id", b"conversation_id", b"x-claude-code-session-id", b"x-opencode-session",
    b"x-session-affinity", b"x-session-id",
)  # fmt: skip
_CREDENTIALS = frozenset({b"authorization", b"api-key", b"x-api-key"})
_STRICTER: dict[Keep, int] = {"full": 0, "redacted": 1, "none": 2}
_CLIENT_LENGTH = 200  # characters of a user agent that are kept
_INFLATE_STEP = 65_536  # bytes decoded at a time, so that a bomb is met early
_ZLIB_CHECK, _ZLIB_METHOD = 31, 8  # two bytes that begin a zlib wrapper are a multiple, the first ends so (RFC 1950)
_EITHER_WRAPPER = 32  # added to the window bits: zlib's or gzip's, whichever it is
_WINDOW_MAX = 1 << 27  # bytes that a zstd frame may ask us to hold


class Head(msgspec.Struct, frozen=True):
    """What the request line and the headers say that matters to the relay, and those headers that go on.

    A keep-alive client mostly sends the same one again and again: then all its requests share this value, and what each
    upstream is asked with such a head is worked out once and kept in `requests`.
    """

    endpoint: Endpoint
    deployment: str | None  # the alias that an Azure path names
    query: bytes
    credential: bytes | None  # the one that is brought, empty for none; None for two that differ
    forwarded: tuple[Header, ...]
    encoding: bytes
    length: int | None  # of the body in bytes, as stated
    hosts: int  # Host lines
    expects: bool  # to be told to go on before it sends the body
    client: str
    tags: tuple[str, ...]
    log: str | None
    patience: float = math.inf  # seconds that the caller waits for the head of an answer
    retry: int = 0  # how often its client has tried this call before
    session: bytes = b""  # what an agent calls its conversation
    requests: dict[object, Request] = {}


class Ask(msgspec.Struct, frozen=True, gc=False):  # gc: values alone are in no circle
    """A request that is wholly read: the body's bytes as they came (decoded), and the few fields that are looked at."""

    body: bytes
    fields: splice.Fields
    model: str | None
    stream: bool


def read_head(
    endpoint: Endpoint, deployment: str | None, query: bytes, headers: Sequence[Header], peer: str = ""
) -> Head:
    """Sort the headers (names in lower case). Raises nothing: what is wrong with them is told when it is used."""
    said = dict(headers)  # of one that stands twice the last counts, save where two are a fault
    length, log, agent = said.get(b"content-length", b""), said.get(b"x-relay-log"), said.get(b"user-agent")
    return Head(
        endpoint,
        deployment,
        query,
        credential=credential(headers),
        forwarded=tuple([header for header in headers if header[0] in FORWARDED]),
        encoding=said.get(b"content-encoding", b"").strip().lower(),
        length=int(length) if length.isdigit() and len(length) <= _LENGTH_DIGITS else None,
        hosts=1 if len(said) == len(headers) and b"host" in said else sum(name == b"host" for name, _ in headers),
        expects=said.get(b"expect", b"").lower() == b"100-continue",
        client=f"{peer} {_text(agent)}" if agent else peer,
        tags=_tags(said.get(b"x-relay-tags", b"")),
        log=None if log is None else _text(log).strip().lower(),
        patience=_patience(said),
        retry=_count(said.get(b"x-stainless-retry-count", b"")),
        session=next((said[name] for name in _SESSIONS if said.get(name)), b""),
    )


def _patience(said: Mapping[bytes, bytes]) -> float:
    """How long the caller waits, as OpenAI's clients say it, less what it takes to tell it so in time."""
    stated = next((said[name] for name in _PATIENCES if name in said), b"")
    try:
        seconds = float(stated)
    except ValueError:
        return math.inf
    return max(_LEAST_PATIENCE, seconds - min(1.0, seconds / 10)) if seconds > 0 else math.inf


def _count(text: bytes) -> int:
    return int(text) if text.isdigit() and len(text) <= _COUNT_DIGITS else 0


def credential(headers: Sequence[Header]) -> bytes | None:
    """The one credential that is brought, under any of the three names; empty for none, None for two that differ."""
    found = {_token(name, value) for name, value in headers if name in _CREDENTIALS}
    return None if len(found) > 1 else found.pop() if found else b""


def ambiguous() -> BadRequest:
    """The fault of a request that brings two credentials."""
    return BadRequest(
        "The request brings two different credentials; send one: `Authorization`, `api-key` or `x-api-key`.",
        code="ambiguous_credentials",
    )


def _token(name: bytes, value: bytes) -> bytes:
    return _bearer(value) if name == b"authorization" else value.strip()


def _bearer(value: bytes) -> bytes:
    scheme, _, token = value.strip().partition(b" ")
    return token.strip() if scheme.lower() == b"bearer" else b""


def _text(value: bytes) -> str:
    return value[:_CLIENT_LENGTH].decode("latin-1")


def _tags(value: bytes) -> tuple[str, ...]:
    if not value:
        return ()
    return tuple(tag for part in _text(value).split(",") if (tag := part.strip()))


def new_id(at: int) -> str:
    """A name, not a secret: `req_` and 22 hex digits, of the time in microseconds, by which ids sort, and of chance.

    The time has 13 digits from 1978 to 2112.
    """
    return "req_" + (at << 36 | random.getrandbits(36)).to_bytes(11).hex()


def less(keep: Keep, wish: str) -> Keep:
    """What of the bodies is kept where a request wishes it so: it can only ask for less.

    Raises BadRequest for a wish that is not one of the three.
    """
    for known in _STRICTER:
        if known == wish:
            return max(keep, known, key=_STRICTER.__getitem__)
    raise BadRequest("The header x-relay-log must be full, redacted or none.", param="x-relay-log")


def read(head: Head, body: bytes, limit: int) -> Ask:
    """The request whose whole body is `body`. `limit`: bytes that it may decode to.

    Raises BadRequest, UnsupportedMedia (an unknown content-encoding), BodyTooLarge.
    """
    if head.encoding:
        body = plain(body, head, limit)
    fields = splice.read(body)
    stated = splice.text(fields, "model")
    model = head.deployment or stated  # Azure's path decides: its clients put anything into the body
    if model is not None and len(model) > _MODEL_LENGTH:
        raise BadRequest(f"A model's name has {_MODEL_LENGTH} characters at most.", param="model")
    return Ask(body, fields, model, splice.flag(fields, "stream"))


def named(ask: Ask) -> str:
    """The model that is asked for. Raises BadRequest where none is, or what is no name."""
    if not ask.model:
        raise BadRequest("You must provide a model parameter.", param="model")
    return ask.model


def plain(body: bytes, head: Head, limit: int) -> bytes:
    """The body without its content-encoding, if it has one. Raises what `decoded` raises."""
    return body if head.encoding in (b"", b"identity") else decoded(body, head.encoding, limit)


def decoded(body: bytes, encoding: bytes, limit: int) -> bytes:
    """`body` without its content-encoding, decoded step by step, so that a bomb ends at `limit` bytes."""
    kind = encoding.decode("latin-1")
    if encoding not in (b"gzip", b"x-gzip", b"deflate", b"zstd"):
        raise UnsupportedMedia(f"The content-encoding {kind!r} is not supported; send gzip, deflate, zstd or none.")
    pieces: list[bytes] = []
    size = 0
    try:
        for piece in _unzstd(body) if encoding == b"zstd" else _inflated(body, encoding):
            size += len(piece)
            if size > limit:
                raise BodyTooLarge(f"The request body is larger than {limit} bytes when decoded.")
            pieces.append(piece)
    except (zlib.error, zstandard.ZstdError, EOFError) as fault:
        raise BadRequest(f"The request body is not valid {kind}.") from fault
    return b"".join(pieces)


def _inflated(body: bytes, encoding: bytes) -> Iterator[bytes]:
    """gzip, and deflate in both its readings: with the zlib wrapper as the standard says, and raw as some send it."""
    wrapped = encoding != b"deflate" or _is_wrapped(body)
    window = zlib.MAX_WBITS | _EITHER_WRAPPER if wrapped else -zlib.MAX_WBITS
    stream = zlib.decompressobj(window)
    for at in range(0, len(body), _INFLATE_STEP):  # a tail is copied at every step: the whole body's would be long
        rest = body[at : at + _INFLATE_STEP]
        while rest:
            stream = zlib.decompressobj(window) if stream.eof else stream  # gzip may have several members
            yield stream.decompress(rest, _INFLATE_STEP)
            rest = stream.unused_data if stream.eof else stream.unconsumed_tail
    while not stream.eof and (piece := stream.decompress(b"", _INFLATE_STEP)):
        yield piece
    if not stream.eof:
        raise EOFError


def _is_wrapped(body: bytes) -> bool:
    first, both = int.from_bytes(body[:1], "big"), int.from_bytes(body[:2], "big")
    return first % 16 == _ZLIB_METHOD and both % _ZLIB_CHECK == 0


def _unzstd(body: bytes) -> Iterator[bytes]:
    with zstandard.ZstdDecompressor(max_window_size=_WINDOW_MAX).stream_reader(body) as stream:
        while piece := stream.read(_INFLATE_STEP):
            yield piece
