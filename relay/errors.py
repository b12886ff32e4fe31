"""What can go wrong, by whose fault, and how an OpenAI client is told. Knows nothing of HTTP servers, config or stores.

RelayError                 status  type                    code
├── CallerFault
│   ├── BadRequest          400    invalid_request_error   (per case)
│   ├── Unauthorized        401    invalid_request_error   invalid_api_key
│   ├── ModelNotAllowed     403    invalid_request_error   model_not_allowed
│   ├── ModelNotFound       404    invalid_request_error   model_not_found
│   ├── UnknownUrl          404    invalid_request_error   unknown_url
│   ├── MethodNotAllowed    405    invalid_request_error   method_not_allowed
│   ├── RequestTimeout      408    invalid_request_error   request_timeout
│   ├── BodyTooLarge        413    invalid_request_error   request_too_large
│   ├── UnsupportedMedia    415    invalid_request_error   unsupported_media_type
│   ├── HeadTooLarge        431    invalid_request_error   headers_too_large
│   ├── RateLimited         429    requests                rate_limit_exceeded
│   └── QuotaExceeded       429    insufficient_quota      insufficient_quota
├── UpstreamFault
│   ├── UpstreamError       502    api_error               upstream_error
│   ├── UpstreamRefusal     502    api_error               upstream_error
│   ├── UpstreamOff         502    api_error               upstream_error
│   ├── UpstreamAuthFailed  502    api_error               upstream_auth_failed
│   └── UpstreamTimeout     504    api_error               upstream_timeout
└── OurFault
    ├── InternalError       500    api_error               internal_error
    └── Overloaded          503    api_error               overloaded

SetupFault: the relay cannot start (or a command cannot run): one clear line, exit code 2. Never sent to a client.
"""

import json
import math
from dataclasses import dataclass
from typing import ClassVar


class SetupFault(Exception):
    """What is wrong, where, and what to do, in one line."""


@dataclass(eq=False)
class RelayError(Exception):
    """A refusal or failure that the relay answers. `retry_after` is in seconds; None where no wait would help.

    `sent`: an upstream may have seen the request, and may be at work on it, and bill it. `read` are the limits that
    forbid it, each as its name, the limit, and what is left of it.
    """

    message: str
    code: str | None = None
    param: str | None = None
    retry_after: float | None = None
    read: tuple[tuple[str, int, int], ...] = ()

    status = 500
    type = "api_error"
    default_code: ClassVar[str | None] = "internal_error"
    should_retry = False
    sent = False
    source = "relay"

    def __post_init__(self) -> None:
        super().__init__(self.message)
        self.code = self.code or self.default_code

    def body(self, request_id: str | None = None) -> bytes:
        """The OpenAI error object as JSON bytes; the request's id is named so that a person can ask for it."""
        message = f"{self.message} (request {request_id})" if request_id else self.message
        error = {"message": message, "type": self.type, "param": self.param, "code": self.code}
        return json.dumps({"error": error}, ensure_ascii=False).encode()

    def headers(self) -> list[tuple[bytes, bytes]]:
        """What tells a client whether to try again, and when: the names that the OpenAI SDKs obey."""
        found = [
            (b"x-relay-error-source", self.source.encode()),
            (b"x-should-retry", b"true" if self.should_retry else b"false"),
        ]
        if self.retry_after is not None:
            found.append((b"retry-after", str(max(1, math.ceil(self.retry_after))).encode()))
            found.append((b"retry-after-ms", str(max(1, math.ceil(self.retry_after * 1000))).encode()))
        return found


class CallerFault(RelayError):
    """The caller can mend it."""

    status, type = 400, "invalid_request_error"


class BadRequest(CallerFault):
    default_code = None


class Unauthorized(CallerFault):
    status, default_code = 401, "invalid_api_key"


class ModelNotAllowed(CallerFault):
    status, default_code = 403, "model_not_allowed"


class ModelNotFound(CallerFault):
    status, default_code = 404, "model_not_found"


class UnknownUrl(CallerFault):
    status, default_code = 404, "unknown_url"


class MethodNotAllowed(CallerFault):
    status, default_code = 405, "method_not_allowed"


class RequestTimeout(CallerFault):
    status, default_code = 408, "request_timeout"


class BodyTooLarge(CallerFault):
    status, default_code = 413, "request_too_large"


class UnsupportedMedia(CallerFault):
    status, default_code = 415, "unsupported_media_type"


class HeadTooLarge(CallerFault):
    status, default_code = 431, "headers_too_large"


class RateLimited(CallerFault):
    status, type, default_code, should_retry = 429, "requests", "rate_limit_exceeded", True


class QuotaExceeded(CallerFault):
    status, type, default_code = 429, "insufficient_quota", "insufficient_quota"


class UpstreamFault(RelayError):
    """The upstream failed, or could not be reached; nothing that it said about itself is shown.

    `sent`: it can have seen something of the request. `stale`: it had most likely closed the kept connection before.
    """

    status, source, sent, stale = 502, "upstream", True, False


class UpstreamError(UpstreamFault):
    default_code, should_retry = "upstream_error", True


class UpstreamRefusal(UpstreamFault):
    """It said so itself, behind a status of success: in its own words, and with its own status if it names one.

    `said` is that answer, or the data of the event with which its stream begins.
    """

    default_code, should_retry, said = "upstream_error", True, b""


class UpstreamOff(UpstreamFault):
    """It is configured, and cannot be used until the configuration changes: to try again is of no use."""

    default_code, sent = "upstream_error", False


class UpstreamAuthFailed(UpstreamFault):
    default_code = "upstream_auth_failed"


class UpstreamTimeout(UpstreamFault):
    status, default_code, should_retry = 504, "upstream_timeout", True


class OurFault(RelayError):
    """The relay failed, or is full."""


class InternalError(OurFault):
    default_code = "internal_error"


class Overloaded(OurFault):
    status, default_code, should_retry = 503, "overloaded", True
