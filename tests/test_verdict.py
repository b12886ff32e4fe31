"""The table of what is tried next, row by row, and what upstreams say about waiting and about why they refuse."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.errors import (
    BadRequest,
    InternalError,
    Overloaded,
    RelayError,
    UpstreamAuthFailed,
    UpstreamError,
    UpstreamOff,
    UpstreamRefusal,
    UpstreamTimeout,
)
from relay.exchange import Header
from relay.verdict import Verdict, objection, of_fault, of_status, wait_of

ONWARD = Verdict(onward=True)
BLAMED = Verdict(onward=True, blames=True)
AGAIN = Verdict(onward=True, again=True, blames=True)
NOTHING = Verdict()


@pytest.mark.parametrize(
    ("statuses", "expected"),
    [
        ((400, 401, 403, 404, 405, 409, 413, 415, 422, 499), NOTHING),
        ((408, 500, 501, 504, 520, 599), BLAMED),
        ((502, 503, 529), AGAIN),
        ((402, 429), ONWARD),
    ],
)
def test_on_a_status(statuses: tuple[int, ...], expected: Verdict) -> None:
    assert [expected] * len(statuses) == [of_status(status) for status in statuses]


def test_on_a_stated_wait() -> None:
    assert Verdict(onward=True, again=True, wait=2.5) == of_status(429, 2.5)
    assert AGAIN._replace(wait=2.5) == of_status(503, 2.5)


def _unreached(fault: UpstreamError | UpstreamTimeout) -> RelayError:
    fault.sent = False
    return fault


def _refusal(status: int) -> RelayError:
    fault = UpstreamRefusal("no")
    fault.status = status
    return fault


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        (_unreached(UpstreamError("refused")), AGAIN),
        (_unreached(UpstreamTimeout("no connection")), AGAIN),
        (UpstreamError("cut"), BLAMED),
        (UpstreamTimeout("no answer"), BLAMED),
        (UpstreamOff("off"), ONWARD),
        (UpstreamAuthFailed("key"), ONWARD),
        (Overloaded("full"), ONWARD),
        (_refusal(502), AGAIN),
        (_refusal(429), ONWARD),
        (_refusal(400), NOTHING),
        (BadRequest("wrong"), NOTHING),
        (InternalError("ours"), NOTHING),
    ],
    ids=str,
)
def test_on_a_fault(fault: RelayError, expected: Verdict) -> None:
    assert expected == of_fault(fault)


NOON, LATER = b"Sun, 22 Nov 2026 12:00:00 GMT", b"Sun, 22 Nov 2026 12:00:20 GMT"


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ((), None),
        (((b"retry-after", b"20"),), 20.0),
        (((b"retry-after", b" 1.5 "),), 1.5),
        (((b"retry-after", b"20"), (b"retry-after-ms", b"250")), 0.25),
        (((b"retry-after", b"0"),), 0.0),
        (((b"retry-after", b"999999999"),), 86_400.0),
        (((b"retry-after", b"-1"),), None),
        (((b"retry-after", b"soon"),), None),
        (((b"retry-after", LATER), (b"date", NOON)), 20.0),
        (((b"retry-after", NOON), (b"date", LATER)), 0.0),
        (((b"retry-after", b"Sun Nov 22 12:00:20 2026"), (b"date", NOON)), 20.0),
        (((b"retry-after", LATER),), None),
        (((b"retry-after", LATER), (b"date", b"today")), None),
        (((b"retry-after", LATER), (b"date", b"Sun, 22 Nov 99999999999999999999 12:00:00 GMT")), None),
    ],
)
def test_the_wait_that_headers_state(headers: tuple[Header, ...], expected: float | None) -> None:
    assert expected == wait_of(headers)


@given(st.lists(st.tuples(st.sampled_from([b"retry-after", b"retry-after-ms", b"date"]), st.binary(max_size=40))))
def test_no_header_is_too_odd(headers: list[Header]) -> None:
    found = wait_of(headers)

    assert found is None or 0 <= found <= 86_400


LONG = "This model's maximum context length is 8192 tokens. However, your messages resulted in 9000 tokens."
AZURE = {"code": "content_filter", "innererror": {"code": "ResponsibleAIPolicyViolation"}}


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        ({"code": "context_length_exceeded", "message": "too long"}, "context_window"),
        ({"code": 400, "message": LONG}, "context_window"),
        ({"code": "content_policy_violation"}, "content_policy"),
        (AZURE, "content_policy"),
        (LONG, "context_window"),
        ({"code": 400, "type": "exceed_context_size_error", "n_ctx": 4096}, "context_window"),
        (
            {"code": 400, "message": "the request exceeds the available context size, try increasing it"},
            "context_window",
        ),
        ({"type": "invalid_request_error", "message": "prompt is too long: 9 tokens > 8 maximum"}, "context_window"),
        ({"code": 400, "message": "The input token count (9) exceeds the maximum of (8)."}, "context_window"),
        ({"code": "invalid_prompt", "message": "Invalid prompt: it was flagged"}, "content_policy"),
        ({"message": "Your prompt was flagged as potentially violating our usage policy."}, "content_policy"),
        ({"code": "invalid_value", "message": "temperature"}, None),
        (None, None),
    ],
)
def test_why_a_400_was_given(error: object, expected: str | None) -> None:
    assert expected == objection(json.dumps({"error": error}).encode())
    assert expected == objection(json.dumps({"type": "response.failed", "response": {"error": error}}).encode())
    assert expected == objection(json.dumps({"type": "error", "message": error}).encode())


def test_an_error_without_a_field_of_its_own() -> None:
    assert "context_window" == objection(json.dumps({"object": "error", "message": LONG, "code": 400}).encode())


@pytest.mark.parametrize("body", [b"", b"<html>context length</html>", b"[1]", b'"context window"', b"[" * 100_000])
def test_what_is_no_error_object_says_nothing(body: bytes) -> None:
    assert objection(body) is None
