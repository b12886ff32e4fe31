"""HTTP at its edges: what is ambiguous is refused, and the connection closed: no request hides in another."""

import socket
import time

import pytest

from relay.inbound.watch import PERIOD
from tests.client import Client, chat, request
from tests.process import KEY, RelayProcess
from tests.upstream import Never, Pause, Upstream, event, opening, piece, response
from tests.waiting import until

FINE = response({"choices": []})
EVENT = event({"choices": [{"index": 0, "delta": {"content": "x"}}]})
PROMISE = 0.5  # seconds in which a client that left is noticed; on an idle machine it is a tenth of a second
AUTH = f"authorization: Bearer {KEY}"
POST = "POST /v1/chat/completions HTTP/1.1"


def lines(*parts: str) -> bytes:
    return "\r\n".join([*parts, "", ""]).encode("latin-1")


def flood(number: int, size: int) -> bytes:
    return lines("GET /v1/models HTTP/1.1", "host: relay", AUTH, *[f"x-{i}: {'v' * size}" for i in range(number)])


FLOODS = {
    "101 lines": flood(101, 1),
    "61 KB in one line": flood(1, 61 * 1024),
    "61 KB in many": flood(61, 1000),
    "a long target": lines(f"GET /v1/models?{'x' * 70_000} HTTP/1.1", "host: relay", AUTH),
    "a long name": lines("GET /v1/models HTTP/1.1", "host: relay", f"{'x' * 70_000}: 1"),
    "a megabyte": flood(1000, 1000),
}


@pytest.mark.parametrize("case", FLOODS)
def test_header_floods(relay: RelayProcess, case: str) -> None:
    with relay.connect() as client:
        client.send(FLOODS[case])
        answer = client.answer()

        assert answer.status in ({431} if "target" not in case else {431, 414})
        assert {"message", "type", "param", "code"} == answer.error.keys()
        assert b"" == client.rest()


def test_a_flood_without_end_costs_no_memory(relay: RelayProcess) -> None:
    before = relay.memory()

    with relay.connect() as client:
        client.send(b"GET /v1/models HTTP/1.1\r\nhost: relay\r\nx: ")
        try:
            for _ in range(1000):
                client.send(b"v" * 100_000)
        except ConnectionError:
            pass

    assert relay.memory() - before < 10_000_000


@pytest.mark.parametrize("number", [90, 1])
def test_ordinary_heads_pass(relay: RelayProcess, number: int) -> None:
    with relay.connect() as client:
        client.send(flood(number, 50_000 // number))

        assert 200 == client.answer().status


SMUGGLED = b"GET /v1/models HTTP/1.1\r\nhost: relay\r\n\r\n"
AMBIGUOUS = {
    "TE and CL": lines(POST, "host: relay", AUTH, "transfer-encoding: chunked", "content-length: 5") + b"0\r\n\r\n",
    "CL and TE": lines(POST, "host: relay", AUTH, "content-length: 5", "transfer-encoding: chunked") + b"0\r\n\r\n",
    "two lengths": lines(POST, "host: relay", AUTH, "content-length: 2", "content-length: 3") + b"{}",
    "length list": lines(POST, "host: relay", AUTH, "content-length: 2, 3") + b"{}",
    "signed length": lines(POST, "host: relay", AUTH, "content-length: +2") + b"{}",
    "negative length": lines(POST, "host: relay", AUTH, "content-length: -2") + b"{}",
    "length as text": lines(POST, "host: relay", AUTH, "content-length: two") + b"{}",
    "not chunked": lines(POST, "host: relay", AUTH, "transfer-encoding: gzip") + b"{}",
    "chunked twice": lines(POST, "host: relay", AUTH, "transfer-encoding: chunked, chunked") + b"0\r\n\r\n",
    "chunked not last": lines(POST, "host: relay", AUTH, "transfer-encoding: chunked, identity") + b"0\r\n\r\n",
    "chunked misspelt": lines(POST, "host: relay", AUTH, "transfer-encoding: xchunked") + b"0\r\n\r\n",
    "bad chunk size": lines(POST, "host: relay", AUTH, "transfer-encoding: chunked") + b"zz\r\n{}\r\n0\r\n\r\n",
    "chunk longer than said": lines(POST, "host: relay", AUTH, "transfer-encoding: chunked") + b"1\r\n{}\r\n0\r\n\r\n",
    "space before colon": lines(POST, "host: relay", AUTH, "content-length : 2") + b"{}",
    "folded line": lines(POST, "host: relay", AUTH, "x-a: 1", " folded", "content-length: 2") + b"{}",
    "two hosts": lines("GET /v1/models HTTP/1.1", "host: relay", "host: other", AUTH),
    "no host": lines("GET /v1/models HTTP/1.1", AUTH),
    "NUL in a value": lines("GET /v1/models HTTP/1.1", "host: relay", AUTH, "x-a: a\x00b"),
    "NUL in the target": lines("GET /v1/mod\x00els HTTP/1.1", "host: relay", AUTH),
    "HTTP/0.9": b"GET /v1/models\r\n",
    "HTTP/2.0 text": lines("GET /v1/models HTTP/2.0", "host: relay", AUTH),
    "no HTTP": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 hello\r\n\r\n",
    "CONNECT": lines("CONNECT relay:443 HTTP/1.1", "host: relay", AUTH),
    "CONNECT to a path": lines("CONNECT /v1/models HTTP/1.1", "host: relay", AUTH),
    "address without end": lines("GET http://[::1 HTTP/1.1", "host: relay", AUTH),
    "no such port": lines("POST http://relay:99999/v1/chat/completions HTTP/1.1", "host: relay", AUTH),
    "no path": lines("GET http://relay HTTP/1.1", "host: relay", AUTH),
    "bad header name": lines("GET /v1/models HTTP/1.1", "host: relay", "x@(y): 1", AUTH),
}


@pytest.mark.parametrize("case", AMBIGUOUS)
def test_what_is_ambiguous_is_refused_and_closed(relay: RelayProcess, case: str) -> None:
    with relay.connect(timeout=5) as client:
        client.send(AMBIGUOUS[case])
        client.send(SMUGGLED)
        everything = client.rest()

    assert everything.startswith(b"HTTP/1.1 400 ")
    assert 1 == everything.count(b"HTTP/1.1 ")
    assert b'{"error":' in everything
    assert "Traceback" not in relay.output


def test_an_underscore_cannot_pose_as_a_hyphen(relay: RelayProcess, upstream: Upstream, model: str) -> None:
    upstream.play(model, FINE)

    answer = relay.ask(chat(model), f"api_key: {KEY}", f"x_api_key: {KEY}", key=None)

    assert answer.status in {400, 401}


def chunked(model: str, trailer: str, *headers: str) -> bytes:
    return lines(POST, "host: relay", "transfer-encoding: chunked", *headers) + (
        piece(chat(model)) + b"0\r\n" + trailer.encode() + b"\r\n\r\n"
    )


def test_a_trailer_is_no_credential(relay: RelayProcess, upstream: Upstream, model: str) -> None:
    with relay.connect() as client:
        client.send(chunked(model, AUTH))

        assert 401 == client.answer().status
    assert [] == upstream.requests(model)


def test_trailers_are_dropped(relay: RelayProcess, upstream: Upstream, model: str) -> None:
    upstream.play(model, FINE)

    with relay.connect() as client:
        client.send(chunked(model, "authorization: Bearer sk-evil\r\nx-evil: 1\r\nopenai-beta: evil", AUTH))

        assert 200 == client.answer().status
    assert b"evil" not in upstream.requests(model)[0].head


def test_a_trailer_flood_is_cut(relay: RelayProcess, model: str) -> None:
    before = relay.memory()

    with relay.connect() as client:
        client.send(chunked(model, "x-a: 1", AUTH).removesuffix(b"\r\n"))
        try:
            for _ in range(300):
                client.send(b"x-t: " + b"v" * 100_000 + b"\r\n")
        except ConnectionError:
            pass

    assert relay.memory() - before < 10_000_000


def test_pipelined_requests_are_answered_in_order(relay: RelayProcess, upstream: Upstream, model: str) -> None:
    upstream.play(f"{model}-slow", Pause(0.2), response({"n": 1}))
    upstream.play(f"{model}-fast", response({"n": 2}))

    with relay.connect() as client:
        client.send(
            request(chat(f"{model}-slow"), key=KEY)
            + request(chat(f"{model}-fast"), key=KEY)
            + request(path="/v1/models", method="GET", key=KEY)
            + request(chat(f"{model}-fast"), key=None)
        )
        answers = [client.answer() for _ in range(4)]

    assert [200, 200, 200, 401] == [answer.status for answer in answers]
    assert [b'{"n": 1}', b'{"n": 2}'] == [answer.body for answer in answers[:2]]


def test_the_next_head_begins_behind_a_long_body(relay: RelayProcess, upstream: Upstream, model: str) -> None:
    """In the same read, and is cut there: what came before it is none of it."""
    upstream.play(model, FINE)
    long, short = (request(chat(model, padding="x" * size), key=KEY) for size in (100_000, 1))

    with relay.connect() as client:
        for _ in range(4):
            client.send(long + short[:40])
            assert 200 == client.answer().status
            client.send(short[40:])
            assert 200 == client.answer().status


def test_a_client_that_pipelines_and_leaves(relay: RelayProcess, upstream: Upstream, model: str) -> None:
    upstream.play(model, Pause(20), FINE)

    with relay.connect() as client:
        client.send(request(chat(model), key=KEY) * 3)
        assert until(lambda: upstream.requests(model))
        client.leave()

    assert until(lambda: upstream.requests(model)[0].connection in upstream.left)
    assert ["client_disconnect"] == [row["outcome"] for row in relay.records(model)]
    assert 1 == len(upstream.requests(model))


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("waiting", [0, 1, 3])
def test_a_client_that_leaves_while_a_later_one_runs(
    relay: RelayProcess, upstream: Upstream, model: str, waiting: int, stream: bool
) -> None:
    upstream.play(f"{model}-first", FINE)
    upstream.play(f"{model}-later", *((opening(), piece(EVENT), Never()) if stream else (Never(),)))

    with relay.connect() as client:
        later = request(chat(f"{model}-later", stream=stream), key=KEY)
        client.send(request(chat(f"{model}-first"), key=KEY) + later * (1 + waiting))
        assert 200 == client.answer().status
        assert until(lambda: upstream.requests(f"{model}-later"))
        if stream:
            client.read_to(EVENT)
        gone = time.monotonic()
        client.leave()
    call = upstream.requests(f"{model}-later")[0].connection

    assert until(lambda: call in upstream.left)
    assert upstream.left[call] - gone < PROMISE
    assert ["ok"] == [row["outcome"] for row in relay.records(f"{model}-first")]
    assert ["client_disconnect"] == [row["outcome"] for row in relay.records(f"{model}-later")]
    assert 1 == len(upstream.requests(f"{model}-later"))


@pytest.mark.parametrize("behind", ["a long body", "more than are read"])
def test_a_client_that_leaves_while_no_more_is_read(
    relay: RelayProcess, upstream: Upstream, model: str, behind: str
) -> None:
    """Of what waits only so much is read; that it leaves is then seen by a look now and then."""
    upstream.play(model, Never())
    waiting = request(chat(model, padding="x" * 200_000), key=KEY) if behind == "a long body" else b""

    with relay.connect() as client:
        client.send(request(chat(model), key=KEY))
        assert until(lambda: upstream.requests(model))
        client.send(waiting or request(chat(model), key=KEY) * 20)
        time.sleep(0.2)
        gone = time.monotonic()
        client.leave()
    call = upstream.requests(model)[0].connection

    assert until(lambda: call in upstream.left)
    assert upstream.left[call] - gone < PERIOD + PROMISE
    assert ["client_disconnect"] == [row["outcome"] for row in relay.records(model)]


def test_expect_100_continue(relay: RelayProcess, upstream: Upstream, model: str) -> None:
    upstream.play(model, FINE)
    body = chat(model)

    with relay.connect(timeout=5) as client:
        client.send(lines(POST, "host: relay", AUTH, "expect: 100-continue", f"content-length: {len(body)}"))
        assert b"HTTP/1.1 100 Continue\r\n\r\n" == client.read_to(b"\r\n\r\n")
        client.send(body)

        assert 200 == client.answer().status
    assert upstream.requests(model)[0].header("expect") is None


def test_a_stranger_is_not_told_to_continue(relay: RelayProcess) -> None:
    with relay.connect(timeout=5) as client:
        client.send(lines(POST, "host: relay", "expect: 100-continue", "content-length: 100"))

        assert 401 == client.answer().status


def test_an_old_client_gets_an_old_answer(relay: RelayProcess, upstream: Upstream, model: str) -> None:
    upstream.play(model, FINE)
    body = chat(model)

    with relay.connect(timeout=5) as client:
        head = lines("POST /v1/chat/completions HTTP/1.0", AUTH, "expect: 100-continue", f"content-length: {len(body)}")
        client.send(head + body)
        whole = client.rest()

    assert b" 200 " in whole.split(b"\r\n")[0]
    assert whole.endswith(b'{"choices": []}')
    assert b"transfer-encoding" not in whole.lower()


def test_connection_close_is_obeyed(relay: RelayProcess, upstream: Upstream, model: str) -> None:
    upstream.play(model, FINE)

    with relay.connect(timeout=5) as client:
        client.send(request(chat(model), "connection: close", key=KEY))

        assert 200 == client.answer().status
        assert b"" == client.rest()


def chunks(data: bytes, size: int) -> list[bytes]:
    return [data[at : at + size] for at in range(0, len(data), size)]


UPGRADES = {
    "as Java asks": ("connection: Upgrade, HTTP2-Settings", "upgrade: h2c", "http2-settings: AAEAAEAAAAIAAAABAAMAAABk"),
    "in two lines": ("upgrade: h2c", "connection: keep-alive", "connection: upgrade", "upgrade: websocket"),
}


@pytest.mark.parametrize("size", [1, 7, 1 << 16])
@pytest.mark.parametrize("case", UPGRADES)
def test_a_wish_for_another_protocol_is_ignored(
    relay: RelayProcess, upstream: Upstream, model: str, case: str, size: int
) -> None:
    """RFC 9110, 7.8. The body counts, and so does what comes behind it on the same connection."""
    upstream.play(model, FINE)
    bodies = [chat(model, number=number) for number in range(3)]

    with relay.connect(timeout=5) as client:
        for body in bodies:
            for data in chunks(request(body, *UPGRADES[case], key=KEY), size):
                client.send(data)
            assert (200, b'{"choices": []}') == ((answer := client.answer()).status, answer.body)
        client.send(request(b"", *UPGRADES[case], path="/v1/models", method="GET", key=KEY))
        assert 200 == client.answer().status
        client.socket.shutdown(socket.SHUT_WR)
        assert b"" == client.rest()

    assert bodies == [seen.body for seen in upstream.requests(model)]
    assert [None] * 3 == [seen.header("upgrade") for seen in upstream.requests(model)]


def test_a_wish_for_another_protocol_is_ignored_whatever_lies_around_it(
    relay: RelayProcess, upstream: Upstream, model: str
) -> None:
    upstream.play(model, Pause(0.1), FINE)
    wish, body = UPGRADES["as Java asks"], chat(model)
    pieces = lines(POST, "host: relay", AUTH, "transfer-encoding: chunked", *wish) + piece(body) + b"0\r\n\r\n"
    last = request(body, "connection: close", "upgrade: h2c", "connection: upgrade", key=KEY)

    with relay.connect(timeout=5) as client:
        client.send(pieces + request(body, *wish, key=KEY) + request(body, key=KEY) + last)
        answers = [client.answer() for _ in range(4)]
        assert b"" == client.rest()

    assert [200] * 4 == [answer.status for answer in answers]
    assert [body] * 4 == [seen.body for seen in upstream.requests(model)]


def test_a_request_that_is_refused_is_answered_once_whatever_protocol_it_wishes_for(relay: RelayProcess) -> None:
    with relay.connect(timeout=5) as client:
        client.send(request(chat("m"), *UPGRADES["as Java asks"]))
        assert 401 == client.answer().status
        client.send(request(chat("m"), *UPGRADES["as Java asks"]))
        assert 401 == client.answer().status


def test_a_request_byte_by_byte(relay: RelayProcess, upstream: Upstream, model: str) -> None:
    upstream.play(model, FINE)
    whole = request(chat(model), key=KEY)

    with relay.connect() as client:
        for at in range(len(whole)):
            client.send(whole[at : at + 1])

        assert 200 == client.answer().status
    assert chat(model) == upstream.requests(model)[0].body


def test_every_cut_of_a_request(relay: RelayProcess, upstream: Upstream, model: str) -> None:
    """On one connection, so that all but the first have a head that is known; behind each lies half of another."""
    upstream.play(model, FINE)
    bodies = [chat(model, number=number) for number in (1, 2)]
    one, other = (request(body, key=KEY) for body in bodies)
    cuts = range(1, len(one) + 20)

    with relay.connect() as client:
        client.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for at in cuts:
            client.send((one + other)[:at])
            time.sleep(0.001)
            client.send((one + other)[at:-7])
            first = client.answer()
            client.send(other[-7:])
            assert (at, 200, 200) == (at, first.status, client.answer().status)

    assert bodies * len(cuts) == [seen.body for seen in upstream.requests(model)]


@pytest.mark.parametrize("path", ["/healthz", "/v1/models"])
def test_a_client_that_sends_no_more_still_gets_its_answer(relay: RelayProcess, path: str) -> None:
    for _ in range(5):
        with relay.connect() as client:
            client.send(request(path=path, method="GET", key=KEY))
            client.socket.shutdown(socket.SHUT_WR)

            answer = client.answer()
            assert (200, True) == (answer.status, answer.complete)


def test_a_connection_that_was_told_its_end_is_ended(relay: RelayProcess, upstream: Upstream, model: str) -> None:
    """Whatever half of a request lies behind the last one that is answered."""
    upstream.play(model, Pause(0.3), FINE)
    whole = request(chat(model), key=KEY).replace(b"content-length: ", b"transfer-encoding: chunked\r\nx-length: ")
    head, _, body = whole.partition(b"\r\n\r\n")

    with relay.connect() as client:
        client.send(head + b"\r\n\r\n" + piece(body) + b"0\r\n\r\n" + b"GET /hea")
        answer = client.answer()
        assert b"" == client.rest()
        assert until(lambda: is_cut(client), within=6, every=0.5)

    assert (200, True) == (answer.status, answer.complete)


def is_cut(client: Client) -> bool:
    try:
        client.send(b"l")
    except ConnectionError:
        return True
    return False


def test_behind_a_long_request_half_of_another(relay: RelayProcess, upstream: Upstream, model: str) -> None:
    upstream.play(model, Pause(0.3), FINE)
    whole = request(chat(model), key=KEY).replace(b"content-length: ", b"transfer-encoding: chunked\r\nx-length: ")
    head, _, body = whole.partition(b"\r\n\r\n")
    other = request(chat(model), key=KEY)

    with relay.connect() as client:
        client.send(head + b"\r\n\r\n" + piece(body) + b"0\r\n\r\n" + other[:-5])
        first = client.answer()
        client.send(other[-5:])
        second = client.answer()

    assert [(200, True)] * 2 == [(answer.status, answer.complete) for answer in (first, second)]


@pytest.mark.timeout(40)
def test_a_head_that_does_not_end_is_timed_out(relay: RelayProcess) -> None:
    """Ten seconds are given for it; a byte now and then gives no more."""
    began = time.monotonic()

    with relay.connect(timeout=2) as client:
        client.send(b"POST /v1/chat/completions HTTP/1.1\r\nhost: relay\r\nx-slow: ")
        ended = until(lambda: drip(client), within=25, every=1.0)

    assert ended
    assert 8 < time.monotonic() - began < 18


def drip(client: Client) -> bool:
    """One more byte; True once the other side has answered or hung up."""
    client.socket.settimeout(0.01)
    try:
        client.send(b"v")
        return client.socket.recv(1) in {b"", b"H"}
    except TimeoutError:
        return False
    except ConnectionError:
        return True
