"""`relay why`."""

import json
from typing import Any

import msgspec
import pytest

from relay.record import Entry, Record, Try, Why
from tests.cli.world import World, complaint
from tests.records import identity, record

PLAN = {
    "strategy": "weighted",
    "targets": ["openai/gpt-4.1", "local/llama3"],
    "dropped": [{"target": "azure/gpt-4.1", "reason": "rests for 12 s more: 5 failures in a row, the last: HTTP 503"}],
}
PATCH = [
    {"op": "replace", "path": "/model", "value": "llama3"},
    {"op": "add", "path": "/temperature", "value": 0},
]
FULL = record(
    "full",
    alias="smart",
    upstream="local",
    model="llama3",
    stream=True,
    duration_ms=1000.0,
    overhead_us=500,
    tries=(
        Try("openai", "gpt-4.1", 503, None, False, 3.21, 12.5, "1a2b3c4d"),
        Try(
            "openai",
            "gpt-4.1",
            None,
            "Upstream 'openai' did not answer for 0.2 seconds.",
            key="5e6f7a8b",
            total_ms=200.0,
        ),
        Try("local", "llama3", 200, reused=True, first_byte_ms=40.0),
    ),
    edits=("model", "temperature"),
    limits=(("rpm", 60, 59), ("concurrency", 4, 3)),
    why=Why(
        msgspec.Raw(json.dumps(PLAN).encode()),
        msgspec.Raw(json.dumps(PATCH).encode()),
        retry=1,
        call="req_first",
    ),
)


def told(world: World, shown: Record) -> dict[str, Any]:
    world.insert(Entry(shown))
    (found,) = world.json("why", shown.id)
    return found


def test_all_that_was_decided(world: World) -> None:
    found = told(world, FULL)

    assert ["strategy", "candidates", "dropped"] == [name for name in found if name in {*PLAN, "candidates"}]
    assert [*PLAN.values()] == [found["strategy"], found["candidates"], found["dropped"]]
    assert PATCH == found["patch"]
    assert [{"name": "rpm", "limit": 60, "left": 59}, {"name": "concurrency", "limit": 4, "left": 3}] == found["limits"]
    assert (1, "req_first", None, None) == tuple(
        found[name] for name in ("retry", "call", "should_retry", "retry_after")
    )
    assert ("smart", "ci", 200, "ok") == tuple(found[name] for name in ("alias", "key", "status", "outcome"))


def test_each_try_with_its_whole_time(world: World) -> None:
    first, second, last = told(world, FULL)["tries"]

    assert {
        "target": "openai/gpt-4.1",
        "key": "1a2b3c4d",
        "status": 503,
        "error": None,
        "reused": False,
        "connect_ms": 3.21,
        "first_byte_ms": 12.5,
        "total_ms": 12.5,
    } == first
    assert (200.0, None) == (second["total_ms"], second["first_byte_ms"])
    assert 1000.0 - 0.5 - 12.5 - 200.0 == last["total_ms"]


def test_for_people(world: World) -> None:
    world.insert(Entry(FULL))

    shown = world.run("why", "req").stdout

    assert (
        f"""\
request      {FULL.id}
             2026-01-01T12:00:00.000Z, /v1/chat/completions, streamed
asked for    smart, with the key ci
strategy     weighted
candidates   1. openai/gpt-4.1
             2. local/llama3
dropped      azure/gpt-4.1: rests for 12 s more: 5 failures in a row, the last: HTTP 503
tries        1. openai/gpt-4.1: HTTP 503; key 1a2b3c4d; connected in 3.2 ms; first byte after 12.5 ms; 12.5 ms in all
             2. openai/gpt-4.1: Upstream 'openai' did not answer for 0.2 seconds; key 5e6f7a8b; 200.0 ms in all
             3. local/llama3: HTTP 200; kept connection; first byte after 40.0 ms; at most 787.0 ms in all
edits        replace /model "llama3"
             add /temperature 0
limits       rpm 60, 59 left
             concurrency 4, 3 left
answer       HTTP 200 (ok) after 1000.0 ms
error        -
hint         -
retry        number 1 by the client itself; the call began with req_first
"""
        == shown
    )


def test_a_record_that_says_nothing_of_it_had_one_candidate(world: World) -> None:
    found = told(world, record("a", edits=("model", "stream_options", "seed")))

    assert (None, ["openai/gpt-4o-mini"], []) == (found["strategy"], found["candidates"], found["dropped"])
    assert [
        {"op": "replace", "path": "/model", "value": "gpt-4o-mini"},
        {"op": "add", "path": "/stream_options/include_usage", "value": True},
    ] == found["patch"]
    assert (0, None, []) == (found["retry"], found["call"], found["limits"])
    assert "seed, whose value was not noted" in world.run("why", identity("a")).stdout


def test_what_was_estimated(world: World) -> None:
    found = told(world, record("a", usage_source="estimated", why=Why(estimate=(12, 30))))

    assert ("estimated", {"input_tokens": 12, "output_tokens": 30}) == (found["usage_source"], found["estimate"])
    shown = world.run("why", identity("a")).stdout
    assert "\ntokens       about 12 in, 30 out: estimated, as not all was said\n" in shown


def test_a_fallback_is_no_candidate(world: World) -> None:
    tries = (Try("openai", "small", 400, first_byte_ms=1.0), Try("local", "big", 200, first_byte_ms=2.0))
    found = told(world, record("a", upstream="local", model="big", tries=tries))

    assert ["openai/small"] == found["candidates"]
    assert "2. local/big, a fallback: HTTP 200; " in world.run("why", identity("a")).stdout


def test_who_stood_by_and_who_was_dropped_of_them(world: World) -> None:
    off = {"target": "off/big", "reason": "is switched off"}
    plan = {**PLAN, "fallback": {"context_window": {"targets": ["local/big"], "dropped": [off]}}}
    found = told(world, record("a", why=Why(msgspec.Raw(json.dumps(plan).encode()))))

    assert plan["fallback"] == found["fallback"]
    shown = world.run("why", identity("a")).stdout
    assert "fallback     context_window: local/big\n             not off/big: is switched off\n" in shown


def test_a_request_that_nobody_was_asked_for(world: World) -> None:
    refused = {"upstream": None, "model": None, "alias": None, "key": None, "tries": (), "edits": (), "status": 401}
    found = told(world, record("a", outcome="refused", error="no key", why=Why(should_retry=False), **refused))

    assert ([], [], []) == (found["candidates"], found["tries"], found["patch"])
    shown = world.run("why", identity("a")).stdout
    assert "asked for    no model, with the key -\n" in shown
    assert (
        "answer       HTTP 401 (refused) after 40.2 ms\nerror        no key\nhint         do not try again\n" in shown
    )


HINTS = [
    (None, None, "-"),
    (True, None, "try again"),
    (True, 2.0, "try again; a wait of 2 s would help"),
    (False, 0.25, "do not try again; a wait of 0.25 s would help"),
]


@pytest.mark.parametrize(("again", "after", "expected"), HINTS)
def test_the_hint_that_went_with_the_answer(
    world: World, again: bool | None, after: float | None, expected: str
) -> None:
    world.insert(Entry(record("a", why=Why(should_retry=again, retry_after=after))))

    assert f"hint         {expected}\n" in world.run("why", identity("a")).stdout


def test_nothing_that_a_terminal_obeys_is_printed(world: World) -> None:
    world.insert(Entry(record("a", alias="\x1b[2Jm\n", edits=())))

    assert "asked for    �[2Jm�, with the key ci\n" in world.run("why", identity("a")).stdout


def test_a_request_that_is_not_there(world: World) -> None:
    world.insert(Entry(record("a")), Entry(record("b")))

    missing, several = (world.run("why", name) for name in ("nothing", "req_"))

    assert (1, "relay: nothing: no such request") == (missing.exit_code, complaint(missing))
    assert 2 == several.exit_code
    assert "more than one request begins with this" in complaint(several)
