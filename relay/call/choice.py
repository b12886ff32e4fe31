"""choice: who is asked for one request, under the circumstances of this moment. It reads the clock and draws lots."""

import random
import time
from collections.abc import Mapping, Sequence

from msgspec.structs import replace

from relay import ask as asking
from relay import routing
from relay.ask import Ask
from relay.call.account import Account
from relay.call.setup import Setup
from relay.health import Health
from relay.routing import OFF, Circumstances, Plan, Strategy, Target
from relay.session import session_of
from relay.upstream.credentials import REFUSED
from relay.upstream.door import Upstream


def choose(account: Account, ask: Ask, health: Health) -> Plan:
    """Who can serve this request, in order. Raises BadRequest for no model, ModelNotAllowed, ModelNotFound."""
    routes, key = account.setup.routes, account.key
    model = asking.named(ask)
    plan = routes.plan(model, key.models if key else None)
    # Nothing ends the illness of a target that nobody asks any more: the plans of others need not care.
    if plan.fixed and not (health.ill and _concerned(plan, account, health)):
        return plan
    alias = plan.alias
    if alias.is_open and (drawn := _drawn(plan, account, ask, health)) is not None:
        return drawn
    targets = routing.filled(alias.targets, model)  # a fixed plan has lost those that are switched off
    account.plan = found = routing.plan(alias, model, circumstances(account, ask, targets, health, alias.strategy))
    return routing.served(found)


def circumstances(
    account: Account, ask: Ask, targets: Sequence[Target], health: Health, strategy: Strategy
) -> Circumstances:
    """What a choice by `strategy` among `targets` depends on."""
    setup, now = account.setup, time.perf_counter()
    known = {target.upstream: setup.upstreams.get(target.upstream) for target in targets}
    resting = health.resting(now)
    for target in targets:
        upstream = known[target.upstream]
        until = upstream.credentials.limited(target.model, now) if upstream else None
        if until is not None:
            resting[target.name] = f"rate limited for {until - now:.1f} s more"
    busy = {upstream.name: upstream.engine.running for upstream in known.values() if upstream is not None}
    return replace(
        _in_peace(account, ask, health, strategy, busy),
        tags=frozenset(account.key.tags) if account.key else frozenset(),
        unusable={name: why for name, found in known.items() if (why := _unusable(name, found, setup)) is not None},
        ill=resting,
    )


def _in_peace(account: Account, ask: Ask, health: Health, strategy: Strategy, busy: Mapping[str, int]) -> Circumstances:
    """What it depends on where everybody can be asked, by everybody."""
    return Circumstances(
        chance=random.getrandbits(128),
        session=session_of(account.head, ask) if strategy == "sticky" else b"",
        busy=busy,
        first_byte=health.first_bytes(time.perf_counter()) if strategy == "fastest" else {},
    )


def _drawn(plan: Plan, account: Account, ask: Ask, health: Health) -> Plan | None:
    """The plan where that is so, as nearly always; None where it has to be looked at closely."""
    if health.ill:
        return None
    known, busy = account.setup.upstreams, {}
    for target in plan.targets:
        upstream = known.get(target.upstream)
        if upstream is None or not upstream.credentials.untroubled:
            return None
        busy[upstream.name] = upstream.engine.running
    return routing.drawn(plan, _in_peace(account, ask, health, plan.alias.strategy, busy))


def _concerned(plan: Plan, account: Account, health: Health) -> bool:
    """Whether one of its targets is ill, or has no key left: that began with an illness, perhaps another target's."""
    upstreams = account.setup.upstreams
    return any(
        target.name in health.ill or _unusable(target.upstream, upstreams.get(target.upstream), account.setup)
        for target in plan.targets
    )


def _unusable(name: str, upstream: Upstream | None, setup: Setup) -> str | None:
    """Why no request can be asked of that upstream."""
    if upstream is None:
        return setup.routes.off.get(name, OFF)
    return REFUSED if upstream.credentials.refused else None
