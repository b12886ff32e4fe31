"""Clients that leave at any byte: their upstream call ends within a second, and neither a place nor a record is lost.

That each phase notices, and how soon, is in tests/live/test_disconnect.py.
"""

import random
import time
from functools import partial

import pytest

from tests.client import Client, chat, request
from tests.faults import FaultProxy
from tests.process import KEY, RelayProcess, Start
from tests.upstream import DONE, END, Never, Pause, Step, Upstream, drip, event, opening, piece, response
from tests.waiting import until

TIMES = 1000
SOON = 1.0  # seconds
EVENT = event({"choices": [{"index": 0, "delta": {"content": "some words"}}]})
FINISH = event({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
FINE = response({"choices": []})
SCRIPTS: dict[str, tuple[Step, ...]] = {
    "silent": (Never(),),
    "silent in the stream": (opening(), piece(EVENT), Never()),
    "streams": (opening(), *drip(EVENT, every=0.002, times=30), piece(FINISH + DONE), END),
    "no stream": (Pause(0.005), response({"choices": [{"message": {"content": "x" * 5000}}]})),
}


@pytest.fixture(scope="module")
def relay(start: Start, between: FaultProxy) -> RelayProcess:
    """Two connections are all it may have: a place that is not given back is missed at once."""
    script = {"base_url": f"http://127.0.0.1:{between.port}/v1", "max_connections": 2}
    prices = {"script/left": {"input": 1, "output": 1000}}
    return start(upstreams={"script": script}, models={"left-*": "script/left", "*": "script/*"}, prices=prices)


def test_departures_at_random_bytes(relay: RelayProcess, proxy: FaultProxy, upstream: Upstream) -> None:
    seed = random.randrange(2**32)  # noqa: S311 - a schedule, no secret
    print(f"the seed of the departures is {seed}")  # noqa: T201  # shown when the test fails
    luck = random.Random(seed)  # noqa: S311
    for number in range(TIMES):
        script = luck.choice(list(SCRIPTS))
        upstream.play("left", *SCRIPTS[script])
        sent = request(chat(f"left-{number}", stream=script != "no stream"), key=KEY)
        with relay.connect() as client:
            client.send(sent)
            assert until(partial(asked, upstream, number))
            read(client, 0 if script == "silent" else luck.randint(0, 1500))
            gone = time.monotonic()
            luck.choice([client.leave, client.reset])()
        call = upstream.requests("left")[number].connection
        if "silent" in script:
            assert until(partial(upstream.left.get, call), within=5), number
            assert upstream.left[call] - gone < SOON, number

    began = time.monotonic()
    upstream.play("left", FINE)
    assert [200] * 20 == [relay.ask(chat("left-fine")).status for _ in range(20)]
    assert time.monotonic() - began < SOON + 1
    assert proxy.open <= 2
    rows = [row for row in relay.log() if row["model"] == "left"]
    assert TIMES + 20 == len(rows) == len({row["id"] for row in rows})
    assert {f"left-{number}" for number in range(TIMES)} == {row["alias"] for row in rows} - {"left-fine"}
    assert {row["outcome"] for row in rows} <= {"ok", "client_disconnect"}
    assert all(row["cost_usd"] > 0 for row in rows)  # what was begun is billed, as far as it came
    assert all(row["cost_usd"] > 0.001 for row in rows if row["stream"] and row["ttft_ms"] is not None)


def asked(upstream: Upstream, number: int) -> bool:
    """Whether more requests than that have come."""
    return len(upstream.requests("left")) > number


def read(client: Client, size: int) -> None:
    """That many bytes of the answer, or all that there are for a while."""
    client.socket.settimeout(0.01)  # several times the pause between two events
    try:
        while size > 0 and (data := client.socket.recv(size)):
            size -= len(data)
    except TimeoutError:
        return


def test_a_departure_ends_the_call_whatever_the_way(
    relay: RelayProcess, proxy: FaultProxy, upstream: Upstream, model: str
) -> None:
    """While the request is still on its way through a slow network there is nobody to tell but that network."""
    upstream.play(model, Never())
    for _ in range(4):
        with relay.connect() as client:
            client.send(request(chat(model), key=KEY))
            assert until(lambda: proxy.open > 0)
            gone = time.monotonic()
            client.leave()

        assert until(lambda: proxy.open == 0, within=5)
        assert time.monotonic() - gone < SOON
    assert {"client_disconnect"} == {row["outcome"] for row in relay.records(model, 4)}
