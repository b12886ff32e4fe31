"""Keys: made and revoked beside the running relay, limited, and seen in no place where they do not belong."""

import json
import re
import time
from pathlib import Path
from typing import Any

import openai
import pytest

from tests.client import chat
from tests.process import KEY, UPSTREAM_KEY, RelayProcess, Start
from tests.upstream import DONE, Close, Upstream, event, response, stream
from tests.waiting import until

FINE = response({"choices": []})
SLOW_KEY = "sk-test-slow-a4be71c9035d4f28"


@pytest.fixture(scope="module")
def relay(start: Start, upstream: Upstream) -> RelayProcess:
    upstream.play("real", FINE)
    return start(
        models={"fast": "script/real", "other": "script/real", "m-*": "script/*"},
        keys=[{"name": "tests", "key": "env:CALLER_KEY"}, {"name": "slow", "key": "env:SLOW_KEY", "rpm": 3}],
        environ={"SLOW_KEY": SLOW_KEY},
    )


def create(relay: RelayProcess, name: str, *options: str) -> str:
    """A new key by the command line, as its output prints it."""
    done = relay.run("key", "create", name, *options)
    assert (0, "") == (done.returncode, done.stderr)
    found = re.findall(r"sk-relay-[A-Za-z0-9_.-]+", done.stdout)
    assert 1 == len(found)
    return str(found[0])


def listed(relay: RelayProcess) -> list[dict[str, Any]]:
    done = relay.run("key", "list", "--json")
    assert 0 == done.returncode, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def status(relay: RelayProcess, key: str, model: str = "fast") -> int:
    return relay.ask(chat(model), key=key).status


def test_a_key_lives_and_dies_within_a_second(relay: RelayProcess) -> None:
    key = create(relay, "short-lived")

    assert until(lambda: status(relay, key) == 200, within=1)
    assert "short-lived" in json.dumps(listed(relay))
    assert key not in json.dumps(listed(relay))
    assert 0 == relay.run("key", "revoke", "short-lived").returncode
    assert until(lambda: status(relay, key) == 401, within=1)
    refused = relay.ask(chat("fast"), key=key)
    assert "invalid_api_key" == refused.error["code"]
    assert key not in refused.body.decode()


def test_a_revoked_key_stays_revoked_under_load(relay: RelayProcess) -> None:
    key = create(relay, "busy")
    assert until(lambda: status(relay, key) == 200, within=1)
    assert 0 == relay.run("key", "revoke", "busy").returncode
    revoked = time.monotonic()

    let_in = 0.0  # seconds after which it last was
    while (after := time.monotonic() - revoked) < 1.5:
        if status(relay, key) == 200:
            let_in = after

    assert let_in < 1


def test_a_key_may_be_limited_to_models(relay: RelayProcess) -> None:
    key = create(relay, "narrow", "--models", "fast,m-*")

    assert until(lambda: status(relay, key) == 200, within=1)
    assert 403 == status(relay, key, "other")
    assert "model_not_allowed" == relay.ask(chat("other"), key=key).error["code"]
    models = relay.ask(method="GET", path="/v1/models", key=key).json()["data"]
    assert ["fast"] == [entry["id"] for entry in models if not entry["id"].startswith("m-")]


def test_a_key_may_expire(relay: RelayProcess) -> None:
    key = create(relay, "brief", "--expires", "2s")

    assert until(lambda: status(relay, key) == 200, within=1)
    assert until(lambda: status(relay, key) == 401, within=4, every=0.1)


def test_requests_per_minute(relay: RelayProcess) -> None:
    answers = [relay.ask(chat("fast"), key=SLOW_KEY) for _ in range(4)]

    assert [200, 200, 200, 429] == [answer.status for answer in answers]
    refused = answers[-1]
    assert "rate_limit_exceeded" == refused.error["code"]
    assert 1 <= int(refused.header("retry-after") or 0) <= 60
    assert 1 <= int(refused.header("retry-after-ms") or 0) <= 60_000
    assert ("relay", "true") == (refused.header("x-relay-error-source"), refused.header("x-should-retry"))
    row = relay.record(refused)
    assert ("slow", 429, "refused") == (row["key"], row["status"], row["outcome"])
    assert (None, None, 0) == (row["upstream"], refused.header("x-relay-upstream"), row["attempts"])
    told = relay.run("why", row["id"]).stdout
    assert "rpm 3, 0 left" in told
    assert "candidates   1. script/" in told  # who would have been asked
    assert 200 == status(relay, KEY)


def test_requests_per_minute_of_a_made_key(relay: RelayProcess) -> None:
    key = create(relay, "made-slow", "--rpm", "2")
    assert until(lambda: status(relay, key) == 200, within=1)

    assert [200, 429] == [status(relay, key) for _ in range(2)]


def test_revoking_what_is_not_there(relay: RelayProcess) -> None:
    done = relay.run("key", "revoke", "nobody")

    assert done.returncode in {1, 2}
    assert "nobody" in done.stderr
    assert 1 == len(done.stderr.strip().splitlines())


@pytest.fixture
def leaky(start: Start, upstream: Upstream) -> RelayProcess:
    """A relay that keeps whole bodies, and an upstream that repeats every secret that it hears."""
    said = {"error": {"message": f"Incorrect API key provided: {UPSTREAM_KEY}", "key": UPSTREAM_KEY}}
    upstream.play("m-401", response(said, f"x-request-id: {UPSTREAM_KEY}", status="401 Unauthorized"))
    upstream.play("m-403", response(said, status="403 Forbidden"))
    upstream.play("m-dead", Close())
    upstream.play("m-garbage", f"NOT HTTP {UPSTREAM_KEY}\r\n\r\n".encode(), Close())
    upstream.play("m-stream", *stream(event({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}), DONE))
    upstream.play("m-fine", FINE)
    return start(log={"bodies": "full"}, models={"m-*": "script/*"})


def test_no_secret_is_seen_anywhere(leaky: RelayProcess) -> None:
    made = create(leaky, "canary")
    until(lambda: status(leaky, made, "m-fine") == 200, within=1)
    told = [
        leaky.ask(body, *headers, key=key, path=path)
        for key in (KEY, made)
        for path in ("/v1/chat/completions", "/v1/nothing", "/chat/stream", "/v1/chat%2fcompletions")
        for headers in ((), ("content-encoding: br",), ("content-encoding: gzip",), (f"x-api-key: {key}x",))
        for body in (*(chat(f"m-{name}") for name in ("401", "403", "dead", "garbage", "fine")), b"{", chat("unknown"))
    ]
    told += [leaky.ask(chat("m-stream", stream=True), key=made), leaky.ask(method="GET", path="/metrics", key=made)]
    shown = [leaky.run("show", row["id"], "--json").stdout for row in leaky.log()[::16]]
    shown += [leaky.run("log").stdout, leaky.run("key", "list").stdout]
    printed_at_start = leaky.output
    leaky.stop()

    secrets = [KEY, UPSTREAM_KEY, made]
    places = {"answers": str(told).encode(), "commands": "".join(shown).encode(), "output": printed_at_start.encode()}
    places |= {path.name: path.read_bytes() for path in files(leaky.folder)}
    assert [] == [(name, secret) for name, data in places.items() for secret in secrets if secret.encode() in data]


def files(folder: Path) -> list[Path]:
    found = [path for path in folder.rglob("*") if path.is_file()]
    assert {"relay.db", "output.txt"} <= {path.name for path in found}
    return found


def test_the_printed_key_works_with_the_sdk(start: Start, upstream: Upstream, model: str) -> None:
    relay = start()
    exports = dict(re.findall(r"(OPENAI_\w+)=(\S+)", relay.output))
    upstream.play(
        model, response({"id": "c", "object": "chat.completion", "created": 1, "model": model, "choices": []})
    )

    with openai.OpenAI(base_url=exports["OPENAI_BASE_URL"], api_key=exports["OPENAI_API_KEY"], max_retries=0) as sdk:
        sdk.chat.completions.create(model=model, messages=[{"role": "user", "content": "hi"}])

    assert f"http://127.0.0.1:{relay.port}/v1" == exports["OPENAI_BASE_URL"]
    assert 1 == len(relay.records(model))
