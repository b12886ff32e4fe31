"""However the network cuts a stream, the client gets the same bytes: the golden stream, cut everywhere."""

import random
import time

import pytest

from tests.client import chat, request
from tests.process import KEY, RelayProcess
from tests.upstream import DONE, END, Close, Pause, Step, Upstream, event, opening, piece, stream

pytestmark = pytest.mark.faces("fast", "asgi")

GOLDEN = b"".join(
    [
        'data: {"id":"g","choices":[{"index":0,"delta":{"role":"assistant","content":"你好、世界"}}]}\n\n'.encode(),
        ': 評論 a comment\ndata: {"id":"g","choices":[{"index":0,"delta":{"content":"🦊👩‍👩‍👧 é"}}]}\n\n'.encode(),
        b"event: message\r\nid: 7\r\n",
        b'data: {"id":"g","choices":[{"index":0,"delta":{"content":"\\u0000\\ud83e\\udd8a"}}]}\r\n\r\n',
        b'data:{"id":"g","choices":[{"delta":{"tool_calls":[{"index":0,"id":"t","function":{"arguments":"{\\"a"}}]}}]}\n\n',
        b'data: {"choices":[{"delta":{"tool_calls":[{"index":1,"function":{"arguments":"\\n\\n\\": 1}"}}]}}]}\n\n',
        b'data: {"id":"g",\ndata: "choices":[{"index":0,"delta":{},\ndata: "finish_reason":"tool_calls"}]}\n\n',
        b'data: {"id":"g","choices":[],"usage":{"prompt_tokens":9,"completion_tokens":12,"total_tokens":21}}\n\n',
        DONE,
    ]
)
ASKED = {"stream": True, "stream_options": {"include_usage": True}}


def test_every_cut(relay: RelayProcess, upstream: Upstream) -> None:
    with relay.connect() as client:
        for at in range(len(GOLDEN) + 1):
            parts = [piece(part) for part in (GOLDEN[:at], GOLDEN[at:]) if part]
            upstream.play(f"cut-{at}", opening(), parts[0], Pause(0.001), *parts[1:], END)
            client.send(request(chat(f"cut-{at}", **ASKED), key=KEY))
            answer = client.answer()

            assert (at, GOLDEN, True) == (at, answer.body, answer.complete)


def test_every_cut_of_the_framing(relay: RelayProcess, upstream: Upstream) -> None:
    head = opening()
    framed = head + piece(GOLDEN[:200]) + piece(GOLDEN[200:]) + END
    cuts = [*range(1, len(head) + 8), *range(len(head) + 196, len(head) + 220), *range(len(framed) - 12, len(framed))]
    with relay.connect() as client:
        for at in cuts:
            upstream.play(f"frame-{at}", framed[:at], Pause(0.001), framed[at:])
            client.send(request(chat(f"frame-{at}", **ASKED), key=KEY))
            answer = client.answer()

            assert (at, GOLDEN, True) == (at, answer.body, answer.complete)


def test_byte_by_byte(relay: RelayProcess, upstream: Upstream, model: str) -> None:
    steps: list[Step] = [opening()]
    for at in range(len(GOLDEN)):
        steps += [piece(GOLDEN[at : at + 1]), Pause(0.0005)]
    upstream.play(model, *steps, END)

    answer = relay.ask(chat(model, **ASKED))

    assert (GOLDEN, True) == (answer.body, answer.complete)
    row = relay.record(answer)
    assert ("ok", 9, 12) == (row["outcome"], row["input_tokens"], row["output_tokens"])


def test_no_event_waits_for_an_acknowledgement(relay: RelayProcess, upstream: Upstream, model: str) -> None:
    """Small writes in a row: a socket that waits for the first to be acknowledged holds the second for 40 ms."""
    upstream.play(model, *stream(GOLDEN[:200], Pause(0.001), GOLDEN[200:400], Pause(0.001), GOLDEN[400:]))
    took = []
    with relay.connect() as client:
        for _ in range(21):
            began = time.monotonic()
            client.send(request(chat(model, **ASKED), key=KEY))
            client.answer()
            took.append(time.monotonic() - began)

    assert sorted(took)[10] < 0.03


@pytest.mark.parametrize("seed", range(20))
def test_random_cuts(relay: RelayProcess, upstream: Upstream, model: str, seed: int) -> None:
    luck = random.Random(seed)  # noqa: S311 - a repeatable schedule, no secret
    cuts = sorted(luck.sample(range(1, len(GOLDEN)), luck.randint(2, 40)))
    steps: list[Step] = [opening()]
    for begin, end in zip([0, *cuts], [*cuts, len(GOLDEN)], strict=True):
        steps += [piece(GOLDEN[begin:end]), Pause(luck.choice([0, 0.0005, 0.002]))]
    upstream.play(model, *steps, END)

    assert GOLDEN == relay.ask(chat(model, **ASKED)).body


@pytest.mark.parametrize("framing", ["connection: close", f"content-length: {len(GOLDEN)}"], ids=["close", "length"])
def test_other_framings(relay: RelayProcess, upstream: Upstream, model: str, framing: str) -> None:
    upstream.play(model, opening(framing=framing), GOLDEN[:333], Pause(0.01), GOLDEN[333:], Close())

    answer = relay.ask(chat(model, **ASKED))

    assert (GOLDEN, True) == (answer.body, answer.complete)


FINISH = event({"id": "c", "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
TAILS = {
    "[DONE] without its blank line": (FINISH + b"data: [DONE]\n", FINISH + DONE),
    "[DONE] without any line end": (FINISH + b"data: [DONE]", FINISH + DONE),
    "an event without its blank line": (FINISH.rstrip(), FINISH),
    "a byte order mark": (b"\xef\xbb\xbf" + FINISH + DONE, FINISH + DONE),
    "lone carriage returns": ((FINISH + DONE).replace(b"\n", b"\r"), (FINISH + DONE).replace(b"\n", b"\r")),
}


@pytest.mark.parametrize("case", TAILS)
def test_odd_line_ends(relay: RelayProcess, upstream: Upstream, model: str, case: str) -> None:
    sent, expected = TAILS[case]
    upstream.play(model, *stream(sent))

    answer = relay.ask(chat(model, **ASKED))

    assert (200, expected, True) == (answer.status, answer.body, answer.complete)
    assert "ok" == relay.record(answer)["outcome"]


@pytest.mark.parametrize("size", [2**25, 2**14], ids=["one chunk", "16 KB chunks"])
def test_one_event_of_32_megabytes(relay: RelayProcess, upstream: Upstream, model: str, size: int) -> None:
    big = event({"id": "c", "choices": [{"index": 0, "delta": {"image": "x" * 2**25}}]})
    upstream.play(model, *stream(*(big[at : at + size] for at in range(0, len(big), size)), FINISH, DONE))
    began = time.monotonic()

    answer = relay.ask(chat(model, **ASKED))

    assert time.monotonic() - began < 10
    assert len(big + FINISH + DONE) == len(answer.body)
    assert big + FINISH + DONE == answer.body
