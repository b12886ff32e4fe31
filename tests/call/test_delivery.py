"""Every end of an answer: what the client gets, what the record says, and which of the two comes first."""

import asyncio
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from relay.call.delivery import Delivery, deliver
from relay.edits import Edited
from relay.endpoints import Endpoint
from relay.errors import Overloaded, RelayError, UpstreamError, UpstreamRefusal, UpstreamTimeout
from relay.exchange import Chunk, Drained, Header, Take
from relay.journal import Journal, frames
from relay.pricing import Rate
from relay.record import BODY_KEPT, Record
from relay.routing import Alias, Plan, Target
from relay.sse import LARGE
from relay.upstream.credentials import Credential, Credentials
from relay.upstream.door import Opened, Upstream
from relay.upstream.echo import EchoEngine
from tests.requests import CHAT, EMBEDDINGS, RESPONSES, account, ask, begun, priced
from tests.sink import KeptSink
from tests.upstream import piece as framed_as

EVENTS = (b"content-type", b"text/event-stream; charset=utf-8")
JSON = (b"content-type", b"application/json")
TARGET = Target("up", "real")
UPSTREAM = Upstream("up", EchoEngine(), Credentials([Credential((), secrets=(b"up-key-1",))]))


@dataclass
class Answer:
    """A Reply of which the test plays the pieces itself."""

    status: int
    headers: tuple[Header, ...]
    reused: bool = False
    connect_ms: float | None = None
    whole: bytes | None = None

    async def pump(self, take: Take, drained: Drained, _chunk: Chunk | None = None) -> None:
        raise NotImplementedError

    def begun(self) -> None:
        """Nobody waits."""

    def abort(self) -> None:
        raise NotImplementedError


class World:
    """One answer under way: a delivery, its account, its sink, and the journal behind them."""

    def __init__(
        self,
        folder: Path,
        *headers: Header,
        status: int = 200,
        endpoint: Endpoint = CHAT,
        asks_usage: bool = False,
        alias: str | None = None,
        rate: Rate | None = None,
        whole: bytes | None = None,
    ) -> None:
        self.journal = Journal(folder)
        self.recorded_at_end: list[Record] = []
        self.sink = KeptSink(on_end=lambda: self.recorded_at_end.extend(self.records()))
        setup = replace(priced(TARGET, rate), upstreams={"up": UPSTREAM})
        self.account = account(self.journal, begun(endpoint=endpoint), setup, keep="full", target=TARGET)
        self.account.ask = ask(b'{"model":"fast"}')
        opened = Opened(Answer(status, headers, whole=whole), Edited(b"", (), asks_usage), 1.0, time.perf_counter_ns())
        known = Alias("fast", ((TARGET,),), response_model="upstream" if alias is None else "alias")
        self.account.plan = Plan(known, alias or "fast", (TARGET,))
        self.begun = deliver(self.account, opened, self.sink)

    @property
    def delivery(self) -> Delivery:
        assert self.begun is not None
        return self.begun

    def records(self) -> list[Record]:
        return [entry.record for _, entry in frames(self.journal.current)]

    def kept(self) -> bytes | None:
        return [entry.response for _, entry in frames(self.journal.current)][-1]

    def play(self, pieces: Sequence[bytes], fault: RelayError | None = None, *, framed: bool = False) -> None:
        """All pieces, each in a chunk of its own or not; then the end, or the fault that comes in its place."""
        for piece in pieces[:-1] if fault is None else pieces:
            if framed:
                chunked = framed_as(piece)
                offered = self.delivery.chunk
                if offered is None or not offered(chunked, len(chunked) - len(piece) - 2):
                    self.delivery.take(piece, False)
            else:
                self.delivery.take(piece, False)
        if fault is None:
            self.delivery.take(pieces[-1] if pieces else b"", True)
        else:
            assert self.delivery.fail(fault)


def chunk(**fields: Any) -> bytes:
    return (
        b"data: %s\n\n"
        % json.dumps({"id": "c", "model": "real", **fields}, separators=(",", ":"), ensure_ascii=False).encode()
    )


FIRST = chunk(choices=[{"index": 0, "delta": {"content": "你好"}, "finish_reason": None}])
FINISH = chunk(choices=[{"index": 0, "delta": {}, "finish_reason": "stop"}])
USED = {"prompt_tokens": 9, "completion_tokens": 12}
USAGE = chunk(choices=[], usage=USED)
FAULT = b'{"error":{"message":"flex capacity","type":"server_error","param":null,"code":503}}'
ERROR = b"data: %s\n\n" % FAULT
DONE = b"data: [DONE]\n\n"
PING = b": ping\n\n"
WINDOWS = (FIRST + FINISH + DONE).replace(b"\n", b"\r\n")
CUT = UpstreamError("The connection broke.")
LATE = UpstreamTimeout("Nothing came for 2 s.")

# The pieces, the fault that ends them if one does; what goes through before an error event of ours, whether there is
# one, and the outcome.
ENDS: dict[str, tuple[list[bytes], RelayError | None, bytes, bool, str]] = {
    "done": ([FIRST, FINISH + DONE], None, FIRST + FINISH + DONE, False, "ok"),
    "done, end later": ([FIRST + FINISH + DONE, b""], None, FIRST + FINISH + DONE, False, "ok"),
    "done, then cut": ([FIRST + FINISH + DONE], CUT, FIRST + FINISH + DONE, False, "ok"),
    "done without a finish": ([FIRST + DONE], None, FIRST + DONE, False, "ok"),
    "done but for its end": ([FIRST, b"data: [DONE]"], None, FIRST + DONE, False, "ok"),
    "done but for half its end": ([FIRST, b"data: [DONE]\r\n"], None, FIRST + DONE, False, "ok"),
    "finish without done": ([FIRST, FINISH], None, FIRST + FINISH, False, "ok"),
    "finish but for its end": ([FIRST, FINISH[:-2]], None, FIRST + FINISH, False, "ok"),
    "finish, then cut": ([FIRST + FINISH], CUT, FIRST + FINISH, True, "upstream_error"),
    "neither": ([FIRST, b""], None, FIRST, True, "incomplete"),
    "neither, at once": ([FIRST], None, FIRST, True, "incomplete"),
    "cut": ([FIRST], CUT, FIRST, True, "upstream_error"),
    "cut in an event": ([FIRST, FIRST[:9]], CUT, FIRST, True, "upstream_error"),
    "cut in a character": ([FIRST, FIRST + FIRST.partition(b"\xbd")[0]], CUT, FIRST * 2, True, "upstream_error"),
    "stalled": ([FIRST], LATE, FIRST, True, "upstream_timeout"),
    "shut down": ([FIRST], Overloaded("The relay is shutting down."), FIRST, True, "refused"),
    "error later": ([FIRST, ERROR, b""], None, FIRST + ERROR, False, "upstream_error"),
    "error later, then done": ([FIRST, ERROR + DONE], None, FIRST + ERROR + DONE, False, "upstream_error"),
    "raw error at the end": ([FIRST, FAULT, b""], None, FIRST + ERROR, False, "upstream_error"),
    "raw error in the middle": ([FIRST, FAULT + b"\n\n", FIRST, b""], None, FIRST + ERROR + FIRST, False,
                                "upstream_error"),
    "raw error in an event's place": ([FIRST + FAULT + b"\r\n\r\n" + DONE], None, FIRST + ERROR + DONE, False,
                                      "upstream_error"),
    "raw error with a blank line, then cut": ([FIRST, FAULT + b"\n\n"], CUT, FIRST + ERROR, False, "upstream_error"),
    "raw error with line ends": ([FIRST, b"\n" + FAULT + b"\r\n"], None, FIRST + ERROR, False, "upstream_error"),
    "raw error over lines": ([FIRST, FAULT.replace(b",", b"\n,")], None, FIRST + ERROR.replace(b",", b" ,"), False,
                             "upstream_error"),
    "raw error, then cut": ([FIRST, FAULT], CUT, FIRST + ERROR, False, "upstream_error"),
    "done but for its end, then cut": ([FIRST, b"data: [DONE]"], CUT, FIRST + DONE, False, "ok"),
    "a tail of any depth": ([FIRST, b"{" + b'"a":{' * 100_000], None, FIRST, True, "incomplete"),
    "raw error, torn": ([FIRST, FAULT[:-1]], None, FIRST, True, "incomplete"),
    "torn tail": ([FIRST, FIRST[:20]], None, FIRST, True, "incomplete"),
    "torn tail behind a finish": ([FIRST + FINISH, FIRST[:20]], None, FIRST + FINISH, False, "ok"),
    "a comment at the end": ([FIRST + FINISH + DONE, b": bye"], None, FIRST + FINISH + DONE, False, "ok"),
    "byte order mark": ([b"\xef\xbb", b"\xbf" + FIRST + DONE], None, FIRST + DONE, False, "ok"),
    "CR LF": ([WINDOWS], None, WINDOWS, False, "ok"),
    "byte by byte": ([bytes([byte]) for byte in FIRST + FINISH + DONE], None, FIRST + FINISH + DONE, False, "ok"),
}  # fmt: skip


BIG = chunk(choices=[{"index": 0, "delta": {"image": "x" * (3 * LARGE)}, "finish_reason": None}])
BIG_FINISH = BIG.replace(b'"finish_reason":null', b'"finish_reason":"stop"')
BIG_IMAGE = chunk(
    type="image_generation.completed", b64_json="x" * (2 * LARGE), usage={"input_tokens": 1000, "output_tokens": 500}
)
BIG_ERROR = chunk(type="error", message="x" * (2 * LARGE))
BLANK = b"\n\n"


def cut(data: bytes) -> list[bytes]:
    """In pieces as a socket brings them."""
    return [data[at : at + 200_000] for at in range(0, len(data), 200_000)]


# As ENDS, of streams with an event that is too large to be held.
LARGE_ENDS: dict[str, tuple[list[bytes], RelayError | None, bytes, bool, str]] = {
    "large: first": ([*cut(BIG), FINISH + DONE], None, BIG + FINISH + DONE, False, "ok"),
    "large: behind a comment": ([PING, *cut(BIG), FINISH, b""], None, PING + BIG + FINISH, False, "ok"),
    "large: in the middle": ([FIRST, *cut(BIG + FIRST + FINISH + DONE)], None, BIG.join([FIRST, FIRST]) + FINISH + DONE,
                             False, "ok"),
    "large: two in a row": ([*cut(BIG + BIG), DONE, b""], None, BIG + BIG + DONE, False, "ok"),
    "large: in one piece": ([BIG[:-2], b"", BLANK + FINISH, b""], None, BIG + FINISH, False, "ok"),
    "large: last, with a finish": ([FIRST, *cut(BIG_FINISH)], None, FIRST + BIG_FINISH, False, "ok"),
    "large: last, an image": ([*cut(BIG_IMAGE), b""], None, BIG_IMAGE, False, "ok"),
    "large: last but for its end": ([*cut(BIG_IMAGE[:-2])], None, BIG_IMAGE, False, "ok"),
    "large: last but for half its end": ([*cut(BIG_IMAGE[:-1]), b""], None, BIG_IMAGE[:-1] + BLANK, False, "ok"),
    "large: last, but no end": ([FIRST, *cut(BIG)], None, FIRST + BIG, True, "incomplete"),
    "large: last, torn": ([*cut(BIG_IMAGE[:-9])], None, BIG_IMAGE[:-9] + BLANK, True, "incomplete"),
    "large: torn behind a finish": ([FINISH, *cut(BIG[:-9])], None, FINISH + BIG[:-9] + BLANK, False, "ok"),
    "large: an error": ([FIRST, *cut(BIG_ERROR), b""], None, FIRST + BIG_ERROR, False, "upstream_error"),
    "large: cut": ([FIRST, *cut(BIG[:-9])], CUT, FIRST + BIG[:-9] + BLANK, True, "upstream_error"),
    "large: cut behind it": ([FIRST, *cut(BIG)], CUT, FIRST + BIG, True, "upstream_error"),
    "large: cut behind an error": ([FIRST + ERROR, *cut(BIG[:-9])], CUT, FIRST + ERROR + BIG[:-9] + BLANK, False,
                                   "upstream_error"),
    "large: stalled": ([*cut(BIG[:-9])], LATE, BIG[:-9] + BLANK, True, "upstream_timeout"),
}  # fmt: skip


@pytest.mark.parametrize("framed", [False, True])
@pytest.mark.parametrize("case", [*ENDS, *LARGE_ENDS])
def test_every_end_of_a_stream(tmp_path: Path, case: str, framed: bool) -> None:
    pieces, fault, passed, breaks, outcome = (ENDS | LARGE_ENDS)[case]
    world = World(tmp_path, EVENTS)

    world.play(pieces, fault, framed=framed)

    assert passed == world.sink.body[: len(passed)]
    own = world.sink.body[len(passed) :]
    if breaks:
        assert own.startswith(b'data: {"error":')
        assert own.endswith(b"}\n\n")
        assert 1 == own.count(b"data:")
        assert world.account.id in json.loads(own[6:])["error"]["message"]
    assert breaks == bool(own)
    assert world.sink.ended
    (record,) = world.records()
    assert (outcome, 200, len(world.sink.body)) == (record.outcome, record.status, record.bytes_out)
    assert (outcome == "ok") == (record.error is None)
    assert [record] == world.recorded_at_end
    assert world.sink.body[: BODY_KEPT + 1] == world.kept()


def test_a_large_event_passes_as_it_comes_and_nothing_comes_between(tmp_path: Path) -> None:
    world = World(tmp_path, EVENTS, alias="fast", asks_usage=True)
    held = 0
    for number, piece in enumerate(cut(BIG)[:-1]):
        world.delivery.take(piece, False)
        held = max(held, (number + 1) * 200_000 - len(world.sink.body))
        assert world.sink.torn == world.delivery.begun

    assert world.sink.torn
    assert held <= LARGE
    world.sink.slow = True
    assert world.delivery.take(cut(BIG)[-1] + FIRST + USAGE + FIRST[:9], False)
    world.delivery.take(FIRST[9:] + FINISH + DONE, True)

    expected = BIG + (FIRST + FIRST + FINISH).replace(b'"real"', b'"fast"') + DONE
    assert (expected, False) == (world.sink.body, world.sink.torn)
    assert [("ok", 9, 12)] == [(each.outcome, each.input_tokens, each.output_tokens) for each in world.records()]


def test_the_usage_of_a_large_event_is_told(tmp_path: Path) -> None:
    world = World(tmp_path, EVENTS, rate=RATE)

    world.play([FIRST, *cut(BIG_IMAGE)])

    assert [(1000, 500, 450_000)] == [
        (record.input_tokens, record.output_tokens, record.cost_nano) for record in world.recorded_at_end
    ]


def test_no_chunk_goes_past_a_large_event(tmp_path: Path) -> None:
    world = World(tmp_path, EVENTS)

    world.play([FIRST, FIRST, *cut(BIG[:-2]), FIRST, FIRST, FINISH + DONE], framed=True)

    assert 1 == world.sink.chunks  # what comes first within the event is its end
    assert FIRST * 2 + BIG[:-2] + FIRST * 2 + FINISH + DONE == world.sink.body


def test_a_chunk_like_the_last_one_goes_out_as_it_stands(tmp_path: Path) -> None:
    world = World(tmp_path, EVENTS)
    said = [FIRST.replace("你好".encode(), words) for words in (b"", b"one", b"two", b"\\n")]

    world.play([FIRST, FIRST, *said, FINISH + DONE, b""], framed=True)

    assert len(said) == world.sink.chunks  # the first of all goes the long way, and so does the one that is learnt
    assert b"".join([FIRST, FIRST, *said, FINISH, DONE]) == world.sink.body == world.kept()
    assert [len(world.sink.body)] == [record.bytes_out for record in world.records()]
    assert len("你好".encode()) * 2 + len("onetwo") + len(b"\\n") == world.account.spoken()


THOUGHTS = chunk(choices=[{"index": 0, "delta": {"reasoning_content": "well"}, "finish_reason": None}])


@pytest.mark.parametrize("framed", [True, False], ids=["chunks", "pieces"])
@pytest.mark.parametrize("together", [1, 3])
@pytest.mark.parametrize("alias", [None, "a" * 400])
def test_the_words_of_a_stream_are_counted_however_it_comes(
    tmp_path: Path, framed: bool, together: int, alias: str | None
) -> None:
    """What the relay says itself, and how long it calls the model, is none of that."""
    world = World(tmp_path, EVENTS, alias=alias)
    events = [FIRST, THOUGHTS, *[FIRST] * 300, *cut(BIG), FIRST]
    reads = [b"".join(events[at : at + together]) for at in range(0, len(events), together)]

    world.play(reads, CUT, framed=framed)

    assert len("你好".encode()) * 302 + len("well") == world.account.spoken()


def test_what_completes_a_stream_is_recorded_before_it_is_sent(tmp_path: Path) -> None:
    world = World(tmp_path, EVENTS)
    world.play([FIRST, FINISH + DONE, b""])

    assert world.records() == world.recorded_at_end

    done = World(tmp_path / "done", EVENTS)
    done.delivery.take(FIRST + DONE, False)

    assert ["ok"] == [record.outcome for record in done.records()]
    assert not done.sink.ended


def test_what_comes_after_done_passes_too(tmp_path: Path) -> None:
    world = World(tmp_path, EVENTS)

    world.play([FIRST + DONE, PING, b""])

    assert (FIRST + DONE + PING, 1) == (world.sink.body, len(world.records()))


def test_what_comes_after_done_goes_the_long_way(tmp_path: Path) -> None:
    world = World(tmp_path, EVENTS)

    world.play([FIRST, FIRST, FIRST, FIRST + DONE, FIRST, b""], framed=True)

    assert (1, FIRST * 4 + DONE + FIRST) == (world.sink.chunks, world.sink.body)


def test_the_head_of_a_stream(tmp_path: Path) -> None:
    passed = [(b"x-request-id", b"up-1"), (b"x-ratelimit-limit-requests", b"9"), (b"openai-version", b"2020-10-01")]
    dropped = [(b"set-cookie", b"a"), (b"server", b"x"), (b"content-length", b"9"), (b"transfer-encoding", b"chunked"),
               (b"cache-control", b"public"), (b"connection", b"close"), (b"date", b"now")]  # fmt: skip
    world = World(tmp_path, EVENTS, *dropped, *passed)

    world.play([FIRST + DONE])

    expected = {
        b"x-relay-id": world.account.id.encode(),
        b"x-relay-upstream": b"up",
        b"x-relay-model": b"real",
        b"x-relay-attempts": b"0",
        b"cache-control": b"no-cache, no-transform",
        b"x-accel-buffering": b"no",
        **dict([EVENTS, *passed]),
    }
    assert expected == dict(world.sink.headers)
    assert len(expected) == len(world.sink.headers)
    assert (200, None) == (world.sink.status, world.sink.length)


FIRST_ERRORS = {
    "an error": (FAULT, 503, "flex capacity"),
    "no status": (b'{"error":{"message":"no","code":"bad"}}', 502, "no"),
    "a strange status": (b'{"error":{"message":"no","code":200}}', 502, "no"),
    "in words": (b'{"error":"overloaded"}', 502, "overloaded"),
    "without words": (b'{"error":{"code":529}}', 529, "The upstream answered with an error."),
    "with its secret": (
        b'{"error":"your key up-key-1 is bad, sk-other-1 too"}',
        502,
        "your key *** is bad, sk-*** too",
    ),
    "an error event": (b'{"type":"error","code":"x","message":"no"}', 502, "no"),
    "with choices": (b'{"choices":[],"error":{"message":"no","code":429}}', 429, "no"),
    "a failed response": (
        b'{"type":"response.failed","response":{"error":{"code":"rate_limit_exceeded","message":"no"}}}',
        429,
        "no",
    ),
}


@pytest.mark.parametrize("case", FIRST_ERRORS)
@pytest.mark.parametrize("before", [b"data: ", PING + b"data: ", b"", PING],
                         ids=["first", "behind a comment", "bare", "bare behind a comment"])  # fmt: skip
def test_an_error_as_the_first_event_is_a_real_error(tmp_path: Path, case: str, before: bytes) -> None:
    data, status, message = FIRST_ERRORS[case]
    world = World(tmp_path, EVENTS)

    assert world.delivery.take(before + b"%s\n\n" % data, False)
    with pytest.raises(UpstreamRefusal) as fault:
        asyncio.run(world.delivery.drained())

    assert (status, message) == (fault.value.status, fault.value.message)
    assert not world.delivery.fail(fault.value)
    assert (0, b"", []) == (world.sink.status, world.sink.body, world.records())


def test_an_answer_that_is_nothing_but_an_error_is_told_without_secrets(tmp_path: Path) -> None:
    with pytest.raises(UpstreamRefusal) as fault:
        World(tmp_path, JSON, whole=b'{"error":{"message":"up-key-1 is over its limit","code":429}}')

    assert 429 == fault.value.status
    assert "is over its limit" in fault.value.message
    assert "up-key-1" not in fault.value.message


@pytest.mark.parametrize(
    ("pieces", "status", "message"),
    [
        ([ERROR], 503, "flex capacity"),
        ([ERROR + DONE], 503, "flex capacity"),
        ([FAULT, b""], 503, "flex capacity"),
        ([FAULT + b"\n\n" + DONE], 503, "flex capacity"),
        ([FAULT.replace(b",", b"\r\n,")], 503, "flex capacity"),
        ([b""], 502, "Upstream 'up' ended its stream too early."),
        ([FIRST[:9], b""], 502, "Upstream 'up' ended its stream too early."),
        ([PING, b""], 502, "Upstream 'up' ended its stream too early."),
    ],
)
def test_a_stream_that_is_over_before_it_began_is_a_real_error(
    tmp_path: Path, pieces: list[bytes], status: int, message: str
) -> None:
    world = World(tmp_path, EVENTS)

    world.play(pieces)

    fault = world.delivery.fault
    assert fault is not None
    assert (status, message) == (fault.status, fault.message)
    assert (0, b"", []) == (world.sink.status, world.sink.body, world.records())


def test_before_the_first_event_a_fault_is_a_real_error(tmp_path: Path) -> None:
    world = World(tmp_path, EVENTS)
    world.delivery.take(FIRST[:20], False)

    assert not world.delivery.fail(CUT)
    assert 0 == world.sink.status


LAST = {
    "completed": (b'{"type":"response.completed","response":{"usage":{"input_tokens":9}}}', False, "ok"),
    "incomplete": (b'{"type":"response.incomplete"}', False, "ok"),
    "neither": (b'{"type":"response.output_text.delta","delta":"a"}', True, "incomplete"),
}


@pytest.mark.parametrize("case", LAST)
def test_the_end_of_a_responses_stream(tmp_path: Path, case: str) -> None:
    data, breaks, outcome = LAST[case]
    event = b"data: %s\n\n" % data
    world = World(tmp_path, EVENTS, endpoint=RESPONSES)

    world.play([event])

    assert breaks == (event != world.sink.body)
    assert [outcome] == [record.outcome for record in world.records()]


def test_a_response_that_fails_is_passed_on_and_no_success(tmp_path: Path) -> None:
    begun = b'data: {"type":"response.created","response":{}}\n\n'
    failed = b'data: {"type":"response.failed","response":{"error":{"code":"server_error"}}}\n\n'
    world = World(tmp_path, EVENTS, endpoint=RESPONSES)

    world.play([begun, failed])

    assert begun + failed == world.sink.body
    assert ["upstream_error"] == [record.outcome for record in world.records()]


@pytest.mark.parametrize("nothing", [b'""', b"{}", b"null", b"false"])
def test_an_error_that_says_nothing_is_none(tmp_path: Path, nothing: bytes) -> None:
    event = b'data: {"error":%b,"choices":[{"index":0,"delta":{"content":"a"}}]}\n\n' % nothing
    world = World(tmp_path, EVENTS)

    world.play([event, FINISH + DONE])

    assert event + FINISH + DONE == world.sink.body
    assert ["ok"] == [record.outcome for record in world.records()]


@pytest.mark.parametrize(
    ("status", "answer", "kept"),
    [
        (200, b'{"key":"up-key-1","token":"sk-other-1"}', b'{"key":"***","token":"sk-other-1"}'),
        (400, b'{"error":"up-key-1, sk-other-1"}', b'{"error":"***, sk-***"}'),
    ],
)
def test_what_is_kept_of_an_answer_is_without_the_upstreams_secrets(
    tmp_path: Path, status: int, answer: bytes, kept: bytes
) -> None:
    world = World(tmp_path, JSON, status=status)

    world.play([answer])

    assert answer == world.sink.body
    assert [kept] == [entry.response for _, entry in frames(world.journal.current)]


def test_what_is_kept_of_a_stream_that_ends_in_an_error_is_without_secrets(tmp_path: Path) -> None:
    world = World(tmp_path, EVENTS)

    world.play([FIRST, b'data: {"error":"up-key-1, sk-other-1"}\n\n'])

    (kept,) = [entry.response for _, entry in frames(world.journal.current)]
    assert FIRST + b'data: {"error":"***, sk-***"}\n\n' == kept


def test_streams_with_no_known_end_end_as_they_do(tmp_path: Path) -> None:
    world = World(tmp_path, EVENTS, endpoint=EMBEDDINGS)

    world.play([FIRST])

    assert (FIRST, ["ok"]) == (world.sink.body, [record.outcome for record in world.records()])


FILTER = chunk(choices=[], prompt_filter_results=[{"prompt_index": 0}])
WITH_USAGE = chunk(choices=[{"index": 0, "delta": {}, "finish_reason": "stop"}], usage=USED)


@pytest.mark.parametrize(
    ("pieces", "hidden"),
    [
        ([FIRST, FINISH, USAGE, DONE], [USAGE]),
        ([FIRST + FINISH + USAGE + DONE], [USAGE]),
        ([FILTER, FIRST, WITH_USAGE, DONE], []),
        ([FIRST, chunk(choices=[], usage=USED, error={"message": "no"}), DONE], []),
    ],
)
@pytest.mark.parametrize("asks_usage", [True, False], ids=["ours", "the caller's"])
def test_a_usage_chunk_nobody_asked_for_is_taken_out(
    tmp_path: Path, pieces: list[bytes], hidden: list[bytes], asks_usage: bool
) -> None:
    world = World(tmp_path, EVENTS, asks_usage=asks_usage)

    world.play(pieces)

    expected = b"".join(pieces)
    for event in hidden if asks_usage else []:
        expected = expected.replace(event, b"")
    assert expected == world.sink.body
    assert [(9, 12)] == [(record.input_tokens, record.output_tokens) for record in world.records()]


@pytest.mark.parametrize("asks_usage", [True, False], ids=["ours", "the caller's"])
def test_usage_alone_promises_nothing(tmp_path: Path, asks_usage: bool) -> None:
    world = World(tmp_path, EVENTS, asks_usage=asks_usage)

    world.delivery.take(USAGE, False)
    world.delivery.take(PING, False)

    assert not world.delivery.begun
    world.delivery.take(FIRST, False)
    assert world.delivery.begun
    assert world.sink.body == (b"" if asks_usage else USAGE) + PING + FIRST


def test_a_stream_is_renamed(tmp_path: Path) -> None:
    world = World(tmp_path, EVENTS, alias="fast", asks_usage=True)

    world.play([FIRST, FINISH + USAGE, DONE])

    assert (FIRST + FINISH + DONE).replace(b'"real"', b'"fast"') == world.sink.body


def test_a_slow_client_holds_the_stream(tmp_path: Path) -> None:
    world = World(tmp_path, EVENTS)
    assert not world.delivery.take(FIRST, False)
    world.sink.slow = True

    assert not world.delivery.take(FIRST[:5], False)
    assert world.delivery.take(FIRST[5:], False)
    asyncio.run(world.delivery.drained())
    assert 1 == world.sink.waits
    assert not world.delivery.take(FIRST, False)


BODY = json.dumps({"model": "real", "usage": {"prompt_tokens": 1000, "completion_tokens": 500}}).encode()
RATE = Rate.per_million(Decimal("0.15"), Decimal("0.60"))


@pytest.mark.parametrize("whole", [None, BODY], ids=["in pieces", "at once"])
def test_a_whole_answer_tells_its_cost(tmp_path: Path, whole: bytes | None) -> None:
    world = World(tmp_path, JSON, (b"x-request-id", b"1"), (b"server", b"x"), rate=RATE, whole=whole)
    if whole is None:
        world.play([BODY[:10], BODY[10:]])

    assert (world.begun is None) == (whole is not None)
    assert (BODY, len(BODY), 200) == (world.sink.body, world.sink.length, world.sink.status)
    assert b"0.00045" == world.sink.header(b"x-relay-cost")
    assert (b"1", None) == (world.sink.header(b"x-request-id"), world.sink.header(b"server"))
    (record,) = world.recorded_at_end
    assert ("ok", 450_000, 1000, 500, len(BODY)) == (
        *(record.outcome, record.cost_nano, record.input_tokens, record.output_tokens, record.bytes_out),
    )
    assert BODY == world.kept()


def test_an_unknown_price_is_not_told(tmp_path: Path) -> None:
    world = World(tmp_path, JSON)

    world.play([BODY])

    assert world.sink.header(b"x-relay-cost") is None
    assert [None] == [record.cost_nano for record in world.records()]


def test_nothing_is_sent_before_the_answer_is_whole(tmp_path: Path) -> None:
    world = World(tmp_path, JSON)
    world.delivery.take(BODY[:-1], False)

    assert not world.delivery.fail(CUT)
    assert (0, []) == (world.sink.status, world.records())


def test_a_whole_answer_is_renamed(tmp_path: Path) -> None:
    world = World(tmp_path, JSON, alias="fast")

    world.play([BODY])

    assert BODY.replace(b'"real"', b'"fast"') == world.sink.body


AGAIN = [
    (400, b"false"),
    (404, b"false"),
    (408, b"true"),
    (409, b"true"),
    (422, b"false"),
    (429, b"true"),
    (500, b"true"),
    (503, b"true"),
]


@pytest.mark.parametrize(("status", "again"), AGAIN)
@pytest.mark.parametrize("kind", [JSON, EVENTS, (b"content-type", b"text/html")], ids=["JSON", "events", "HTML"])
def test_an_upstreams_error_passes_unchanged(tmp_path: Path, status: int, again: bytes, kind: Header) -> None:
    world = World(tmp_path, kind, (b"retry-after", b"7"), status=status, alias="fast")
    body = b'{"error":{"message":"no"}, "model":"real"}'

    world.play([body])

    assert (status, body, True) == (world.sink.status, world.sink.body, world.sink.ended)
    assert (again, b"upstream") == (world.sink.header(b"x-should-retry"), world.sink.header(b"x-relay-error-source"))
    assert b"7" == world.sink.header(b"retry-after")
    assert [("upstream_error", status, f"HTTP {status}")] == [
        (record.outcome, record.status, record.error) for record in world.recorded_at_end
    ]


def test_an_upstreams_own_word_on_trying_again_stands(tmp_path: Path) -> None:
    world = World(tmp_path, JSON, (b"x-should-retry", b"false"), status=503)

    world.play([b"{}"])

    assert b"false" == world.sink.header(b"x-should-retry")


@pytest.mark.parametrize(
    "headers", [[(b"content-type", b"audio/mpeg")], [JSON, (b"content-encoding", b"gzip")]], ids=["audio", "gzip"]
)
def test_what_is_not_plain_json_goes_through_as_it_comes(tmp_path: Path, headers: list[Header]) -> None:
    world = World(tmp_path, *headers)

    world.delivery.take(b"\x1f\x8b", False)
    assert (b"\x1f\x8b", None, []) == (world.sink.body, world.sink.length, world.records())
    world.delivery.take(b"\x00", True)

    assert (b"\x1f\x8b\x00", True) == (world.sink.body, world.sink.ended)
    assert ["ok"] == [record.outcome for record in world.recorded_at_end]


def test_an_answer_in_one_piece_has_its_length(tmp_path: Path) -> None:
    world = World(tmp_path, (b"content-type", b"text/plain"))

    world.play([b"hello"])

    assert (5, b"hello") == (world.sink.length, world.sink.body)


def test_a_broken_answer_cannot_be_taken_for_whole(tmp_path: Path) -> None:
    world = World(tmp_path, (b"content-type", b"audio/mpeg"))
    world.delivery.take(b"\x00", False)

    assert world.delivery.fail(LATE)

    assert (True, False) == (world.sink.aborted, world.sink.ended)
    assert [("upstream_timeout", LATE.message)] == [(record.outcome, record.error) for record in world.records()]


def test_a_large_json_answer_goes_through_with_its_usage(tmp_path: Path) -> None:
    world = World(tmp_path, JSON, rate=RATE)
    piece = b" " * (1 << 20)
    pieces = [b'{"data":"', *[piece] * 9, b'",', BODY[1:]]

    world.play(pieces)

    assert b"".join(pieces) == world.sink.body
    assert world.sink.length is None
    assert [(1000, 500, 450_000)] == [
        (record.input_tokens, record.output_tokens, record.cost_nano) for record in world.recorded_at_end
    ]
