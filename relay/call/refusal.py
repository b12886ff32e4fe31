"""refusal: an upstream's error, as the caller is to understand it. Pure.

Also the error behind a status that promised an answer: the one that a stream begins with, or all that an answer says.
"""

from http import HTTPStatus

import msgspec

from relay import sse
from relay.errors import UpstreamFault, UpstreamRefusal
from relay.exchange import RATE_LIMITED
from relay.upstream.door import REFUSED_KEY, refused_key

_HTTP_ERRORS = range(400, 600)
_LONG = 64 << 10  # bytes of an answer that says more than an error
# What the answers of OpenAI's endpoints have in them, one or the other.
_ANSWERS = frozenset({"choices", "data", "id", "object", "output", "results", "text"})
_RETRIED = frozenset({408, 409, 429})  # with every 5xx: what OpenAI's own clients try again
# What events say instead of a status, as their code or type.
_NAMED = {
    "invalid_request_error": HTTPStatus.BAD_REQUEST,
    "context_length_exceeded": HTTPStatus.BAD_REQUEST,
    "content_policy_violation": HTTPStatus.BAD_REQUEST,
    "content_filter": HTTPStatus.BAD_REQUEST,
    "invalid_prompt": HTTPStatus.BAD_REQUEST,
    "invalid_api_key": HTTPStatus.UNAUTHORIZED,
    "authentication_error": HTTPStatus.UNAUTHORIZED,
    "rate_limit_exceeded": RATE_LIMITED,
    "rate_limit_error": RATE_LIMITED,
}


class _Error(msgspec.Struct):
    message: str | None = None
    code: int | str | None = None
    type: str | None = None


class _Answer(msgspec.Struct):
    error: _Error | None = None


class _ErrorEvent(msgspec.Struct):
    response: _Answer | None = None
    error: _Error | str | None = None
    type: str | None = None
    message: str | None = None
    code: int | str | None = None


def may_pass(status: int) -> bool:
    """Whether another try may bring something else than this error."""
    return status in _RETRIED or status >= HTTPStatus.INTERNAL_SERVER_ERROR


def first_error(events: bytes, upstream: str, wait: float | None) -> UpstreamFault | None:
    """The error that a stream begins with, as the failure it is: its own words, and its status if it names one.

    But no words about the relay's own key. `wait` is how many seconds its head asks for. None where the first event is
    no error.
    """
    return _error(next(filter(None, map(sse.data, sse.events(events))), b"null"), upstream, wait)


def error_alone(body: bytes, upstream: str, wait: float | None) -> UpstreamFault | None:
    """The same of a JSON answer; None where it says anything else, or nothing that is known for an error."""
    if len(body) > _LONG or b'"error"' not in body:
        return None
    try:
        said = msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError):
        return None
    if not isinstance(said, dict) or not said.get("error") or said.keys() & _ANSWERS:
        return None
    return _error(body, upstream, wait)


def _error(data: bytes, upstream: str, wait: float | None) -> UpstreamFault | None:
    try:
        said = msgspec.json.decode(data, type=_ErrorEvent)
    except (msgspec.DecodeError, RecursionError):
        return None
    stated = said.response.error if said.response and said.type == "response.failed" else said.error
    if stated is None and said.type not in {"error", "response.failed"}:
        return None
    error = stated if isinstance(stated, _Error) else _Error(stated, said.code)
    status = _status(error.code) or _status(error.type)
    if status in REFUSED_KEY:
        return refused_key(upstream)
    fault = UpstreamRefusal(error.message or said.message or "The upstream answered with an error.")
    fault.said, fault.retry_after = data, wait
    if isinstance(error.code, str) and not error.code.isdecimal():
        fault.code = error.code
    fault.type = error.type or fault.type
    if status is not None:
        fault.status = status
        fault.should_retry = may_pass(status)
    return fault


def _status(name: int | str | None) -> int | None:
    """The status that a code or a type stands for, as a number, as its digits or by its name."""
    if isinstance(name, str):
        name = int(name) if name.isdecimal() and len(name) == len("429") else _NAMED.get(name)
    return name if name in _HTTP_ERRORS else None
