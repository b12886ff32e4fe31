"""Delivered means logged: also when the process is killed right after the last byte."""

import pytest

from tests.client import chat, request
from tests.process import KEY, RelayProcess, Start
from tests.upstream import DONE, Upstream, event, response, stream

FINISH = event({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
ROUNDS = 20


def exchanges(upstream: Upstream, model: str) -> list[tuple[bytes, bytes]]:
    """What is asked, and the bytes after which the process is killed: a whole answer, a stream, two refusals."""
    upstream.play(f"{model}-whole", response({"choices": [], "end": "of it"}))
    upstream.play(f"{model}-stream", *stream(FINISH, DONE))
    upstream.play(f"{model}-refused", response({"error": {"end": "of it"}}, status="429 Too Many Requests"))
    return [
        (chat(f"{model}-whole"), b'"of it"}'),
        (chat(f"{model}-stream", stream=True), b"0\r\n\r\n"),
        (chat(f"{model}-refused"), b'"of it"}}'),
        (b'{"model": ', b"}}"),
    ]


@pytest.mark.timeout(120)
def test_killed_after_the_last_byte(start: Start, upstream: Upstream, model: str) -> None:
    relay = start()
    asked = exchanges(upstream, model)
    delivered = []
    for number in range(ROUNDS):
        body, last = asked[number % len(asked)]
        with relay.connect() as client:
            client.send(request(body, key=KEY))
            head = client.read_to(b"\r\n\r\n")
            client.read_to(last)
            relay.kill()
        delivered.append(identity(head))
        relay.start()

    rows = relay.log()
    assert sorted(delivered) == sorted(row["id"] for row in rows)
    assert {"ok", "upstream_error", "refused"} == {row["outcome"] for row in rows}


def identity(head: bytes) -> str:
    lines = head.decode().lower().split("\r\n")
    return next(line.partition(":")[2].strip() for line in lines if line.startswith("x-relay-id:"))


@pytest.mark.timeout(60)
def test_killed_under_load(start: Start, upstream: Upstream, model: str) -> None:
    """Records come in faster than the store takes them; each delivered one is there afterwards, once."""
    relay = start()
    upstream.play(model, response({"choices": []}))
    delivered = []
    with relay.connect() as client:
        for _ in range(300):
            client.send(request(chat(model), key=KEY))
            delivered.append(client.answer().header("x-relay-id"))
        relay.kill()
    relay.start()

    assert sorted(str(found) for found in delivered) == sorted(row["id"] for row in relay.records(model, 300))


def test_the_log_can_be_read_after_a_crash_without_a_restart(
    relay: RelayProcess, upstream: Upstream, model: str
) -> None:
    upstream.play(model, response({"choices": []}))
    answer = relay.ask(chat(model))
    relay.kill()

    assert "ok" == relay.record(answer)["outcome"]
