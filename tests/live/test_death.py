"""An upstream that dies in the middle of a stream: the client is told, and no incomplete stream looks complete."""

import json

import openai
import pytest

from tests.client import chat
from tests.process import KEY, RelayProcess
from tests.upstream import DONE, END, Close, Pause, Reset, Step, Upstream, event, opening, piece, response

pytestmark = pytest.mark.faces("fast", "asgi")

FIRST = event({"id": "c", "choices": [{"index": 0, "delta": {"role": "assistant", "content": "Hel"}}]})
SECOND = event({"id": "c", "choices": [{"index": 0, "delta": {"content": "lo"}}]})
FINISH = event({"id": "c", "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
TORN = b'data: {"id":"c","obj'
SHORT = opening(framing="content-length: 100000")
UNFRAMED = opening(framing="connection: close")

# Before the end there is a pause: RST may overtake what was sent just before it.
ENDINGS: dict[str, tuple[Step, ...]] = {
    "close": (opening(), piece(FIRST), piece(SECOND), Close()),
    "reset": (opening(), piece(FIRST), piece(SECOND), Pause(0.1), Reset()),
    "half an event, then close": (opening(), piece(FIRST), piece(SECOND + TORN), Close()),
    "half an event, then a proper end": (opening(), piece(FIRST), piece(SECOND + TORN), END),
    "half a chunk": (opening(), piece(FIRST), piece(SECOND), piece(FINISH)[:9], Close()),
    "proper end, but nothing says that it is over": (opening(), piece(FIRST), piece(SECOND), END),
    "content-length not reached": (SHORT, FIRST, SECOND, Close()),
    "no framing, nothing says that it is over": (UNFRAMED, FIRST, SECOND, Close()),
    "no framing, reset": (UNFRAMED, FIRST, SECOND, Pause(0.1), Reset()),
    "bad chunk size": (opening(), piece(FIRST), piece(SECOND), Pause(0.1), b"zz\r\nwhat\r\n", Close()),
}


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_cut_stream_ends_in_one_error_event(relay: RelayProcess, upstream: Upstream, model: str, ending: str) -> None:
    upstream.play(model, *ENDINGS[ending])

    answer = relay.ask(chat(model, stream=True))

    assert (200, True) == (answer.status, answer.complete)
    assert answer.body.startswith(FIRST + SECOND)
    last = answer.body.removeprefix(FIRST + SECOND)
    assert last.startswith(b"data: {")
    assert last.endswith(b"\n\n")
    assert 1 == last.count(b"\n\n")
    error = json.loads(last.removeprefix(b"data: "))["error"]
    assert {"message", "type", "param", "code"} == error.keys()
    assert "upstream_error" == error["code"]
    assert relay.record(answer)["outcome"] in {"upstream_error", "incomplete"}
    assert 1 == len(upstream.requests(model))


@pytest.mark.parametrize("ending", ENDINGS)
def test_the_sdk_raises(relay: RelayProcess, upstream: Upstream, model: str, ending: str) -> None:
    upstream.play(model, *ENDINGS[ending])

    with openai.OpenAI(base_url=f"http://127.0.0.1:{relay.port}/v1", api_key=KEY, max_retries=0) as sdk:
        chunks = sdk.chat.completions.create(model=model, messages=[{"role": "user", "content": "hi"}], stream=True)
        said: list[str] = []
        with chunks, pytest.raises(openai.APIError) as raised:
            said.extend(chunk.choices[0].delta.content or "" for chunk in chunks)

    assert "upstream_error" == raised.value.code
    assert type(raised.value) is openai.APIError  # not a broken connection


FINISHED: dict[str, tuple[Step, ...]] = {
    "with [DONE]": (opening(), piece(FIRST), piece(FINISH), piece(DONE), END),
    "without [DONE]": (opening(), piece(FIRST), piece(FINISH), END),
    "no framing, with [DONE]": (UNFRAMED, FIRST, FINISH, DONE, Close()),
    "no framing, without [DONE]": (UNFRAMED, FIRST, FINISH, Close()),
    "[DONE] alone says it": (opening(), piece(FIRST), piece(DONE), END),
}


@pytest.mark.parametrize("ending", FINISHED)
def test_a_finished_stream_passes_as_it_came(relay: RelayProcess, upstream: Upstream, model: str, ending: str) -> None:
    upstream.play(model, *FINISHED[ending])

    answer = relay.ask(chat(model, stream=True))

    sent = [part for part in (FIRST, FINISH, DONE) if any(isinstance(s, bytes) and part in s for s in FINISHED[ending])]
    assert (200, b"".join(sent), True) == (answer.status, answer.body, answer.complete)
    assert "ok" == relay.record(answer)["outcome"]


def test_a_cut_responses_stream_does_not_look_complete(relay: RelayProcess, upstream: Upstream, model: str) -> None:
    created = b'event: response.created\ndata: {"type":"response.created"}\n\n'
    upstream.play(model, opening(), piece(created), Close())

    answer = relay.ask({"model": model, "input": "hi", "stream": True}, path="/v1/responses")

    assert answer.body.startswith(created)
    assert b'"error"' in answer.body.removeprefix(created)
    assert relay.record(answer)["outcome"] in {"upstream_error", "incomplete"}


CUT_BODIES: dict[str, tuple[Step, ...]] = {
    "content-length": (response(b'{"choices":[], "padding": "xxxxxxxxxxxxxxxxxxxx"}')[:-10], Close()),
    "content-length, reset": (response(b'{"choices":[], "padding": "xxxxxxxxxx"}')[:-10], Pause(0.1), Reset()),
    "chunked": (opening().replace(b"text/event-stream", b"application/json"), piece(b'{"choices":'), Close()),
}


@pytest.mark.parametrize("cut", CUT_BODIES)
def test_a_cut_body_never_looks_complete(relay: RelayProcess, upstream: Upstream, model: str, cut: str) -> None:
    upstream.play(model, *CUT_BODIES[cut])

    answer = relay.ask(chat(model))

    assert answer.status == 502 or not answer.complete
    assert relay.record(answer)["outcome"] in {"upstream_error", "incomplete"}
