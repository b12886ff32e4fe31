"""Ten thousand requests while everything fails at random: one record of each, and nothing is left behind.

What the upstreams answer, the faults on the way to two of them, the moments at which clients leave and those at which
the configuration changes are drawn by a seed, which is shown when the test fails; how they meet is up to the machine.
STORM_SEED has one of them again, STORM_REQUESTS more or fewer requests, STORM_ENGINE=httpx
the other engine for some upstreams.
"""

import asyncio
import json
import os
import random
import signal
import socket
import struct
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any, Self

import pytest

from tests.client import Client, chat, request
from tests.faults import HEALTHY, Cut, Fault, FaultProxy, Latency, Refused, Reset, SlowClose, Timeout, Trickle
from tests.process import KEY, RelayProcess, Start
from tests.upstream import (
    DONE,
    END,
    Close,
    Never,
    Pause,
    Step,
    Upstream,
    event,
    opening,
    piece,
    response,
    stream,
)
from tests.upstream import Reset as Break
from tests.waiting import until

REQUESTS, VISITORS = int(os.environ.get("STORM_REQUESTS", "10000")), 40
ENGINE = os.environ.get("STORM_ENGINE", "wire")
UPSTREAMS = ("script", "other", "plain")  # the first two behind proxies
AT_ONCE = 12  # connections of each upstream; the key may run as many requests as all of them: fewer than visitors
FAULTS, CALM, GONE = 997, 1.5, 0.05  # drawn faults; seconds between two absences of everybody, and how long one lasts
CHANGES = 0.2, 1.2  # seconds between two changes of the configuration
LEAVES = 0.25  # of the visitors
FAILS = 0.5  # of what the upstreams answer
NAMES = 24  # asked of each kind of alias, half of them as streams
KEYS = {f"POOL_{letter}": f"sk-upstream-pool-{letter}-000000" for letter in "ABC"}

FINISH = event({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
FAILURES: dict[str, tuple[Step, ...]] = {
    "closed": (Close(),),
    "reset": (Break(),),
    "nonsense": (b"SSH-2.0-OpenSSH_9.2\r\n", Close()),
    "silent": (Never(),),
}
STATUSES = {200, 400, 429, 500, 502, 503, 504}


@dataclass(frozen=True, slots=True)
class Script:
    """What an upstream answers; `whole` is the body of that, as far as it comes."""

    steps: tuple[Step, ...]
    whole: bytes = b""


def refusal(mark: str, status: str, *headers: str, code: str | None = None) -> Script:
    body = json.dumps({"error": {"message": f"no, says {mark}", "type": "server_error", "code": code}}).encode()
    return Script((response(body, *headers, status=status),), body)


def failures(mark: str) -> list[Script]:
    """What is no answer, whatever was asked for."""
    return [
        *map(Script, FAILURES.values()),
        refusal(mark, "429 Too Many Requests", "retry-after-ms: 1"),
        refusal(mark, "429 Too Many Requests"),
        refusal(mark, "500 Internal Server Error"),
        refusal(mark, "503 Service Unavailable", "content-type: text/html"),
        refusal(mark, "400 Bad Request"),
        refusal(mark, "400 Bad Request", code="context_length_exceeded"),
    ]


def wholes(mark: str) -> list[Script]:
    short, long = (json.dumps({"choices": [{"message": {"content": mark * times}}]}).encode() for times in (1, 10_000))
    return [
        Script((response(short),), short),
        Script((Pause(0.02), response(short)), short),
        Script((response(long),), long),
    ]


def streams(mark: str) -> list[Script]:
    said, error = event({"choices": [{"index": 0, "delta": {"content": mark}}]}), event({"error": {"message": mark}})
    rest = Pause(0.01)
    return [
        Script(stream(said, said, FINISH, DONE), said + said + FINISH + DONE),
        Script(stream(said, rest, said, rest, FINISH, DONE), said + said + FINISH + DONE),
        Script((opening(), piece(said), piece(said[:9]), Close()), said),
        Script((opening(), piece(said), Pause(0.005), Break()), said),
        Script(stream(said, error), said + error),
        Script(stream(error)),
    ]


@dataclass(frozen=True, slots=True)
class Play:
    """Who answers what: by the name of the upstream and the name that is asked for."""

    asked: Mapping[str, bool]  # whether a stream
    scripts: Mapping[tuple[str, str], Script]

    @classmethod
    def drawn(cls, luck: random.Random) -> Self:
        kinds = [kind.removesuffix("-*") for kind in models(luck) if kind.endswith("-*")]
        asked = {f"{kind}-{number}": number % 2 == 0 for kind in kinds for number in range(NAMES)}
        scripts = {}
        for upstream in UPSTREAMS:
            for name, streamed in asked.items():
                mark = f"{upstream} for {name}"
                answers = streams(mark) if streamed else wholes(mark)
                scripts[upstream, name] = luck.choice(failures(mark) if luck.random() < FAILS else answers)
        refused = luck.choice(list(asked))
        scripts["other", refused] = refusal(refused, "401 Unauthorized")  # takes keys out of the pool
        return cls(asked, scripts)

    def check(self, name: str, status: int, headers: Mapping[str, str], body: bytes) -> None:
        """The answer is one upstream's whole answer, or says itself that it is none."""
        if status >= 400 and b"(request req_" in body:  # the relay's own
            return
        script = self.scripts[headers["x-relay-upstream"], name]
        before, cut, _ = body.rpartition(b'data: {"error": ')  # as the relay writes it, with a space
        if status == 200 and cut:
            assert script.whole.startswith(before), (script, body)
            assert before, body
            assert not before.endswith(DONE), body
        else:
            assert script.whole == body, (name, status, headers)
            assert status == int(script.steps[0][9:12]) if isinstance(script.steps[0], bytes) else status == 200


def drawn(luck: random.Random) -> Fault:
    """A fault, most of them none."""
    spoils: list[Fault] = [
        *(Cut(luck.randint(0, 400)), Reset(luck.randint(0, 400))),
        *(Latency(up=luck.uniform(0, 0.03)), Latency(down=luck.uniform(0, 0.03))),
        *(Trickle(0.0001), Timeout(), SlowClose(0.05)),
    ]
    return luck.choice(spoils) if luck.random() < 0.4 else HEALTHY


def models(luck: random.Random) -> dict[str, Any]:
    """Every kind of alias; the targets' order and weights are drawn."""
    names = luck.sample(UPSTREAMS, 3)
    targets = [f"{name}/*" for name in names]
    weighed = [{"to": target, "weight": luck.randint(1, 9)} for target in targets]
    return {
        "one-*": "script/*",
        "order-*": targets,
        "weighted-*": {"targets": weighed},
        "busy-*": {"targets": weighed, "strategy": "least_busy"},
        "fastest-*": {"targets": targets, "strategy": "fastest"},
        "sticky-*": {"targets": weighed, "strategy": "sticky"},
        "nested-*": [weighed[:2], targets[2]],
        "long-*": {"targets": targets[:1], "fallback": {"context_window": targets[1:]}},
        **{f"hold {name}": f"{name}/hold" for name in UPSTREAMS},
    }


def sections(ports: Mapping[str, int], luck: random.Random, *, first: bool = False) -> dict[str, Any]:
    """A good configuration: the one that it all begins and ends with, or any.

    Only `other` is a changed upstream in each: the connections of those that stay see the whole storm.
    """
    limits = {"connect": "1s", "first_byte": "0.3s", "idle": "0.3s"}
    most = [AT_ONCE] if first else [AT_ONCE, 8, 20]
    upstreams: dict[str, dict[str, Any]] = {
        name: {
            "base_url": f"http://127.0.0.1:{port}/v1",
            "timeouts": limits,
            "max_connections": AT_ONCE,
            "engine": ENGINE if name == "plain" else "wire",
        }
        for name, port in ports.items()
    }
    upstreams["other"] |= {
        "api_keys": [f"env:{key}" for key in KEYS],
        "max_connections": luck.choice(most),
        "engine": luck.choice(["wire", ENGINE]),
    }
    key = {"name": "storm", "key": "env:CALLER_KEY", "concurrency": luck.choice(most) * len(UPSTREAMS)}
    return {
        "upstreams": upstreams,
        "models": models(luck),
        "keys": [key],
        "queue": {"size": 2, "wait": "50ms"},
        "health": {"failures": 3, "cooldown": "300ms"},
    }


@dataclass
class Storm:
    """The visitors, and what they saw: statuses, and the ids of the answers."""

    relay: RelayProcess
    proxies: list[FaultProxy]
    ports: Mapping[str, int]
    play: Play
    luck: random.Random
    sent: int = 0
    changes: int = 0
    statuses: Counter[int] = field(default_factory=Counter)
    ids: set[str] = field(default_factory=set)

    async def rage(self) -> Self:
        """All the requests; now and then nobody is behind a proxy, or the configuration another one."""
        beside = [asyncio.create_task(self._absences(proxy)) for proxy in self.proxies]
        beside.append(asyncio.create_task(self._reloads()))
        await asyncio.gather(*(self._visitor() for _ in range(VISITORS)))
        for task in beside:
            task.cancel()
        assert [True] * len(beside) == [
            isinstance(end, asyncio.CancelledError) for end in await asyncio.gather(*beside, return_exceptions=True)
        ]
        return self

    async def _absences(self, proxy: FaultProxy) -> None:
        faults = [drawn(self.luck) for _ in range(FAULTS)]
        while True:
            await asyncio.to_thread(proxy.inflict, *faults)
            await asyncio.sleep(CALM * self.luck.uniform(0.5, 1.5))
            await asyncio.to_thread(proxy.inflict, Refused())
            await asyncio.sleep(GONE)

    async def _reloads(self) -> None:
        while True:
            await asyncio.sleep(self.luck.uniform(*CHANGES))
            save(self.relay, **sections(self.ports, self.luck))
            self.changes += 1
            if self.luck.random() < 0.7:  # else it finds out by itself
                self.relay.signal(signal.SIGHUP)

    async def _visitor(self) -> None:
        """One client after the other, each for as long as its connection lasts."""
        while self.sent < REQUESTS:
            reader, writer = await asyncio.open_connection("127.0.0.1", self.relay.port, limit=1 << 20)
            try:
                while self.sent < REQUESTS and await self._request(reader, writer):
                    pass
            except (asyncio.IncompleteReadError, ConnectionError):
                pass  # half an answer, which shows that it is
            finally:
                writer.transport.abort()

    async def _request(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Ask once; whether the connection can go on."""
        self.sent += 1
        name = self.luck.choice(list(self.play.asked))
        asked = request(chat(name, stream=self.play.asked[name], prompt_cache_key=self.luck.randint(1, 9)), key=KEY)
        leaves = self.luck.random() < LEAVES
        if not leaves:
            writer.write(asked)
            if await self._answer(reader, name) in {429, 503}:
                await asyncio.sleep(0.05)  # else those who are refused make up most of the storm
            return True
        writer.write(asked[: self.luck.choice([len(asked), len(asked), len(asked) - 9])])
        try:
            async with asyncio.timeout(self.luck.choice([0, 0.001, 0.01, 0.1])):
                await reader.read(self.luck.randint(1, 500))
                if self.luck.random() < 0.5:  # the request has arrived: RST cannot overtake it
                    linger = struct.pack("ii", 1, 0)
                    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        except TimeoutError:
            pass
        return False

    async def _answer(self, reader: asyncio.StreamReader, name: str) -> int:
        """The status of one whole answer. Raises IncompleteReadError for a part of one."""
        lines = (await reader.readuntil(b"\r\n\r\n")).decode().lower().split("\r\n")
        status, headers = int(lines[0].split()[1]), dict(line.split(": ", 1) for line in lines[1:] if line)
        self.statuses[status] += 1
        self.ids.add(headers["x-relay-id"])
        if "content-length" in headers:
            body = await reader.readexactly(int(headers["content-length"]))
        else:
            body = b"".join([part async for part in chunks(reader)])
        self.play.check(name, status, headers, body)
        return status


async def chunks(reader: asyncio.StreamReader) -> Any:
    """The content of a chunked body."""
    while size := int(await reader.readuntil(b"\r\n"), 16):
        yield (await reader.readexactly(size + 2))[:-2]
    await reader.readexactly(2)


def save(relay: RelayProcess, **changed: Any) -> None:
    """Put another configuration in the file's place."""
    other = relay.config_file.with_suffix(".new")
    other.write_text(json.dumps({**relay.config, **changed}))
    other.replace(relay.config_file)


def reload(relay: RelayProcess) -> None:
    """Have the file read, twice: a reading that was under way may have begun before the file was there."""
    for _ in range(2):
        before = relay.output.count(": applied\n")
        relay.signal(signal.SIGHUP)
        assert until(lambda before=before: relay.output.count(": applied\n") > before), relay.output  # type: ignore[misc]


@pytest.fixture(scope="module")
def upstreams(upstream: Upstream) -> Iterator[dict[str, Upstream]]:
    with Upstream() as other, Upstream() as plain:
        yield {"script": upstream, "other": other, "plain": plain}


@pytest.mark.timeout(240)
def test_a_storm(start: Start, upstreams: dict[str, Upstream], between: FaultProxy) -> None:
    seed = int(os.environ.get("STORM_SEED", random.randrange(2**32)))  # noqa: S311 - a schedule, no secret
    print(f"the seed of the storm is {seed}")  # noqa: T201  # shown when the test fails
    luck = random.Random(seed)  # noqa: S311
    play = Play.drawn(luck)
    for (name, model), script in play.scripts.items():
        upstreams[name].play(model, *script.steps)
    with FaultProxy(upstreams["other"].port) as second:
        proxies = [between, second]
        ports = {"script": between.port, "other": second.port, "plain": upstreams["plain"].port}
        begin = sections(ports, luck, first=True)
        relay = start(KEYS, **begin)
        sockets = relay.sockets()

        storm = asyncio.run(Storm(relay, proxies, ports, play, luck).rage())

        for proxy in proxies:
            proxy.inflict(HEALTHY)
        save(relay, **begin)
        reload(relay)
        held = assert_room_for_all(relay, upstreams)
        changed = {name: {**upstream, "keep_alive": "20s"} for name, upstream in begin["upstreams"].items()}
        save(relay, **{**begin, "upstreams": changed})  # another engine for all
        reload(relay)
        assert until(lambda: not any(proxy.open for proxy in proxies), within=10)
        assert until(lambda: relay.sockets() <= sockets, within=5), relay.sockets()
        assert storm.statuses.keys() <= STATUSES, storm.statuses
        assert 0 == relay.stop()
    print(f"{storm.changes} changes, {dict(storm.statuses)}")  # noqa: T201
    rows = relay.log(2 * REQUESTS)
    ids = {row["id"] for row in rows}
    assert storm.sent + held == len(rows) == len(ids)
    assert storm.ids <= ids
    assert "Traceback" not in relay.output
    assert "without an answer" not in relay.output


def assert_room_for_all(relay: RelayProcess, upstreams: Mapping[str, Upstream]) -> int:
    """As many requests as are allowed run at once, and not one more. Returns how many were sent."""
    event_and_pause = (piece(event({"choices": []})), Pause(0.1))  # of the 0.3 s that an upstream may be silent
    names = [name for name in upstreams for _ in range(AT_ONCE)]
    for upstream in upstreams.values():
        upstream.play("hold", opening(), *event_and_pause * 25, piece(FINISH + DONE), END)
    with ExitStack() as stack:
        clients = [stack.enter_context(relay.connect()) for _ in names]
        for client, name in zip(clients, names, strict=True):
            client.send(request(chat(f"hold {name}", stream=True), key=KEY))
        assert until(lambda: all(len(each.requests("hold")) == AT_ONCE for each in upstreams.values()))
        assert 503 == relay.ask(chat("hold plain", stream=True)).status
        answers = list(map(Client.answer, clients))
    assert [(200, True)] * len(names) == [(answer.status, answer.complete) for answer in answers]
    return len(names) + 1
