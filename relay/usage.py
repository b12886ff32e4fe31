"""Usage: how many tokens a call took, as the upstream said it; Meter reads it from a body or from a stream's events.

Knows JSON and events; no prices and no providers beyond the two spellings of OpenAI's own API (chat and responses).
What cannot be believed (negative, absurd, not a number) counts as unknown, which is None and never zero.
"""

import re
from typing import Annotated

import msgspec

from relay import sse

Count = Annotated[int, msgspec.Meta(ge=0, le=10**12)]
_READ_WHOLE = 1 << 20  # bytes; of a larger body (embeddings, images) only the end is searched
_TAIL = 64 << 10  # bytes of that
_NAME = b'"usage"'
_OBJECT = re.compile(rb"[ \t\r\n]*+:[ \t\r\n]*+(\{[^{}]*+(?:\{[^{}]*+\}[^{}]*+)*+\})")
_TYPE = re.compile(rb'"type"[ \t\r\n]*+:[ \t\r\n]*+("[^"\\]*+")')
_FINISH = re.compile(rb'"finish_reason"[ \t\r\n]*+:[ \t\r\n]*+(?!null)\S')


class Usage(msgspec.Struct, frozen=True, gc=False):  # gc: values alone are in no circle
    """Tokens. `cached` is part of `input`, `reasoning` part of `output`."""

    input: int | None = None
    output: int | None = None
    cached: int | None = None
    reasoning: int | None = None


class _Details(msgspec.Struct, gc=False):
    cached_tokens: Count | None = None
    reasoning_tokens: Count | None = None


class _Said(msgspec.Struct, gc=False):
    prompt_tokens: Count | None = None
    completion_tokens: Count | None = None
    input_tokens: Count | None = None
    output_tokens: Count | None = None
    prompt_tokens_details: _Details | None = None
    completion_tokens_details: _Details | None = None
    input_tokens_details: _Details | None = None
    output_tokens_details: _Details | None = None

    def usage(self) -> Usage | None:
        before, after = self.prompt_tokens, self.completion_tokens
        given, made = self.prompt_tokens_details, self.completion_tokens_details
        if before is None and after is None:
            before, after = self.input_tokens, self.output_tokens
            given, made = self.input_tokens_details, self.output_tokens_details
            if before is None and after is None:
                return None
        cached, reasoning = given.cached_tokens if given else None, made.reasoning_tokens if made else None
        if cached and before is not None and cached > before:
            before = cached = None  # they are part of it: one of the two is wrong
        return Usage(before, after, cached, reasoning)


class _Inner(msgspec.Struct, gc=False):
    usage: _Said | None = None


class _Whole(msgspec.Struct, gc=False):
    usage: _Said | None = None
    response: _Inner | None = None  # the responses API wraps it in its last event


_NULL = msgspec.Raw(b"null")


class _Choice(msgspec.Struct, gc=False):
    finish_reason: msgspec.Raw = _NULL


class _Event(msgspec.Struct, gc=False):
    choices: list[_Choice] | None = None
    usage: msgspec.Raw = _NULL
    error: msgspec.Raw = _NULL
    type: str | None = None


_decode_said = msgspec.json.Decoder(_Said).decode
_inner = msgspec.json.Decoder(_Inner)
_whole = msgspec.json.Decoder(_Whole)
_OBJECT_SAID = b"data: {"  # how an event begins that says something, and no comment
_event = msgspec.json.Decoder(_Event)
NO_ERROR = frozenset({b"null", b"{}", b'""', b"false"})  # as some write it beside what they say
_ERRORS = frozenset({"error", "response.failed"})  # types of events that are one
_LAST_TYPES = re.compile(rb'"(?:response\.(?:completed|failed|incomplete)|image_\w+\.completed|error)"')


def of_body(body: bytes) -> Usage | None:
    """The usage that a JSON answer states; None when it states none that can be believed."""
    if len(body) > _READ_WHOLE:
        return of_tail(body)
    at = body.rfind(_NAME)
    if at < 0:
        return None
    said = _own(body, at)
    return said.usage() if said else _stated(body) or of_tail(body)


def of_tail(body: bytes) -> Usage | None:
    """The last usage that stands in a JSON answer, or in the end of one, found without reading all of it.

    Within a string of JSON its name could not stand between bare quotes.
    """
    at = body.rfind(_NAME)
    if at < 0:
        return None
    said = _own(body, at) or _deeper(body, at + len(_NAME))
    return said.usage() if said else None


def tail(before: bytes, piece: bytes) -> bytes:
    """The end of a large answer, as much of it as is searched: with this piece, and `before` without it."""
    return piece[-_TAIL:] if len(piece) >= _TAIL else (before + piece)[-_TAIL:]


def is_error(data: bytes) -> bool:
    """Whether an event with this data is an error."""
    try:
        return _errs(_event.decode(data))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False


def _errs(said: _Event) -> bool:
    return bytes(said.error) not in NO_ERROR or said.type in _ERRORS


def _own(body: bytes, at: int) -> _Said | None:
    """The usage whose name stands there, where it is a field of the answer itself: then what follows ends that."""
    try:
        return _inner.decode(b"{" + body[at:]).usage
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def _deeper(body: bytes, at: int) -> _Said | None:
    """The object behind the name that ends at `at`, wherever it stands."""
    found = _OBJECT.match(body, at)
    try:
        return _decode_said(found[1]) if found else None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def _stated(data: bytes) -> Usage | None:
    try:
        whole = _whole.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    said = whole.usage or (whole.response.usage if whole.response else None)
    return said.usage() if said else None


class Meter(msgspec.Struct, eq=False):
    """Watches the events of one stream: `usage` is the last that was stated.

    `spoke`: an event that says more than usage has come. `finished`: a finish_reason, or an event that ends its kind of
    stream, has come. `done`: `[DONE]` has come. `errored`: the upstream sent an error event. `head` and `tail` are
    those of an event that is too large to be read.
    """

    usage: Usage | None = None
    spoke: bool = False
    finished: bool = False
    done: bool = False
    errored: bool = False
    head: bytes = b""
    tail: bytes = b""

    def plain(self, whole: bytes) -> bool:
        """Whether these events are mere content: then none needs a closer look. A few searches tell."""
        if not (self.spoke or whole.startswith(_OBJECT_SAID)) or not _searched(whole):
            return False
        if not self.spoke:
            self.spoke = True
        return True

    def read(self, event: bytes) -> bool:
        """Take in one event. True when it is a usage-only chunk: usage stated, choices there but empty."""
        data = sse.data(event)
        if not data:
            return False
        alone = self._read(data)
        self.spoke = self.spoke or not alone
        return alone

    def skim(self, piece: bytes) -> None:
        """Take in a piece of an event that is too large to be read."""
        self.spoke = True
        self.head = self.head or piece[:_TAIL]
        self.tail = tail(self.tail, piece)

    def skimmed(self, ended: bool) -> None:
        """Take that event for what it says at both of its ends. One without a blank line is torn, if not whole JSON."""
        head, end = self.head, self.tail
        self.head = self.tail = b""
        if b"data:" not in head or not (ended or end.rstrip().endswith(b"}")):
            return
        kinds = [*_TYPE.findall(head)[:1], *_TYPE.findall(end)[-1:]]  # it stands before what is large, or behind it
        if any(map(_LAST_TYPES.fullmatch, kinds)) or _FINISH.search(head) or _FINISH.search(end):
            self.finished = True
        if kinds and kinds[0][1:-1].decode("latin-1") in _ERRORS:
            self.errored = True
        self.usage = of_tail(end) or of_tail(head) or self.usage

    def _read(self, data: bytes) -> bool:
        if data.strip() == sse.DONE:
            self.done = True
            return False
        try:
            said = _event.decode(data)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return False
        return self._take(said, data)

    def _take(self, said: _Event, data: bytes) -> bool:
        if _errs(said):
            self.errored = True
        if said.type and _LAST_TYPES.fullmatch(b'"%s"' % said.type.encode()):
            self.finished = True
        if said.choices and any(_given(choice.finish_reason) for choice in said.choices):
            self.finished = True
        if not _given(said.usage) and b'"usage"' not in data:
            return False
        self.usage = _stated(data) or self.usage
        if said.choices != [] or not _given(said.usage):
            return False
        # Azure's first chunk has empty choices too, and content filter results that clients want; as they do an error.
        return b"prompt_filter_results" not in data and bytes(said.error) in NO_ERROR


def _searched(whole: bytes) -> bool:
    """Whether a few searches find nothing in these events that matters to the relay.

    By `find`, since `in` first tries to take what it looks for as a number, and drops the error of that.
    """
    return (
        whole.count(b'"finish_reason":null') == whole.count(b"finish_reason")
        and whole.count(b'"usage":null') == whole.count(b'"usage"')
        and whole.find(sse.DONE) < 0
        and whole.find(b'"error"') < 0
        and not ((whole.find(b'failed"') >= 0 or whole.find(b"complete") >= 0) and _LAST_TYPES.search(whole))
    )


def _given(raw: msgspec.Raw) -> bool:
    return bytes(raw) != b"null"
