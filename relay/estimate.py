"""Estimate: about how many tokens a call took, where its upstream did not say so, or nothing to be believed. Pure.

A token is taken for four bytes of text, as is usual for English prose: no tokenizer, whose tables are larger than the
relay, and right for one family of models. What is text is known by the fields in which requests and answers bring it.
"""

import math

import msgspec

from relay import sse
from relay.splice import Fields

_BYTES = 4  # of text, for a token
_PROMPT = ("messages", "input", "prompt", "instructions", "tools", "functions", "response_format")
_MEDIA = (b'"image_url":', b'"input_audio":', b'"file_data":')
_EACH = 1000  # tokens for one of those, about what a picture in full detail takes
_ENCODED = (b";base64,", b'"data":')  # what stands before bytes that are no text
_LOOKED_AT = 4 << 20  # bytes of a request that are looked through for these,
_TIMES = 1000  # and how many of each
_SOUNDS = frozenset({"response.audio.delta", "response.output_audio.delta"})  # events whose delta is no text
_NULL = msgspec.Raw(b"null")
_UNSAID = len(b"null")


class _Function(msgspec.Struct, gc=False):
    name: msgspec.Raw = _NULL
    arguments: msgspec.Raw = _NULL


class _Call(msgspec.Struct, gc=False):
    function: _Function | None = None


class _Message(msgspec.Struct, gc=False):
    content: msgspec.Raw = _NULL
    refusal: msgspec.Raw = _NULL
    reasoning: msgspec.Raw = _NULL
    reasoning_content: msgspec.Raw = _NULL
    tool_calls: list[_Call] | None = None


class _Choice(msgspec.Struct, gc=False):
    delta: _Message | None = None
    message: _Message | None = None
    text: msgspec.Raw = _NULL


class _Part(msgspec.Struct, gc=False):
    text: msgspec.Raw = _NULL
    refusal: msgspec.Raw = _NULL


class _Item(msgspec.Struct, gc=False):
    content: list[_Part] | None = None
    summary: list[_Part] | None = None
    name: msgspec.Raw = _NULL
    arguments: msgspec.Raw = _NULL


class _Told(msgspec.Struct, gc=False):
    """An answer, or an event of one, as far as it speaks."""

    choices: list[_Choice] | None = None
    output: list[_Item] | None = None
    delta: msgspec.Raw = _NULL
    type: str | None = None


_decode = msgspec.json.Decoder(_Told).decode


def tokens(size: int) -> int:
    """The tokens of so many bytes of text."""
    return math.ceil(size / _BYTES)


def prompt(body: bytes, fields: Fields) -> int:
    """The tokens of a request with that body and these fields. Of a long one its begin tells how much of it is text."""
    size = sum(len(fields[name]) for name in _PROMPT if name in fields)
    begin = body[:_LOOKED_AT]
    share = len(body) / max(1, len(begin))
    encoded = min(size, math.ceil(share * sum(_encoded(begin, mark) for mark in _ENCODED)))
    return tokens(size - encoded) + math.ceil(share * _EACH * sum(map(begin.count, _MEDIA)))


def spoken(events: bytes) -> int:
    """How many bytes of words these whole events bring."""
    return sum(_words(told) for event in sse.events(events) if (told := _told(sse.data(event) or b"")))


def written(body: bytes) -> int:
    """How many bytes of words a whole answer brings: all of it, where it is no JSON that makes sense."""
    told = _told(body)
    return len(body) if told is None else _words(told)


def _encoded(begin: bytes, mark: bytes) -> int:
    """How many bytes stand behind such marks, each up to the end of its string."""
    size = at = 0
    for _ in range(_TIMES):
        at = begin.find(mark, at)
        if at < 0:
            break
        start = at + len(mark)
        at = begin.find(b'"', start + 2)  # behind the quote that may begin it, and a space before that
        if at < 0:
            return size + len(begin) - start
        size += at - start
    return size


def _told(data: bytes) -> _Told | None:
    try:
        return _decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def _words(told: _Told) -> int:
    size = 0 if told.type in _SOUNDS else _size(told.delta)
    for choice in told.choices or ():
        size += _size(choice.text)
        for message in (choice.delta, choice.message):
            size += _of_message(message) if message else 0
    for item in told.output or ():
        size += _size(item.name) + _size(item.arguments)
        size += sum(_size(part.text) + _size(part.refusal) for part in (*(item.content or ()), *(item.summary or ())))
    return size


def _of_message(message: _Message) -> int:
    calls = (call.function for call in message.tool_calls or () if call.function)
    said = sum(map(_size, (message.content, message.refusal, message.reasoning, message.reasoning_content)))
    return said + sum(_size(call.name) + _size(call.arguments) for call in calls)


def _size(raw: msgspec.Raw) -> int:
    """The bytes of a string as it is written, without its quotes; of a list of parts, of all of it."""
    size = len(raw)
    return 0 if size == _UNSAID and bytes(raw) == b"null" else size - 2
