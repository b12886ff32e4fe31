"""What an upstream refuses passes as it was said, HTML too; what it says of its tokens is not believed blindly.

Refusals in JSON are in tests/live/test_errors.py.
"""

import pytest

from tests.client import chat, request
from tests.process import KEY, RelayProcess, Start
from tests.upstream import DONE, Never, Upstream, event, response, stream

PAGE = b"<!doctype html><html><head><title>502</title></head><body>Bad gateway</body></html>\n"
STATUSES = ["429 Too Many Requests", "500 Internal Server Error", "503 Service Unavailable"]
WAITS = {"seconds": "retry-after: 7", "a date": "retry-after: Wed, 21 Oct 2026 07:28:00 GMT"}


@pytest.fixture(scope="module")
def relay(start: Start) -> RelayProcess:
    """Every model has a price."""
    prices = {f"script/{name}": {"input": 1, "cached_input": 0.1, "output": 2} for name in (*LIES, *TRUTHS)}
    return start(prices=prices)


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
    "missing": b"null",
}
TRUTHS: dict[str, tuple[bytes, int]] = {  # and the cost in nano-dollars
    "plain": (b'{"prompt_tokens":9,"completion_tokens":3}', 9 * 1000 + 3 * 2000),
    "cached": (b'{"prompt_tokens":9,"completion_tokens":3,"prompt_tokens_details":{"cached_tokens":90}}', 900 + 6000),
}


def answers(usage: bytes) -> tuple[bytes, bytes]:
    """A whole body and a stream's last chunk with that usage."""
    choice = b'[{"index":0,"delta":{},"finish_reason":"stop"}]'
    return b'{"choices":[],"usage":' + usage + b"}", event(b'{"choices":' + choice + b',"usage":' + usage + b"}")


@pytest.mark.parametrize("streamed", [False, True], ids=["plain", "stream"])
@pytest.mark.parametrize("lie", LIES)
def test_a_lie_about_tokens_costs_nothing_and_harms_nobody(
    relay: RelayProcess, upstream: Upstream, lie: str, streamed: bool
) -> None:
    body, chunk = answers(LIES[lie])
    upstream.play(lie, *(stream(chunk, DONE) if streamed else [response(body)]))

    answer = relay.ask(chat(lie, stream=streamed, stream_options={"include_usage": True}))

    assert (200, chunk + DONE if streamed else body, True) == (answer.status, answer.body, answer.complete)
    row = relay.record(answer)
    expected = {"outcome": "ok", "input_tokens": None, "output_tokens": None, "cost_usd": None}
    assert expected == {name: row[name] for name in expected}
    assert "Traceback" not in relay.output


@pytest.mark.parametrize("streamed", [False, True], ids=["plain", "stream"])
@pytest.mark.parametrize("truth", TRUTHS)
def test_no_more_is_taken_off_than_was_put_in(
    relay: RelayProcess, upstream: Upstream, truth: str, streamed: bool
) -> None:
    """More cached tokens than there were: all of them were cached, and no cost falls below that."""
    usage, nano = TRUTHS[truth]
    body, chunk = answers(usage)
    upstream.play(truth, *(stream(chunk, DONE) if streamed else [response(body)]))

    row = relay.record(relay.ask(chat(truth, stream=streamed)))

    assert ("ok", pytest.approx(nano / 1e9)) == (row["outcome"], row["cost_usd"])
