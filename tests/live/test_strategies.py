"""Which of an alias's targets serves: by order, weight, load, speed, conversation, tags and health."""

import json
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import pytest

from tests.client import Answer, chat, request
from tests.faults import HEALTHY, FaultProxy, Refused
from tests.process import KEY, RelayProcess, Start
from tests.upstream import END, Pause, Step, Upstream, event, opening, piece, response
from tests.waiting import until

FINE = response({"choices": []})
BROKEN = response({"error": {"message": "not now"}}, status="500 Broken")
SAID = event({"choices": [{"index": 0, "delta": {"content": "a"}}]})
EU_KEY = "sk-test-caller-in-eu-51e07ad3"
COOLDOWN = 3.0  # seconds, in which a command can start and ask on a slow machine too
MODEL = "m"  # what every alias leads to
ALIASES: dict[str, Any] = {
    "order": ["a/m", "b/m"],
    "weighted": {"targets": [{"to": "a/m", "weight": 9}, {"to": "b/m", "weight": 1}]},
    "busy": {"targets": ["a/m", "b/m"], "strategy": "least_busy"},
    "fastest": {"targets": ["a/m", "b/m"], "strategy": "fastest"},
    "sticky": {"targets": ["a/m", "b/m", "c/m"], "strategy": "sticky"},
    "tiers": [[{"to": "a/m", "weight": 9}, {"to": "b/m", "weight": 1}], "c/m"],
    "tagged": [{"to": "a/m", "tags": ["eu"]}, "b/m"],
    "only-tagged": {"targets": [{"to": "a/m", "tags": ["eu"]}]},
    "half": ["off/m", "b/m"],
    "none": ["off/m"],
    "any-*": ["a/*", "b/*"],
    "alone": "a/m",
}


@dataclass(frozen=True)
class World:
    """A relay and its upstreams `a`, `b` and `c`, all of them well; there is a proxy before `c`."""

    relay: RelayProcess
    upstreams: dict[str, Upstream]
    proxy: FaultProxy

    def play(self, *steps: Step, at: str = "abc", model: str = MODEL) -> None:
        for name in at:
            self.upstreams[name].play(model, *steps)

    def served(self, alias: str, times: int, **fields: Any) -> Counter[str | None]:
        """Who answers so many requests, made one after the other; each has to be a 200."""
        answers = []
        with self.relay.connect() as client:
            for _ in range(times):
                client.send(request(chat(alias, **fields), key=KEY))
                answers.append(client.answer())
        assert {200} == {answer.status for answer in answers}
        return Counter(answer.header("x-relay-upstream") for answer in answers)

    def state(self, target: str) -> dict[str, Any]:
        """What /readyz says of it."""
        found: dict[str, Any] = self.relay.ask(method="GET", path="/readyz").json()["targets"].get(target, {})
        return found

    def told(self, *arguments: str) -> dict[str, Any]:
        """What a command says as JSON."""
        done = self.relay.run(*arguments, "--json")
        assert (0, "") == (done.returncode, done.stderr)
        found: dict[str, Any] = json.loads(done.stdout)
        return found


def way(answer: Answer) -> tuple[int, str | None, str | None]:
    """How it ended, who served it, and after how many tries."""
    return answer.status, answer.header("x-relay-upstream"), answer.header("x-relay-attempts")


@pytest.fixture(scope="module")
def upstreams(upstream: Upstream) -> Iterator[dict[str, Upstream]]:
    with Upstream() as b, Upstream() as c:
        yield {"a": upstream, "b": b, "c": c}


@pytest.fixture(scope="module")
def between(upstreams: dict[str, Upstream]) -> Iterator[FaultProxy]:
    with FaultProxy(upstreams["c"].port) as running:
        yield running


@pytest.fixture
def world(start: Start, upstreams: dict[str, Upstream], between: FaultProxy) -> Iterator[World]:
    """A relay of its own for each test, since what failed is remembered."""
    ports = {"a": upstreams["a"].port, "b": upstreams["b"].port, "c": between.port}
    relay = start(
        environ={"EU_KEY": EU_KEY},
        upstreams={name: {"base_url": f"http://127.0.0.1:{port}/v1"} for name, port in ports.items()}
        | {"off": {"base_url": "http://off.invalid/v1", "api_key": "env:NOT_THERE"}},
        models=ALIASES,
        keys=[{"name": "tests", "key": "env:CALLER_KEY"}, {"name": "eu", "key": "env:EU_KEY", "tags": ["eu"]}],
        health={"cooldown": f"{COOLDOWN}s"},
    )
    found = World(relay, upstreams, between)
    found.play(FINE)
    yield found
    between.inflict(HEALTHY)
    relay.end()


# --- whom a strategy prefers


def test_weights_are_shares(world: World) -> None:
    served = world.served("weighted", 200)

    assert 154 <= served["a"] <= 198  # of 200, at nine in ten: outside less than once in a million
    assert 200 == served["a"] + served["b"]


def test_a_busy_upstream_is_avoided(world: World) -> None:
    world.play(opening(), piece(SAID), Pause(10), END, at="a", model="any-held")
    with ExitStack() as stack:
        for _ in range(2):
            client = stack.enter_context(world.relay.connect())
            client.send(request(chat("any-held", stream=True), key=KEY))
            client.read_to(SAID)

        assert Counter(b=40) == world.served("busy", 40)
    readyz = world.relay.ask(method="GET", path="/readyz").json
    assert until(lambda: readyz()["upstreams"]["a"]["running"] == 0)

    assert {"a", "b"} == world.served("busy", 40).keys()


def test_the_slow_one_gets_few(world: World) -> None:
    world.play(Pause(0.1), FINE, at="a")

    served = world.served("fastest", 100)

    assert 1 <= served["a"] <= 5


def conversation(number: int, turns: int) -> list[dict[str, str]]:
    """What it says once it has so many turns."""
    begin = [
        {"role": "system", "content": "You are brief."},
        {"role": "user", "content": f"Tell me of the number {number}."},
    ]
    more = [{"role": role, "content": f"{turn}"} for turn in range(1, turns) for role in ("assistant", "user")]
    return [*begin, *more]


def test_a_conversation_stays_where_it_began(world: World) -> None:
    def homes(turns: int) -> list[str]:
        """Where each conversation is served."""
        return [
            str(next(iter(world.served("sticky", 1, messages=conversation(number, turns))))) for number in range(60)
        ]

    first = homes(1)
    assert {"a", "b", "c"} == set(first)
    assert first == homes(2) == homes(7)

    world.proxy.inflict(Refused())
    moved = homes(8)

    assert [home for home in first if home != "c"] == [
        now for home, now in zip(first, moved, strict=True) if home != "c"
    ]
    assert {"a", "b"} == {now for home, now in zip(first, moved, strict=True) if home == "c"}


def test_tags(world: World) -> None:
    def asked(alias: str, key: str) -> Answer:
        return world.relay.ask(chat(alias), key=key)

    assert (200, "a", "1") == way(asked("tagged", EU_KEY))
    assert (200, "b", "1") == way(asked("tagged", KEY))
    assert (200, "a", "1") == way(asked("only-tagged", EU_KEY))
    refused = asked("only-tagged", KEY)
    assert (403, "model_not_allowed") == (refused.status, refused.error["code"])
    assert "refused" == world.relay.record(refused)["outcome"]


def test_the_next_tier_is_asked_when_the_first_has_failed(world: World) -> None:
    assert {"a", "b"} >= world.served("tiers", 30).keys()

    world.play(BROKEN, at="ab")

    answer = world.relay.ask(chat("tiers"))
    assert (200, "c", "3") == way(answer)
    tries = [each["target"] for each in world.told("why", str(answer.header("x-relay-id")))["tries"]]
    assert ["a/m", "b/m"] == sorted(tries[:2])
    assert ["c/m"] == tries[2:]


def test_a_wildcard_falls_over_by_the_name_that_was_asked_for(world: World) -> None:
    world.play(BROKEN, at="a", model="any-thing")
    world.play(FINE, at="b", model="any-thing")

    answer = world.relay.ask(chat("any-thing"))

    assert (200, "b", "2") == way(answer)
    assert "any-thing" == answer.header("x-relay-model")
    assert [1, 1] == [len(world.upstreams[name].requests("any-thing")) for name in "ab"]


def test_an_upstream_that_is_switched_off_is_skipped(world: World) -> None:
    answer = world.relay.ask(chat("half"))

    assert (200, "b", "1") == way(answer)
    assert ["off/m"] == [each["target"] for each in world.told("route", "half")["dropped"]]
    assert (502, "off") == way(world.relay.ask(chat("none")))[:2]


# --- who was ill


def fall_ill(world: World) -> list[Answer]:
    """Five failures of `a`; the answers are of `b`."""
    world.play(BROKEN, at="a")
    answers = [world.relay.ask(chat("order")) for _ in range(5)]
    assert [(200, "b", "2")] * 5 == list(map(way, answers))
    return answers


def rested(world: World) -> bool:
    """The rest of `a` is over."""
    found: bool = world.state("a/m").get("rests_s") == 0.0
    return found


def test_after_five_failures_a_target_is_spared(world: World) -> None:
    fall_ill(world)
    before = len(world.upstreams["a"].requests(MODEL))

    assert (200, "b", "1") == way(world.relay.ask(chat("order")))

    state = world.state("a/m")
    assert ("resting", 5, "5 failures in a row, the last: HTTP 500") == tuple(
        state[name] for name in ("state", "failures", "reason")
    )
    told = world.told("route", "order")
    assert (["b/m"], ["a/m"]) == tuple([each["target"] for each in told[part]] for part in ("targets", "dropped"))
    assert "5 failures in a row" in told["dropped"][0]["reason"]
    assert before == len(world.upstreams["a"].requests(MODEL))


def test_a_person_is_told_that_a_target_rests(world: World) -> None:
    fall_ill(world)

    assert "a/m: rests for " in world.relay.run("route", "order").stdout


def test_who_is_alone_is_asked_although_it_is_ill(world: World) -> None:
    fall_ill(world)

    assert (500, "a", "1") == way(world.relay.ask(chat("alone")))


def test_one_request_probes_it_and_then_it_serves_again(world: World) -> None:
    fall_ill(world)
    world.play(Pause(COOLDOWN / 2), FINE, at="a")
    assert until(lambda: rested(world))

    with ThreadPoolExecutor(1) as beside:
        before = len(world.upstreams["a"].requests(MODEL))
        probe = beside.submit(world.relay.ask, chat("order"))
        assert until(lambda: world.state("a/m")["state"] == "probing")
        assert Counter(b=5) == world.served("order", 5)
        assert (200, "a", "1") == way(probe.result())
        assert 1 == len(world.upstreams["a"].requests(MODEL)) - before

    world.play(FINE, at="a")
    assert ("well", 0) == (world.state("a/m")["state"], world.state("a/m")["failures"])
    assert Counter(a=5) == world.served("order", 5)


def test_a_probe_that_fails_is_answered_by_another_and_the_rest_is_longer(world: World) -> None:
    fall_ill(world)
    assert until(lambda: rested(world))

    assert (200, "b", "2") == way(world.relay.ask(chat("order")))

    state = world.state("a/m")
    assert ("resting", "a probe failed: HTTP 500") == (state["state"], state["reason"])
    assert COOLDOWN < state["rests_s"] <= 2 * COOLDOWN
    assert Counter(b=5) == world.served("order", 5)


def test_why_tells_of_both_tries(world: World) -> None:
    name = str(fall_ill(world)[0].header("x-relay-id"))
    spared = str(world.relay.ask(chat("order")).header("x-relay-id"))  # now: the commands take their time

    told = world.told("why", name)

    assert ("order", ["a/m", "b/m"], []) == (told["strategy"], told["candidates"], told["dropped"])
    assert [("a/m", 500), ("b/m", 200)] == [(each["target"], each["status"]) for each in told["tries"]]
    shown = world.relay.run("why", name).stdout
    assert "1. a/m: HTTP 500" in shown
    assert "2. b/m: HTTP 200" in shown

    told = world.told("why", spared)
    assert (["b/m"], ["a/m"], ["b/m"]) == (
        told["candidates"],
        [each["target"] for each in told["dropped"]],
        [each["target"] for each in told["tries"]],
    )
