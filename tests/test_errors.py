"""Every fault as an OpenAI client is told of it."""

import json
import re

import pytest

from relay import errors
from relay.errors import BadRequest, CallerFault, OurFault, RateLimited, RelayError, SetupFault, UpstreamFault


def leaves(kind: type[RelayError]) -> list[type[RelayError]]:
    return [leaf for child in kind.__subclasses__() for leaf in leaves(child)] or [kind]


FAULTS = leaves(RelayError)
ROW = re.compile(r"^│? +[├└]── (\w+) +(\d{3}) +(\w+) +(\w+|\(per case\))$", re.MULTILINE)
DRAWN = {name: (int(status), kind, code) for name, status, kind, code in ROW.findall(errors.__doc__ or "")}


def test_the_drawn_tree_is_the_tree() -> None:
    actual = {kind.__name__: (kind.status, kind.type, kind.default_code or "(per case)") for kind in FAULTS}

    assert DRAWN == actual


def test_whose_fault_it_is() -> None:
    branches = {branch: [kind for kind in FAULTS if issubclass(kind, branch)] for branch in RelayError.__subclasses__()}

    assert [CallerFault, UpstreamFault, OurFault] == list(branches)
    assert all(400 <= kind.status < 500 for kind in branches[CallerFault])
    assert all(kind.status >= 500 for kind in branches[UpstreamFault] + branches[OurFault])
    assert not issubclass(SetupFault, RelayError)


@pytest.mark.parametrize("kind", FAULTS)
def test_the_body_is_openais(kind: type[RelayError]) -> None:
    fault = kind('No "model" 你好\n', param="model")

    error = {"message": 'No "model" 你好\n', "type": kind.type, "param": "model", "code": kind.default_code}
    assert {"error": error} == json.loads(fault.body())
    assert list(error) == list(json.loads(fault.body())["error"])
    assert b"\n" not in fault.body()


@pytest.mark.parametrize("kind", FAULTS)
def test_the_headers_say_whose_and_whether_again(kind: type[RelayError]) -> None:
    expected = {
        b"x-relay-error-source": b"upstream" if issubclass(kind, UpstreamFault) else b"relay",
        b"x-should-retry": b"true" if kind.should_retry else b"false",
    }

    assert expected == dict(kind("no").headers())


def test_only_what_a_wait_or_luck_can_mend_is_tried_again() -> None:
    again = {kind.__name__ for kind in FAULTS if kind.should_retry}

    assert {"RateLimited", "UpstreamError", "UpstreamRefusal", "UpstreamTimeout", "Overloaded"} == again


@pytest.mark.parametrize(
    ("seconds", "whole", "milliseconds"),
    [(0.0, b"1", b"1"), (0.0001, b"1", b"1"), (0.25, b"1", b"250"), (1.0, b"1", b"1000"), (45.0011, b"46", b"45002")],
)
def test_a_wait_is_never_told_too_short(seconds: float, whole: bytes, milliseconds: bytes) -> None:
    told = dict(RateLimited("slow down", retry_after=seconds).headers())

    assert (whole, milliseconds) == (told[b"retry-after"], told[b"retry-after-ms"])


def test_a_case_has_its_own_code() -> None:
    fault = BadRequest("two", code="ambiguous_credentials")

    assert "ambiguous_credentials" == json.loads(fault.body())["error"]["code"]
    assert json.loads(BadRequest("two").body())["error"]["code"] is None


def test_the_request_is_named_where_it_is_known() -> None:
    assert "no (request req_1)" == json.loads(BadRequest("no").body("req_1"))["error"]["message"]


def test_a_fault_is_an_exception_with_its_message() -> None:
    assert "no" == str(BadRequest("no"))
    assert BadRequest("no") != BadRequest("no")
