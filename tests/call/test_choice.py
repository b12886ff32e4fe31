"""Who is asked: what a choice is told of the circumstances."""

import time
from pathlib import Path

import pytest

from relay.call.choice import choose
from relay.call.setup import Setup
from relay.errors import ModelNotAllowed
from relay.health import Health, Policy
from relay.journal import Journal
from relay.routing import Alias, Dropped, Routes, Strategy, Target
from relay.upstream.credentials import Credential, Credentials
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


def test_who_serves_nobody_like_the_caller_is_told_as_well(tmp_path: Path) -> None:
    alias = Alias("m", ((Target("up", "x", tags=frozenset({"eu"})),),))
    noted = account(Journal(tmp_path), setup=Setup(Routes.of([alias]), {"up": Upstream("up", EchoEngine())}))

    with pytest.raises(ModelNotAllowed):
        choose(noted, ask(b'{"model":"m"}'), Health(Policy()))

    assert (Dropped("up/x", "serves only keys with the tag eu"),) == noted.plan.dropped


def test_once_one_is_ill_those_that_are_switched_off_are_still_left_out(tmp_path: Path) -> None:
    alias = Alias("m", tuple((Target(name, "x"),) for name in ("off", "up", "b")))
    routes = Routes.of([alias], off={"off": OFF})
    noted = account(
        Journal(tmp_path), setup=Setup(routes, {name: Upstream(name, EchoEngine()) for name in ("up", "b")})
    )
    health = Health(Policy())
    health.rests("up/x", "slow", 5, time.perf_counter())

    plan = choose(noted, ask(b'{"model":"m"}'), health)

    assert [Dropped("off/x", OFF), Dropped("up/x", "rests for 5 s more: slow")] == list(plan.dropped)
    assert (Target("b", "x"),) == plan.targets


def test_who_has_no_key_left_is_not_asked_for_another_model_either(tmp_path: Path) -> None:
    """And not as a last resort: it can answer nothing, and who is ill might."""
    aliases = [Alias(model, tuple((Target(name, model),) for name in ("pool", "b"))) for model in ("m", "n")]
    keys = [Credential((), name) for name in ("one", "two")]
    upstreams = {"pool": Upstream("pool", EchoEngine(), Credentials(keys)), "b": Upstream("b", EchoEngine())}
    noted = account(Journal(tmp_path), setup=Setup(Routes.of(aliases), upstreams))
    health, now = Health(Policy()), time.perf_counter()
    for key in keys:
        upstreams["pool"].credentials.refuse(key, 401)
    health.rests("pool/m", "its key was refused", 60, now, mends=True)
    health.rests("b/n", "slow", 5, now)

    for model in ("m", "n"):
        plan = choose(noted, ask(b'{"model":"%b"}' % model.encode()), health)
        assert (("b",), (Dropped(f"pool/{model}", "all its keys were refused"),)) == (
            tuple(each.upstream for each in plan.targets),
            plan.dropped,
        )
