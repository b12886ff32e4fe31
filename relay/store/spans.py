"""Spans: a body cut where its messages begin, so that what an agent sends again and again is stored once. Pure.

A body with a top-level array `messages` or `input` is cut into everything up to its first element, the elements (each
with the comma and the space before it), and the rest. The spans are the body's own bytes: joined, they are the body.
"""

from collections.abc import Iterator
from hashlib import blake2b
from itertools import pairwise

import msgspec

HASH = 16  # bytes
_LEAST = 256  # bytes of a span of elements: an array of thousands of numbers is no history
_Raws = dict[str, msgspec.Raw]


def cut(body: bytes) -> list[bytes]:
    """The spans of a body, in order; b"".join gives it back."""
    bounds = [0, *_ends(body), len(body)]
    return [body[start:end] for start, end in pairwise(bounds) if start < end]


def _ends(body: bytes) -> Iterator[int]:
    """Where the spans before the last one end."""
    try:
        raws = msgspec.json.decode(body, type=_Raws)
        array = bytes(raws.get("messages") or raws.get("input") or b"")
        elements = msgspec.json.decode(array, type=list[msgspec.Raw])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return
    end = start = body.find(array) + 1
    yield start
    for element in elements:
        # Only white space and a comma stand between two elements, so the next match is the element itself.
        end = body.find(element, end) + len(memoryview(element))
        if end - start >= _LEAST:
            yield end
            start = end
    yield end


def digest(span: bytes) -> bytes:
    """The name under which a span is stored."""
    return blake2b(span, digest_size=HASH).digest()
