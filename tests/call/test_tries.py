"""What is told of a request's tries: to the health of its targets, to the record, and to who comes next."""

import asyncio
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
import uvloop

from relay import ask as asking
from relay.call import Relay, serve
from relay.call.account import Account
from relay.call.choice import choose
from relay.call.setup import Setup
from relay.call.tries import Tries
from relay.counters import MemoryCounters
from relay.course import Step
from relay.errors import Overloaded, RelayError, UpstreamError
from relay.exchange import Chunk, Drained, Header, Request, Take, Upload
from relay.health import Health, Policy
from relay.journal import Journal, frames
from relay.keys import Key, Keyring
from relay.record import Record
from relay.routing import Alias, Routes, Target
from relay.upstream.credentials import Credential, Credentials
from relay.upstream.door import Upstream
from tests.requests import account, begun
from tests.sink import KeptSink

BODY = b'{"model":"m","stream":true,"messages":[]}'
SAID = b'data: {"choices":[{"index":0,"delta":{"content":"hi"}}]}\n\n'
STOPPED = b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n'
DONE = b"data: [DONE]\n\n"
JSON: Header = (b"content-type", b"application/json")
CUT = UpstreamError("cut")
CODED = b'{"error":{"message":"no","code":%b}}'


@dataclass
class Answer:
    """A Reply of these pieces, which ends by `fault` if there is one."""

    pieces: list[bytes]
    fault: RelayError | None = None
    status: int = 200
    headers: tuple[Header, ...] = ((b"content-type", b"text/event-stream"),)
    reused: bool = True
    connect_ms: float | None = None
    whole: bytes | None = None

    async def pump(self, take: Take, drained: Drained, _chunk: Chunk | None = None) -> None:
        for piece in self.pieces:
            if take(piece, False):
                await drained()
        if self.fault is not None:
            raise self.fault
        take(b"", True)

    def begun(self) -> None:
        """Nobody waits."""

    def abort(self) -> None:
        """Nothing is held."""


@dataclass
class Player:
    """An engine that plays its answers in turn, and the last one for ever."""

    answers: list[Answer | RelayError]
    running: int = 0
    asked: list[bytes] = field(default_factory=list)
    delays: list[float] = field(default_factory=list)  # seconds before its next answers

    async def open(self, _request: Request, body: Upload, within: float | None = None, _fresh: bool = False) -> Answer:
        assert isinstance(body, bytes)
        assert within is None or within > 0
        self.asked.append(body)
        if self.delays:
            await asyncio.sleep(self.delays.pop(0))
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, RelayError):
            raise answer
        return answer

    def retire(self) -> None:
        """Nothing is held."""

    async def close(self) -> None:
        """Nothing is held."""


def relay(folder: Path, alias: Alias, upstreams: Mapping[str, Upstream]) -> Relay:
    setup = Setup(Routes.of([alias]), upstreams)
    return Relay(setup, Keyring(b"", {}), MemoryCounters(), Journal(folder), Health(Policy(failures=3)))


def alone(folder: Path, *answers: Answer | RelayError) -> Relay:
    """A relay with one target, which answers so."""
    return relay(folder, Alias("m", ((Target("up", "m"),),)), {"up": Upstream("up", Player([*answers]))})


def noted(running: Relay, key: Key | None = None) -> Account:
    return account(running.journal, begun(), running.setup, key=key)


def ask(running: Relay, times: int = 1) -> list[KeptSink]:
    """So many requests, one after the other."""
    sinks = [KeptSink() for _ in range(times)]
    for sink in sinks:
        asyncio.run(serve(running, noted(running), BODY, sink))
    return sinks


def records(running: Relay) -> list[Record]:
    return [entry.record for _, entry in frames(running.journal.current)]


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        (Answer([SAID], CUT), "upstream_error"),
        (Answer([SAID]), "incomplete"),
        (Answer([b'data: {"error":{"message":"no","code":500}}\n\n']), "upstream_error"),
        (Answer([b'{"id"'], CUT, headers=(JSON,)), "upstream_error"),
    ],
    ids=["cut", "unfinished", "an error at once", "JSON cut"],
)
def test_answers_that_begin_and_never_end_make_a_target_ill(tmp_path: Path, answer: Answer, outcome: str) -> None:
    running = alone(tmp_path, answer)

    ask(running, 2)
    assert not running.health.ill
    ask(running)

    assert ["up/m"] == [*running.health.ill]
    assert {outcome} == {record.outcome for record in records(running)}
    assert running.health.probes("up/m", time.perf_counter() + 100)
    ask(running)
    assert "a probe failed" in running.health.ill["up/m"].reason


def test_one_that_comes_to_its_end_makes_it_well(tmp_path: Path) -> None:
    torn, whole = Answer([SAID], CUT), Answer([SAID, STOPPED])
    running = alone(tmp_path, torn, torn, whole, torn, torn, torn, whole)

    ask(running, 5)
    assert not running.health.ill
    ask(running)
    assert running.health.probes("up/m", time.perf_counter() + 100)
    ask(running)

    assert not running.health.ill


@pytest.mark.parametrize("end", [DONE, STOPPED + DONE])
def test_how_a_connection_ends_after_all_was_said_is_nothing_to_anyone(tmp_path: Path, end: bytes) -> None:
    running = alone(tmp_path, Answer([SAID, end], CUT))

    ask(running, 4)

    assert ["ok"] * 4 == [record.outcome for record in records(running)]
    assert not running.health.ill
    assert [0] == [vital.failures for vital in running.health.vitals().values()]


def pool(*answers: Answer) -> Upstream:
    """An upstream with two keys."""
    return Upstream("up", Player([*answers]), Credentials([Credential((), "one"), Credential((), "two")]))


def limited(wait_ms: bytes) -> Answer:
    return Answer([b"{}"], status=429, headers=(JSON, (b"retry-after-ms", wait_ms)))


@pytest.mark.parametrize("waits", [(b"300", b"60000"), (b"60000", b"300")])
def test_a_target_rests_until_the_first_of_its_keys_can_serve(tmp_path: Path, waits: tuple[bytes, bytes]) -> None:
    upstream = pool(limited(waits[0]), limited(waits[1]), Answer([SAID, STOPPED]))
    running = relay(tmp_path, Alias("m", ((Target("up", "m"),),)), {"up": upstream})

    (sink,) = ask(running)

    assert 200 == sink.status  # by the key that rested for 0.3 s, after that
    assert [429, 429, 200] == [each.status for record in records(running) for each in record.tries]


async def test_a_wait_for_ones_own_requests_is_no_part_of_the_try(tmp_path: Path) -> None:
    running = alone(tmp_path, Answer([b'{"id"'], CUT, headers=(JSON,)))
    running.counters.queue(1, 5.0)
    key = Key(id="k", name="k", digest=b"", concurrency=1)
    first = running.counters.admit(key, time.time())
    asking_now = asyncio.create_task(serve(running, noted(running, key), BODY, KeptSink()))
    await asyncio.sleep(0.2)
    first.settle()

    await asking_now

    (record,) = records(running)
    (only,) = record.tries
    assert only.total_ms is not None
    assert only.total_ms < 150
    assert record.overhead_us > 150_000


def test_what_another_key_took_is_no_part_of_the_try(tmp_path: Path) -> None:
    player = Player([Answer([b"{}"], status=401, headers=(JSON,)), Answer([b'{"id"'], CUT, headers=(JSON,))])
    player.delays.append(0.1)
    keys = Credentials([Credential((), "one"), Credential((), "two")])
    running = relay(tmp_path, Alias("m", ((Target("up", "m"),),)), {"up": Upstream("up", player, keys)})

    ask(running)

    first, second = [each for record in records(running) for each in record.tries]
    assert (401, 200) == (first.status, second.status)
    assert second.total_ms is not None
    assert second.total_ms < 100 <= (first.first_byte_ms or 0.0)


async def test_nobody_waits_for_his_own_requests_longer_than_a_request_may_take(tmp_path: Path) -> None:
    running = alone(tmp_path, Answer([SAID, STOPPED]))
    running.setup = Setup(running.setup.routes, running.setup.upstreams, deadline=0.05)
    running.counters.queue(1, 60.0)
    key, sink = Key(id="k", name="k", digest=b"", concurrency=1), KeptSink()
    running.counters.admit(key, time.time())

    await asyncio.wait_for(serve(running, noted(running, key), BODY, sink), 5)

    assert 503 == sink.status


async def test_a_shutdown_in_the_pause_between_two_tries_asks_for_another(tmp_path: Path) -> None:
    answer = Answer([b"{}"], status=503, headers=(JSON, (b"retry-after-ms", b"1900")))
    running = relay(
        tmp_path,
        Alias("m", ((Target("up", "m"),), (Target("up", "n"),))),
        {"up": Upstream("up", player := Player([answer]))},
    )
    sink = KeptSink()
    serving = asyncio.create_task(serve(running, noted(running), BODY, sink))
    for _ in range(10):  # turns of the loop, in which nothing has to be waited for until the pause
        await asyncio.sleep(0)
    assert 2 == len(player.asked)

    serving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await serving

    assert (503, b"true") == (sink.status, sink.header(b"x-should-retry"))
    assert ["refused"] == [record.outcome for record in records(running)]


FULL = Overloaded("busy", retry_after=1)
BUSY = Answer([b"{}"], status=503, headers=(JSON, (b"retry-after-ms", b"20")))


@pytest.mark.parametrize(("answers", "asked", "again"), [((FULL,), 1, b"true"), ((BUSY, FULL), 2, b"false")])
def test_who_finds_the_line_full_is_asked_to_come_again_unless_the_relay_has_done_so(
    tmp_path: Path, answers: tuple[Answer | RelayError, ...], asked: int, again: bytes
) -> None:
    running = alone(tmp_path, *answers)

    (sink,) = ask(running)

    assert (503, b"1", again) == (sink.status, sink.header(b"retry-after"), sink.header(b"x-should-retry"))
    assert [(asked, again == b"true")] == [
        (len(record.tries), record.why and record.why.should_retry) for record in records(running)
    ]


@pytest.mark.parametrize(("code", "again"), [(400, b"false"), (404, b"false"), (429, b"true"), (500, b"true")])
def test_an_error_inside_a_200_says_whether_to_try_again(tmp_path: Path, code: int, again: bytes) -> None:
    running = alone(tmp_path, Answer([b'data: {"error":{"message":"no","code":%d}}\n\n' % code]))

    (sink,) = ask(running)

    assert (code, again) == (sink.status, sink.header(b"x-should-retry"))


def first_error(code: bytes) -> Answer:
    return Answer([b'data: {"error":{"message":"Bad key: sk-secret","code":%b}}\n\n' % code])


WHYS = [(b"429", "rate limited"), (b"401", "its key was refused"), (b'"invalid_api_key"', "its key was refused")]


@pytest.mark.parametrize(("code", "why"), WHYS)
def test_a_target_whose_stream_begins_with_such_an_error_rests_as_after_that_status(
    tmp_path: Path, code: bytes, why: str
) -> None:
    running = alone(tmp_path, first_error(code))

    ask(running)

    assert {"up/m": why} == {name: illness.reason for name, illness in running.health.ill.items()}


@pytest.mark.parametrize(
    ("code", "state"), [(b"429", "resting for m"), (b"401", "refused with HTTP 401"), (b"500", "in use")]
)
def test_a_key_whose_stream_begins_with_such_an_error_is_spared_and_another_asked(
    tmp_path: Path, code: bytes, state: str
) -> None:
    upstream = pool(first_error(code), Answer([SAID, STOPPED]))
    running = relay(tmp_path, Alias("m", ((Target("up", "m"),),)), {"up": upstream})

    (sink,) = ask(running)

    assert state == upstream.credentials.states(time.perf_counter())["one"]
    assert {} == dict(running.health.ill)
    assert (200 if code != b"500" else 500) == sink.status
    assert ["one", "two"][: 1 + (code != b"500")] == [each.key for record in records(running) for each in record.tries]


ERROR_ALONE = CODED % b"500"


@pytest.mark.parametrize(
    "answer",
    [Answer([], headers=(JSON,), whole=ERROR_ALONE), Answer([ERROR_ALONE[:9], ERROR_ALONE[9:]], headers=(JSON,))],
    ids=["at once", "in pieces"],
)
def test_a_200_that_is_nothing_but_an_error_is_none(tmp_path: Path, answer: Answer) -> None:
    alias = Alias("m", ((Target("up", "m"),), (Target("other", "m"),)))
    fine = Answer([], headers=(JSON,), whole=b"{}")
    upstreams = {"up": Upstream("up", Player([answer])), "other": Upstream("other", Player([fine]))}
    running = relay(tmp_path, alias, upstreams)

    served = ask(running, 3)

    assert [(200, b"{}")] * 3 == [(sink.status, sink.body) for sink in served]
    assert ["up/m"] == [*running.health.ill]
    assert {("no", 200), (None, 200)} == {(each.error, each.status) for one in records(running) for each in one.tries}


def test_where_nobody_else_is_left_it_is_told_as_the_error_that_it_is(tmp_path: Path) -> None:
    running = alone(tmp_path, Answer([], headers=(JSON,), whole=CODED % b"404"))

    (sink,) = ask(running)

    (record,) = records(running)
    assert (404, b"false", b"upstream") == (
        sink.status,
        sink.header(b"x-should-retry"),
        sink.header(b"x-relay-error-source"),
    )
    assert (404, "upstream_error", 1) == (record.status, record.outcome, len(record.tries))


def test_a_target_rests_when_streams_of_all_its_keys_began_with_a_rate_limit(tmp_path: Path) -> None:
    running = relay(tmp_path, Alias("m", ((Target("up", "m"),),)), {"up": pool(first_error(b"429"))})

    (sink,) = ask(running)

    (illness,) = running.health.ill.values()
    assert 429 == sink.status
    assert illness.until - time.perf_counter() <= 1


TOO_LONG = Answer([b'{"error":{"code":"context_length_exceeded"}}'], status=400, headers=(JSON,))


def refused() -> Upstream:
    """An upstream all of whose keys were refused."""
    upstream = pool(Answer([SAID, STOPPED]))
    for _ in range(2):
        key = upstream.credentials.pick("m", 0.0)
        assert key is not None
        upstream.credentials.refuse(key, 401)
    return upstream


def test_of_those_that_stand_by_one_that_cannot_be_asked_is_not(tmp_path: Path) -> None:
    fine = Player([Answer([SAID, STOPPED])])
    alias = Alias("m", ((Target("up", "m"),),), fallback={"context_window": (Target("out", "*"), Target("big", "*"))})
    upstreams = {"up": Upstream("up", Player([TOO_LONG])), "out": refused(), "big": Upstream("big", fine)}
    running = relay(tmp_path, alias, upstreams)

    (sink,) = ask(running)

    assert (200, 1) == (sink.status, len(fine.asked))
    (record,) = records(running)
    assert ("big", "m", 0) == (record.upstream, record.model, sum(each.upstream == "out" for each in record.tries))
    assert not running.health.ill


def test_where_none_that_stands_by_is_switched_on_the_refusal_stands(tmp_path: Path) -> None:
    alias = Alias("m", ((Target("up", "m"),),), fallback={"context_window": (Target("off", "big"),)})
    running = relay(tmp_path, alias, {"up": Upstream("up", Player([TOO_LONG]))})

    (sink,) = ask(running)

    assert (400, TOO_LONG.pieces[0]) == (sink.status, sink.body)


def said(status: int, code: bytes = b"null") -> Answer:
    return Answer([CODED % code], status=status, headers=(JSON, (b"x-request-id", b"%d" % status)))


LONG_FIRST = Answer([b"data: " + CODED % b'"context_length_exceeded"' + b"\n\n"])
NOTHING_BETTER: dict[str, tuple[Answer | RelayError, ...]] = {
    "dead": (CUT,),
    "500": (said(500),),
    "429": (said(429),),
    "404": (said(404),),
    "too long for it as well": (TOO_LONG,),
    "a stream that begins with an error": (first_error(b"500"),),
    "an error that is cut": (Answer([b'{"error"'], CUT, status=500, headers=(JSON,)),),
}


def long_alias(*big: str) -> Alias:
    return Alias("m", ((Target("up", "m"),),), fallback={"context_window": tuple(Target(name, "m") for name in big)})


@pytest.mark.parametrize("case", NOTHING_BETTER)
@pytest.mark.parametrize("first", [said(400, b'"context_length_exceeded"'), LONG_FIRST], ids=["whole", "streamed"])
def test_a_refusal_stands_where_those_that_stand_by_have_nothing_better(
    tmp_path: Path, case: str, first: Answer
) -> None:
    upstreams = {"up": Upstream("up", up := Player([first])), "big": Upstream("big", Player([*NOTHING_BETTER[case]]))}
    running = relay(tmp_path, long_alias("big"), upstreams)

    (sink,) = ask(running)

    (record,) = records(running)
    assert (400, 1, b"false") == (sink.status, len(up.asked), sink.header(b"x-should-retry"))
    assert b"context_length_exceeded" in sink.body
    assert (first.pieces[0], b"400") == (sink.body, sink.header(b"x-request-id")) or first is LONG_FIRST
    assert (b"up", "up", 400) == (sink.header(b"x-relay-upstream"), record.upstream, record.status)
    assert ["up", "big"] == list(dict.fromkeys(each.upstream for each in record.tries))
    assert "up/m" not in running.health.ill
    assert 0 == running.health.vitals()["up/m"].failures
    assert 1 >= running.health.vitals()["big/m"].failures


@pytest.mark.parametrize("status", [400, 413, 422])
def test_with_whatever_status_it_is_refused(tmp_path: Path, status: int) -> None:
    big = Upstream("big", Player([Answer([SAID, STOPPED])]))
    up = Upstream("up", Player([said(status, b'"context_length_exceeded"')]))
    running = relay(tmp_path, long_alias("big"), {"up": up, "big": big})

    (sink,) = ask(running)

    assert (200, b"big") == (sink.status, sink.header(b"x-relay-upstream"))


def test_what_stands_by_for_another_reason_is_asked_in_its_turn(tmp_path: Path) -> None:
    alias = replace(
        long_alias("big"), fallback={"context_window": (Target("big", "m"),), "content_policy": (Target("mild", "m"),)}
    )
    policy = said(400, b'"content_filter"')
    players = {"up": Player([TOO_LONG]), "big": Player([policy]), "mild": Player([Answer([SAID, STOPPED]), policy])}
    running = relay(tmp_path, alias, {name: Upstream(name, player) for name, player in players.items()})

    served, refused = ask(running, 2)

    assert (200, b"mild") == (served.status, served.header(b"x-relay-upstream"))
    assert (400, b"up", TOO_LONG.pieces[0]) == (refused.status, refused.header(b"x-relay-upstream"), refused.body)
    assert [["up", "big", "mild"]] * 2 == [[each.upstream for each in record.tries] for record in records(running)]


def test_who_stands_by_and_who_was_dropped_of_them_is_in_the_record(tmp_path: Path) -> None:
    running = relay(
        tmp_path,
        long_alias("off", "big"),
        {"up": Upstream("up", Player([TOO_LONG])), "big": Upstream("big", Player([Answer([SAID, STOPPED])]))},
    )

    ask(running)

    (record,) = records(running)
    assert record.why is not None
    off = {"target": "off/m", "reason": "is switched off"}
    told = json.loads(bytes(record.why.plan))
    assert {"context_window": {"targets": ["big/m"], "dropped": [off]}} == told["fallback"]


@dataclass
class Unending(Answer):
    """Neither does it go on, nor end."""

    async def pump(self, take: Take, _drained: Drained, _chunk: Chunk | None = None) -> None:
        take(self.pieces[0], False)
        await asyncio.Event().wait()


@pytest.mark.parametrize("said", [b": wait\n\n", SAID], ids=["before an answer", "in the middle"])
async def test_a_probe_whose_client_leaves_is_the_next_ones(tmp_path: Path, said: bytes) -> None:
    running = alone(tmp_path, Unending([said]))
    for _ in range(3):
        running.health.failed("up/m", "cut", time.perf_counter() - 100, torn=True)
    sink = KeptSink()
    serving = asyncio.create_task(serve(running, noted(running), BODY, sink))
    await asyncio.sleep(0)
    assert "probing" == running.health.vitals()["up/m"].state

    sink.gone = True
    serving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await serving

    assert "resting" == running.health.vitals()["up/m"].state
    assert running.health.probes("up/m", time.perf_counter())


@pytest.mark.parametrize("nothing", [Overloaded("full"), said(402)], ids=["no connection", "not paid"])
def test_a_probe_that_tells_nothing_is_the_next_ones(tmp_path: Path, nothing: Answer | RelayError) -> None:
    running = alone(tmp_path, nothing)
    for _ in range(3):
        running.health.failed("up/m", "HTTP 500", time.perf_counter() - 100)

    ask(running)

    assert "resting" == running.health.vitals()["up/m"].state
    assert {} == running.health.resting(time.perf_counter())


@pytest.mark.parametrize("end", [STOPPED + DONE, STOPPED], ids=["done", "stopped"])
def test_a_doubted_target_is_well_again_however_its_connection_ends(tmp_path: Path, end: bytes) -> None:
    running = alone(tmp_path, Answer([SAID], CUT), Answer([SAID, end], CUT if DONE in end else None))

    ask(running)
    assert [1] == [vital.failures for vital in running.health.vitals().values()]
    ask(running)

    assert [0] == [vital.failures for vital in running.health.vitals().values()]


async def test_a_doubted_target_is_well_again_where_the_client_leaves_with_all_it_wanted(tmp_path: Path) -> None:
    running = alone(tmp_path, Unending([SAID + STOPPED + DONE]))
    running.health.failed("up/m", "cut", time.perf_counter(), torn=True)
    sink = KeptSink()
    serving = asyncio.create_task(serve(running, noted(running), BODY, sink))
    await asyncio.sleep(0)
    assert ["ok"] == [record.outcome for record in records(running)]

    sink.gone = True
    serving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await serving

    assert [0] == [vital.failures for vital in running.health.vitals().values()]


def test_an_illness_is_nothing_to_who_does_not_ask_there(tmp_path: Path) -> None:
    running = alone(tmp_path, Answer([SAID, STOPPED]))
    for _ in range(3):
        running.health.failed("elsewhere/x", "HTTP 500", time.perf_counter())
    one = noted(running)

    plan = choose(one, asking.read(one.head, BODY, 1000), running.health)

    assert plan is running.setup.routes.plan("m")


@pytest.mark.parametrize(("status", "failures"), [(400, 0), (500, 1)])
def test_an_error_that_is_cut_is_heeded_once_by_its_status(tmp_path: Path, status: int, failures: int) -> None:
    cut = Answer([b'{"error"'], CUT, status=status, headers=(JSON,))
    alias = Alias("m", ((Target("up", "m"),), (Target("up", "n"),)))
    player = Player([cut])
    running = relay(tmp_path, alias, {"up": Upstream("up", player)})

    (sink,) = ask(running)

    (record,) = records(running)
    assert (502, "upstream_error") == (sink.status, record.outcome)
    assert 1 + failures == len(player.asked) == len(record.tries)
    assert [1] * 2 * failures == [vital.failures for vital in running.health.vitals().values()]


def test_streams_that_come_whole_and_unfinished_make_a_target_ill_and_whole_answers_well(tmp_path: Path) -> None:
    unfinished, answer = Answer([], whole=SAID), Answer([], headers=(JSON,), whole=b"{}")
    running = alone(tmp_path, unfinished, unfinished, answer, *[unfinished] * 3)

    ask(running, 5)
    assert not running.health.ill
    ask(running)

    assert "ended its stream too early" in running.health.ill["up/m"].reason


def test_streams_that_end_in_an_error_make_a_target_ill(tmp_path: Path) -> None:
    running = alone(tmp_path, Answer([SAID, b'data: {"error":{"message":"no"}}\n\n']))

    ask(running, 2)
    assert not running.health.ill
    ask(running)

    assert "ended its stream with an error" in running.health.ill["up/m"].reason


@pytest.mark.parametrize("code", [b"429", b"401"])
def test_all_other_keys_are_asked_before_another_target_however_often_one_may_be_asked(
    tmp_path: Path, code: bytes
) -> None:
    player = Player([first_error(code), first_error(code), Answer([SAID, STOPPED])])
    keys = Credentials([Credential((), name) for name in ("one", "two", "three")])
    alias = Alias("m", ((Target("up", "m"),), (Target("other", "m"),)))
    upstreams = {"up": Upstream("up", player, keys), "other": Upstream("other", Player([CUT]))}
    running = relay(tmp_path, alias, upstreams)
    running.setup = replace(running.setup, retries=0)

    (sink,) = ask(running)

    assert 200 == sink.status
    assert ["one", "two", "three"] == [each.key for record in records(running) for each in record.tries]


def test_when_all_keys_were_refused_so_the_next_target_is_asked_and_no_key_twice(tmp_path: Path) -> None:
    alias = Alias("m", ((Target("up", "m"),), (Target("other", "m"),)))
    upstreams = {"up": pool(first_error(b"429")), "other": Upstream("other", Player([Answer([SAID, STOPPED])]))}
    running = relay(tmp_path, alias, upstreams)

    (sink,) = ask(running)

    assert 200 == sink.status
    assert ["one", "two", None] == [each.key for record in records(running) for each in record.tries]


def test_a_stream_that_begins_with_an_error_waits_as_its_head_says(tmp_path: Path) -> None:
    answer = first_error(b"429")
    answer.headers = (*answer.headers, (b"retry-after", b"20"))
    running = alone(tmp_path, answer)

    (sink,) = ask(running)

    (illness,) = running.health.ill.values()
    assert 19 < illness.until - time.perf_counter() <= 20
    assert (429, b"20") == (sink.status, sink.header(b"retry-after"))


def test_who_is_not_paid_sends_on_to_the_next(tmp_path: Path) -> None:
    unpaid = Answer([b"{}"], status=402, headers=(JSON,))
    alias = Alias("m", ((Target("up", "m"),), (Target("other", "m"),)))
    upstreams = {"up": pool(unpaid), "other": Upstream("other", Player([Answer([SAID, STOPPED])]))}
    running = relay(tmp_path, alias, upstreams)

    (sink,) = ask(running)

    assert 200 == sink.status
    assert [402, 402, 200] == [each.status for record in records(running) for each in record.tries]
    assert not running.health.ill


async def waits(tries: Tries, seconds: float) -> list[float]:
    """How long it waited each time, in a loop that something else keeps awake."""

    async def stir() -> None:
        while True:  # noqa: ASYNC110  # it is there to turn the loop
            await asyncio.sleep(0)

    stirring, waited = asyncio.create_task(stir()), []
    for _ in range(60):
        began = time.perf_counter()
        await tries.turn_to(Step(tries.target, seconds))
        waited.append(time.perf_counter() - began)
    stirring.cancel()
    return waited


def test_a_stated_wait_is_never_cut_short(tmp_path: Path) -> None:
    target, asked = Target("up", "m"), asking.read(begun(), BODY, 1 << 20)
    tries = Tries(account(Journal(tmp_path)), asked, Health(Policy()), target, 0, 0.0)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        waited = runner.run(waits(tries, 0.0055))

    assert min(waited) >= 0.0055
