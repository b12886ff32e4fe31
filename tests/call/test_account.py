"""One request's notes, and the one record that is made of them."""

import asyncio
import json
from pathlib import Path

import pytest

from relay.counters import MemoryCounters
from relay.edits import Edited
from relay.exchange import headers
from relay.journal import Blotter, Journal, frames
from relay.keys import Key
from relay.outbox import Outbox
from relay.pricing import Rate
from relay.record import BODY_KEPT, ERROR_KEPT, Entry, Keep
from relay.routing import Target
from relay.usage import Usage
from tests.requests import account, ask, begun, priced

RATE = Rate(150_000, 600_000, 75_000)
BODY = b'{"model":"fast","messages":[{"role":"user","content":"hello"}]}'

REAL = Target("up", "real")


def entries(journal: Journal | Blotter) -> list[Entry]:
    assert isinstance(journal, Journal)
    return [entry for _, entry in frames(journal.current)]


def test_it_is_settled_once(tmp_path: Path) -> None:
    counters, key = MemoryCounters(), Key(id="k", name="ci", digest=b"", concurrency=1)
    noted = account(Journal(tmp_path), key=key, lease=counters.admit(key, 0.0))

    noted.settle("client_disconnect", "the client left")
    noted.settle("ok")

    assert ["client_disconnect"] == [entry.record.outcome for entry in entries(noted.journal)]
    counters.admit(key, 0.0)


def test_a_request_that_came_to_nothing(tmp_path: Path) -> None:
    noted = account(Journal(tmp_path))

    noted.settle("refused", "no")

    ((record, request, response),) = entries(noted.journal)
    assert ("refused", "no", 499, 0, None) == (
        *(record.outcome, record.error, record.status, record.bytes_out, record.ttft_ms),
    )
    assert (None, None, None, None, False, "none") == (
        *(record.key, record.alias, record.upstream, record.model, record.stream, record.usage_source),
    )
    assert (None, None, None) == (record.input_tokens, record.output_tokens, record.cost_nano)
    assert (None, None) == (request, response)


def test_a_request_that_was_answered(tmp_path: Path) -> None:
    key = Key(id="k", name="ci", digest=b"")
    head = begun((b"x-relay-tags", b"a,b"), (b"user-agent", b"curl"))
    noted = account(Journal(tmp_path), head, priced(REAL, RATE), key=key, keep="full")
    noted.ask = ask(BODY)
    noted.target, noted.edited = REAL, Edited(b"", ("model",), asks_usage=False)
    noted.usage, noted.status = Usage(1000, 500, 200, 0), 200
    noted.sends(b'{"a":')
    noted.sends(b"1}")

    noted.settle("ok")

    ((record, request, response),) = entries(noted.journal)
    assert ("ci", "fast", "up", "real", "/v1/chat/completions", False) == (
        *(record.key, record.alias, record.upstream, record.model, record.endpoint, record.stream),
    )
    assert (1000, 500, 200, 0, 435_000, "upstream") == (
        *(record.input_tokens, record.output_tokens, record.cached_tokens, record.reasoning_tokens),
        *(record.cost_nano, record.usage_source),
    )
    assert (8 - 1, ("a", "b"), ("model",), "127.0.0.1 curl") == (
        *(record.bytes_out, record.tags, record.edits, record.client),
    )
    assert 0 <= (record.ttft_ms or -1.0) <= record.duration_ms
    assert (BODY, b'{"a":1}') == (request, response)


def test_time_spent_at_the_upstream_is_no_overhead(tmp_path: Path) -> None:
    noted = account(Journal(tmp_path))
    began = noted.began
    noted.ready_at, noted.asked_at, noted.last_at = began, began + 2_000_000, began + 10**15

    noted.settle("ok")

    assert entries(noted.journal)[0].record.overhead_us < 2000


@pytest.mark.parametrize(
    ("rate", "usage", "cost"),
    [
        (None, Usage(1, 1), None),
        (RATE, None, None),
        (RATE, Usage(1, None), None),
        (RATE, Usage(None, 1), None),
        (RATE, Usage(0, 0), 0),
        (RATE, Usage(1, 1), 750),
    ],
)
def test_an_unknown_cost_is_none(tmp_path: Path, rate: Rate | None, usage: Usage | None, cost: int | None) -> None:
    noted = account(Journal(tmp_path), setup=priced(REAL, rate), target=REAL, usage=usage)
    noted.settle("ok")

    assert cost == noted.cost == entries(noted.journal)[0].record.cost_nano


KEPT: dict[Keep, tuple[bytes | None, bytes | None]] = {
    "full": (BODY, b'{"id":"c","text":"secret"}'),
    "redacted": (BODY.replace(b"hello", b"[5 chars]"), b'{"id":"c","text":"[6 chars]"}'),
    "none": (None, None),
}


@pytest.mark.parametrize("keep", KEPT)
def test_what_is_kept_of_the_bodies(tmp_path: Path, keep: Keep) -> None:
    noted = account(Journal(tmp_path), keep=keep, ask=ask(BODY), status=200)
    noted.sends(b'{"id":"c","text":"secret"}')

    noted.settle("ok")

    ((_, request, response),) = entries(noted.journal)
    assert KEPT[keep] == (request, response)


def test_a_streams_words_are_redacted_event_by_event(tmp_path: Path) -> None:
    noted = account(Journal(tmp_path), keep="redacted", ask=ask(BODY), status=200)
    noted.content_type = "text/event-stream; charset=utf-8"
    noted.sends(b'data: {"text":"secret"}\n\n')

    noted.settle("ok")

    assert b"secret" not in (entries(noted.journal)[0].response or b"secret")


@pytest.mark.parametrize(("status", "most"), [(200, BODY_KEPT), (500, ERROR_KEPT)])
def test_no_more_is_held_of_a_long_answer_than_is_kept(tmp_path: Path, status: int, most: int) -> None:
    noted = account(Journal(tmp_path), keep="full", ask=ask(BODY), status=status)
    for _ in range(64):
        noted.sends(bytes(most // 8))

    assert most < sum(map(len, noted.response)) <= most + most // 8
    assert 8 * most == noted.bytes_out


def test_no_credential_is_left_in_an_error(tmp_path: Path) -> None:
    said = "Incorrect API key provided: sk-proj-abcdefgh"
    noted = account(Journal(tmp_path), keep="full", ask=ask(BODY), status=400)
    noted.sends(json.dumps({"error": {"message": said}}).encode())

    noted.settle("upstream_error", said)

    ((record, _, response),) = entries(noted.journal)
    assert "Incorrect API key provided: sk-***" == record.error
    assert b"abcdefgh" not in (response or b"abcdefgh")


def test_the_marks_grow_with_what_is_known(tmp_path: Path) -> None:
    noted = account(Journal(tmp_path))
    before = noted.marks()
    noted.target = Target("up", "real")

    assert b"x-relay-id: %b\r\n" % noted.id.encode() == before
    assert before + b"x-relay-upstream: up\r\nx-relay-model: real\r\nx-relay-attempts: 0\r\n" == noted.marks()


@pytest.mark.parametrize("name", ["a\r\nset-cookie: b", "a\nb", "a\x00", "a\x7f", "a\u2028b"])
def test_a_models_name_stays_within_its_header(tmp_path: Path, name: str) -> None:
    noted = account(Journal(tmp_path), target=Target("up", name))

    assert all(byte >= 0x20 and byte != 0x7F for _, value in headers(noted.marks()) for byte in value)


async def test_the_record_is_of_the_moment_in_which_all_was_settled(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    noted = account(Blotter(journal, Outbox()))
    noted.sends(b"data: [DONE]\n\n")

    noted.settle("ok")
    noted.sends(b": more\n\n")
    assert [] == entries(journal)
    await asyncio.sleep(0.01)

    ((record, _, _),) = entries(journal)
    assert len(b"data: [DONE]\n\n") == record.bytes_out
    assert (noted.settled_at - noted.began) // 1000 / 1e3 == record.duration_ms
