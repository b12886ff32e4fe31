"""choice: who is asked for one request, under the circumstances of this moment. It reads the clock and draws lots."""

import random
import time
from collections.abc import Sequence

from relay import ask as asking
from relay import routing
from relay.ask import Ask
from relay.call.account import Account
from relay.health import Health
from relay.routing import OFF, Circumstances, Plan, Strategy, Target
from relay.session import session_of


def choose(account: Account, ask: Ask, health: Health) -> Plan:
    """Who can serve this request, in order. Raises BadRequest for no model, ModelNotAllowed, ModelNotFound."""
    routes, key = account.setup.routes, account.key
    model = asking.named(ask)
    plan = routes.plan(model, key.models if key else None)
    # Nothing ends the illness of a target that nobody asks any more: the plans of others need not care.
    if plan.fixed and not (health.ill and any(target.name in health.ill for target in plan.targets)):
        return plan
    return routing.plan(plan.alias, model, circumstances(account, ask, plan.targets, health, plan.alias.strategy))


def circumstances(
    account: Account, ask: Ask, targets: Sequence[Target], health: Health, strategy: Strategy
) -> Circumstances:
    """What a choice by `strategy` among `targets` depends on."""
    setup, now = account.setup, time.perf_counter()
    known = {target.upstream: setup.upstreams.get(target.upstream) for target in targets}
    resting = health.resting(now)
    for target in targets:
        upstream = known[target.upstream]
        if upstream is not None and (reason := upstream.credentials.unusable(target.model, now)) is not None:
            resting[target.name] = reason
    return Circumstances(
        tags=frozenset(account.key.tags) if account.key else frozenset(),
        chance=random.getrandbits(128),
        session=session_of(account.head, ask) if strategy == "sticky" else b"",
        unusable={name: setup.routes.off.get(name, OFF) for name, upstream in known.items() if upstream is None},
        ill=resting,
        busy={name: upstream.engine.running for name, upstream in known.items() if upstream is not None},
        first_byte=health.first_bytes(now) if strategy == "fastest" else {},
    )
