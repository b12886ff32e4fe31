"""POST /chat/stream: the short question made long, and the long answer made short."""

import asyncio
import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from relay.ask import read
from relay.call.account import Account
from relay.call.setup import Setup
from relay.endpoints import TEXT
from relay.errors import BadRequest, BodyTooLarge
from relay.exchange import Header
from relay.inbound.text import TextSink, question, wants_events
from relay.journal import Journal
from relay.keys import Key
from relay.routing import Alias, Routes, Target
from tests.requests import begun
from tests.sink import KeptSink

ROUTES = (
    Alias("gpt-*", ((Target("up", "*"),),)),
    Alias("fast", ((Target("up", "a"),),)),
    Alias("smart", ((Target("up", "b"),),)),
)
HELLO = [{"role": "user", "content": "Hello"}]
LIMIT = 1000


def asked(
    folder: Path, body: bytes, *headers: Header, default: str | None = None, models: tuple[str, ...] | None = None
) -> tuple[Account, bytes]:
    """What is made of `body` for a key that may use `models`, and the account of it."""
    setup = Setup(Routes.of(ROUTES, default), max_body=LIMIT)
    account = Account(Journal(folder)).open(begun(*headers, endpoint=TEXT), setup)
    account.key = Key(id="k", name="k", digest=b"", models=models)
    return account, question(account, body)


QUESTIONS: dict[str, tuple[bytes, dict[str, Any]]] = {
    "nothing": (b"", {"stream": True, "messages": HELLO, "model": "fast"}),
    "an empty object": (b"{}", {"stream": True, "messages": HELLO, "model": "fast"}),
    "a model": (b'{"model":"smart"}', {"stream": True, "messages": HELLO, "model": "smart"}),
    "messages": (b'{"messages":[]}', {"stream": True, "messages": [], "model": "fast"}),
    "no stream wanted": (b'{"stream":false}', {"stream": True, "messages": HELLO, "model": "fast"}),
    "more": (b'{"n":1,"x":null}', {"stream": True, "messages": HELLO, "model": "fast", "n": 1, "x": None}),
}


@pytest.mark.parametrize("case", QUESTIONS)
def test_the_question(tmp_path: Path, case: str) -> None:
    body, expected = QUESTIONS[case]

    assert expected == json.loads(asked(tmp_path, body)[1])


@pytest.mark.parametrize(
    ("default", "models", "expected"),
    [
        (None, None, "fast"),
        ("smart", None, "smart"),
        ("gpt-4", None, "gpt-4"),
        (None, ("sm*",), "smart"),
        (None, ("gpt-4",), None),
    ],
)
def test_the_model_of_a_question_that_names_none(
    tmp_path: Path, default: str | None, models: tuple[str, ...] | None, expected: str | None
) -> None:
    assert expected == json.loads(asked(tmp_path, b"{}", default=default, models=models)[1]).get("model")


def test_a_question_can_be_encoded(tmp_path: Path) -> None:
    account, body = asked(tmp_path, gzip.compress(b'{"model":"smart"}'), (b"content-encoding", b"gzip"))

    assert "smart" == read(account.head, body, LIMIT).model


@pytest.mark.parametrize("said", [(), ((b"content-type", b"text/plain;charset=UTF-8"),)])
def test_what_is_asked_is_json_whatever_the_question_was_said_to_be(tmp_path: Path, said: tuple[Header, ...]) -> None:
    account, _ = asked(tmp_path, b"", *said, (b"accept", b"text/plain"), (b"user-agent", b"curl"))

    assert [(b"content-type", b"application/json"), (b"user-agent", b"curl")] == list(account.head.forwarded)


@pytest.mark.parametrize("body", [b"hello", b"[]", b'"Hello"', b'{"Model":"a"}', b"\xff"])
def test_what_is_no_question_is_refused(tmp_path: Path, body: bytes) -> None:
    with pytest.raises(BadRequest):
        asked(tmp_path, body)


def test_a_question_may_not_grow_too_large(tmp_path: Path) -> None:
    with pytest.raises(BodyTooLarge):
        asked(tmp_path, gzip.compress(bytes(LIMIT + 1)), (b"content-encoding", b"gzip"))


def chunk(content: Any, **fields: Any) -> bytes:
    return b"data: %s\n\n" % json.dumps({"choices": [{"index": 0, "delta": {"content": content}}], **fields}).encode()


DONE = b"data: [DONE]\n\n"
FAULT = b'{"message":"no","type":"api_error","param":null,"code":null}'
# Events, and what is written for them: as plain text, and as events.
SAID: dict[str, tuple[bytes, bytes, bytes]] = {
    "a word": (chunk("Hi"), b"Hi", b"data: Hi\n\n"),
    "two": (chunk("Hi") + chunk(" you"), b"Hi you", b"data: Hi\n\ndata:  you\n\n"),
    "any language": (chunk("你好🦊"), "你好🦊".encode(), "data: 你好🦊\n\n".encode()),
    "two choices": (b'data: {"choices":[{"delta":{"content":"a"}},{"delta":{"content":"b"}}]}\n\n',
                    b"ab", b"data: ab\n\n"),
    "lines": (chunk("a\n\nb\r\nc\rd"), b"a\n\nb\r\nc\rd", b"data: a\ndata: \ndata: b\ndata: c\ndata: d\n\n"),
    "a line end alone": (chunk("\n"), b"\n", b"data: \ndata: \n\n"),
    "CR LF between": (b'data: {"choices":[{"delta":{"content":"a"}}]}\r\n\r\n', b"a", b"data: a\n\n"),
    "nothing": (chunk(""), b"", b""),
    "null": (chunk(None), b"", b""),
    "no error": (chunk("Hi", error=None), b"Hi", b"data: Hi\n\n"),
    "the role": (b'data: {"choices":[{"delta":{"role":"assistant"}}]}\n\n', b"", b""),
    "no delta": (b'data: {"choices":[{"delta":null},{}]}\n\n', b"", b""),
    "usage": (b'data: {"choices":[],"usage":{"prompt_tokens":1}}\n\n', b"", b""),
    "done": (DONE, b"", b""),
    "a comment": (b": ping\n\n", b"", b""),
    "no text": (chunk([1]), b"", b""),
    "no JSON": (b"data: {\n\n", b"", b""),
    "no UTF-8": (b'data: {"choices":[{"delta":{"content":"\xff"}}]}\n\n', b"", b""),
    "depth": (b"data: " + b'{"choices":' * 100_000 + b"\n\n", b"", b""),
}  # fmt: skip


def writing(*, events: bool) -> tuple[KeptSink, TextSink]:
    outward = KeptSink()
    sink = TextSink(outward, events=events)
    sink.start(200, b"x-relay-id: 1\r\ncontent-type: text/event-stream\r\n", None)
    return outward, sink


@pytest.mark.parametrize("case", SAID)
def test_what_is_said(case: str) -> None:
    events, plain, shown = SAID[case]
    for as_events, expected in ((False, plain), (True, shown)):
        outward, sink = writing(events=as_events)

        sink.write(events)
        sink.end(DONE)

        assert (expected, True, False) == (outward.body, outward.ended, outward.aborted)


def test_the_last_words_come_with_the_end() -> None:
    outward, sink = writing(events=False)

    sink.end(chunk("bye") + DONE)

    assert (b"bye", True) == (outward.body, outward.ended)


@pytest.mark.parametrize("events", [False, True])
def test_an_event_that_comes_in_parts_is_no_words(events: bool) -> None:
    outward, sink = writing(events=events)
    outward.slow = True

    assert not sink.part(b'data: {"choices":[{"delta":{"images":"' + b"x" * 100, False)
    assert not sink.part(chunk("evil"), True)
    sink.end(chunk("Hi") + DONE)

    assert (b"data: Hi\n\n" if events else b"Hi") == outward.body


def test_an_error_breaks_plain_text_off() -> None:
    outward, sink = writing(events=False)
    sink.write(chunk("Hi"))

    sink.end(b'data: {"error":%s}\n\n' % FAULT)

    assert (b"Hi", False, True) == (outward.body, outward.ended, outward.aborted)


@pytest.mark.parametrize("none", [b"null", b"{}", b'""', b"false"])
def test_words_beside_no_error_are_words(none: bytes) -> None:
    outward, sink = writing(events=False)

    sink.end(b'data: {"choices":[{"delta":{"content":"Hi"}}],"error":%s}\n\n' % none)

    assert (b"Hi", True) == (outward.body, outward.ended)


@pytest.mark.parametrize("error", [FAULT, b'"no"', b"9" * 5000, b'{\ndata: "message":\ndata: "no"}'])
def test_an_error_is_an_event_among_events(error: bytes) -> None:
    outward, sink = writing(events=True)

    sink.end(b'data: {"error":%s}\n\n' % error)

    expected = b"event: error\ndata: %s\n\n" % error.replace(b"\ndata: ", b" ")
    assert (expected, True) == (outward.body, outward.ended)


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ([b"text/event-stream"], True),
        ([b"Text/Event-Stream"], True),
        ([b"text/html, text/event-stream;charset=utf-8 ; Q=0.001"], True),
        ([b"text/plain", b"text/event-stream"], True),
        ([b"text/event-stream;q=0"], False),
        ([b"text/event-stream; Q=0.000, */*"], False),
        ([b"text/event-streams"], False),
        ([b"*/*"], False),
        ([b""], False),
        ([], False),
    ],
)
def test_who_asks_for_events(accept: list[bytes], expected: bool) -> None:
    assert expected == wants_events([(b"host", b"text/event-stream"), *((b"accept", value) for value in accept)])


@pytest.mark.parametrize(("events", "kind"), [(False, b"text/plain"), (True, b"text/event-stream")])
def test_the_head_is_that_of_words(events: bool, kind: bytes) -> None:
    outward, _ = writing(events=events)

    assert (200, None) == (outward.status, outward.length)
    assert [(b"content-type", kind + b"; charset=utf-8"), (b"x-relay-id", b"1")] == outward.headers


def whole(*contents: Any) -> bytes:
    choices = [{"index": at, "message": {"content": content}} for at, content in enumerate(contents)]
    return json.dumps({"object": "chat.completion", "choices": choices}).encode()


def answered(status: int, body: bytes, *, events: bool) -> KeptSink:
    outward = KeptSink()
    TextSink(outward, events=events).answer(status, b"x-relay-id: 1\r\ncontent-type: application/json\r\n", body)
    return outward


@pytest.mark.parametrize(
    ("body", "plain", "shown"),
    [
        (whole("Hi\nyou"), b"Hi\nyou", b"data: Hi\ndata: you\n\n"),
        (whole("a", "b"), b"ab", b"data: ab\n\n"),
        (whole(None), b"", b""),
    ],
)
def test_a_chat_that_comes_as_a_whole_is_words_too(body: bytes, plain: bytes, shown: bytes) -> None:
    for events, kind, expected in ((False, b"text/plain", plain), (True, b"text/event-stream", shown)):
        outward = answered(200, body, events=events)

        assert (200, expected, len(expected), True) == (outward.status, outward.body, outward.length, outward.ended)
        assert [(b"content-type", kind + b"; charset=utf-8"), (b"x-relay-id", b"1")] == outward.headers


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (404, b'{"error":%s}' % FAULT),
        (500, whole("Hi")),
        (200, b'{"error":%s}' % FAULT),
        (200, b'{"choices":[],"error":%s}' % FAULT),
        (200, b"[]"),
        (204, b""),
    ],
)
def test_a_whole_answer_that_is_no_chat_passes_as_it_is(status: int, body: bytes) -> None:
    outward = answered(status, body, events=False)

    assert (status, body, b"application/json") == (outward.status, outward.body, outward.header(b"content-type"))


@pytest.mark.parametrize(
    ("status", "length", "kind"),
    [(404, 20, b"application/json"), (200, None, b"application/json"), (502, 20, b"text/html")],
)
def test_what_is_no_stream_passes_as_it_is(status: int, length: int | None, kind: bytes) -> None:
    outward = KeptSink()
    sink = TextSink(outward, events=False)
    body = b'{"error":{"message":"no"}}'

    sink.start(status, b"content-type: %b\r\n" % kind, length)
    sink.write(body[:5])
    sink.end(body[5:])

    assert (status, body, True) == (outward.status, outward.body, outward.ended)
    assert kind == outward.header(b"content-type")


def test_the_client_behind_it_is_seen_through() -> None:
    outward, sink = writing(events=False)
    outward.slow = True

    assert not sink.write(DONE)
    assert sink.write(chunk("Hi"))
    asyncio.run(sink.drained())
    assert (1, False) == (outward.waits, sink.gone)
    outward.gone = True
    sink.abort()
    assert (True, True) == (sink.gone, outward.aborted)
