"""What users see of a record."""

import pytest
from msgspec.structs import replace

from relay.record import PUBLIC, Try, Why, iso, public, storable
from tests.records import NOON, record

CONTRACT = """id started_at key alias upstream model endpoint stream status outcome error ttft_ms duration_ms
    overhead_us input_tokens output_tokens cached_tokens reasoning_tokens cost_usd attempts client tags"""


def test_the_names_and_their_order() -> None:
    assert CONTRACT.split() == list(PUBLIC)
    assert [*PUBLIC, "usage_source", "estimate", "bytes_out", "tries", "edits", "retry", "call"] == list(
        public(record("r"))
    )


def test_values_as_people_expect_them() -> None:
    shown = public(record("r", started_at=NOON + 1_999, cost_nano=1_500_000_000))

    assert "2026-01-01T12:00:00.001Z" == shown["started_at"]
    assert 1.5 == shown["cost_usd"]
    assert 1 == shown["attempts"]
    assert shown["tries"][0]["reused"] is True


def test_what_nobody_can_have_heard_is_a_try_and_no_attempt() -> None:
    unheard, heard = Try("up", "m", error="closed", reused=True), Try("up", "m", 200)

    shown = public(record("r", tries=(unheard, heard, Try("up", "m", error="cut"))))

    assert (2, 3) == (shown["attempts"], len(shown["tries"]))


def test_unknown_stays_unknown() -> None:
    shown = public(record("r", cost_nano=None, tries=()))

    assert shown["cost_usd"] is None
    assert 0 == shown["attempts"]


def test_what_was_estimated_stands_by_itself() -> None:
    fields = {"input_tokens": None, "output_tokens": None, "usage_source": "estimated"}

    shown = public(record("r", why=Why(estimate=(11, None)), **fields))

    assert (None, None) == (shown["input_tokens"], shown["output_tokens"])
    assert {"input_tokens": 11, "output_tokens": None} == shown["estimate"]
    assert public(record("r"))["estimate"] is None


def test_which_try_of_its_client_it_was() -> None:
    first, again = record("r"), record("r", why=Why(retry=2, call="req_1"))

    assert [(0, None), (2, "req_1")] == [(shown["retry"], shown["call"]) for shown in (public(first), public(again))]


TIMES = [(0, "1970-01-01T00:00:00.000Z"), (999_999, "1970-01-01T00:00:00.999Z")]


@pytest.mark.parametrize(("moment", "expected"), TIMES)
def test_times(moment: int, expected: str) -> None:
    assert expected == iso(moment)


def test_what_no_store_can_hold_is_made_storable() -> None:
    fine = record("r")
    odd = replace(fine, model="m\ud800", tags=("\udfff",), tries=(Try("u", "m\ud800"),))

    assert replace(fine, model="m?", tags=("?",), tries=(Try("u", "m?"),)) == storable(odd)
    assert fine == storable(fine)
