"""verdict: what a try that failed means for what is tried next. Pure: the table that the rest goes by.

failed                                              another target   the same once more   counts against the target
could not be reached (refused, no name, TLS)        yes              yes                  yes
502, 503, 529                                       yes              yes                  yes
429                                                 yes              after its wait       no: it rests
408, any other 5xx                                  yes              no                   yes
no answer in time, cut, no HTTP, a redirect         yes              no                   yes
refuses the relay's key, or 402: it is not paid     yes              no                   no: the key is out
the line for it is full, or it is switched off      yes              no                   no
any other 4xx: the request itself is wrong          no               no                   no

"Once more" is only for what the upstream has not begun to work on, or says so itself: anything else could be done, and
billed, twice.
"""

import json
from collections.abc import Iterable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Literal, NamedTuple

from relay.errors import Overloaded, RelayError, UpstreamAuthFailed, UpstreamFault, UpstreamOff, UpstreamRefusal
from relay.exchange import RATE_LIMITED, Header

Objection = Literal["context_window", "content_policy"]

_AGAIN = frozenset({502, 503, 529})
_NOT_PAID, _REQUEST_TIMEOUT, _SERVER_ERROR = 402, 408, 500
_WAIT_MAX = 86_400.0  # seconds; what asks for more has something else in mind
OBJECTS = frozenset({400, 413, 422})  # with what an upstream says so
# As upstreams call it: the codes of OpenAI, Azure and llama.cpp, and the words of vLLM, OpenRouter, Anthropic, Gemini
# and others that have no code.
_OBJECTIONS: dict[Objection, tuple[str, ...]] = {
    "context_window": (
        "context_length_exceeded", "context length", "context window", "too many tokens", "exceed_context_size",
        "context size", "prompt is too long", "input token count",
    ),
    "content_policy": (
        "content_policy_violation", "content_filter", "moderation_blocked", "responsibleaipolicyviolation",
        "content policy", "content management policy", "invalid_prompt", "usage policy", "usage policies",
    ),
}  # fmt: skip


class Verdict(NamedTuple):
    """`wait`: seconds until the same target may be asked once more, where the upstream says so."""

    onward: bool = False
    again: bool = False
    blames: bool = False
    wait: float | None = None


_NOTHING = Verdict()


def of_status(status: int, wait: float | None = None) -> Verdict:
    """On an answer with that status; `wait` is what `wait_of` found in its headers."""
    if status == RATE_LIMITED:
        return Verdict(onward=True, again=wait is not None, wait=wait)
    if status in _AGAIN:
        return Verdict(onward=True, again=True, blames=True, wait=wait)
    if status >= _SERVER_ERROR or status == _REQUEST_TIMEOUT:
        return Verdict(onward=True, blames=True)
    return Verdict(onward=True) if status == _NOT_PAID else _NOTHING


def of_fault(fault: RelayError) -> Verdict:
    """On a try that brought no answer."""
    if isinstance(fault, UpstreamRefusal):
        return of_status(fault.status, fault.retry_after)
    if isinstance(fault, Overloaded | UpstreamAuthFailed | UpstreamOff):
        return Verdict(onward=True)
    if isinstance(fault, UpstreamFault):
        return Verdict(onward=True, again=not fault.sent, blames=True)
    return _NOTHING


def wait_of(headers: Iterable[Header]) -> float | None:
    """Seconds to wait, as `retry-after-ms` or `retry-after` states it (a date counts from the answer's own `date`).

    The same order in which OpenAI's clients read them. None where nothing usable stands there.
    """
    said = {name: value.strip() for name, value in headers if name in (b"retry-after", b"retry-after-ms", b"date")}
    for name, unit in ((b"retry-after-ms", 1000.0), (b"retry-after", 1.0)):
        text = said.get(name, b"")
        if text.replace(b".", b"", 1).isdigit():
            return min(float(text) / unit, _WAIT_MAX)
    if b"retry-after" in said and b"date" in said:
        return _between(said[b"date"], said[b"retry-after"])
    return None


def _between(start: bytes, end: bytes) -> float | None:
    """Seconds from one HTTP date to the other, not below 0; None where one of them is none."""
    try:
        span = _moment(end) - _moment(start)
    except (ValueError, OverflowError):
        return None
    return min(max(0.0, span.total_seconds()), _WAIT_MAX)


def _moment(date: bytes) -> datetime:
    """The moment of an HTTP date, also of asctime's form, which names no zone (RFC 9110, 5.6.7). Raises ValueError."""
    found = parsedate_to_datetime(date.decode("latin-1"))
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def objection(body: bytes) -> Objection | None:
    """Why a request was refused as it is, where another model may well accept what this one refuses."""
    try:
        said = json.loads(body)
    except (ValueError, RecursionError):
        return None
    error = _error(said) if isinstance(said, dict) else None
    text = json.dumps(error).lower() if isinstance(error, dict) else str(error).lower()
    return next((name for name, words in _OBJECTIONS.items() if any(word in text for word in words)), None)


def _error(said: dict[str, object]) -> object:
    """The error in an answer, or in an event. Some are it themselves; of the responses API it may be in the answer."""
    if "error" in {said.get("type"), said.get("object")} and "error" not in said:
        return said
    inner = said.get("response")
    return said.get("error") or (inner.get("error") if isinstance(inner, dict) else None)
