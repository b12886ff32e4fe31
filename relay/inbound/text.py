"""POST /chat/stream: a chat's words alone, as they come. A chat like any other, asked and answered in another form.

`question` makes the OpenAI request of the short one; TextSink lets the text of its answer through, in events or whole.
"""

import re
from collections.abc import Sequence

import msgspec
from msgspec.structs import replace

from relay import ask as asking
from relay import splice, sse, usage
from relay.call.account import Account
from relay.call.sink import Sink
from relay.exchange import ERROR, Header, Lines, headers, lines

_GREETING = b'[{"role":"user","content":"Hello"}]'
_JSON = (b"content-type", b"application/json")
_OWN = frozenset({b"content-type", b"accept"})
_REFUSAL = re.compile(rb"q=0(?:\.0*)?")
_UNTOLD = frozenset({b"content-type", b"content-length", b"content-encoding"})


def wants_events(said: Sequence[Header]) -> bool:
    """Whether an Accept among these headers asks for server-sent events; one with `q=0` refuses them (RFC 9110)."""
    ranges = [each for name, value in said if name == b"accept" for each in value.lower().split(b",")]
    return any(_asks_for_events(each) for each in ranges)


def _asks_for_events(media_range: bytes) -> bool:
    kind, *parameters = [part.strip() for part in media_range.split(b";")]
    return kind == b"text/event-stream" and not any(_REFUSAL.fullmatch(each) for each in parameters)


def question(account: Account, body: bytes) -> bytes:
    """The chat request for `{"messages"?, "model"?}`: without messages it says Hello.

    Raises BadRequest, UnsupportedMedia, BodyTooLarge.
    """
    head = account.head
    body = asking.plain(body, head, account.setup.max_body) or b"{}"
    # Decoded once is enough. Whatever the question was said to be, the request that is made of it is JSON, and the form
    # of its answer is made here.
    forwarded = (_JSON, *(header for header in head.forwarded if header[0] not in _OWN))
    account.head = replace(head, encoding=b"", forwarded=forwarded)
    fields = splice.read(body)
    changes = {"stream": b"true"}
    if "messages" not in fields:
        changes["messages"] = _GREETING
    routes, key = account.setup.routes, account.key
    names = routes.names(key.models, frozenset(key.tags)) if key else routes.names()
    first = routes.default_model or next(iter(names), None)
    if "model" not in fields and first is not None:
        changes["model"] = msgspec.json.encode(first)
    return splice.patch(body, fields, changes)


class _Words(msgspec.Struct):
    content: str | None = None


class _Choice(msgspec.Struct):
    delta: _Words | None = None
    message: _Words | None = None  # of an answer that is no stream


class _Chunk(msgspec.Struct):
    choices: list[_Choice] | None = None
    error: msgspec.Raw = msgspec.Raw(b"null")

    @property
    def failed(self) -> bool:
        return bytes(self.error) not in usage.NO_ERROR


class TextSink:
    """Writes to `outward` the text of what is written to it: as server-sent events, or as plain text."""

    def __init__(self, outward: Sink, *, events: bool) -> None:
        self._outward = outward
        self._events = events
        self._passes = False  # an error, or what is no stream: through as it is
        self._broken = False

    @property
    def gone(self) -> bool:
        """See Sink."""
        return self._outward.gone

    def answer(self, status: int, told: Lines, body: bytes) -> None:
        """See Sink. Of a whole chat, from who does not stream, the text goes out as well; anything else as it is."""
        chunk = _read(body) if status < ERROR else None
        if chunk is None or chunk.choices is None or chunk.failed:
            self._outward.answer(status, told, body)
        else:
            self._outward.answer(status, self._head(headers(told)), self._written(_text(chunk)))

    def start(self, status: int, told: Lines, length: int | None) -> None:
        """See Sink."""
        said = headers(told)
        self._passes = length is not None or dict(said).get(b"content-type", b"").startswith(b"application/json")
        if not self._passes:
            told = self._head(said)
        self._outward.start(status, told, length)

    def beat(self, period: float) -> None:
        """See Sink: among bare words there is no place for it."""
        if self._events:
            self._outward.beat(period)

    def write(self, piece: bytes) -> bool:
        """See Sink."""
        text = piece if self._passes else self._text(piece)
        return self._outward.write(text) if text else False

    def part(self, piece: bytes, ends: bool) -> bool:  # noqa: ARG002  # no part is written
        """See Sink. What is that large is a picture, and no words: it is left out."""
        return False

    def passage(self) -> None:
        """See Sink: a piece goes out as other text."""

    def end(self, piece: bytes = b"") -> None:
        """See Sink. Plain text has no place for an error: there the connection is broken instead."""
        text = piece if self._passes else self._text(piece)
        if self._broken and not self._events:
            self._outward.abort()
        else:
            self._outward.end(text)

    def abort(self) -> None:
        """See Sink."""
        self._outward.abort()

    async def drained(self) -> None:
        """See Sink."""
        await self._outward.drained()

    def _head(self, said: Sequence[Header]) -> Lines:
        kind = b"text/event-stream; charset=utf-8" if self._events else b"text/plain; charset=utf-8"
        return lines([(b"content-type", kind), *(header for header in said if header[0] not in _UNTOLD)])

    def _text(self, piece: bytes) -> bytes:
        return b"".join(self._said(event) for event in sse.events(piece))

    def _said(self, event: bytes) -> bytes:
        data = sse.data(event)
        chunk = None if data is None or data.strip() == sse.DONE else _read(data)
        if chunk is None:
            return b""
        if chunk.failed:
            self._broken = True
            return b"event: error\n" + sse.event(b" ".join(bytes(chunk.error).splitlines())) if self._events else b""
        return self._written(_text(chunk))

    def _written(self, text: str) -> bytes:
        if not (self._events and text):
            return text.encode()
        lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
        return b"".join(b"data: %s\n" % line.encode() for line in lines) + b"\n"


def _read(data: bytes) -> _Chunk | None:
    """What an event, or a whole answer, says; None where that is nothing of a chat."""
    try:
        return msgspec.json.decode(data, type=_Chunk)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def _text(chunk: _Chunk) -> str:
    said = (choice.delta or choice.message for choice in chunk.choices or ())
    return "".join(words.content or "" for words in said if words)
