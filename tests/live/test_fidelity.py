"""What one side sent is what the other side gets, byte for byte, save the model's name."""

import json

import pytest

from tests.client import request
from tests.process import KEY, RelayProcess, Start
from tests.upstream import DONE, Upstream, event, response, stream

pytestmark = pytest.mark.faces("fast", "asgi")

SERVED = "vendor/real-model:v1"  # names may hold slashes and colons


@pytest.fixture(scope="module")
def relay(start: Start) -> RelayProcess:
    return start(models={"fast": f"script/{SERVED}"})


REQUESTS = {
    "plain": b'{"model":"fast","messages":[{"role":"user","content":"hi"}]}',
    "model last": b'{"messages":[],"model":"fast"}',
    "model in the middle": b'{"messages":[],"model":"fast","n":1}',
    "spaces": b' { "model" :\t"fast" ,\r\n  "messages" : [ ] , "n":  1 }\n ',
    "unknown fields": b'{"model":"fast","messages":[],"x_new":{"deep":[1,{"y":null}]},"reasoning":{"effort":"max"}}',
    "nulls": b'{"model":"fast","messages":[{"role":"assistant","content":null,"tool_calls":null}],"stop":null}',
    "numbers": b'{"model":"fast","temperature":1e-7,"seed":123456789012345678901234567890,"x":-0,"y":1E+2,"z":0.10}',
    "duplicate keys inside": b'{"model":"fast","messages":[{"role":"user","role":"system"}],"x":{"a":1,"a":2}}',
    "escapes": rb'{"model":"fast","messages":[{"role":"user","content":"\u0000\u00e9\/\ud83e\udd8a\"\\"}]}',
    "no escapes": '{"model":"fast","messages":[{"role":"user","content":"é🦊\u2028\x7f"}]}'.encode(),
    "empty role": b'{"model":"fast","messages":[{"role":"","content":""}]}',
    "model inside other things": b'{"x":{"model":"fast"},"model":"fast","y":[{"model":1},"\\"model\\":\\"fast\\""]}',
    "braces in text": b'{"messages":[{"content":"}]{\\"model\\":\\"other\\"}"}],"model":"fast"}',
    "stream false": b'{"model":"fast","stream":false,"messages":[]}',
    "stream null": b'{"model":"fast","stream":null,"messages":[]}',
    "usage asked": b'{"model":"fast","stream_options":{"include_usage":true,"new":1},"messages":[], "stream": true}',
    "large": b'{"model":"fast","messages":[{"content":"' + b"x" * 3_000_000 + b'"}]}',
    "deep": b'{"model":"fast","x":' + b"[" * 40 + b"]" * 40 + b"}",
}
PATHS = ["/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/responses", "/v1/moderations"]
PATHS += ["/v1/images/generations"]


def with_served(body: bytes, name: bytes = b'"fast"') -> bytes:
    """The body with the model's value at its own place, found by an independent reading: the last top-level one."""
    depth, at, text = 0, 0, False
    while True:
        byte = body[at : at + 1]
        if text:
            at += 1 if byte == b"\\" else 0
            text = byte != b'"'
        elif byte == b'"':
            text = True
            if depth == 1 and body[at:].startswith(b'"model"'):
                start = body.index(name, at + 7)
                return body[:start] + json.dumps(SERVED).encode() + body[start + len(name) :]
        depth += (byte in (b"{", b"[")) - (byte in (b"}", b"]")) if not text else 0
        at += 1


@pytest.mark.parametrize("case", REQUESTS)
def test_the_upstream_gets_what_the_client_sent(relay: RelayProcess, upstream: Upstream, case: str) -> None:
    upstream.play(SERVED, *stream(event({"choices": [{"finish_reason": "stop"}]}), DONE))

    answer = relay.ask(REQUESTS[case])

    assert 200 == answer.status
    assert with_served(REQUESTS[case]) == upstream.requests(SERVED)[-1].body


@pytest.mark.parametrize("path", PATHS)
def test_on_every_endpoint(relay: RelayProcess, upstream: Upstream, path: str) -> None:
    upstream.play(SERVED, response({"object": "list"}))
    body = b' {"input" : "hi","prompt":1e-7,  "model": "fast", "x":null}'

    assert 200 == relay.ask(body, path=path + "?x=%2F1&y=").status

    seen = upstream.requests(SERVED)[-1]
    assert (path + "?x=%2F1&y=", body.replace(b"fast", SERVED.encode())) == (seen.target, seen.body)


def test_an_escaped_model_name_is_read_as_json_reads_it(relay: RelayProcess, upstream: Upstream) -> None:
    upstream.play(SERVED, response({"object": "list"}))

    answer = relay.ask(rb'{"mo\u0064el":"f\u0061st","messages":[]}')

    assert 200 == answer.status
    assert {"model": SERVED, "messages": []} == upstream.requests(SERVED)[-1].json()


@pytest.mark.parametrize(
    "body", [b'{"model":"fast","model":"other","x":1}', b'{"model":"other","mod\\u0065l":"fast","x":1}']
)
def test_what_is_checked_is_what_is_sent(relay: RelayProcess, upstream: Upstream, body: bytes) -> None:
    """Two models in one body: refused, or made one, but never read differently on both sides."""
    upstream.play(SERVED, response({"object": "list"}))
    before = len(upstream.requests(SERVED))

    answer = relay.ask(body)

    for seen in upstream.requests(SERVED)[before:]:
        assert [("model", SERVED), ("x", 1)] == sorted(json.loads(seen.body, object_pairs_hook=list))
    assert answer.status in {200, 400, 404}


def test_a_chunked_body_arrives_whole(relay: RelayProcess, upstream: Upstream) -> None:
    upstream.play(SERVED, response({"object": "list"}))
    body = REQUESTS["spaces"]
    head = request(path="/v1/chat/completions", key=KEY).replace(b"content-length: 0", b"transfer-encoding: chunked")

    with relay.connect() as client:
        client.send(head + b"".join(b"1\r\n%c\r\n" % byte for byte in body) + b"0\r\n\r\n")
        answer = client.answer()

    assert 200 == answer.status
    seen = upstream.requests(SERVED)[-1]
    assert with_served(body) == seen.body
    assert str(len(seen.body)) == seen.header("content-length")


ANSWERS = {
    "plain": b'{"id":"c","model":"real-model-2026-01-01","choices":[{"message":{"content":"hi"}}]}',
    "spaces": b'\n\n   {\r\n "choices" : [ ] }  \n',
    "numbers": b'{"created":1e3,"seed":123456789012345678901234567890,"logprob":-1e-07,"n":1.0,"z":-0}',
    "nulls": b'{"choices":[{"message":{"content":null,"tool_calls":null,"role":""},"logprobs":null}],"usage":null}',
    "duplicates": b'{"id":"a","id":"b","choices":[{"index":0,"index":1}]}',
    "escapes": rb'{"choices":[{"message":{"content":"\u0000\/\ud83e\udd8a\ud800"}}]}',
    "unknown": b'{"choices":[{"message":{"reasoning_content":"r","x":{"encrypted":"=="}}}],"x_groq":{"id":1}}',
    "not JSON": b"\x00\xff\xfe binary",
    "empty": b"",
}
USAGES = [
    b'{"prompt_tokens":-1,"completion_tokens":1e30}',
    b'{"prompt_tokens":"7","completion_tokens":null,"prompt_tokens_details":7}',
    b"[1, 2]",
    b'"many"',
    b'{"prompt_tokens":123456789012345678901234567890}',
]


@pytest.mark.parametrize("body", [*ANSWERS.values(), *(b'{"choices":[],"usage":%b}' % usage for usage in USAGES)])
def test_the_client_gets_what_the_upstream_sent(relay: RelayProcess, upstream: Upstream, body: bytes) -> None:
    upstream.play(SERVED, response(body))

    answer = relay.ask(REQUESTS["plain"])

    assert (200, body, True) == (answer.status, answer.body, answer.complete)
    assert "ok" == relay.record(answer)["outcome"]


@pytest.mark.parametrize("body", [body for body in ANSWERS.values() if body.startswith(b"{")])
@pytest.mark.parametrize("asked", [b"true", b"false"])
def test_the_client_gets_every_event_as_it_was_sent(
    relay: RelayProcess, upstream: Upstream, body: bytes, asked: bytes
) -> None:
    finish = event({"choices": [{"finish_reason": "stop"}]})
    upstream.play(SERVED, *stream(event(body), event(b'{"odd":"\\/",  "choices":[{}] }'), finish, DONE))

    answer = relay.ask(b'{"model":"fast","stream":true,"stream_options":{"include_usage":%b}}' % asked)

    assert event(body) + event(b'{"odd":"\\/",  "choices":[{}] }') + finish + DONE == answer.body
