"""Several processes that serve one port: together they behave as one."""

import os
import re
import signal
from pathlib import Path

import pytest

from tests.client import chat, request
from tests.process import KEY, RelayProcess, Start
from tests.upstream import DONE, END, Pause, Upstream, event, opening, piece, response
from tests.waiting import until

FINISH = event({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})


@pytest.fixture(scope="module")
def relay(start: Start) -> RelayProcess:
    return start(server={"workers": 2})


def workers(relay: RelayProcess) -> set[int]:
    return {int(pid) for pid in Path(f"/proc/{relay.pid}/task/{relay.pid}/children").read_text().split()}


def runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_every_request_of_every_worker_is_in_one_log(relay: RelayProcess, upstream: Upstream, model: str) -> None:
    upstream.play(model, response({"choices": []}))

    answers = [relay.ask(chat(model)) for _ in range(40)]

    assert {200} == {answer.status for answer in answers}
    assert {answer.header("x-relay-id") for answer in answers} == {row["id"] for row in relay.records(model, 40)}
    assert 2 == len({seen.connection for seen in upstream.requests(model)})  # each worker kept one connection


def test_a_key_is_revoked_in_every_worker(relay: RelayProcess, upstream: Upstream, model: str) -> None:
    upstream.play(model, response({"choices": []}))
    key = re.findall(r"sk-relay-[\w.-]+", relay.run("key", "create", "shared").stdout)[0]

    def statuses() -> set[int]:
        return {relay.ask(chat(model), key=key).status for _ in range(12)}

    assert until(lambda: statuses() == {200}, within=2)
    assert 0 == relay.run("key", "revoke", "shared").returncode
    assert until(lambda: statuses() == {401}, within=2)


def test_a_worker_that_dies_is_replaced(relay: RelayProcess, upstream: Upstream, model: str) -> None:
    upstream.play(model, response({"choices": []}))
    before = workers(relay)
    victim = min(before)

    os.kill(victim, signal.SIGKILL)

    assert until(lambda: len(workers(relay) - before) == 1, within=5)
    assert until(relay.answers, within=5)
    assert 200 == relay.ask(chat(model)).status
    assert relay.records(model)
    said = relay.output
    assert re.search(r"relay: worker \d was ended by signal 9; another takes its place", said)
    assert 1 == said.count(" on http://")  # who takes its place does not say again what the first ones said


def refused(relay: RelayProcess) -> bool:
    """Whether a connection is refused at once, and not left to wait."""
    try:
        relay.connect(1).socket.close()
    except ConnectionRefusedError:
        return True
    return False


def test_who_comes_while_they_drain_is_refused(start: Start, upstream: Upstream, model: str) -> None:
    relay = start(server={"workers": 2})
    upstream.play(model, opening(), piece(FINISH), Pause(2), piece(DONE), END)

    with relay.connect() as client:
        client.send(request(chat(model, stream=True), key=KEY))
        client.read_to(FINISH)
        relay.signal(signal.SIGTERM)

        assert until(lambda: refused(relay), within=1)
        assert client.rest().endswith(b"0\r\n\r\n")


def test_they_all_end_together(start: Start, upstream: Upstream, model: str) -> None:
    relay = start(server={"workers": 2})
    upstream.play(model, opening(), piece(FINISH), Pause(1), piece(DONE), END)
    children = workers(relay)

    with relay.connect() as client:
        client.send(request(chat(model, stream=True), key=KEY))
        client.read_to(FINISH)
        relay.signal(signal.SIGTERM)
        answer = client.rest()

    assert 0 == relay.wait(5)
    assert answer.endswith(END)
    assert 2 == len(children)
    assert not any(map(runs, children))
    assert ["ok"] == [row["outcome"] for row in relay.records(model)]


def test_workers_end_with_their_parent(start: Start) -> None:
    relay = start(server={"workers": 2})
    children = workers(relay)

    relay.kill()

    assert until(lambda: not any(map(runs, children)), within=5)
