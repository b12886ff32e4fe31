"""Redaction: a body's shape without its words, and texts without credentials. Pure; knows no endpoint.

Only what is known to say nothing is left: numbers, and short strings under the names of STRUCTURE.
"""

import json
import re
from collections.abc import Iterable, Iterator
from typing import Any, overload

STRUCTURE = frozenset(
    {
        *("model", "role", "type", "object", "id", "name", "index", "status", "event", "code", "param", "mode"),
        *("finish_reason", "stop_reason", "tool_choice", "tool_call_id", "call_id", "item_id", "response_id"),
        *("service_tier", "system_fingerprint", "reasoning_effort", "effort", "encoding_format", "size", "quality"),
    }
)
_SHORT = 64  # characters; what is longer is no name of anything
_GONE = re.compile(rb"\[[0-9]+ (?:chars|numbers|bytes)\]")
_CREDENTIAL = re.compile(
    rb"(?<![A-Za-z0-9])(?:sk-|gsk_|xai-|hf_|AIza)[A-Za-z0-9_*.\-]{4,}"
    rb"|(?P<bearer>bearer\s+)[^\s\"',;]+"
    rb"|(?P<header>api[-_]key[\"']?\s*[:=]\s*[\"']?)[^\s\"',;]+",
    re.IGNORECASE,
)


def redact(body: bytes, content_type: str | None) -> bytes:
    """The same JSON or event stream with "[N chars]" for its strings; of anything else only "[N bytes]"."""
    kind = (content_type or "application/json").partition(";")[0].strip().lower()
    if kind == "text/event-stream":
        return b"".join(_events(body))
    return _json(body) or b"[%d bytes]" % len(body)


def is_redacted(body: bytes) -> bool:
    """Whether `redact` took something out of it; a caller who wrote so himself is taken for that too."""
    return _GONE.search(body) is not None


@overload
def scrub(text: bytes, known: Iterable[bytes] = ()) -> bytes: ...
@overload
def scrub(text: str, known: Iterable[bytes] = ()) -> str: ...
def scrub(text: bytes | str, known: Iterable[bytes] = ()) -> bytes | str:
    """The same text with stars for the secrets that are `known`, and for everything that looks like a credential."""
    if isinstance(text, str):
        return scrub(text.encode(errors="surrogatepass"), known).decode(errors="surrogatepass")
    return _CREDENTIAL.sub(_starred, without(text, known))


def without(text: bytes, known: Iterable[bytes]) -> bytes:
    """The same text with stars for these secrets alone."""
    for secret in known:
        text = text.replace(secret, b"***")
    return text


def _starred(found: re.Match[bytes]) -> bytes:
    return (found["bearer"] or found["header"] or b"") + b"sk-***"


def _json(body: bytes) -> bytes | None:
    """None for what is no JSON, or nested too deep to tell."""
    try:
        return json.dumps(_blank(json.loads(body), ""), separators=(",", ":")).encode()
    except (ValueError, RecursionError):
        return None


def _blank(value: Any, name: str) -> Any:
    if isinstance(value, str):
        return value if name in STRUCTURE and len(value) <= _SHORT else f"[{len(value)} chars]"
    if isinstance(value, dict):
        return {key: _blank(part, key) for key, part in value.items()}
    if isinstance(value, list):
        # Tokens, vectors and the bytes of log probabilities are text in another form.
        numbers = value and all(isinstance(part, int | float) for part in value)
        return f"[{len(value)} numbers]" if numbers else [_blank(part, name) for part in value]
    return value


def _events(body: bytes) -> Iterator[bytes]:
    """Line by line, since an OpenAI event is one line of data; fields other than data and event lose their value."""
    for line in re.split(rb"\r\n|\n|\r", body.removesuffix(b"\n")):
        field, _, value = line.partition(b":")
        if field == b"data":
            value = value.strip()
            shown = value if value in {b"", b"[DONE]"} else _json(value) or b"[%d bytes]" % len(value)
            yield b"data: " + shown + b"\n"
        elif field == b"event":
            yield line + b"\n"
        elif not line:
            yield b"\n"
