"""Moderations: echo flags nothing. Knows no engine."""

from dataclasses import dataclass
from typing import Any

from relay.upstream.echo.body import Part, Served, fresh, read, write

_CATEGORIES = (
    "harassment",
    "harassment/threatening",
    "hate",
    "hate/threatening",
    "illicit",
    "illicit/violent",
    "self-harm",
    "self-harm/instructions",
    "self-harm/intent",
    "sexual",
    "sexual/minors",
    "violence",
    "violence/graphic",
)


@dataclass(frozen=True, slots=True)
class _Ask:
    input: str | list[str | Part]
    model: str | None = None


def serve(body: bytes, _now: int) -> Served:
    """The answer to one request: a result for each text, or one for a list of parts. Raises BadRequest."""
    ask = read(body, _Ask)
    several = isinstance(ask.input, list) and all(isinstance(item, str) for item in ask.input)
    results = [_result() for _ in range(len(ask.input) if several else 1)]
    return write({"id": fresh("modr-"), "model": ask.model or "omni-moderation-latest", "results": results})


def _result() -> dict[str, Any]:
    return {
        "flagged": False,
        "categories": dict.fromkeys(_CATEGORIES, False),
        "category_scores": dict.fromkeys(_CATEGORIES, 0.0),
        "category_applied_input_types": {name: ["text"] for name in _CATEGORIES},
    }
