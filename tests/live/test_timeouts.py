"""An upstream that hangs: each of four limits ends it, as an error before the first event and as an event after."""

import json
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.client import chat, request
from tests.process import KEY, RelayProcess, Start
from tests.upstream import DONE, END, Close, Never, Pause, Step, Upstream, drip, event, opening, piece, response, stream

pytestmark = pytest.mark.faces("fast", "asgi")

CONNECT, FIRST_BYTE, IDLE, TOTAL = 0.3, 0.5, 0.5, 2.0
LATE = 1.0  # seconds that a busy machine may add

EVENT = event({"id": "c", "choices": [{"index": 0, "delta": {"content": "x"}}]})
FINISH = event({"id": "c", "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})


@pytest.fixture(scope="module")
def deaf_port() -> Iterator[int]:
    """A port whose queue of connections is full, so that one more never gets through."""
    with socket.socket() as listener, ExitStack() as queue:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(4):
            waiting = queue.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listener.getsockname())
        yield listener.getsockname()[1]


@pytest.fixture(scope="module")
def relay(start: Start, upstream: Upstream, deaf_port: int) -> RelayProcess:
    address = f"http://127.0.0.1:{upstream.port}/v1"
    limits = {"connect": f"{CONNECT}s", "first_byte": f"{FIRST_BYTE}s", "idle": f"{IDLE}s"}
    return start(
        server={"heartbeat": "0.1s"},
        upstreams={
            "script": {"base_url": address, "timeouts": {**limits, "total": f"{TOTAL}s"}},
            "patient": {"base_url": address, "timeouts": {**limits, "total": "none"}},
            "deaf": {"base_url": f"http://127.0.0.1:{deaf_port}/v1", "timeouts": {**limits, "total": "none"}},
        },
        models={"m-*": "script/*", "patient-*": "patient/*", "deaf": "deaf/deaf"},
    )


def test_an_upstream_that_does_not_accept(relay: RelayProcess) -> None:
    began = time.monotonic()

    answer = relay.ask(chat("deaf"))

    assert CONNECT * 0.8 < time.monotonic() - began < 2 * CONNECT + LATE
    assert (504, "upstream_timeout") == (answer.status, answer.error["code"])


SILENCES: dict[str, tuple[tuple[Step, ...], float]] = {
    "accepts, no head": ((Never(),), FIRST_BYTE),
    "half a head": ((b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n", Never()), FIRST_BYTE),
    "head, no event": ((opening(), Never()), IDLE),
    "head, half an event": ((opening(), piece(EVENT[:-2]), Never()), IDLE),
    "an unfinished event, byte by byte": ((opening(), *drip(b"d", every=0.2, times=50)), TOTAL),
}


@pytest.mark.faces("fast")  # the upstream's side alone, which both faces share
@pytest.mark.parametrize("silence", SILENCES)
def test_a_silence_before_the_first_event_is_a_504(
    relay: RelayProcess, upstream: Upstream, model: str, silence: str
) -> None:
    script, limit = SILENCES[silence]
    upstream.play(model, *script)
    began = time.monotonic()

    answer = relay.ask(chat(model, stream=True))

    assert limit * 0.8 < time.monotonic() - began < limit + LATE
    assert (504, "upstream_timeout") == (answer.status, answer.error["code"])
    assert "true" == answer.header("x-should-retry")
    row = relay.record(answer)
    assert (504, "upstream_timeout") == (row["status"], row["outcome"])
    assert 1 == len(upstream.requests(model))
    assert upstream.requests(model)[0].connection in upstream.left


LATER: dict[str, tuple[tuple[Step, ...], float]] = {
    "silence after the first event": ((opening(), piece(EVENT), Never()), IDLE),
    "silence inside the second event": ((opening(), piece(EVENT + EVENT[:20]), Never()), IDLE),
    "events without end": ((opening(), *drip(EVENT, every=0.2, times=50)), TOTAL),
}


@pytest.mark.parametrize("silence", LATER)
def test_a_silence_in_a_stream_is_an_error_event(
    relay: RelayProcess, upstream: Upstream, model: str, silence: str
) -> None:
    script, limit = LATER[silence]
    upstream.play(model, *script)
    began = time.monotonic()

    answer = relay.ask(chat(model, stream=True))

    assert limit * 0.8 < time.monotonic() - began < limit + LATE
    assert (200, True) == (answer.status, answer.complete)
    assert answer.body.startswith(EVENT)
    error = json.loads(answer.body.rstrip().rsplit(b"\n", 1)[-1].removeprefix(b"data: "))["error"]
    assert "upstream_timeout" == error["code"]
    assert b"[DONE]" not in answer.body
    assert "upstream_timeout" == relay.record(answer)["outcome"]


def test_a_body_that_stalls_never_looks_complete(relay: RelayProcess, upstream: Upstream, model: str) -> None:
    upstream.play(model, response(b'{"choices": [1, 2, 3]}')[:-5], Never())
    began = time.monotonic()

    answer = relay.ask(chat(model))

    assert IDLE * 0.8 < time.monotonic() - began < IDLE + LATE
    assert answer.status == 504 or not answer.complete
    assert "upstream_timeout" == relay.record(answer)["outcome"]


@pytest.mark.faces("fast")  # the upstream's side alone, which both faces share
def test_no_limit_counts_while_bytes_flow(relay: RelayProcess, upstream: Upstream) -> None:
    upstream.play("patient-1", opening(), *drip(EVENT, every=0.3, times=8), piece(FINISH + DONE), END)

    answer = relay.ask(chat("patient-1", stream=True))

    assert [EVENT.strip()] * 8 + [FINISH.strip(), DONE.strip()] == [
        line for line in answer.body.split(b"\n") if line.startswith(b"data")
    ]
    assert "ok" == relay.record(answer)["outcome"]


def test_heartbeats_stand_between_events_and_only_after_the_head(relay: RelayProcess, upstream: Upstream) -> None:
    numbered = b"id: 7\n" + EVENT
    parts = (piece(numbered), Pause(0.3), piece(EVENT[:10]), Pause(0.3), piece(EVENT[10:] + FINISH + DONE), END)
    upstream.play("patient-2", Pause(0.3), opening(), *parts)

    with relay.connect() as client:
        client.send(request(chat("patient-2", stream=True), key=KEY))
        answer = client.answer()

    assert b": ping\n" in answer.body
    assert numbered + EVENT + FINISH + DONE == answer.body.replace(b": ping\n", b"")
    assert answer.body.startswith(numbered)


def test_no_heartbeat_stands_within_an_event_that_passes_as_it_comes(relay: RelayProcess, upstream: Upstream) -> None:
    large = event({"choices": [{"index": 0, "delta": {"image": "x" * 3_000_000}}]})
    upstream.play("patient-6", *stream(large[:2_000_000], Pause(0.4), large[2_000_000:], Pause(0.4), FINISH + DONE))

    answer = relay.ask(chat("patient-6", stream=True))

    assert answer.body.startswith(large + b": ping\n")
    assert large + FINISH + DONE == answer.body.replace(b": ping\n", b"")


@pytest.mark.parametrize("engine", ["wire", "httpx"])
def test_no_heartbeat_follows_the_end_that_a_client_sees(
    start: Start, upstream: Upstream, model: str, engine: str
) -> None:
    """Though the upstream keeps its connection open for some time."""
    address = f"http://127.0.0.1:{upstream.port}/v1"
    relay = start(server={"heartbeat": "0.1s"}, upstreams={"script": {"base_url": address, "engine": engine}})
    upstream.play(model, opening(), piece(EVENT), Pause(0.3), piece(FINISH + DONE), Pause(0.5), END)

    answer = relay.ask(chat(model, stream=True))

    assert answer.body.startswith(EVENT + b": ping\n")
    assert answer.body.endswith(FINISH + DONE)


def test_no_heartbeat_outlives_its_stream(relay: RelayProcess, upstream: Upstream) -> None:
    whole = {"choices": [{"index": 0, "finish_reason": "stop"}]}
    upstream.play("patient-3", opening(), piece(EVENT + FINISH + DONE), END)
    upstream.play("patient-4", Pause(0.45), response(whole))

    with relay.connect() as client:
        client.send(request(chat("patient-3", stream=True), key=KEY))
        assert EVENT + FINISH + DONE == client.answer().body
        client.send(request(chat("patient-4"), key=KEY))
        answer = client.answer()

    assert (200, json.dumps(whole).encode()) == (answer.status, answer.body)


@pytest.mark.parametrize("port", [1, None], ids=["refused", "closes"])
def test_nobody_there_is_a_502(start: Start, upstream: Upstream, model: str, port: int | None) -> None:
    relay = start(
        upstreams={"gone": {"base_url": f"http://127.0.0.1:{port or upstream.port}/v1"}}, models={"*": "gone/*"}
    )
    upstream.play(model, Close())
    began = time.monotonic()

    answer = relay.ask(chat(model))

    assert time.monotonic() - began < 5
    assert (502, "upstream_error") == (answer.status, answer.error["code"])
