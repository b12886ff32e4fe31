"""`relay route`, without a relay, beside a scripted one, and beside a real one."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

from tests.cli.world import World, complaint
from tests.process import RelayProcess, configuration, free_port
from tests.upstream import DONE, Upstream, event, stream
from tests.waiting import until

WELL = {"state": "well", "failures": 0, "error_rate": 0.0, "first_byte_ms": 210.0}
CONFIG: dict[str, Any] = {
    "upstreams": {name: {"base_url": f"http://{name}.example/v1"} for name in ("a", "b")}
    | {"off": {"base_url": "http://off.example/v1", "api_key": "env:NOT_THERE"}},
    "models": {
        "smart": ["a/x", "b/x"],
        "mixed": {
            "targets": [{"to": "a/x", "weight": 9}, {"to": "b/x", "weight": 1}],
            "set": {"temperature": 0},
            "default": {"seed": 7},
            "fallback": {"context_window": ["b/big"]},
        },
        "sticky": {"targets": ["a/x", "b/x"], "strategy": "sticky"},
        "quick": {"targets": ["a/x", "b/x"], "strategy": "fastest"},
        "idle": {"targets": ["a/x", "b/x"], "strategy": "least_busy"},
        "eu": [{"to": "a/x", "tags": ["eu"]}, "b/x"],
        "long": {
            "targets": ["a/x"],
            "fallback": {
                "context_window": ["off/big", {"to": "b/big", "tags": ["eu"]}, "b/huge"],
                "content_policy": ["off/mild"],
            },
        },
        "only-eu": [{"to": "a/x", "tags": ["eu"]}],
        "half": ["off/x", "b/x"],
        "off": "off/x",
        "gpt-*": "a/*",
    },
    "prices": {"a/x": {"input": 0.15, "output": 0.6, "cached_input": 0.075}},
    "keys": [
        {"name": "plain", "key": "sk-test-plain-8f2c61d09b7e4a35", "models": ["smart", "*eu", "long"]},
        {"name": "eu", "key": "sk-test-eu-51e07ad3c94f4b868f2c", "tags": ["eu"]},
    ],
}


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.fixture
def routes(world: World, port: int) -> World:
    """A world with targets to choose from, and where its relay would run."""
    server = {"host": "127.0.0.1", "port": port}
    world.config.write_text(json.dumps({**CONFIG, "server": server, "store": f"sqlite:///{world.store}"}))
    return world


@contextmanager
def saying(port: int, said: object) -> Iterator[None]:
    """A server whose /readyz says this."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = json.dumps(said if self.path == "/readyz" else None).encode()
            self.send_response(200)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *parts: object) -> None:
            """Say nothing."""

    with HTTPServer(("127.0.0.1", port), Handler) as http:
        thread = threading.Thread(target=http.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield
        finally:
            http.shutdown()
            thread.join()


def ready(targets: dict[str, Any], **upstreams: Any) -> dict[str, Any]:
    idle = {"running": 0, "keys": {}}
    return {"status": "ready", "alarms": [], "targets": targets, "upstreams": {"a": idle, "b": idle, **upstreams}}


def told(world: World, *arguments: str) -> dict[str, Any]:
    (found,) = world.json("route", *arguments)
    return found


def order(found: dict[str, Any]) -> list[str]:
    return [each["target"] for each in found["targets"]]


def test_without_a_relay(routes: World) -> None:
    found = told(routes, "smart")

    assert ("smart", "smart", None, None, "order", False) == tuple(
        found[name] for name in ("model", "alias", "key", "relay", "strategy", "drawn")
    )
    assert ["a/x", "b/x"] == order(found)
    assert [(None, None, None)] * 2 == [(each["share"], each["state"], each["running"]) for each in found["targets"]]
    assert [{"input": 0.15, "output": 0.6, "cached_input": 0.075}, None] == [each["price"] for each in found["targets"]]


def test_for_people(routes: World, port: int) -> None:
    shown = routes.run("route", "gpt-4o").stdout

    assert (
        f"""\
model        gpt-4o, by the pattern gpt-*
key          none: as for a caller whom nothing limits
relay        no relay runs here (127.0.0.1:{port}): health unknown, secrets as they are in this shell
strategy     order: as written
targets      1. a/gpt-4o: no price
dropped      -
"""
        == shown
    )


def test_what_a_relay_says(routes: World, port: int) -> None:
    ill = {
        "state": "resting",
        "failures": 5,
        "error_rate": 0.41,
        "first_byte_ms": 0.0,
        "rests_s": 11.2,
        "reason": "slow",
    }
    with saying(port, ready({"a/x": ill, "b/x": WELL}, b={"running": 3, "keys": {}})):
        found, shown = told(routes, "smart"), routes.run("route", "smart").stdout

    assert ["b/x"] == order(found)
    assert [{"target": "a/x", "reason": "rests for 12 s more: slow"}] == found["dropped"]
    assert ("well", 210.0, 3) == tuple(found["targets"][0][name] for name in ("state", "first_byte_ms", "running"))
    assert f"relay        ready, on 127.0.0.1:{port}\n" in shown
    assert "targets      1. b/x: well, first byte 210.0 ms, 0% failed; 3 running; no price\n" in shown
    assert "dropped      a/x: rests for 12 s more: slow\n" in shown


ILL: dict[str, tuple[dict[str, Any], str | None]] = {
    "rests": ({"state": "resting", "rests_s": 0.3, "reason": "slow"}, "rests for 1 s more: slow"),
    "rested": ({"state": "resting", "rests_s": 0.0, "reason": "slow"}, None),
    "is probed": (
        {"state": "probing", "rests_s": 2.0, "reason": "slow"},
        "is being probed by another request: slow",
    ),
    "cannot be asked": ({"state": "resting", "reason": "all its keys were refused"}, "all its keys were refused"),
}


@pytest.mark.parametrize("case", ILL)
def test_a_target_that_is_ill(routes: World, port: int, case: str) -> None:
    state, reason = ILL[case]
    with saying(port, ready({"a/x": {**WELL, **state}})):
        found = told(routes, "smart")
        alone = told(routes, "gpt-x")

    assert ([] if reason is None else [{"target": "a/x", "reason": reason}]) == found["dropped"]
    assert ["a/gpt-x"] == order(alone)


def test_the_last_one_is_asked_however_it_is(routes: World, port: int) -> None:
    ill = {**WELL, "state": "resting", "rests_s": 5.0, "reason": "slow"}
    with saying(port, ready({"a/gpt-x": ill})):
        shown = routes.run("route", "gpt-x").stdout

    assert "1. a/gpt-x: rests for 5 s more: slow, but nobody else is left" in shown


def test_one_that_has_rested(routes: World, port: int) -> None:
    with saying(port, ready({"a/x": {**WELL, "state": "resting", "rests_s": 0.0, "reason": "slow"}})):
        shown = routes.run("route", "smart").stdout

    assert "1. a/x: has rested: the next request probes it; 0 running; " in shown


def test_an_upstream_whose_keys_were_all_refused(routes: World, port: int) -> None:
    refused = {"running": 0, "keys": {"1a2b3c4d": "refused with HTTP 401"}, "reason": "all its keys were refused"}
    with saying(port, ready({}, a=refused)):
        found = told(routes, "smart")

    assert [{"target": "a/x", "reason": "all its keys were refused"}] == found["dropped"]


def test_the_fastest_and_the_least_busy(routes: World, port: int) -> None:
    with saying(port, ready({"a/x": {**WELL, "first_byte_ms": 900.0}, "b/x": WELL}, a={"running": 2, "keys": {}})):
        found = {model: told(routes, model) for model in ("quick", "idle")}

    assert {"quick": ["b/x", "a/x"], "idle": ["b/x", "a/x"]} == {model: order(each) for model, each in found.items()}
    assert {None} == {each["share"] for model in found.values() for each in model["targets"]}


def test_shares_and_parameters(routes: World) -> None:
    found, shown = told(routes, "mixed"), routes.run("route", "mixed").stdout

    assert {"a/x": 0.9, "b/x": 0.1} == {each["target"]: each["share"] for each in found["targets"]}
    assert ({"temperature": 0}, {"seed": 7}, {"context_window": {"targets": ["b/big"], "dropped": []}}) == tuple(
        found[name] for name in ("set", "default", "fallback")
    )
    assert "strategy     weighted: drawn for each request, by weight; this is one draw\n" in shown
    assert "a/x: 90% of the requests; USD 0.15 in, 0.6 out, 0.075 cached\n" in shown
    assert "fallback     context_window: b/big\n" in shown
    assert "set          temperature: 0\ndefault      seed: 7\n" in shown


def test_who_stands_by_and_who_of_them_would_be_asked(routes: World, port: int) -> None:
    off = {"target": "off/big", "reason": "is switched off: env:NOT_THERE is not set, or empty"}
    mild = {**off, "target": "off/mild"}
    eu = {"target": "b/big", "reason": "serves only keys with the tag eu"}
    ill = {"b/huge": {**WELL, "state": "resting", "rests_s": 5.0, "reason": "slow"}}

    limitless, plain, of_eu = (
        told(routes, "long", *key)["fallback"] for key in ((), ("--key", "plain"), ("--key", "eu"))
    )
    shown = routes.run("route", "long", "--key", "plain").stdout
    with saying(port, ready(ill, off={"running": 0, "keys": {}})):
        running = told(routes, "long")["fallback"]

    assert {"targets": [], "dropped": [mild]} == limitless["content_policy"]
    assert {"targets": ["b/huge"], "dropped": [off, eu]} == plain["context_window"]
    assert {"targets": ["b/big", "b/huge"], "dropped": [off]} == limitless["context_window"] == of_eu["context_window"]
    assert {"target": "b/huge", "reason": "rests for 5 s more: slow"} in running["context_window"]["dropped"]
    assert ["off/big", "b/big"] == running["context_window"]["targets"]
    assert (
        f"fallback     context_window: b/huge\n             not off/big: {off['reason']}\n"
        "             not b/big: serves only keys with the tag eu\n"
        f"             content_policy: nobody\n             not off/mild: {off['reason']}\n"
    ) in shown


def test_what_a_conversation_goes_by(routes: World) -> None:
    assert (
        "strategy     sticky: the same for all of a conversation: by the session"
        in routes.run("route", "sticky").stdout
    )


@pytest.mark.parametrize(
    ("key", "model", "expected", "dropped"),
    [
        (None, "eu", ["a/x", "b/x"], []),
        ("eu", "eu", ["a/x", "b/x"], []),
        ("plain", "eu", ["b/x"], [{"target": "a/x", "reason": "serves only keys with the tag eu"}]),
        ("stored", "eu", ["b/x"], [{"target": "a/x", "reason": "serves only keys with the tag eu"}]),
    ],
)
def test_for_a_key(routes: World, key: str | None, model: str, expected: list[str], dropped: list[Any]) -> None:
    routes.json("key", "create", "stored", "--tags", "us")

    found = told(routes, model, *(["--key", key] if key else []))

    assert (key, expected, dropped) == (found["key"], order(found), found["dropped"])


def test_the_limits_that_a_key_is_held_to(routes: World) -> None:
    routes.json("key", "create", "slow", "--rpm", "60", "--concurrency", "4")

    limits = [{"name": "rpm", "limit": 60}, {"name": "concurrency", "limit": 4}]
    assert (limits, []) == (told(routes, "smart", "--key", "slow")["limits"], told(routes, "smart")["limits"])
    assert "limits       rpm 60\n             concurrency 4\n" in routes.run("route", "smart", "--key", "slow").stdout


REFUSALS = {
    "not allowed": (["mixed", "--key", "plain"], "HTTP 403 model_not_allowed: The model 'mixed' is not allowed"),
    "not for its tags": (["only-eu", "--key", "plain"], "HTTP 403 model_not_allowed: The model 'only-eu'"),
    "not there": (["gpx"], "HTTP 404 model_not_found: The model 'gpx' does not exist here"),
    "no such key": (["smart", "--key", "nobody"], "nobody: no such key in force"),
    "a key that was revoked": (["smart", "--key", "gone"], "gone: no such key in force"),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_what_would_be_refused(routes: World, case: str) -> None:
    routes.run("key", "create", "gone")
    routes.run("key", "revoke", "gone")
    arguments, expected = REFUSALS[case]

    done = routes.run("route", *arguments)

    assert complaint(done).startswith(f"relay: {expected}")
    assert 1 == done.exit_code


def test_a_key_where_there_is_no_store(routes: World) -> None:
    assert "plain" == told(routes, "smart", "--key", "plain")["key"]
    assert "relay: nobody: no such key in force" == complaint(routes.run("route", "smart", "--key", "nobody"))
    assert not routes.store.exists()


def test_an_upstream_that_is_switched_off(routes: World) -> None:
    reason = "is switched off: env:NOT_THERE is not set, or empty"
    half, off = told(routes, "half"), told(routes, "off")

    assert ["b/x"] == order(half)
    assert [{"target": "off/x", "reason": reason}] == half["dropped"]
    assert [("off/x", reason)] == [(each["target"], each["off"]) for each in off["targets"]]
    assert f"off/x: {reason}, and nobody else is left: a request gets 502" in routes.run("route", "off").stdout


def test_a_relay_knows_best_what_is_switched_off(routes: World, port: int) -> None:
    """Its environment has the secrets, which a person's may lack."""
    with saying(port, ready({}, off={"running": 0, "keys": {}})):
        found = told(routes, "half")
    with saying(port, ready({}) | {"upstreams": {"off": {"running": 0, "keys": {}}}}):
        other = told(routes, "half")

    assert (["off/x", "b/x"], []) == (order(found), found["dropped"])
    assert (["off/x"], [{"target": "b/x", "reason": "is switched off"}]) == (order(other), other["dropped"])


def test_what_is_switched_off_only_here_is_avoided_where_it_is_ill(routes: World, port: int) -> None:
    ill = {**WELL, "state": "resting", "rests_s": 5.0, "reason": "slow"}
    with saying(port, ready({"off/x": ill}, off={"running": 0, "keys": {}})):
        found = told(routes, "half")

    dropped = [{"target": "off/x", "reason": "rests for 5 s more: slow"}]
    assert (["b/x"], dropped) == (order(found), found["dropped"])


@pytest.mark.parametrize("said", [None, [], "words", {"status": "ready", "alarms": []}], ids=str)
def test_somebody_else_runs_there(routes: World, port: int, said: object) -> None:
    with saying(port, said):
        assert told(routes, "smart")["relay"] is None


def test_beside_a_relay_that_runs(tmp_path_factory: pytest.TempPathFactory) -> None:
    with Upstream() as upstream:
        upstream.play("x", *stream(event({"error": {"message": "words of its own"}})))
        upstream.play("y", *stream(event({"choices": []}), DONE))
        config = configuration(
            upstream.port,
            models={"both": ["script/x", "script/y"]},
            health={"failures": 1},
            retry={"per_target": 0},
        )
        relay = RelayProcess(tmp_path_factory.mktemp("relay"), config)
        try:
            relay.start()
            answer = relay.ask({"model": "both", "messages": [], "stream": True})
            assert 200 == answer.status
            found = json.loads(relay.run("route", "both", "--key", "tests", "--json").stdout)
            name = str(answer.header("x-relay-id"))
            assert until(lambda: relay.run("why", name).returncode == 0)
            why = json.loads(relay.run("why", name, "--json").stdout)
            page = relay.ask(method="GET", path="/readyz")
        finally:
            relay.end()

    assert ("ready", ["script/y"]) == (found["relay"], order(found))
    (dropped,) = found["dropped"]
    assert "script/x" == dropped["target"]
    assert dropped["reason"].endswith(
        "1 failures in a row, the last: said that it failed, behind a status that promised an answer"
    )
    assert ["script/x", "script/y"] == why["candidates"]
    assert [("script/x", "words of its own"), ("script/y", None)] == [
        (each["target"], each["error"]) for each in why["tries"]
    ]
    assert b"words of its own" not in page.body
