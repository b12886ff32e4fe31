"""The one door out, with an engine that plays answers; and what configured upstreams become."""

import asyncio
import json
import math
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from relay import ask as asking
from relay import config, endpoints
from relay.config.secret import Secret
from relay.errors import BadRequest, Overloaded, RelayError, SetupFault, UpstreamAuthFailed, UpstreamError
from relay.exchange import UNSENT, Chunk, Drained, Header, Request, Take, Upload
from relay.record import Try
from relay.routing import Alias, Target
from relay.upstream import door, kinds
from relay.upstream.credentials import Credential, Credentials, fingerprint
from relay.upstream.door import Opened, Upstream, gather
from relay.upstream.echo import EchoEngine
from relay.upstream.over_httpx import HttpxEngine
from relay.wire import Wire

LEAK = b'{"error": {"message": "Incorrect API key provided: sk-ours-123"}}'
NO_OPTION = b'{"error": {"message": "Unrecognized request argument supplied: stream_options"}}'
OTHER = b'{"error": {"message": "messages is missing"}}'


@dataclass(slots=True)
class Played:
    """An answer that is ready."""

    status: int
    body: bytes = b"{}"
    headers: tuple[Header, ...] = ((b"content-type", b"application/json"),)
    reused: bool = True
    connect_ms: float | None = None
    whole: bytes | None = None
    aborted: bool = False
    ended_at: int = 0  # on the performance counter

    async def pump(self, take: Take, drained: Drained, _chunk: Chunk | None = None) -> None:
        half = len(self.body) // 2
        if take(self.body[:half], False):
            await drained()
        self.ended_at = time.perf_counter_ns()
        take(self.body[half:], True)

    def begun(self) -> None:
        """Nobody waits."""

    def abort(self) -> None:
        self.aborted = True


@dataclass(slots=True)
class Player:
    """An engine that plays its answers in turn; a fault is raised."""

    answers: list[Played | RelayError | asyncio.CancelledError]
    requests: list[Request] = field(default_factory=list)
    sent: list[bytes] = field(default_factory=list)
    withins: list[float] = field(default_factory=list)
    fresh: list[bool] = field(default_factory=list)
    running: int = 0

    async def open(self, request: Request, body: Upload, within: float | None = None, fresh: bool = False) -> Played:
        assert isinstance(body, bytes)
        self.fresh.append(fresh)
        self.withins.append(within or 0.0)
        self.requests.append(request)
        self.sent.append(body)
        answer = self.answers.pop(0)
        if not isinstance(answer, Played):
            raise answer
        return answer

    def retire(self) -> None:
        """Nothing is held."""

    async def close(self) -> None:
        """Nothing is held."""

    @property
    def bodies(self) -> list[Any]:
        return list(map(json.loads, self.sent))


async def opened(
    player: Player,
    query: bytes = b"",
    headers: tuple[Header, ...] = (),
    own: tuple[Header, ...] = (),
    upstream: Upstream | None = None,
    tries: list[Try] | None = None,
    standby: tuple[Target, ...] = (),
    until: float = math.inf,
    **fields: Any,
) -> Opened:
    """What comes through the door for a chat with these fields."""
    head = asking.read_head(endpoints.ENDPOINTS[0], None, query, headers)
    ask = asking.read(head, json.dumps({"model": "fast", **fields}).encode(), 10_000)
    target = Target("up", "gpt")
    alias = Alias("fast", ((target,),), fallback={"context_window": standby})
    upstream = upstream or Upstream("up", player, Credentials([Credential(own)]))
    return await door.ask(
        upstream, target, alias, head, ask, [] if tries is None else tries, time.perf_counter_ns(), until
    )


async def test_an_answer_comes_through_with_the_edited_body_and_a_try() -> None:
    player, tries = Player([Played(200, b'{"ok": 1}')]), list[Try]()
    result = await opened(player, tries=tries)
    assert (200, b'{"ok": 1}') == (result.reply.status, await gather(result.reply))
    assert (("model",), [{"model": "gpt"}]) == (result.edited.names, player.bodies)
    assert (b"POST", b"/chat/completions") == (player.requests[0].method, player.requests[0].target)
    assert [("up", "gpt", 200, None, True)] == [(t.upstream, t.model, t.status, t.error, t.reused) for t in tries]
    assert tries[0].first_byte_ms is not None


def stale() -> UpstreamError:
    fault = UpstreamError("Closed before it answered.")
    fault.stale = True
    return fault


async def test_a_request_over_a_connection_that_was_closed_before_is_sent_once_more() -> None:
    player, tries = Player([stale(), Played(200, reused=False, connect_ms=0.25)]), list[Try]()
    result = await opened(player, tries=tries, until=time.perf_counter() + 50)
    assert (200, [{"model": "gpt"}] * 2) == (result.reply.status, player.bodies)
    assert [(None, True, None), (200, False, 0.25)] == [(one.status, one.reused, one.connect_ms) for one in tries]
    assert ["Closed before it answered.", None] == [one.error for one in tries]
    assert 50 >= player.withins[0] >= player.withins[1] > 0
    assert [False, True] == player.fresh


async def test_it_is_not_sent_a_third_time() -> None:
    player, tries = Player([stale(), stale(), Played(200)]), list[Try]()
    with pytest.raises(UpstreamError, match=r"Closed before"):
        await opened(player, tries=tries)
    assert ([True, False], 2) == ([one.unheard for one in tries], len(player.sent))


@pytest.mark.parametrize("status", [401, 403])
async def test_a_refusal_of_our_credential_shows_nothing_of_it(status: int) -> None:
    answer, tries = Played(status, LEAK), list[Try]()
    with pytest.raises(UpstreamAuthFailed) as caught:
        await opened(Player([answer]), tries=tries)
    assert b"sk-ours" not in caught.value.body()
    assert answer.aborted
    assert [status] == [one.status for one in tries]


@pytest.mark.parametrize("status", [301, 302, 307, 308])
async def test_a_redirect_is_not_followed(status: int) -> None:
    answer = Played(status, headers=((b"location", b"http://evil.example/sk-ours"),))
    with pytest.raises(UpstreamError, match=r"'up' answered with a redirect") as caught:
        await opened(Player([answer]))
    assert "evil" not in caught.value.message
    assert answer.aborted


@pytest.mark.parametrize("status", [400, 404, 429, 500, 503])
async def test_any_other_error_passes(status: int) -> None:
    player = Player([Played(status, OTHER)])
    result = await opened(player, stream=True)
    assert (status, OTHER) == (result.reply.status, await gather(result.reply))
    assert (b"content-type", b"application/json") in result.reply.headers
    assert len(player.requests) == 1


async def test_a_fault_is_written_down_and_raised() -> None:
    tries = list[Try]()
    with pytest.raises(Overloaded):
        await opened(Player([Overloaded("All are busy.")]), tries=tries)
    assert [(None, "All are busy.")] == [(one.status, one.error) for one in tries]


@pytest.mark.parametrize(
    ("note", "error"), [(None, "given up before it answered"), (UNSENT, "given up before it was asked")]
)
async def test_who_leaves_is_told_apart_by_whether_the_upstream_can_have_seen_anything(
    note: str | None, error: str
) -> None:
    left = asyncio.CancelledError()
    if note is not None:
        left.add_note(note)
    tries: list[Try] = []

    with pytest.raises(asyncio.CancelledError):
        await opened(Player([left]), tries=tries)

    assert [(error, note is None)] == [(each.error, each.sent) for each in tries]


@pytest.mark.parametrize("status", [400, 422])
async def test_a_model_that_refuses_the_usage_option_is_asked_without_it_and_remembered(status: int) -> None:
    tries = list[Try]()
    player = Player([Played(status, NO_OPTION), Played(200, b"data"), Played(200)])
    upstream = Upstream("up", player)
    result = await opened(player, upstream=upstream, tries=tries, stream=True)
    assert (200, b"data", False) == (result.reply.status, await gather(result.reply), result.edited.asks_usage)
    assert [status, 200] == [one.status for one in tries]
    await opened(player, upstream=upstream, stream=True)
    assert [True, False, False] == ["stream_options" in body for body in player.bodies]


async def test_an_option_of_the_callers_own_that_is_refused_says_nothing_of_the_model() -> None:
    player = Player([Played(400, NO_OPTION), Played(400, NO_OPTION), Played(200)])
    upstream = Upstream("up", player)
    result = await opened(player, upstream=upstream, stream=True, stream_options={"odd": 1})
    assert (400, NO_OPTION) == (result.reply.status, await gather(result.reply))
    assert not upstream.refuse_usage
    result = await opened(player, upstream=upstream, stream=True)
    assert result.edited.asks_usage


@pytest.mark.parametrize("fields", [{}, {"stream": True, "stream_options": {"include_usage": True}}])
async def test_who_was_not_given_the_option_by_us_is_not_asked_again(fields: dict[str, Any]) -> None:
    player = Player([Played(400, NO_OPTION)])
    result = await opened(player, **fields)
    assert (400, NO_OPTION) == (result.reply.status, await gather(result.reply))
    assert len(player.requests) == 1


async def test_the_second_try_may_be_refused_too() -> None:
    with pytest.raises(UpstreamAuthFailed):
        await opened(Player([Played(400, NO_OPTION), Played(401, LEAK)]), stream=True)


async def test_a_stream_option_that_is_no_object_never_leaves() -> None:
    player = Player([])
    with pytest.raises(BadRequest):
        await opened(player, stream=True, stream_options=3)
    assert not player.requests


@pytest.mark.parametrize("standby", [(), (Target("big", "gpt"),)], ids=["alone", "with a fallback"])
async def test_a_refusal_is_here_as_a_whole_where_another_model_stands_by(standby: tuple[Target, ...]) -> None:
    answer = Played(400, OTHER)
    result = await opened(Player([answer]), standby=standby)
    assert (OTHER if standby else None) == result.reply.whole
    assert result.at >= answer.ended_at  # what came whole came when its last byte did
    assert OTHER == await gather(result.reply)


async def test_a_refusal_without_end_is_not_kept() -> None:
    answer = Played(400, b" " * (20 << 20))
    with pytest.raises(UpstreamError, match="longer than"):
        await opened(Player([answer]), standby=(Target("big", "gpt"),))


async def test_every_try_is_told_how_long_the_caller_waits() -> None:
    player = Player([Played(400, NO_OPTION), Played(200)])
    await opened(player, stream=True, until=time.perf_counter() + 50, upstream=Upstream("up", player))
    first, second = player.withins
    assert 49 < second <= first <= 50


def pool(player: Player, count: int) -> Upstream:
    """An upstream with that many keys, whose fingerprints are their numbers."""
    return Upstream("up", player, Credentials([Credential(((b"k", b"%d" % n),), str(n)) for n in range(count)]))


LATER: Header = (b"retry-after", b"20")


@pytest.mark.parametrize(
    ("answers", "keys", "status"),
    [
        ([Played(401), Played(200)], ["0", "1"], 200),
        ([Played(402), Played(403), Played(200)], ["0", "1", "2"], 200),
        ([Played(429, headers=(LATER,)), Played(200)], ["0", "1"], 200),
        ([Played(429), Played(429), Played(429, OTHER)], ["0", "1", "2"], 429),
        ([Played(401), Played(401), Played(402, OTHER)], ["0", "1", "2"], 402),
        ([Played(500, OTHER)], ["0"], 500),
    ],
)
async def test_another_key_of_the_pool_is_tried_at_once(answers: list[Played], keys: list[str], status: int) -> None:
    tries, player = list[Try](), Player([*answers])
    result = await opened(player, upstream=pool(player, 3), tries=tries)
    assert (status, keys) == (result.reply.status, [one.key for one in tries])
    assert [True] * (len(keys) - 1) == [one.aborted for one in answers[:-1]]


async def test_with_every_key_refused_it_is_not_asked_any_more() -> None:
    tries = list[Try]()
    player = Player([Played(401, LEAK), Played(403, LEAK)])
    upstream = pool(player, 2)
    for _ in range(2):
        with pytest.raises(UpstreamAuthFailed):
            await opened(player, upstream=upstream, tries=tries)
    assert ["0", "1"] == [one.key for one in tries]


async def test_with_every_key_resting_one_is_tried_all_the_same() -> None:
    player = Player([Played(429), Played(429), Played(200)])
    upstream = pool(player, 2)
    await opened(player, upstream=upstream)
    assert 200 == (await opened(player, upstream=upstream)).reply.status


async def test_each_key_is_asked_once_however_short_its_rest_is() -> None:
    player = Player([Played(429, headers=((b"retry-after-ms", b"0"),)) for _ in range(9)])
    tries = list[Try]()
    assert 429 == (await opened(player, upstream=pool(player, 2), tries=tries)).reply.status
    assert ["0", "1"] == [one.key for one in tries]


@pytest.mark.parametrize(
    ("query", "target"),
    [
        (b"", b"/chat/completions"),
        (b"api-version=2024-10-21", b"/chat/completions"),
        (b"a=1&api-version=2024-10-21&b=%2F+", b"/chat/completions?a=1&b=%2F+"),
        (b"a=api-version=1&a=2", b"/chat/completions?a=api-version=1&a=2"),
    ],
)
async def test_the_query_goes_on_without_azures_version(query: bytes, target: bytes) -> None:
    player = Player([Played(200)])
    await opened(player, query=query)
    assert target == player.requests[0].target


async def test_headers_of_the_configuration_come_before_the_callers() -> None:
    player = Player([Played(200)])
    own = ((b"authorization", b"Bearer ours"), (b"user-agent", b"team"))
    theirs = ((b"authorization", b"Bearer theirs"), (b"user-agent", b"curl"), (b"accept", b"*/*"), (b"cookie", b"c"))
    await opened(player, own=own, headers=theirs)
    assert (*own, (b"accept", b"*/*")) == player.requests[0].headers


@pytest.mark.parametrize(
    ("fields", "engine"),
    [({}, Wire), ({"engine": "httpx"}, HttpxEngine), ({"kind": "echo", "base_url": ""}, EchoEngine)],
)
async def test_a_kind_of_upstream_has_its_engine(fields: dict[str, Any], engine: type) -> None:
    built = kinds.build(
        config.Upstream(**({"name": "up", "base_url": "https://up.example/v1"} | fields)), config.Queue()
    )
    assert ("up", engine) == (built.name, type(built.engine))
    await built.engine.close()


def only(upstream: Upstream) -> Credential:
    assert upstream.credentials.sole is not None
    return upstream.credentials.sole


async def test_each_key_has_its_own_headers_and_fingerprint() -> None:
    keys = (Secret("one"), Secret("two"))
    built = kinds.build(config.Upstream("up", base_url="http://up.example", api_keys=keys), config.Queue())
    found = [built.credentials.pick("gpt", 0.0) for _ in keys]
    assert [b"Bearer one", b"Bearer two"] == [dict(each.headers)[b"authorization"] for each in found if each]
    assert [fingerprint("one"), fingerprint("two")] == [each.fingerprint for each in found if each]


async def test_what_goes_with_every_request() -> None:
    spec = config.Upstream("up", base_url="http://up.example", api_keys=(Secret("one"),), headers={"x-team": "blue"})
    built = kinds.build(spec, config.Queue())
    expected = {b"accept-encoding": b"identity", b"authorization": b"Bearer one", b"x-team": b"blue"}
    assert expected == dict(only(built).headers)
    assert "one" not in repr(built)
    replaced = kinds.build(
        config.Upstream("up", base_url="http://up.example", headers={"authorization": "Basic x"}), config.Queue()
    )
    assert (b"authorization", b"Basic x") in only(replaced).headers


@pytest.mark.parametrize("engine", ["wire", "httpx"])
def test_an_authority_that_cannot_be_read_stops_the_start(engine: Any, tmp_path: Path) -> None:
    spec = config.Upstream("up", base_url="https://up.example", ca=tmp_path / "no.pem", engine=engine)
    with pytest.raises(SetupFault, match=r"no\.pem"):
        kinds.build(spec, config.Queue())
