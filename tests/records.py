"""A record to begin with; a test names only the fields that it is about."""

from typing import Any

from relay.record import Record, Try

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
    "client": "OpenAI/Python 3.5",
    "tags": ("a", "b"),
    "tries": (Try("openai", "gpt-4o-mini", 200, reused=True, first_byte_ms=11.5),),
    "edits": ("model",),
}


def record(name: str, **changed: Any) -> Record:
    return Record(id=name, **{**_FIELDS, **changed})
