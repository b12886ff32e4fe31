"""A client that reads slowly holds its upstream back, and no memory fills up in between."""

import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack

import pytest

from tests.client import chat, request
from tests.process import KEY, RelayProcess, Start
from tests.upstream import DONE, END, Close, Pause, Step, Upstream, event, opening, piece, response
from tests.waiting import until

BLOCK = event({"choices": [{"index": 0, "delta": {"content": "x" * 65_000}}]})
BLOCKS = 3200  # some 200 MB
FINISH = event({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
GROWTH = 30_000_000
IDLE_CLIENTS, IDLE_BODY = 40, 2_000_000


def body(kind: str) -> bytes:
    """The head and framing of a stream, or of one large JSON answer that is no stream."""
    return opening() if kind == "stream" else opening().replace(b"text/event-stream", b"application/json")


@pytest.mark.parametrize("kind", ["stream", "plain"])
def test_a_client_that_does_not_read(relay: RelayProcess, upstream: Upstream, model: str, kind: str) -> None:
    upstream.play(model, body(kind), *([piece(BLOCK)] * BLOCKS), piece(FINISH + DONE), END)

    with relay.connect() as client:
        client.send(request(chat(model, stream=kind == "stream"), key=KEY))
        assert until(lambda: upstream.requests(model))
        before = relay.memory()
        time.sleep(2)
        grown = relay.memory() - before
        answer = client.answer()

    assert grown < GROWTH
    assert (200, True) == (answer.status, answer.complete)
    assert BLOCKS * len(BLOCK) + len(FINISH + DONE) == len(answer.body)
    assert relay.memory() - before < GROWTH


def test_a_client_that_does_not_read_and_leaves(relay: RelayProcess, upstream: Upstream, model: str) -> None:
    upstream.play(model, opening(), *([piece(BLOCK)] * BLOCKS), END)

    with relay.connect() as client:
        client.send(request(chat(model, stream=True), key=KEY))
        assert until(lambda: upstream.requests(model))
        client.read_to(BLOCK)
        time.sleep(0.5)  # until every buffer on the way is full
        gone = time.monotonic()
        client.reset()
    call = upstream.requests(model)[0].connection

    assert until(lambda: call in upstream.left)
    assert upstream.left[call] - gone < 0.5
    assert ["client_disconnect"] == [row["outcome"] for row in relay.records(model)]


def test_others_are_served_meanwhile(relay: RelayProcess, upstream: Upstream, model: str) -> None:
    upstream.play(model, opening(), *([piece(BLOCK)] * BLOCKS), END)
    upstream.play(f"{model}-other", opening(), piece(FINISH + DONE), END)

    with relay.connect() as client:
        client.send(request(chat(model, stream=True), key=KEY))
        client.read_to(BLOCK)
        took = []
        for _ in range(20):
            began = time.monotonic()
            assert 200 == relay.ask(chat(f"{model}-other", stream=True)).status
            took.append(time.monotonic() - began)

    assert sorted(took)[10] < 0.2


def test_idle_connections_hold_nothing_of_what_passed(relay: RelayProcess, upstream: Upstream, model: str) -> None:
    question = chat(model, user="x" * IDLE_BODY)
    upstream.play(model, response({"said": "y" * IDLE_BODY}))
    before = relay.memory()

    with ExitStack() as clients:
        for _ in range(IDLE_CLIENTS):
            client = clients.enter_context(relay.connect())
            client.send(request(question, key=KEY))
            assert 200 == client.answer().status
        grown = relay.memory() - before

    assert grown < GROWTH


def test_a_large_answer_outlives_the_keep_alive_of_an_idle_connection(
    start: Start, upstream: Upstream, model: str
) -> None:
    relay = start(server={"keep_alive": "1s"})
    upstream.play(model, response({"said": "y" * 7_900_000}))  # more than the buffers of both sides hold

    with relay.connect() as client:
        client.send(request(chat(model), key=KEY))
        time.sleep(3)  # two looks behind its end, and more
        answer = client.answer()

    assert (200, True) == (answer.status, answer.complete)


FAILING: dict[str, Sequence[Step]] = {
    "cut": (opening(), piece(BLOCK), Close()),
    "an error at first": (opening(), piece(event({"error": {"message": "no", "code": 500}})), END),
    "the client leaves": (opening(), piece(BLOCK), Pause(30)),
}


@pytest.mark.parametrize("case", FAILING)
def test_failed_requests_hold_nothing_of_what_passed(
    relay: RelayProcess, upstream: Upstream, model: str, case: str
) -> None:
    upstream.play(model, *FAILING[case])
    question = request(chat(model, stream=True, user="x" * IDLE_BODY), key=KEY)
    before = relay.memory()

    for _ in range(IDLE_CLIENTS):
        with relay.connect() as client:
            client.send(question)
            if case == "the client leaves":
                client.read_to(BLOCK)
            else:
                client.answer()
    relay.records(model, IDLE_CLIENTS)

    assert relay.memory() - before < GROWTH


def test_halves_of_requests_are_let_go_of_with_their_clients(relay: RelayProcess, model: str) -> None:
    half = request(chat(model, user="x" * IDLE_BODY), key=KEY)[:-10]
    before, logged = relay.memory(), len(relay.log())

    for _ in range(IDLE_CLIENTS):
        with relay.connect() as client:
            client.send(half)
    assert until(lambda: len(relay.log()) == logged + IDLE_CLIENTS)

    assert relay.memory() - before < GROWTH


def test_one_that_says_nothing_and_leaves_is_forgotten(start: Start) -> None:
    relay = start()

    with relay.connect():
        pass

    assert 0 == relay.stop()
    assert "Traceback" not in relay.output


BODIES = """
from resource import RUSAGE_SELF, getrusage
from relay.cli.server import keep_freed
keep_freed()
for _ in range(21):
    before = getrusage(RUSAGE_SELF).ru_minflt
    bodies = [b"x" * 100_000 for _ in range(20)]
    del bodies
print(getrusage(RUSAGE_SELF).ru_minflt - before)
"""


def test_what_large_bodies_took_is_kept_for_the_next_ones() -> None:
    done = subprocess.run([sys.executable, "-c", BODIES], capture_output=True, text=True, check=True)

    assert int(done.stdout) < 100  # pages; else it is all of them, some 500
