"""Bodies: request JSON in, answer JSON and events out, and what endpoints share of both. Pure, but for random ids."""

import re
import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import msgspec

from relay.errors import BadRequest

Served = bytes | Iterator[bytes]  # a JSON body, or the events of a stream
Tokens = str | list[str | int | list[int]]  # one text, several, or either as numbers of a vocabulary
Kind = TypeVar("Kind")

DONE = b"data: [DONE]\n\n"
ANY_OBJECT = {"type": "object", "properties": {"echo": {"type": "string"}}, "required": ["echo"]}
_PLACE = re.compile(r" - at `\$\.?(.*)`$")


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a message's content; whatever is no text is only named."""

    type: str
    text: str | None = None


Content = str | list[Part] | None


@dataclass(frozen=True, slots=True)
class StreamOptions:
    include_usage: bool | None = None


def read(body: bytes, kind: type[Kind]) -> Kind:
    """The request's JSON as `kind`; fields that `kind` does not know are passed over. Raises BadRequest."""
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.ValidationError as fault:
        place = _PLACE.search(str(fault))
        raise BadRequest(f"Invalid request: {fault}.", param=place and place.group(1)) from fault
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as fault:
        raise BadRequest(f"We could not parse the JSON body of your request: {fault}.") from fault


def write(value: Any) -> bytes:
    """`value` as JSON."""
    return msgspec.json.encode(value)


def event(value: Any, name: str | None = None) -> bytes:
    """One server-sent event with `value` as its JSON data."""
    return (f"event: {name}\n".encode() if name else b"") + b"data: " + write(value) + b"\n\n"


def fresh(prefix: str) -> str:
    """A new random id such as OpenAI's: `prefix` names the kind of thing."""
    return prefix + secrets.token_hex(12)


def words(content: Content) -> str:
    """The text of a message's content; an image reads [image], any other part by its type."""
    if isinstance(content, list):
        return " ".join(_part(part) for part in content)
    return content or ""


def texts(given: Tokens | None) -> Sequence[str]:
    """The texts of an input; one given as token numbers reads as those numbers. Raises BadRequest on a mix."""
    if not isinstance(given, list):
        return [given or ""]
    numbers = [item for item in given if isinstance(item, int)]
    if numbers and len(numbers) < len(given):
        raise BadRequest("Invalid request: a list of tokens holds something else.", param="input")
    if numbers:
        return [" ".join(map(str, numbers))]
    return [item if isinstance(item, str) else " ".join(map(str, item)) for item in given if not isinstance(item, int)]


def completion_usage(heard: int, spoken: int) -> dict[str, Any]:
    """`usage` of chat and completions, all of its details there; counts in tokens."""
    spent = {"reasoning_tokens": 0, "audio_tokens": 0, "accepted_prediction_tokens": 0, "rejected_prediction_tokens": 0}
    return {
        "prompt_tokens": heard,
        "completion_tokens": spoken,
        "total_tokens": heard + spoken,
        "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
        "completion_tokens_details": spent,
    }


def _part(part: Part) -> str:
    return part.text if part.text is not None else f"[{part.type.removeprefix('input_').removesuffix('_url')}]"
