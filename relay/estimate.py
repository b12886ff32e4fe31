"""Estimate: about how many tokens a call took, where its upstream did not say so, or nothing to be believed. Pure.

Knows the fields in which requests and answers bring words; no tokenizer, whose tables are larger than the relay, and
right for one family of models. A token is taken for four bytes of text, as is usual for English prose, and an event of
a stream that brings words for one token at least, as most models send them one by one.
"""

import math
import re
from collections.abc import Iterator
from itertools import islice
from typing import Any

import msgspec

from relay import sse
from relay.splice import Fields

_BYTES = 4  # of text, for a token
_READ_MAX = 1 << 20  # bytes of an answer that is read for its words
_SAMPLE = 4  # reads of a stream by which the rest of it is reckoned,
_ENOUGH = 16 << 10  # or so many bytes of them,
_LONG = 64 << 10  # of each at most so many,
_EVENTS = 50  # and so many events
_PROMPT = ("messages", "input", "prompt", "instructions", "tools", "functions", "response_format")
_MEDIA = (b'"image_url":', b'"input_audio":', b'"file_data":')
_EACH = 1000  # tokens for one of those, about what a picture in full detail takes
_ENCODED = (b";base64,", b'"data":')  # what stands before bytes that are no text
_WORDS = frozenset(
    {"content", "text", "refusal", "reasoning", "reasoning_content", "arguments", "name", "delta", "transcript"}
)
_UNSAID = frozenset({"logprobs", "annotations"})  # what tells of words that stand beside it
_SPEAKS = re.compile(rb'"(?:delta|text)":[ ]?["{]')


_NULL = msgspec.Raw(b"null")


class _Told(msgspec.Struct, gc=False):
    """The fields of an answer, or of an event, in which it speaks."""

    choices: msgspec.Raw = _NULL
    output: msgspec.Raw = _NULL
    delta: msgspec.Raw = _NULL


_decode = msgspec.json.Decoder(_Told).decode


def prompt(fields: Fields) -> int:
    """The tokens of a request with these fields."""
    return sum(_tokens_of(bytes(fields[name])) for name in _PROMPT if name in fields)


def answer(body: bytes) -> int:
    """The tokens of a whole answer: of all of it, where it is no JSON, or too large to be read for its words."""
    said = _said(body) if len(body) <= _READ_MAX else None
    return text(len(body) if said is None else said)


def text(size: int) -> int:
    """The tokens of so many bytes of text."""
    return math.ceil(size / _BYTES)


class Sample(msgspec.Struct, eq=False):
    """The first reads of a stream in which it speaks.

    `before`: bytes that went out before them; `own`: of what the relay said itself; `open`: more are wanted.
    """

    reads: list[bytes] = []
    before: int = 0
    own: int = 0
    open: bool = True

    def add(self, whole: bytes, sent: int) -> None:
        """Take in whole events, before which so many bytes were sent, if it speaks in them."""
        if _SPEAKS.search(whole):
            if not self.reads:
                self.before = sent
            self.reads.append(whole[:_LONG])
            self.open = len(self.reads) < _SAMPLE and sum(map(len, self.reads)) < _ENOUGH

    def tokens(self, sent: int) -> int:
        """The tokens of all that was sent, so many bytes: the rest brings as many for each byte as these reads do."""
        known = [(len(event), _made(event)) for event in islice(self._events(), _EVENTS)]
        size = sum(size for size, made in known if made)
        if not size:
            return 0
        made, looked_at = sum(made for _, made in known), sum(size for size, _ in known)
        rest = max(0, sent - self.before - self.own - looked_at)
        return made + math.ceil(rest * made / size)

    def _events(self) -> Iterator[bytes]:
        return (event for whole in self.reads for event in sse.events(whole))


def _made(event: bytes) -> int:
    """The tokens of an event."""
    return text(_said(sse.data(event) or b"") or 0)


def _tokens_of(raw: bytes) -> int:
    """The tokens of a JSON value, without what is no text in it."""
    encoded = sum(_encoded(raw, mark) for mark in _ENCODED)
    return text(len(raw) - encoded) + _EACH * sum(map(raw.count, _MEDIA))


def _encoded(raw: bytes, mark: bytes) -> int:
    """How many bytes stand behind such marks, each up to the end of its string."""
    size = at = 0
    while (at := raw.find(mark, at)) >= 0:
        begin = at + len(mark)
        at = raw.find(b'"', begin + 2)  # behind the quote that may begin it, and a space before that
        if at < 0:
            return size + len(raw) - begin
        size += at - begin
    return size


def _said(data: bytes) -> int | None:
    """How many bytes of words a JSON answer or event brings; None where it is none."""
    try:
        told = _decode(data)
        parts = ("choices", told.choices), ("output", told.output), ("delta", told.delta)
        return sum(_words(msgspec.json.decode(raw), name) for name, raw in parts)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def _words(value: Any, name: str) -> int:
    if isinstance(value, str):
        return len(value.encode()) if name in _WORDS else 0
    if isinstance(value, list):
        return sum(_words(part, name) for part in value)
    if isinstance(value, dict):
        return sum(_words(part, key) for key, part in value.items() if key not in _UNSAID)
    return 0
