"""A name that cannot be looked up: a 502 soon, and nobody else waits for it."""

import threading
import time

import pytest

from tests.client import Client, chat, request
from tests.faults import FaultProxy
from tests.process import KEY, RelayProcess, Start
from tests.upstream import Upstream, response

FINE = response({"choices": []})


@pytest.fixture(scope="module")
def relay(start: Start) -> RelayProcess:
    return start(
        upstreams={"nowhere": {"base_url": "http://nobody.invalid/v1"}},
        models={"nowhere": "nowhere/m", "*": "script/*"},
    )


def test_an_unknown_name_is_a_502_within_5_seconds(relay: RelayProcess) -> None:
    for _ in range(3):
        began = time.monotonic()

        answer = relay.ask(chat("nowhere"))

        assert time.monotonic() - began < 5
        assert (502, "upstream_error") == (answer.status, answer.error["code"])
        assert "upstream_error" == relay.record(answer)["outcome"]


@pytest.mark.usefixtures("proxy")
def test_nobody_else_waits_for_it(relay: RelayProcess, upstream: Upstream, between: FaultProxy, model: str) -> None:
    upstream.play(model, FINE)
    over = threading.Event()

    def keep_asking() -> None:
        while not over.is_set():
            relay.ask(chat("nowhere"))

    askers = [threading.Thread(target=keep_asking) for _ in range(8)]
    for asker in askers:
        asker.start()
    with relay.connect() as client:
        slowest = [max(waited(client, model) for _ in range(100)) for _ in range(3)]
    over.set()
    for asker in askers:
        asker.join()

    print(f"the slowest of a hundred after {slowest} s")  # noqa: T201
    assert min(slowest) < 0.05  # the machine has other things to do
    assert between.open <= 1


def waited(client: Client, model: str) -> float:
    """The seconds until an answer was whole."""
    began = time.monotonic()
    client.send(request(chat(model), key=KEY))
    assert 200 == client.answer().status
    return time.monotonic() - began
