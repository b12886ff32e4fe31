"""What /readyz says; the rest of the pages is asked through a real relay in tests/live/test_paths.py."""

import json
from pathlib import Path

import pytest

from relay.call import Relay
from relay.call.setup import Setup
from relay.counters import MemoryCounters
from relay.journal import Journal
from relay.keys import Keyring
from relay.pages import readiness
from relay.routing import Routes
from relay.upstream.door import Upstream
from relay.upstream.echo import EchoEngine

ECHO = {"echo": Upstream("echo", EchoEngine())}


@pytest.mark.parametrize(
    ("upstreams", "draining", "alarms", "status", "said"),
    [
        (ECHO, False, [], 200, "ready"),
        (ECHO, False, ["the disk is full"], 200, "ready"),
        (ECHO, True, [], 503, "draining"),
        ({}, False, [], 503, "no upstream can be used"),
    ],
)
def test_readiness(
    tmp_path: Path, upstreams: dict[str, Upstream], draining: bool, alarms: list[str], status: int, said: str
) -> None:
    relay = Relay(
        setup=Setup(Routes.of([]), upstreams),
        keyring=Keyring(b"", {}),
        counters=MemoryCounters(),
        journal=Journal(tmp_path),
        draining=draining,
    )

    answer = readiness(relay, alarms)

    assert (status, {"status": said, "alarms": alarms}) == (answer.status_code, json.loads(bytes(answer.body)))
