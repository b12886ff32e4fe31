"""SIGTERM with 500 streams open: not ready at once, the last word for each of them, a record of each, and exit 0.

What a single stream sees of it, and a second worker, is in tests/live/test_shutdown.py and test_workers.py.
"""

import json
import signal
import time
from contextlib import ExitStack

from tests.client import Client, chat, request
from tests.faults import FaultProxy
from tests.process import KEY, RelayProcess, Start
from tests.upstream import DONE, END, Never, Pause, Upstream, event, opening, piece
from tests.waiting import until

STREAMS = 500
DRAIN, LATE = 3.0, 3.0  # seconds; the second is what a busy machine may add
SOON = 1.0
AT_ONCE = 0.1
EVENT = event({"choices": [{"index": 0, "delta": {"content": "x"}}]})
FINISH = event({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})


def opened(relay: RelayProcess, stack: ExitStack, models: list[str]) -> list[Client]:
    """A client for each model, whose stream has begun."""
    clients = [stack.enter_context(relay.connect(timeout=DRAIN + LATE + 5)) for _ in models]
    for client, model in zip(clients, models, strict=True):
        client.send(request(chat(model, stream=True), key=KEY))
    for client in clients:
        head = client.read_to(EVENT + b"\r\n")
        assert head.startswith(b"HTTP/1.1 200 ")
    return clients


def not_ready(client: Client) -> bool:
    """Whether a client on a kept connection is told that it should go elsewhere, or has to."""
    try:
        client.send(request(method="GET", path="/readyz"))
        return client.answer().status == 503
    except ConnectionError:
        return True


def refuses(relay: RelayProcess) -> bool:
    """Whether nobody listens any more."""
    try:
        with relay.connect():
            return False
    except ConnectionError:
        return True


def test_500_streams(start: Start, proxy: FaultProxy, upstream: Upstream, model: str) -> None:
    prices = {f"script/{model}-{kind}": {"input": 0, "output": 1000} for kind in ("ends", "stays")}
    relay = start(server={"drain_timeout": f"{DRAIN:g}s"}, prices=prices)
    upstream.play(f"{model}-ends", opening(), piece(EVENT), Pause(DRAIN / 2), piece(FINISH + DONE), END)
    upstream.play(f"{model}-stays", opening(), piece(EVENT), Never())
    models = [f"{model}-{'stays' if number % 2 else 'ends'}" for number in range(STREAMS)]
    with ExitStack() as stack:
        kept = stack.enter_context(relay.connect())
        assert not not_ready(kept)
        clients = opened(relay, stack, models)
        began = time.monotonic()
        relay.signal(signal.SIGTERM)

        assert until(lambda: not_ready(kept), within=2, every=0)
        assert until(lambda: refuses(relay), within=2, every=0)
        assert time.monotonic() - began < AT_ONCE
        answers = [client.chunked() for client in clients]
        code = relay.wait(DRAIN + LATE)
        took = time.monotonic() - began

    assert 0 == code
    assert DRAIN * 0.8 < took < DRAIN + LATE
    ends, stays = answers[::2], answers[1::2]
    assert {(FINISH + DONE, True)} == set(ends)
    for body, complete in stays:
        assert complete
        assert 1 == body.count(b"data: ")
        assert {"message", "type", "param", "code"} == json.loads(body.removeprefix(b"data: "))["error"].keys()
    rows = relay.log()
    outcomes = [(row["alias"], row["outcome"]) for row in rows]
    assert STREAMS == len(outcomes)
    assert {"ok"} == {outcome for alias, outcome in outcomes if alias.endswith("ends")}
    assert {"refused"} == {outcome for alias, outcome in outcomes if alias.endswith("stays")}
    assert {0.001} == {row["cost_usd"] for row in rows}  # what came is billed
    assert until(lambda: proxy.open == 0)
    assert "Traceback" not in relay.output


def test_a_second_signal_does_not_wait(start: Start, proxy: FaultProxy, upstream: Upstream, model: str) -> None:
    relay = start(server={"drain_timeout": "600s"})
    upstream.play(model, opening(), piece(EVENT), Never())
    with ExitStack() as stack:
        kept = stack.enter_context(relay.connect())
        clients = opened(relay, stack, [model] * STREAMS)
        relay.signal(signal.SIGTERM)
        assert until(lambda: not_ready(kept), within=2)
        began = time.monotonic()
        relay.signal(signal.SIGTERM)
        answers = [client.chunked() for client in clients]
        code = relay.wait(5)
        took = time.monotonic() - began

    assert 1 == code
    assert took < SOON
    assert {(1, True)} == {(body.count(b'data: {"error":'), complete) for body, complete in answers}
    assert not any(b"[DONE]" in body for body, _ in answers)
    assert ["refused"] * STREAMS == [row["outcome"] for row in relay.log()]
    assert until(lambda: proxy.open == 0)
