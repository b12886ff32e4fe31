"""Who is asked: what a choice is told of the circumstances."""

from pathlib import Path

import pytest

from relay.call.choice import choose
from relay.call.setup import Setup
from relay.health import Health, Policy
from relay.journal import Journal
from relay.routing import Alias, Dropped, Routes, Strategy, Target
from relay.upstream.door import Upstream
from relay.upstream.echo import EchoEngine
from tests.requests import account, ask

OFF = "is switched off: env:KEY is not set, or empty"


@pytest.mark.parametrize("strategy", ["order", "weighted", "least_busy", "fastest", "sticky"])
def test_every_strategy_tells_why_an_upstream_is_switched_off(tmp_path: Path, strategy: Strategy) -> None:
    alias = Alias("m", ((Target("off", "x"), Target("up", "x")),), strategy=strategy)
    routes = Routes.of([alias], off={"off": OFF})
    noted = account(Journal(tmp_path), setup=Setup(routes, {"up": Upstream("up", EchoEngine())}))

    plan = choose(noted, ask(b'{"model":"m"}'), Health(Policy()))

    assert ((Target("up", "x"),), (Dropped("off/x", OFF),)) == (plan.targets, plan.dropped)
