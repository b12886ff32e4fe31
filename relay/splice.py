"""Peek at and patch the JSON bytes of a request body; everything not named stays as it came, byte for byte.

What is checked is what is sent: a field whose place in the bytes is beyond doubt is spliced in place; in any doubt
(a key written twice or with escapes) the object is rebuilt from its raw values, so that one reading is left.
Case variants of the fields that decide something are refused, since some parsers would take them for the real ones.
Knows JSON and what a body is, and nothing of models, upstreams or how it is sent.
"""

import json
import re
from collections.abc import Mapping
from functools import lru_cache

import msgspec

from relay.errors import BadRequest
from relay.exchange import JOINED_MAX, Body, joined

Fields = dict[str, msgspec.Raw]

POLICY = frozenset({"model", "stream", "stream_options", "n", "max_tokens", "max_completion_tokens"})
_KNOWN = POLICY | {"messages", "input", "temperature", "top_p", "tools", "tool_choice", "user"}  # need no second look
_LOOSE = frozenset(name.casefold() for name in POLICY)
_MODEL = b'"model"'
_BACKSLASH = ord("\\")
_LONG = 4096  # bytes; from here on a body is gone through field by field
_ONCE = 2  # pieces around a text that stands once
_COLON = ord(":")
_SPACES = frozenset(b" \t\r\n")
_SPACED_COLON = re.compile(rb"[ \t\r\n]*:[ \t\r\n]*")
# A letter, digit or underscore of ASCII written as an escape: no encoder does so, and a key could hide behind it.
_ESCAPED_LETTER = re.compile(rb"\\u00(?:3[0-9]|[46][1-9a-fA-F]|[57][0-9aA]|5[fF])")
_decode = msgspec.json.Decoder(Fields).decode
_decode_text = msgspec.json.Decoder(str).decode
_FLAGS = {b"true": True, b"false": False, b"null": False}


def read(body: bytes) -> Fields:
    """The top-level fields of `body` as raw values. Raises BadRequest when it is no JSON object or could be misread."""
    try:
        if not body.isascii():
            body.decode()  # raw values are not looked into, and JSON is UTF-8 all through
        fields = _decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as fault:
        raise BadRequest(f"We could not parse the body of your request as a JSON object: {fault}.") from fault
    if not _KNOWN.issuperset(fields):
        for name in fields.keys() - POLICY:
            if name.casefold() in _LOOSE:
                raise BadRequest(f"Unknown field {name!r}: write it in lower case.", param=name)
    return fields


def text(fields: Fields, name: str) -> str | None:
    """The string in field `name`; None when absent. Raises BadRequest when it is anything but a string."""
    raw = fields.get(name)
    if raw is None:
        return None
    try:
        return _decode_text(raw)
    except (msgspec.DecodeError, UnicodeDecodeError) as fault:
        raise BadRequest(f"{name!r} must be a string.", param=name) from fault


def flag(fields: Fields, name: str) -> bool:
    """The truth of field `name`; absent and null are false. Raises BadRequest when it is neither a boolean nor null."""
    raw = fields.get(name)
    if raw is None:
        return False
    value = _FLAGS.get(bytes(raw))
    if value is None:
        raise BadRequest(f"{name!r} must be true or false.", param=name)
    return value


def is_plain(body: bytes, fields: Fields, name: str) -> bool:
    """Whether all readers of `body` will agree on its field `name`, which it has: it stands there once, as itself."""
    return _value(body, fields, name) >= 0


def replaced(body: bytes, fields: Fields, name: str, value: bytes) -> Body:
    """`body` with its field `name`, which it has, set to that raw JSON value; a long one in pieces, as by `patches`."""
    start = _value(body, fields, name)
    if start < 0:
        return _rebuilt(fields, {name: value})
    end = start + len(fields[name])
    if len(body) <= _LONG:
        return b"".join((body[:start], value, body[end:]))
    whole = memoryview(body)  # a slice of a view is no copy, but takes longer to make
    pieces = whole[:start], value, whole[end:]
    if len(body) <= JOINED_MAX:
        return b"".join(pieces)
    return body if whole[start:end] == value else pieces


def patch(body: bytes, fields: Fields, changes: Mapping[str, bytes]) -> bytes:
    """`body` with every field in `changes` set to its raw JSON value: replaced where it stands, else put in first.

    `fields` is what `read` made of the same body.
    """
    return joined(patches(body, fields, changes))


def patches(body: bytes, fields: Fields, changes: Mapping[str, bytes]) -> Body:
    """The same; of a `body` that is longer than 16 KB in pieces, so that nothing of it is copied."""
    if len(changes) == 1:
        ((name, value),) = changes.items()
        if name in fields:
            return replaced(body, fields, name, value)
    spans: list[tuple[int, int, bytes]] = []
    added: list[bytes] = []
    for name, value in changes.items():
        if name not in fields:
            added.append(b"%s:%s," % (json.dumps(name).encode(), value))
            continue
        start = _value(body, fields, name)
        if start < 0:
            return _rebuilt(fields, changes)
        spans.append((start, start + len(fields[name]), value))
    if added:
        spans.append(_first(body, fields, added))
    return _spliced(body, spans)


def _value(body: bytes, fields: Fields, name: str) -> int:
    """Where the value of the top-level field `name`, which `body` has, begins; -1 when that is not beyond doubt.

    Its quoted name stands once in the body, before a colon, and no letter is escaped: so that once is the key itself. A
    name that is no ASCII identifier could be written in other ways still.
    """
    if len(body) > _LONG and (found := _walked(body, fields, name)) > 0:
        return found
    key = _MODEL if name == "model" else _quoted(name)
    around = body.split(key) if key else []
    if len(around) != _ONCE or (_BACKSLASH in body and _has_escaped_letter(body)):
        return -1 if len(body) > _LONG else _walked(body, fields, name) or -1
    before, behind = around
    begin = len(before) + len(key)
    if behind[0] == _COLON:  # a value close behind it, or one space off, needs no search
        gap = 1 if behind[1] not in _SPACES else 2
        if behind[gap] not in _SPACES:
            return begin + gap
    colon = _SPACED_COLON.match(behind)
    return begin + colon.end() if colon else -1


def _walked(body: bytes, fields: Fields, name: str) -> int:
    """The same by going from field to field; 0 for a body that is not written close, in either usual way.

    That takes less long in a long body, and is sure where the name stands elsewhere too. Where each field stands once
    in its order with its own value, and nothing else, no key is written twice or in another way. Lengths alone would
    not tell: the text of one value can look like the fields behind it.
    """
    found, at = 0, 1
    for each, raw in fields.items():
        key = b'"%b":' % each.encode()
        if body[at : at + len(key)] != key:
            return 0
        at += len(key)
        at += body[at : at + 1] == b" "
        if each == name:
            found = at
        if not body.startswith(raw, at):
            return 0
        at += len(raw)
        at += body[at : at + 1] == b","
        at += body[at : at + 1] == b" "
    return found if body[:1] + body[at:] == b"{}" else 0


def _has_escaped_letter(body: bytes) -> bool:
    # `find` first, which is much cheaper; and not `in`, which first tries to take the text for a number
    return body.find(b"\\u00") >= 0 and _ESCAPED_LETTER.search(body) is not None


@lru_cache(maxsize=256)
def _quoted(name: str) -> bytes:
    """How the key is written; empty for a name that could be written in several ways."""
    return b'"%s"' % name.encode() if name.isascii() and name.isidentifier() else b""


def _first(body: bytes, fields: Fields, added: list[bytes]) -> tuple[int, int, bytes]:
    """The span that puts `added` right behind the opening brace."""
    at = body.index(b"{") + 1
    members = b"".join(added)
    return at, at, members if fields else members[:-1]


def _spliced(body: bytes, spans: list[tuple[int, int, bytes]]) -> Body:
    whole = memoryview(body) if len(body) > _LONG else body  # as above
    found: list[bytes | memoryview] = []
    done = 0
    for start, end, value in sorted(spans):
        found += (whole[done:start], value)
        done = end
    found.append(whole[done:])
    return b"".join(found) if len(body) <= JOINED_MAX else tuple(found)


def _rebuilt(fields: Fields, changes: Mapping[str, bytes]) -> bytes:
    """The object anew from its raw values: each field once, the last of doubles, as JSON parsers read them."""
    whole = {name: bytes(raw) for name, raw in fields.items()} | dict(changes)
    return b"{%s}" % b",".join(b"%s:%s" % (json.dumps(name).encode(), raw) for name, raw in whole.items())
