"""mention: whether a text stands in a record or its bodies. Pure; knows JSON and event streams, and no database."""

import json
import re
from collections.abc import Callable, Iterable, Iterator

from relay.record import Record, written

# The strings that a stream brings in pieces: what is said, thought, refused, and asked of tools.
_PIECE = re.compile(
    rb'"(?:content|text|reasoning|reasoning_content|refusal|arguments|delta)"[ \t]*+:[ \t]*+"((?:[^"\\]|\\.)*+)"'
)
_STREAM = re.compile(rb"\s*+(?:data|event|id|retry)?:")  # how it begins, comments included

_Kept = Callable[[], Iterable[bytes | None]]


def mentions(text: str, record: Record, bodies: _Kept) -> bool:
    """Whether the text stands there, in any case: as itself, or as JSON writes it.

    Of an event stream also in what its events spell out together, wherever one ends and the next begins, as long as
    one voice speaks at a time. The bodies are not asked for where the record has it.
    """
    forms = {form.lower() for form in (text, json.dumps(text)[1:-1], json.dumps(text, ensure_ascii=False)[1:-1])}
    told = (place.decode(errors="replace").lower() for place in _places(written([record]), bodies))
    return any(form in place for place in told for form in forms)


def _places(record: bytes, bodies: _Kept) -> Iterator[bytes]:
    yield record
    for body in filter(None, bodies()):
        yield body
        if _STREAM.match(body):
            yield b"".join(_PIECE.findall(body))
