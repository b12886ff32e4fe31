"""What an upstream refuses passes as it was said, HTML too; what it says of its tokens is not believed blindly.

Refusals in JSON are in tests/live/test_errors.py.
"""

import json

import pytest

from tests.client import chat, request
from tests.process import KEY, RelayProcess, Start
from tests.upstream import DONE, Never, Upstream, event, response, stream

PAGE = b"<!doctype html><html><head><title>502</title></head><body>Bad gateway</body></html>\n"
STATUSES = ["429 Too Many Requests", "500 Internal Server Error", "503 Service Unavailable"]
WAITS = {"seconds": "retry-after: 7", "a date": "retry-after: Wed, 21 Oct 2026 07:28:00 GMT"}


@pytest.fixture(scope="module")
def relay(start: Start) -> RelayProcess:
    """Every model that lies has a price."""
    return start(prices={f"script/{name}": {"input": 1, "cached_input": 0.1, "output": 2} for name in LIES})


@pytest.mark.parametrize("streamed", [False, True], ids=["plain", "stream"])
@pytest.mark.parametrize("wait", WAITS)
@pytest.mark.parametrize("status", STATUSES)
def test_a_page_of_html_passes_with_its_status_and_its_wait(
    relay: RelayProcess, upstream: Upstream, model: str, status: str, wait: str, streamed: bool
) -> None:
    upstream.play(model, response(PAGE, "content-type: text/html", WAITS[wait], status=status))

    answer = relay.ask(chat(model, stream=streamed))

    assert (int(status[:3]), PAGE, True) == (answer.status, answer.body, answer.complete)
    assert WAITS[wait] == f"retry-after: {answer.header('retry-after')}"
    assert "upstream" == answer.header("x-relay-error-source")
    assert answer.header("x-should-retry") in {"true", "false"}
    assert "upstream_error" == relay.record(answer)["outcome"]


def test_a_page_is_passed_on_as_it_comes(relay: RelayProcess, upstream: Upstream, model: str) -> None:
    whole = response(PAGE, "content-type: text/html", "retry-after: 7", status="503 Service Unavailable")
    upstream.play(model, whole[:-10], Never())
    with relay.connect() as client:
        client.send(request(chat(model), key=KEY))
        head = client.read_to(b"\r\n\r\n")

        assert head.startswith(b"HTTP/1.1 503 ")
        assert b"\r\nretry-after: 7\r\n" in head
        assert client.read_to(PAGE[:-10][-20:])


LIES: dict[str, bytes] = {
    "negative": b'{"prompt_tokens":-9,"completion_tokens":-3,"total_tokens":-12}',
    "nan": b'{"prompt_tokens":NaN,"completion_tokens":NaN}',
    "strings": b'{"prompt_tokens":"9","completion_tokens":"3"}',
    "huge": b'{"prompt_tokens":1e30,"completion_tokens":1e30}',
    "long": b'{"prompt_tokens":' + b"9" * 5000 + b',"completion_tokens":3}',
    "list": b"[9, 3]",
    "deep": b'{"prompt_tokens":9,"completion_tokens":3,"x":' + b"[" * 5000 + b"]" * 5000 + b"}",
    "cached": b'{"prompt_tokens":3,"prompt_tokens_details":{"cached_tokens":90}}',
    "missing": b"null",
}
NO_JSON = {"nan", "deep"}  # as far as the relay can tell: all of the answer is taken for words
WORDS = b"some words " * 36  # 396 bytes


def answers(usage: bytes) -> tuple[bytes, list[bytes]]:
    """A whole body, and a stream's events, with these words and that usage."""
    said = [b'{"index":0,"delta":{"content":"%b"},"finish_reason":null}' % WORDS[at : at + 132] for at in (0, 132, 264)]
    last = b'{"index":0,"delta":{},"finish_reason":"stop"}'
    events = [
        *(event(b'{"choices":[%b]}' % each) for each in said),
        event(b'{"choices":[%b],"usage":%b}' % (last, usage)),
    ]
    return b'{"choices":[{"message":{"content":"%b"}}],"usage":%b}' % (WORDS, usage), [*events, DONE]


@pytest.mark.parametrize("streamed", [False, True], ids=["plain", "stream"])
@pytest.mark.parametrize("lie", LIES)
def test_a_lie_about_tokens_harms_nobody_and_the_cost_is_estimated(
    relay: RelayProcess, upstream: Upstream, lie: str, streamed: bool
) -> None:
    """The answer passes as it came; no lie is told as a fact; the cost is about right, and says that it is no more."""
    body, events = answers(LIES[lie])
    upstream.play(lie, *(stream(*events) if streamed else [response(body)]))

    answer = relay.ask(chat(lie, stream=streamed, stream_options={"include_usage": True}))

    assert (200, b"".join(events) if streamed else body, True) == (answer.status, answer.body, answer.complete)
    assert answer.header("x-relay-cost") is None
    relay.record(answer)
    row = json.loads(relay.run("show", str(answer.header("x-relay-id")), "--json").stdout)
    expected = {"outcome": "ok", "input_tokens": None, "output_tokens": None, "usage_source": "estimated"}
    assert expected == {name: row[name] for name in expected}
    given, made = row["estimate"].values()
    assert 5 <= given <= 20
    assert 99 <= made <= (len(body) / 4 + 1 if lie in NO_JSON and not streamed else 103)
    assert (given * 1 + made * 2) / 1e6 == pytest.approx(row["cost_usd"])
    assert "Traceback" not in relay.output
