"""One request's notes, and the one record that is made of them."""

import asyncio
import json
from pathlib import Path

import pytest

from relay.counters import MemoryCounters
from relay.edits import Edited
from relay.endpoints import Endpoint
from relay.exchange import headers
from relay.journal import Blotter, Journal, frames
from relay.keys import Key
from relay.outbox import Outbox
from relay.pricing import Rate
from relay.record import BODY_KEPT, ERROR_KEPT, Entry, Keep, Outcome, Try, public
from relay.routing import Target
from relay.usage import Usage
from tests.requests import CHAT, EMBEDDINGS, account, ask, begun, priced

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


WORKED, FAILED = Try("up", "real", 200), Try("up", "real", 500)
SENT, UNSENT = Try("up", "real", error="no answer"), Try("up", "real", error="no connection", sent=False)
# The last try, the status that the client got, and the outcome; and whether the upstream bills for it.
TAKEN: dict[str, tuple[Try | None, int, Outcome, bool]] = {
    "answered": (WORKED, 200, "ok", True),
    "cut": (WORKED, 200, "upstream_error", True),
    "unfinished": (WORKED, 200, "incomplete", True),
    "cut before a byte went out": (WORKED, 502, "upstream_error", False),
    "left in the middle": (WORKED, 200, "client_disconnect", True),
    "left while its answer was held": (WORKED, 499, "client_disconnect", True),
    "left before it answered": (SENT, 499, "client_disconnect", True),
    "left before it was asked": (UNSENT, 499, "client_disconnect", False),
    "left after an error": (FAILED, 499, "client_disconnect", False),
    "left at once": (None, 499, "client_disconnect", False),
    "too slow": (SENT, 504, "upstream_timeout", True),
    "no connection in time": (UNSENT, 504, "upstream_timeout", False),
    "reset": (SENT, 502, "upstream_error", False),
    "an error": (FAILED, 500, "upstream_error", False),
    "stopped": (SENT, 503, "refused", True),
    "refused": (None, 429, "refused", False),
}


@pytest.mark.parametrize("case", TAKEN)
def test_what_it_took_is_estimated_where_the_upstream_worked_and_did_not_say(tmp_path: Path, case: str) -> None:
    last, status, outcome, bills = TAKEN[case]
    noted = account(Journal(tmp_path), setup=priced(REAL, RATE), target=REAL, ask=ask(BODY), status=status)
    noted.tries = [last] if last else []
    noted.sends(b'{"error":{"message":"what the relay itself says is no word of the model"}}')

    noted.settle(outcome)

    (record,) = (entry.record for entry in entries(noted.journal))
    assert (None, None) == (record.input_tokens, record.output_tokens)
    told = public(record)
    if bills:
        assert ("estimated", {"input_tokens": 9, "output_tokens": 0}) == (told["usage_source"], told["estimate"])
        assert 9 * 150 == record.cost_nano
    else:
        assert ("none", None, None) == (told["usage_source"], told["estimate"], record.cost_nano)


# What the upstream said, at which endpoint, and the estimate: only what it left unsaid is in it.
SAID: dict[str, tuple[Usage | None, Endpoint, tuple[int | None, int | None] | None]] = {
    "all": (Usage(5, 6), CHAT, None),
    "no input": (Usage(None, 6), CHAT, (9, 6)),
    "no output": (Usage(5), CHAT, (5, 2)),
    "nothing": (None, CHAT, (9, 2)),
    "no output, though there is": (Usage(5, 0), CHAT, (5, 2)),
    "vectors have no output": (Usage(5), EMBEDDINGS, None),
    "nothing of vectors": (None, EMBEDDINGS, (9, None)),
}


@pytest.mark.parametrize("case", SAID)
def test_what_the_upstream_said_is_not_estimated(tmp_path: Path, case: str) -> None:
    usage, endpoint, expected = SAID[case]
    noted = account(Journal(tmp_path), begun(endpoint=endpoint), target=REAL, ask=ask(BODY), status=200, usage=usage)
    noted.tries, noted.words = [WORKED], len("Hello")

    noted.settle("ok")

    (record,) = (entry.record for entry in entries(noted.journal))
    assert expected == (record.why and record.why.estimate)
    assert (usage or Usage()) == Usage(record.input_tokens, record.output_tokens)
    source = "upstream" if expected is None else "estimated"
    assert source == record.usage_source


def test_nothing_may_have_been_taken(tmp_path: Path) -> None:
    noted = account(Journal(tmp_path), target=REAL, ask=ask(BODY), status=200, usage=Usage(0, 0))
    noted.tries = [WORKED]

    noted.settle("ok")

    assert noted.estimated is None


FREE_OUTPUT = Rate(10_000, 0, 10_000)


def test_what_vectors_cost_is_known(tmp_path: Path) -> None:
    """None were written, and that is all that their usage leaves unsaid."""
    head, setup = begun(endpoint=EMBEDDINGS), priced(REAL, FREE_OUTPUT)
    noted = account(Journal(tmp_path), head, setup, target=REAL, ask=ask(BODY), status=200, usage=Usage(8))
    noted.tries = [WORKED]

    noted.settle("ok")

    assert (80, None) == (noted.cost, noted.estimated)


def test_what_goes_through_unread_has_no_estimate(tmp_path: Path) -> None:
    noted = account(Journal(tmp_path), setup=priced(REAL, RATE), target=REAL, ask=ask(BODY), status=200, unread=True)
    noted.tries = [WORKED]

    noted.settle("ok")

    assert (Usage(9, None), None) == (noted.estimated, noted.cost)


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
