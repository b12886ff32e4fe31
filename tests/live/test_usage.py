"""Token counts reach the log whoever asked for them, and the client sees no chunk that it did not ask for."""

import json
from typing import Any

import pytest

from tests.client import chat
from tests.process import RelayProcess, Start
from tests.upstream import DONE, Upstream, event, response, stream

pytestmark = pytest.mark.faces("fast", "asgi")

USAGE = {
    "prompt_tokens": 9,
    "completion_tokens": 12,
    "total_tokens": 21,
    "prompt_tokens_details": {"cached_tokens": 4},
    "completion_tokens_details": {"reasoning_tokens": 5},
}
TOKENS = {"input_tokens": 9, "output_tokens": 12, "cached_tokens": 4, "reasoning_tokens": 5}
UNKNOWN: dict[str, int | None] = dict.fromkeys(TOKENS)
PARTIAL = {"prompt_tokens": 9, "completion_tokens": 1, "total_tokens": 10}


def chunk(content: str, finish: str | None = None, **more: Any) -> bytes:
    delta = {"index": 0, "delta": {"content": content}, "finish_reason": finish}
    return event({"id": "c", "object": "chat.completion.chunk", "choices": [delta], **more})


ALONE = event({"id": "c", "object": "chat.completion.chunk", "choices": [], "usage": USAGE})
FILTERS = event({"id": "", "choices": [], "prompt_filter_results": [{"prompt_index": 0}]})

PLACES: dict[str, tuple[list[bytes], dict[str, int | None] | dict[str, int]]] = {
    "on empty choices": ([FILTERS, chunk("a"), chunk("", "stop"), ALONE, DONE], TOKENS),
    "on the last choice": ([FILTERS, chunk("a"), chunk("", "stop", usage=USAGE), DONE], TOKENS),
    "on every chunk": (
        [chunk("a", usage=PARTIAL), chunk("b", usage=PARTIAL), chunk("", "stop", usage=USAGE), DONE],
        TOKENS,
    ),
    "on every chunk and alone": ([chunk("a", usage=PARTIAL), chunk("", "stop", usage=PARTIAL), ALONE, DONE], TOKENS),
    "null, then alone": ([chunk("a", usage=None), chunk("", "stop", usage=None), ALONE, DONE], TOKENS),
    "never": ([chunk("a"), chunk("", "stop"), DONE], UNKNOWN),
}
REFUSAL = b'{"error":{"message":"Unrecognized request argument supplied: stream_options","type":"invalid_request_error","param":null,"code":null}}'  # noqa: E501


@pytest.mark.parametrize("refused", [False, True], ids=["accepts", "refuses stream_options"])
@pytest.mark.parametrize("asked", [True, False], ids=["asked", "not asked"])
@pytest.mark.parametrize("place", PLACES)
def test_usage_of_a_stream(
    relay: RelayProcess, upstream: Upstream, model: str, place: str, asked: bool, refused: bool
) -> None:
    events, tokens = PLACES[place]
    upstream.play(model, *stream(*events))
    if refused:
        upstream.play(model, response(REFUSAL, status="400 Bad Request"))
        upstream.then(model, *stream(*events))
    body = chat(model, stream=True, **({"stream_options": {"include_usage": True}} if asked else {}))

    answer = relay.ask(body)

    bodies = [seen.body for seen in upstream.requests(model)]
    row = relay.record(answer)
    if asked and refused:  # the client's own wish was refused: that is for the client to hear
        assert (400, REFUSAL, [body]) == (answer.status, answer.body, bodies)
        return
    hidden = [] if asked or refused else [ALONE]  # what was not injected is not taken out
    assert (200, b"".join(e for e in events if e not in hidden)) == (answer.status, answer.body)
    assert {**tokens, "outcome": "ok", "status": 200} == {name: row[name] for name in (*tokens, "outcome", "status")}
    if asked:
        assert [body] == bodies
    else:
        injected, *again = bodies
        assert {**json.loads(body), "stream_options": {"include_usage": True}} == json.loads(injected)
        assert ([body] if refused else []) == again


def test_other_stream_options_are_kept(relay: RelayProcess, upstream: Upstream, model: str) -> None:
    upstream.play(model, *stream(chunk("", "stop"), ALONE, DONE))

    answer = relay.ask(chat(model, stream=True, stream_options={"include_obfuscation": False}))

    options = upstream.requests(model)[0].json()["stream_options"]
    assert {"include_obfuscation": False, "include_usage": True} == options
    assert chunk("", "stop") + DONE == answer.body


def test_a_no_is_a_no_for_the_client_alone(relay: RelayProcess, upstream: Upstream, model: str) -> None:
    upstream.play(model, *stream(chunk("", "stop"), ALONE, DONE))

    answer = relay.ask(chat(model, stream=True, stream_options={"include_usage": False}))

    assert chunk("", "stop") + DONE == answer.body


def test_another_400_is_not_asked_twice(relay: RelayProcess, upstream: Upstream, model: str) -> None:
    upstream.play(model, response(b'{"error":{"message":"bad temperature"}}', status="400 Bad Request"))

    answer = relay.ask(chat(model, stream=True))

    assert (400, b'{"error":{"message":"bad temperature"}}') == (answer.status, answer.body)
    assert 1 == len(upstream.requests(model))


WHOLE: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "chat": ("/v1/chat/completions", {"choices": [], "usage": USAGE}, TOKENS),
    "completion": ("/v1/completions", {"choices": [], "usage": USAGE}, TOKENS),
    "embedding": (
        "/v1/embeddings",
        {"data": [], "usage": {"prompt_tokens": 8, "total_tokens": 8}},
        {"input_tokens": 8},
    ),
    "response": (
        "/v1/responses",
        {
            "output": [],
            "usage": {
                "input_tokens": 9,
                "output_tokens": 12,
                "input_tokens_details": {"cached_tokens": 4},
                "output_tokens_details": {"reasoning_tokens": 5},
            },
        },
        TOKENS,
    ),
    "no usage": ("/v1/chat/completions", {"choices": []}, UNKNOWN),
    "nonsense": ("/v1/chat/completions", {"choices": [], "usage": {"prompt_tokens": "many"}}, {"input_tokens": None}),
}


@pytest.mark.parametrize("case", WHOLE)
def test_usage_of_a_whole_answer(relay: RelayProcess, upstream: Upstream, model: str, case: str) -> None:
    path, body, tokens = WHOLE[case]
    upstream.play(model, response(body))

    row = relay.record(relay.ask(chat(model), path=path))

    assert tokens == {name: row[name] for name in tokens}


def test_what_a_priced_model_cost(start: Start, upstream: Upstream) -> None:
    """In USD: 5 tokens at 10 and 4 cached ones at 1, and 12 at 20, each per million."""
    prices = {"script/priced": {"input": 10, "cached_input": 1, "output": 20}}
    relay = start(prices=prices)
    upstream.play("priced", response({"choices": [], "usage": USAGE}))
    upstream.then("priced", *stream(chunk("", "stop"), ALONE, DONE))

    whole, streamed = relay.ask(chat("priced")), relay.ask(chat("priced", stream=True))

    assert 0.000294 == pytest.approx(float(whole.header("x-relay-cost") or 0))
    assert [pytest.approx(0.000294)] * 2 == [relay.record(answer)["cost_usd"] for answer in (whole, streamed)]
    assert streamed.header("x-relay-cost") is None


def test_usage_of_a_responses_stream(relay: RelayProcess, upstream: Upstream, model: str) -> None:
    usage = WHOLE["response"][1]["usage"]
    events = [
        b'event: response.created\ndata: {"type":"response.created","response":{"usage":null}}\n\n',
        b"event: response.completed\n" + event({"type": "response.completed", "response": {"usage": usage}}),
    ]
    upstream.play(model, *stream(*events))
    body = {"model": model, "input": "hi", "stream": True}

    answer = relay.ask(body, path="/v1/responses")

    assert b"".join(events) == answer.body
    row = relay.record(answer)
    assert {**TOKENS, "outcome": "ok"} == {name: row[name] for name in (*TOKENS, "outcome")}
    assert body == upstream.requests(model)[0].json()


def test_completions_streams_ask_for_usage_too(relay: RelayProcess, upstream: Upstream, model: str) -> None:
    text = event({"id": "c", "choices": [{"index": 0, "text": "hi", "finish_reason": "stop"}]})
    upstream.play(model, *stream(text, ALONE, DONE))

    answer = relay.ask({"model": model, "prompt": "hi", "stream": True}, path="/v1/completions")

    assert text + DONE == answer.body
    assert 9 == relay.record(answer)["input_tokens"]
