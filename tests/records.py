"""A record to begin with; a test names only the fields that it is about."""

from hashlib import blake2b
from typing import Any, NamedTuple

from relay.record import Batch, Entry, Record, Try, written

NOON = 1_767_268_800_000_000  # 2026-01-01T12:00:00Z
DAY = 86_400_000_000

_FIELDS: dict[str, Any] = {
    "started_at": NOON,
    "key": "ci",
    "alias": "fast",
    "upstream": "openai",
    "model": "gpt-4o-mini",
    "endpoint": "/v1/chat/completions",
    "stream": False,
    "status": 200,
    "outcome": "ok",
    "error": None,
    "ttft_ms": 12.5,
    "duration_ms": 40.25,
    "overhead_us": 180,
    "input_tokens": 9,
    "output_tokens": 3,
    "cached_tokens": 0,
    "reasoning_tokens": None,
    "cost_nano": 3150,
    "usage_source": "upstream",
    "bytes_out": 512,
    "tags": ("a", "b"),
    "tries": (Try("openai", "gpt-4o-mini", 200, reused=True, first_byte_ms=11.5),),
    "edits": ("model",),
}


def identity(name: str, at: int = NOON) -> str:
    """The id of the record of that name. At the same moment, ids sort as the first letters of the names do."""
    return f"req_{at:013x}{ord(name[0]):02x}{blake2b(name.encode(), digest_size=4).hexdigest()[:7]}"


def record(name: str, **changed: Any) -> Record:
    """With an id like those of the relay, and the name as its client, by which a test finds it again."""
    fields = {**_FIELDS, "client": name, **changed}
    return Record(id=identity(name, fields["started_at"]), **fields)


def batch(*entries: Entry) -> Batch:
    """The entries as the journal holds them."""
    bodies = {index: entry[1:] for index, entry in enumerate(entries) if entry[1:] != (None, None)}
    return Batch([written([entry.record]) for entry in entries], bodies)


class Noted(NamedTuple):
    """Something of which that record is to be written down."""

    made: Record

    def record(self) -> Record:
        return self.made
