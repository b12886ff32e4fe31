"""An upstream that breaks off in its answer, or says it byte by byte: no half looks whole, and none is asked for twice.

Where in a stream the upstream itself may break off is in tests/live/test_death.py; here the way to it breaks at every
few bytes, framing and heads included.
"""

import json
import time

import pytest

from tests.client import chat, request
from tests.faults import Cut, FaultProxy, Reset, SlowClose, Trickle
from tests.process import KEY, RelayProcess, Start
from tests.upstream import DONE, Close, Upstream, event, opening, piece, response, stream

IDLE = 0.5
LATE = 1.0  # seconds that a busy machine may add
USAGE = {"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12}

FIRST = event({"id": "c", "choices": [{"index": 0, "delta": {"content": "Zoë"}}]})
FINISH = event({"id": "c", "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}], "usage": USAGE})
WHOLE = FIRST + FINISH + DONE
STREAM = b"".join(step for step in stream(FIRST, FINISH, DONE) if isinstance(step, bytes))
BODY = json.dumps({"choices": [{"message": {"content": "Zoë"}}], "usage": USAGE}).encode()
PLAIN = response(BODY)
LETTERS = [bytes([letter]) for letter in b"abcdefghijklmnopqrstuvwxyz"]
TEXT = response(b"".join(LETTERS), "content-type: text/plain")
HEAD_END = b"\r\n\r\n"
BREAKS = (Cut, Reset)
ENOUGH = STREAM.index(DONE) + len(DONE)  # a stream that has said that it is done has said all


@pytest.fixture(scope="module")
def relay(start: Start, between: FaultProxy) -> RelayProcess:
    limits = {"idle": f"{IDLE}s", "first_byte": "5s"}
    place = f"http://127.0.0.1:{between.port}/v1"
    prices = {f"script/{kind.__name__}": {"input": 1, "output": 1000} for kind in BREAKS}
    upstreams = {"script": {"base_url": place, "timeouts": limits, "max_connections": 2}}
    return start(upstreams=upstreams, prices=prices)


@pytest.mark.parametrize("kind", BREAKS)
def test_no_part_of_a_stream_looks_whole(
    relay: RelayProcess, proxy: FaultProxy, upstream: Upstream, kind: type[Cut | Reset]
) -> None:
    """And what came of it is billed."""
    upstream.play(model := kind.__name__, STREAM)
    cuts = range(1, ENOUGH, 5)
    for number, after in enumerate(cuts, 1):
        proxy.inflict(kind(after))

        answer = relay.ask(chat(model, stream=True))

        assert answer.complete, after
        assert number == len(upstream.requests(model)), after
        if answer.status == 502:
            assert "upstream_error" == answer.error["code"]
            assert after < STREAM.index(FINISH)
        else:
            said, _, error = answer.body.partition(b'data: {"error":')
            assert 200 == answer.status
            assert WHOLE.startswith(said), after
            assert FIRST in said
            assert b"upstream_error" in error
            assert b"[DONE]" not in answer.body
    rows = relay.records(model, len(cuts))
    assert {row["outcome"] for row in rows} <= {"upstream_error", "incomplete"}
    begun = [row for row in rows if row["status"] == 200]
    assert {9, None} == {row["input_tokens"] for row in begun}
    assert all(row["cost_usd"] > 0.001 for row in begun)


@pytest.mark.parametrize("kind", [Cut, Reset])
def test_no_part_of_a_body_looks_whole(
    relay: RelayProcess, proxy: FaultProxy, upstream: Upstream, model: str, kind: type[Cut | Reset]
) -> None:
    upstream.play(model, PLAIN)
    cuts = range(1, len(PLAIN), 5)
    for number, after in enumerate(cuts, 1):
        proxy.inflict(kind(after))

        answer = relay.ask(chat(model))

        assert answer.status == 502 or not answer.complete, after
        assert number == len(upstream.requests(model)), after
    assert {"upstream_error"} == {row["outcome"] for row in relay.records(model, len(cuts))}


def test_tokens_that_were_told_before_the_end_are_in_the_record(
    relay: RelayProcess, proxy: FaultProxy, upstream: Upstream, model: str
) -> None:
    told = event({"choices": [{"index": 0, "delta": {"content": "x"}}], "usage": {"prompt_tokens": 9}})
    upstream.play(model, *stream(told, FINISH, DONE))
    proxy.inflict(Cut(len(opening() + piece(told))))

    row = relay.record(relay.ask(chat(model, stream=True)))

    assert row["outcome"] in {"incomplete", "upstream_error"}
    assert 9 == row["input_tokens"]


def test_a_body_without_length_ends_well_only_when_it_is_done(
    relay: RelayProcess, proxy: FaultProxy, upstream: Upstream, model: str
) -> None:
    head = opening(framing="connection: close")
    upstream.play(model, head, WHOLE, Close())
    for after, outcome in ((len(head + FIRST), "incomplete"), (len(head + WHOLE), "ok")):
        proxy.inflict(Cut(after))

        answer = relay.ask(chat(model, stream=True))

        assert (200, outcome == "ok") == (answer.status, answer.body == WHOLE)
        assert outcome == relay.record(answer)["outcome"]


def test_a_close_that_is_late_harms_nobody(
    relay: RelayProcess, proxy: FaultProxy, upstream: Upstream, model: str
) -> None:
    """The end that the framing tells is the end. Who is given the dead connection next waits for the close alone."""
    upstream.play(model, STREAM, Close())
    proxy.inflict(SlowClose(0.3))
    took = []
    for _ in range(6):
        began = time.monotonic()
        answer = relay.ask(chat(model, stream=True))
        took.append(time.monotonic() - began)

        assert (200, WHOLE, True) == (answer.status, answer.body, answer.complete)
        assert "ok" == relay.record(answer)["outcome"]
    assert took[0] < 0.3
    assert max(took) < 0.3 + LATE


@pytest.mark.parametrize(("said", "parts"), [(STREAM, [FIRST, FINISH, DONE]), (TEXT, LETTERS)], ids=["events", "text"])
def test_a_trickle_is_passed_on_at_once_and_is_no_silence(
    relay: RelayProcess, proxy: FaultProxy, upstream: Upstream, model: str, said: bytes, parts: list[bytes]
) -> None:
    """It lasts several times the limit on silence, and what is whole is with the client 50 ms later."""
    upstream.play(model, said)
    proxy.inflict(Trickle(4 * IDLE / len(said)))
    came, at, behind = proxy.bytes_down, said.index(HEAD_END) + len(HEAD_END), []  # the last in bytes
    with relay.connect() as client:
        client.send(request(chat(model, stream=True), key=KEY))
        began = time.monotonic()
        assert client.read_to(HEAD_END).startswith(b"HTTP/1.1 200 ")
        for part in parts:
            client.read_to(b"\r\n" + part)
            at = said.index(part, at) + len(part)
            behind.append(proxy.bytes_down - came - at)
        took = time.monotonic() - began

    print(f"{behind} bytes behind, of {took / at:.4f} s each")  # noqa: T201
    assert sorted(behind)[len(behind) // 2] * took / at < 0.05  # the median, as the machine has other things to do
    assert took > 2 * IDLE
    assert ["ok"] == [row["outcome"] for row in relay.records(model)]
