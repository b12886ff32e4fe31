"""What an upstream's error comes to, also one that a stream begins with."""

import pytest

from relay.call.refusal import error_alone, first_error, may_pass
from relay.errors import UpstreamAuthFailed, UpstreamRefusal

ERRORS = {
    "a status": (b'{"error":{"message":"no","code":503}}', 503, True),
    "one of the caller's": (b'{"error":{"message":"no","code":404}}', 404, False),
    "its digits": (b'{"error":{"message":"no","code":"429"}}', 429, True),
    "its name": (b'{"error":{"message":"no","code":"rate_limit_exceeded"}}', 429, True),
    "its name as the type": (b'{"error":{"message":"no","type":"rate_limit_error","code":null}}', 429, True),
    "of the request itself": (b'{"error":{"message":"no","type":"invalid_request_error"}}', 400, False),
    "what a model refuses": (b'{"error":{"message":"no","code":"context_length_exceeded"}}', 400, False),
    "none": (b'{"error":{"message":"no","code":"bad"}}', 502, True),
    "what is no error's": (b'{"error":{"message":"no","code":200}}', 502, True),
    "many digits": (b'{"error":{"message":"no","code":"%s"}}' % (b"4" * 9000), 502, True),
    "an event of that type": (b'{"type":"error","code":"429","message":"no"}', 429, True),
}


@pytest.mark.parametrize("case", ERRORS)
def test_the_error_that_a_stream_begins_with(case: str) -> None:
    data, status, again = ERRORS[case]

    fault = first_error(b": hello\n\ndata: %b\n\n" % data, "up", None)

    assert isinstance(fault, UpstreamRefusal)
    assert ("no", status, again, data) == (fault.message, fault.status, fault.should_retry, fault.said)


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (
            b'"code":"context_length_exceeded","type":"invalid_request_error"',
            ("context_length_exceeded", "invalid_request_error"),
        ),
        (b'"code":"odd"', ("odd", "api_error")),
        (b'"code":503,"type":"busy"', ("upstream_error", "busy")),
        (b'"code":"503"', ("upstream_error", "api_error")),
    ],
)
def test_its_code_and_type_are_its_own(said: bytes, expected: tuple[str, str]) -> None:
    fault = first_error(b'data: {"error":{"message":"no",%b}}\n\n' % said, "up", None)

    assert fault is not None
    assert expected == (fault.code, fault.type)


@pytest.mark.parametrize(
    "code",
    [b'"code":401', b'"code":403', b'"code":"401"', b'"code":"invalid_api_key"', b'"type":"authentication_error"'],
)
def test_what_is_said_of_the_relays_own_key_is_told_nobody(code: bytes) -> None:
    fault = first_error(b'data: {"error":{"message":"Incorrect key: sk-secret",%b}}\n\n' % code, "up", None)

    assert isinstance(fault, UpstreamAuthFailed)
    assert "'up'" in fault.message
    assert "sk-secret" not in fault.message


@pytest.mark.parametrize("case", ERRORS)
def test_the_error_that_is_all_an_answer_says(case: str) -> None:
    data, status, again = ERRORS[case]

    fault = error_alone(data, "up", 2.5)

    if b'"error":' not in data:
        assert fault is None  # an event may be no more than that, an answer has to say `error`
        return
    assert isinstance(fault, UpstreamRefusal)
    assert ("no", status, again, data, 2.5) == (
        fault.message,
        fault.status,
        fault.should_retry,
        fault.said,
        fault.retry_after,
    )


def test_who_else_is_named_beside_an_error_makes_no_answer_of_it() -> None:
    fault = error_alone(b' {"user_id":"u","error":"no"}\n', "up", None)

    assert isinstance(fault, UpstreamRefusal)
    assert ("no", 502) == (fault.message, fault.status)
    assert isinstance(error_alone(b'{"error":{"message":"sk-secret","code":401}}', "up", None), UpstreamAuthFailed)


ANSWERS = {
    "no error": b'{"error":null,"text":"hi"}',
    "nothing but no error": b'{"error":null}',
    "an empty one": b'{"error":{}}',
    "an empty text": b'{"error":""}',
    "false": b'{"error":false}',
    "an answer of responses": b'{"id":"r","object":"response","status":"failed","error":{"code":"server_error"}}',
    "a chat": b'{"choices":[],"error":{"message":"no"}}',
    "within another field": b'{"choices":[{"error":{"message":"no"}}]}',
    "within a text": b'{"text":"\\"error\\""}',
    "a list": b'[{"error":{"message":"no"}}]',
    "of another kind": b'{"error":[1]}',
    "no JSON": b'{"error":{"message":"no"}',
    "too deep": b'{"error":' * 9000,
    "long": b'{"error":{"message":"%b"}}' % (b"n" * (64 << 10)),
}


@pytest.mark.parametrize("case", ANSWERS)
def test_another_answer_is_no_error(case: str) -> None:
    assert error_alone(ANSWERS[case], "up", None) is None


@pytest.mark.parametrize("data", [b"null", b"[1]", b"no JSON", b'{"choices":[]}', b'{"type":"other","message":"x"}'])
def test_another_first_event_is_no_error(data: bytes) -> None:
    assert first_error(b"data: %b\n\n" % data, "up", None) is None


@pytest.mark.parametrize(
    ("status", "again"),
    [
        (400, False),
        (404, False),
        (408, True),
        (409, True),
        (429, True),
        (499, False),
        (500, True),
        (599, True),
        (600, True),
    ],
)
def test_what_another_try_may_change(status: int, again: bool) -> None:
    assert again == may_pass(status)
