"""A client that leaves: its upstream call ends at once, in every phase, and its record is there."""

import random
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import pytest

from tests.client import Client, chat, request
from tests.process import KEY, RelayProcess, Start
from tests.upstream import Never, Pause, Step, Upstream, drip, event, opening, response
from tests.waiting import until

pytestmark = pytest.mark.faces("fast", "asgi")

PROMISE = 0.5  # seconds; on an idle machine it is a tenth of a second

EVENT = event({"choices": [{"index": 0, "delta": {"content": "x"}}]})
DRIPPING: tuple[Step, ...] = (opening(), *drip(EVENT, every=0.02, times=1000))

WINDOWS: dict[str, tuple[bool, tuple[Step, ...]]] = {
    "before the head": (True, (Never(),)),
    "in the stream": (True, DRIPPING),
    "no stream": (False, (Pause(20), response({"choices": []}))),
}


@pytest.mark.parametrize("number", [1, 50])
@pytest.mark.parametrize("leave", [Client.leave, Client.reset], ids=["fin", "rst"])
@pytest.mark.parametrize("window", WINDOWS)
def test_a_client_that_leaves_ends_its_upstream_call(
    relay: RelayProcess, upstream: Upstream, model: str, window: str, leave: Callable[[Client], None], number: int
) -> None:
    streamed, script = WINDOWS[window]
    upstream.play(model, *script)

    with ExitStack() as stack:
        clients = [stack.enter_context(relay.connect()) for _ in range(number)]
        for client in clients:
            client.send(request(chat(model, stream=streamed), key=KEY))
        assert until(lambda: len(upstream.requests(model)) == number)
        if window == "in the stream":
            for client in clients:
                client.read_to(EVENT)
        gone = time.monotonic()
        for client in clients:
            leave(client)
    calls = {seen.connection for seen in upstream.requests(model)}

    assert until(lambda: calls <= upstream.left.keys(), within=5)
    assert max(upstream.left[call] for call in calls) - gone < PROMISE
    rows = relay.records(model, number)
    assert {"client_disconnect"} == {row["outcome"] for row in rows}
    assert {200 if window == "in the stream" else 499} == {row["status"] for row in rows}
    assert number == len(upstream.requests(model))


PATHS: dict[str, dict[str, Any]] = {
    "/v1/completions": {"prompt": "hi"},
    "/v1/embeddings": {"input": "hi"},
    "/v1/responses": {"input": "hi", "stream": True},
    "/v1/moderations": {"input": "hi"},
    "/v1/images/generations": {"prompt": "hi"},
    "/chat/stream": {"messages": [{"role": "user", "content": "hi"}]},
}


@pytest.mark.parametrize("path", PATHS)
def test_every_endpoint_notices(relay: RelayProcess, upstream: Upstream, model: str, path: str) -> None:
    upstream.play(model, Never())

    with relay.connect() as client:
        client.send(request({"model": model, **PATHS[path]}, path=path, key=KEY))
        assert until(lambda: upstream.requests(model))
        gone = time.monotonic()
        client.leave()
    call = upstream.requests(model)[0].connection

    assert until(lambda: call in upstream.left)
    assert upstream.left[call] - gone < PROMISE
    assert ["client_disconnect"] == [row["outcome"] for row in relay.records(model)]


@pytest.mark.faces("fast")  # behind stock uvicorn the exit is its own
def test_every_request_has_its_record_after_random_departures_and_sigterm(start: Start, upstream: Upstream) -> None:
    relay = start()
    luck = random.Random(20)  # noqa: S311 - a repeatable schedule, no secret
    plans = [(f"random-{i}", luck.uniform(0.005, 0.3), luck.choice([Client.leave, Client.reset])) for i in range(100)]
    scripts = [script for _, script in WINDOWS.values()]

    def visit(model: str, stay: float, leave: Callable[[Client], None]) -> None:
        with relay.connect() as client:
            client.send(request(chat(model, stream=True), key=KEY))
            time.sleep(stay)
            leave(client)

    for i, (model, _, _) in enumerate(plans):
        upstream.play(model, *scripts[i % len(scripts)])
    visits = [threading.Thread(target=visit, args=plan) for plan in plans]
    for thread in visits:
        thread.start()
    for thread in visits:
        thread.join()
    arrived = [model for model, _, _ in plans if upstream.requests(model)]
    code = relay.stop()

    rows = relay.log()
    assert 0 == code
    assert len(rows) == len({row["id"] for row in rows})
    assert {"client_disconnect"} == {row["outcome"] for row in rows}
    assert sorted(arrived) == sorted(row["model"] for row in rows if row["model"] in arrived)
    # A reset may overtake the request that it follows: then there was no request. A FIN never does.
    finished = [model for model, _, leave in plans if leave is Client.leave]
    assert len({*finished, *arrived}) <= len(rows) <= len(plans)
    assert all(len(upstream.requests(model)) <= 1 for model, _, _ in plans)
