"""Heads: what of an upstream's head goes on to the client, and in which manner what follows it. Knows no account."""

from functools import lru_cache

import msgspec

from relay.exchange import ERROR, Header, Lines, lines

_PASSED = frozenset({
    b"content-type", b"content-encoding", b"content-language", b"content-disposition", b"retry-after",
    b"retry-after-ms", b"x-should-retry", b"x-request-id", b"apim-request-id", b"cf-ray",
})  # fmt: skip
_PASSED_PREFIXES = (b"x-ratelimit-", b"openai-")
_UNBUFFERED = ((b"cache-control", b"no-cache, no-transform"), (b"x-accel-buffering", b"no"))


class Passed(msgspec.Struct, frozen=True):
    """What a head from an upstream comes to: the lines that go through, and the manner that fits what follows."""

    told: Lines
    content_type: str
    streams: bool
    held: bool


@lru_cache(maxsize=256)  # most upstreams send the same head again and again
def passed(status: int, headers: tuple[Header, ...]) -> Passed:
    """The upstream's headers that go through; on an error also whose it is."""
    found = [header for header in headers if header[0] in _PASSED or header[0].startswith(_PASSED_PREFIXES)]
    said = dict(found)
    if status >= ERROR:
        found = [header for header in found if header[0] != b"x-should-retry"]  # which hangs on the tries
        found.append((b"x-relay-error-source", b"upstream"))
    kind = said.get(b"content-type", b"").lower()
    readable = said.get(b"content-encoding", b"identity").lower() == b"identity"
    streams = readable and kind.startswith(b"text/event-stream") and status < ERROR
    told = lines([*found, *_UNBUFFERED] if streams else found)
    return Passed(told, kind.decode("latin-1"), streams, readable and kind.startswith(b"application/json"))
