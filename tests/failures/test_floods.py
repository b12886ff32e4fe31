"""An upstream that says far too much: the relay's memory stays as it is, and nobody waits for the end of it."""

import gzip
import json
import time

import pytest

from tests.client import Answer, chat
from tests.faults import FaultProxy
from tests.process import RelayProcess, Start
from tests.upstream import DONE, Close, Step, Upstream, event, response, stream

MEGABYTE = 1_000_000
BOMB = gzip.compress(gzip.compress(bytes(300 * MEGABYTE), 1), 9)
FINISH = event({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
LATE = 1.0  # seconds that a busy machine may add


@pytest.fixture(scope="module")
def relay(start: Start, upstream: Upstream) -> RelayProcess:
    """It has seen some large answers: what an allocator keeps once, it keeps."""
    relay = start(models={"shown": {"targets": ["script/shown"], "response_model": "alias"}, "*": "script/*"})
    upstream.play("warm", response(b"x" * 4 * MEGABYTE, "content-type: text/plain"))
    upstream.play("shown", *stream(FINISH, DONE))
    assert [200] * 8 == [relay.ask(chat(model)).status for model in ("warm", "shown") for _ in range(4)]
    return relay


def grown(relay: RelayProcess, body: bytes) -> tuple[Answer, int, float]:
    """The answer, by how many bytes the memory grew at most meanwhile, and the seconds that it took."""
    relay.forget_peak()
    before, began = relay.memory(), time.monotonic()
    answer = relay.ask(body)
    took = time.monotonic() - began
    relay.record(answer)
    return answer, relay.peak() - before, took


@pytest.mark.parametrize("kind", ["application/json", "text/event-stream"])
@pytest.mark.parametrize("coding", ["gzip", "gzip, gzip"])
@pytest.mark.parametrize("model", ["bomb", "shown"])
def test_a_bomb_is_not_unpacked(relay: RelayProcess, upstream: Upstream, model: str, coding: str, kind: str) -> None:
    packed = BOMB if coding == "gzip, gzip" else gzip.decompress(BOMB)
    upstream.play(model, response(packed, f"content-type: {kind}", f"content-encoding: {coding}"))

    answer, growth, _ = grown(relay, chat(model, stream=True))

    assert (200, coding, packed) == (answer.status, answer.header("content-encoding"), answer.body)
    assert growth < 16 * MEGABYTE


KEPT = 64 << 10  # bytes of an error that the log keeps
HEADS: dict[str, tuple[Step, ...]] = {
    "100 MB of headers": (b"HTTP/1.1 200 OK\r\n", *([b"x-flood: y\r\n" * 10_000] * 840)),
    "one header of 100 MB": (b"HTTP/1.1 200 OK\r\nx-flood: ", *([b"y" * MEGABYTE] * 100)),
    "200,000 early hints": (*([b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n" * 1000] * 200),),
    "a status line of 100 MB": (b"HTTP/1.1 200 ", *([b"y" * MEGABYTE] * 100)),
}


@pytest.mark.parametrize("case", HEADS)
def test_a_head_without_end_is_a_502(relay: RelayProcess, upstream: Upstream, model: str, case: str) -> None:
    upstream.play(model, *HEADS[case], Close())

    goes = [grown(relay, chat(model)) for _ in range(3)]

    assert [(502, "upstream_error")] * 3 == [(answer.status, answer.error["code"]) for answer, _, _ in goes]
    assert max(took for _, _, took in goes) < LATE
    least = min(growth for _, growth, _ in goes)  # the relay has other things to do
    print(f"{least >> 10} KB more")  # noqa: T201
    assert least < MEGABYTE


@pytest.mark.parametrize(("kind", "most"), [("text/html", 8), ("application/json", 48)])
def test_an_error_of_20_megabytes_passes(
    relay: RelayProcess, upstream: Upstream, model: str, kind: str, most: int
) -> None:
    """JSON is held up to a limit, for its cost; what is larger goes through as it comes. The log keeps its begin."""
    page = b"<html>" + b"x" * 20 * MEGABYTE
    upstream.play(model, response(page, f"content-type: {kind}", "retry-after: 3", status="503 Service Unavailable"))

    answer, growth, _ = grown(relay, chat(model))

    assert (503, "3", True) == (answer.status, answer.header("retry-after"), answer.complete)
    assert page == answer.body
    assert growth < most * MEGABYTE
    row = relay.record(answer)
    assert (503, "upstream_error") == (row["status"], row["outcome"])
    shown = json.loads(relay.run("show", row["id"], "--json").stdout)
    assert (page[:KEPT].decode(), ["response"]) == (shown["response"], shown["truncated"])


def test_a_400_of_20_megabytes_is_not_gathered(relay: RelayProcess, upstream: Upstream, model: str) -> None:
    page = b"<html>" + b"x" * 20 * MEGABYTE
    upstream.play(model, response(page, "content-type: text/html", status="400 Bad Request"))

    answer, growth, _ = grown(relay, chat(model, stream=True))

    assert (400, page) == (answer.status, answer.body)
    assert growth < 16 * MEGABYTE


@pytest.fixture(scope="module", params=["wire", "httpx"])
def bare(request: pytest.FixtureRequest, start: Start, upstream: Upstream, between: FaultProxy) -> RelayProcess:
    """Nothing is kept of bodies. It has seen a stream."""
    script = {"base_url": f"http://127.0.0.1:{between.port}/v1", "engine": request.param}
    relay = start(log={"bodies": "none"}, upstreams={"script": script})
    upstream.play("warm", *stream(event(b"x" * 4 * MEGABYTE), FINISH, DONE))
    assert [200] * 4 == [relay.ask(chat("warm", stream=True)).status for _ in range(4)]
    return relay


@pytest.mark.parametrize("end", [b'"}]}\n\n' + FINISH + DONE, b""], ids=["ends", "never ends"])
def test_an_event_of_100_megabytes_passes_as_it_comes(
    bare: RelayProcess, upstream: Upstream, model: str, end: bytes
) -> None:
    """Of one event a megabyte is held at most: what is larger goes out, and the rest of it as it comes."""
    large = [b'data: {"choices":[{"index":0,"image":"', *([b"x" * MEGABYTE] * 100), end]
    upstream.play(model, *stream(*large))

    answer, growth, _ = grown(bare, chat(model, stream=True))

    assert (200, True) == (answer.status, answer.complete)
    assert b"".join(large) == answer.body[: sum(map(len, large))]
    assert bool(end) == (len(answer.body) == sum(map(len, large)))
    assert growth < 12 * MEGABYTE
    assert ("ok" if end else "incomplete") == bare.record(answer)["outcome"]


def test_a_stream_of_megabyte_events_is_not_gathered(relay: RelayProcess, upstream: Upstream, model: str) -> None:
    big = event({"id": "c", "choices": [{"index": 0, "delta": {"image": "x" * MEGABYTE}}]})
    upstream.play(model, *stream(*([big] * 40), FINISH, DONE))

    answer, growth, _ = grown(relay, chat(model, stream=True))

    assert (200, True) == (answer.status, answer.complete)
    assert big * 40 + FINISH + DONE == answer.body
    assert growth < 24 * MEGABYTE
