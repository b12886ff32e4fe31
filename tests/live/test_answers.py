"""Upstreams that speak HTTP in less usual ways: the sound passes, the ambiguous is a 502, nothing leads elsewhere."""

import random
import threading
import time

import pytest

from tests.client import chat, request
from tests.process import KEY, RelayProcess, Start
from tests.upstream import DONE, END, Close, Never, Step, Upstream, drip, event, opening, piece, response, stream
from tests.waiting import until

pytestmark = pytest.mark.faces("fast", "asgi")

FINE = response({"ok": 1})
BODY = b'{"ok": 1}'
FINISH = event({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
JSON = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"
CHUNKED = JSON + b"transfer-encoding: chunked\r\n\r\n"

SOUND: dict[str, tuple[tuple[Step, ...], int, bytes]] = {
    "early hints first": ((b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n" + FINE,), 200, BODY),
    "chunk extensions and a trailer": ((CHUNKED + b"9;a=b\r\n" + BODY + b"\r\n0\r\nx-late: 1\r\n\r\n",), 200, BODY),
    "no framing": ((JSON + b"\r\n" + BODY, Close()), 200, BODY),
    "HTTP/1.0": ((JSON.replace(b"1.1", b"1.0") + b"\r\n" + BODY, Close()), 200, BODY),
    "no reason phrase": ((FINE.replace(b"200 OK", b"200 "),), 200, BODY),
    "204": ((b"HTTP/1.1 204 No Content\r\n\r\n",), 204, b""),
    "a status of its own": ((response({"ok": 1}, status="299 Odd"),), 299, BODY),
    "an HTML error": ((response(b"<html>", "content-type: text/html", status="502 Bad Gateway"),), 502, b"<html>"),
    "a large head": ((JSON + b"x: %b\r\n" % (b"y" * 30_000) + b"content-length: 9\r\n\r\n" + BODY,), 200, BODY),
}


@pytest.mark.parametrize("case", SOUND)
def test_what_is_sound_passes(relay: RelayProcess, upstream: Upstream, model: str, case: str) -> None:
    script, status, body = SOUND[case]
    upstream.play(model, *script)

    answer = relay.ask(chat(model))

    assert (status, body, True) == (answer.status, answer.body, answer.complete)
    assert answer.header("x-late") is None


def test_no_framing_stands_where_no_body_may(relay: RelayProcess, upstream: Upstream, model: str) -> None:
    """RFC 9110, 8.6 and RFC 9112, 6.1: a 204 has neither Content-Length nor Transfer-Encoding."""
    upstream.play(model, b"HTTP/1.1 204 No Content\r\n\r\n")

    names = {name for name, _ in relay.ask(chat(model)).headers}

    assert not {"content-length", "transfer-encoding"} & names


UNSOUND: dict[str, tuple[Step, ...]] = {
    "status 999": (response({"ok": 1}, status="999 Odd"),),
    "status 600": (response({"ok": 1}, status="600 Odd"),),
    "switching protocols": (b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n",),
    "a redirect": (response({"ok": 1}, "location: http://127.0.0.1:1/", status="302 Found"),),
    "informational answers without end": (b"HTTP/1.1 100 Continue\r\n\r\n" * 50_000 + FINE,),
    "TE and CL": (CHUNKED[:-2] + b"content-length: 9\r\n\r\n9\r\n" + BODY + b"\r\n" + END,),
    "two lengths": (JSON + b"content-length: 9\r\ncontent-length: 8\r\n\r\n" + BODY,),
    "a bare line end in a header": (JSON + b"x-request-id: a\rb\r\ncontent-length: 9\r\n\r\n" + BODY,),
}


@pytest.mark.faces("fast")  # the upstream's side alone, which both faces share
@pytest.mark.parametrize("case", UNSOUND)
def test_what_is_unsound_is_a_502(relay: RelayProcess, upstream: Upstream, model: str, case: str) -> None:
    upstream.play(model, *UNSOUND[case])

    answer = relay.ask(chat(model))

    assert (502, "upstream_error") == (answer.status, answer.error["code"])
    assert "upstream_error" == relay.record(answer)["outcome"]
    assert 1 == len(upstream.requests(model))


KINDS: dict[str, tuple[bool, tuple[Step, ...], bytes]] = {
    "JSON where a stream was asked for": (True, (FINE,), BODY),
    "a stream where none was asked for": (False, stream(FINISH, DONE), FINISH + DONE),
    "a type in capitals": (
        True,
        (opening().replace(b"text/event-stream", b"Text/Event-Stream; charset=UTF-8"), piece(FINISH + DONE), END),
        FINISH + DONE,
    ),
}


@pytest.mark.parametrize("case", KINDS)
def test_another_kind_than_was_asked_for_passes(relay: RelayProcess, upstream: Upstream, model: str, case: str) -> None:
    streamed, script, body = KINDS[case]
    upstream.play(model, *script)

    answer = relay.ask(chat(model, stream=streamed))

    assert (200, body, True) == (answer.status, answer.body, answer.complete)
    assert "ok" == relay.record(answer)["outcome"]


@pytest.fixture(scope="module")
def narrow(start: Start, upstream: Upstream) -> RelayProcess:
    """A relay with ten connections to its upstream."""
    address = f"http://127.0.0.1:{upstream.port}/v1"
    return start(upstreams={"script": {"base_url": address, "max_connections": 10}})


def test_clients_that_leave_leak_no_connection(narrow: RelayProcess, upstream: Upstream, model: str) -> None:
    upstream.play(f"{model}-stream", opening(), *drip(FINISH, every=0.02, times=50), END)
    upstream.play(f"{model}-never", Never())
    upstream.play(f"{model}-fine", FINE)
    end = time.monotonic() + 2

    def come_and_go(seed: int) -> None:
        luck = random.Random(seed)  # noqa: S311 - a repeatable schedule, no secret
        while time.monotonic() < end:
            with narrow.connect() as client:
                name = luck.choice(["stream", "never", "fine"])
                client.send(request(chat(f"{model}-{name}", stream=True), key=KEY))
                time.sleep(luck.uniform(0, 0.2))
                luck.choice([client.leave, client.reset])()

    visitors = [threading.Thread(target=come_and_go, args=(seed,)) for seed in range(20)]
    for visitor in visitors:
        visitor.start()
    for visitor in visitors:
        visitor.join()

    assert [200] * 20 == [narrow.ask(chat(f"{model}-fine")).status for _ in range(20)]


@pytest.mark.faces("fast")  # the upstream's side alone, which both faces share
def test_no_free_connection_is_a_503(narrow: RelayProcess, upstream: Upstream, model: str) -> None:
    upstream.play(model, Never())
    waiting = [narrow.connect() for _ in range(10)]
    for client in waiting:
        client.send(request(chat(model), key=KEY))
    assert until(lambda: len(upstream.requests(model)) == 10)

    answer = narrow.ask(chat(model))

    for client in waiting:
        client.leave()
    assert (503, "overloaded") == (answer.status, answer.error["code"])
    assert ("relay", "true") == (answer.header("x-relay-error-source"), answer.header("x-should-retry"))
    assert int(answer.header("retry-after") or 0) >= 1
    assert 10 == len(upstream.requests(model))
