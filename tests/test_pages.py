"""What /readyz says; the rest of the pages is asked through a real relay in tests/live/test_paths.py."""

import asyncio
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest

from relay.call import Relay
from relay.call.setup import Setup
from relay.counters import MemoryCounters
from relay.health import Health, Policy
from relay.journal import Journal
from relay.keys import Keyring, mint
from relay.pages import pages
from relay.routing import Alias, Routes, Target
from relay.upstream.credentials import Credential, Credentials
from relay.upstream.door import Upstream
from relay.upstream.echo import EchoEngine

ECHO = {"echo": Upstream("echo", EchoEngine())}


def pool(*statuses: int | None) -> dict[str, Upstream]:
    """An upstream of several keys, of which some were refused."""
    keys = [Credential((), f"{number:08x}") for number in range(len(statuses))]
    credentials = Credentials(keys)
    for key, status in zip(keys, statuses, strict=True):
        if status is not None:
            credentials.refuse(key, status)
    return {"pool": Upstream("pool", EchoEngine(), credentials)}


def running(folder: Path, upstreams: dict[str, Upstream], **changed: Any) -> Relay:
    return Relay(
        setup=Setup(Routes.of([]), upstreams),
        keyring=Keyring(b"", {}),
        counters=MemoryCounters(),
        journal=Journal(folder),
        **changed,
    )


def asked(relay: Relay, path: str, alarms: Sequence[str] = (), **headers: str) -> httpx.Response:
    async def answer() -> httpx.Response:
        transport = httpx.ASGITransport(pages(lambda: relay, lambda: [*alarms], 0))
        async with httpx.AsyncClient(transport=transport, base_url="http://relay") as client:
            return await client.get(path, headers=headers)

    return asyncio.run(answer())


def readyz(relay: Relay, alarms: list[str]) -> httpx.Response:
    return asked(relay, "/readyz", alarms)


@pytest.mark.parametrize(
    ("upstreams", "draining", "alarms", "status", "said"),
    [
        (ECHO, False, [], 200, "ready"),
        (ECHO, False, ["the disk is full"], 200, "ready"),
        (ECHO, True, [], 503, "draining"),
        ({}, False, [], 503, "no upstream can be used"),
        (pool(401, None), False, [], 200, "ready"),
        (pool(401, 403), False, [], 503, "no upstream can be used"),
        (ECHO | pool(401, 403), False, [], 503, "no upstream can be used"),
        (ECHO | pool(401, None), False, [], 200, "ready"),
        ({"test": ECHO["echo"]}, False, [], 200, "ready"),
    ],
)
def test_readiness(
    tmp_path: Path, upstreams: dict[str, Upstream], draining: bool, alarms: list[str], status: int, said: str
) -> None:
    """Echo is there for whoever has nothing else."""
    answer = readyz(running(tmp_path, upstreams, draining=draining), alarms)

    assert (status, said, alarms) == (answer.status_code, answer.json()["status"], answer.json()["alarms"])
    assert [*upstreams] == [*answer.json()["upstreams"]]


def test_each_target_that_was_asked(tmp_path: Path) -> None:
    health, now = Health(Policy(failures=2)), time.perf_counter()
    health.passed("pool/well", 12.34, now)
    for _ in range(2):
        health.failed("pool/ill", "HTTP 503", now)
    health.rests("pool/due", "rate limited", -1.0, now)
    health.rests("pool/probed", "rate limited", -1.0, now)
    health.probes("pool/probed", now)
    health.passed("gone/m\ud800", 0.0, now)

    told = readyz(running(tmp_path, pool(None), health=health), []).json()["targets"]

    states = {name: (each["state"], each["failures"], each.get("reason")) for name, each in told.items()}
    assert {
        "pool/well": ("well", 0, None),
        "pool/ill": ("resting", 2, "2 failures in a row, the last: HTTP 503"),
        "pool/due": ("resting", 0, "rate limited"),
        "pool/probed": ("probing", 0, "rate limited"),
        "gone/m?": ("well", 0, None),
    } == states
    assert 0.19 == told["pool/ill"]["error_rate"]
    assert [True, True, False] == [
        0.0 < told[name]["rests_s"] <= 15.0 for name in ("pool/ill", "pool/probed", "pool/due")
    ]
    assert 12.0 < told["pool/well"]["first_byte_ms"] <= 12.3
    assert "rests_s" not in told["pool/well"]


def test_what_the_keys_cannot_do(tmp_path: Path) -> None:
    health, now, upstreams = Health(Policy()), time.perf_counter(), pool(401, None)
    health.passed("pool/busy", 1.0, now)
    health.passed("pool/free", 1.0, now)
    key = upstreams["pool"].credentials.pick("busy", now)
    assert key is not None
    key.rest("busy", now, 30.0)

    told = readyz(running(tmp_path, upstreams, health=health), []).json()

    keys = {"00000000": "refused with HTTP 401", "00000001": "resting for busy"}
    assert {"pool": {"running": 0, "keys": keys}} == told["upstreams"]
    assert ("resting", "rate limited") == (
        told["targets"]["pool/busy"]["state"],
        told["targets"]["pool/busy"]["reason"],
    )
    assert 29.0 < told["targets"]["pool/busy"]["rests_s"] <= 30.0
    assert "well" == told["targets"]["pool/free"]["state"]


def test_an_upstream_all_of_whose_keys_were_refused(tmp_path: Path) -> None:
    health = Health(Policy())
    health.passed("pool/m", 1.0, time.perf_counter())

    told = readyz(running(tmp_path, pool(401, 402), health=health), []).json()

    assert "all its keys were refused" == told["upstreams"]["pool"]["reason"] == told["targets"]["pool/m"]["reason"]
    assert "rests_s" not in told["targets"]["pool/m"]


@pytest.mark.parametrize(("tags", "status"), [(("eu",), 200), ((), 403)])
def test_a_model_is_there_for_whom_a_target_serves(tmp_path: Path, tags: tuple[str, ...], status: int) -> None:
    text, key = mint("k", b"", 0, tags=tags)
    relay = running(tmp_path, {})
    relay.keyring = Keyring.of(b"", [key])
    only = Target("up", "m", tags=frozenset({"eu"}))
    relay.setup = Setup(Routes.of([Alias("eu", ((only,),))]))

    answers = [asked(relay, path, authorization=f"Bearer {text}") for path in ("/v1/models/eu", "/v1/models")]

    assert (status, ["eu"] * len(tags)) == (answers[0].status_code, [each["id"] for each in answers[1].json()["data"]])
