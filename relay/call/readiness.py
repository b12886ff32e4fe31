"""Readiness: whether requests can be served now, and how every target and upstream is. It holds no secret.

Anyone may ask for it, so it says nothing in an upstream's own words. The numbers are those of one process.
"""

import math
import time
from collections.abc import Sequence
from typing import Literal

import msgspec

from relay.call import Relay
from relay.call.setup import Setup
from relay.config import ECHO
from relay.health import Vital
from relay.upstream.credentials import REFUSED
from relay.upstream.door import Upstream


class TargetState(msgspec.Struct, frozen=True, omit_defaults=True):
    """How a target is, in milliseconds and shares; where it is avoided, why, and for how many seconds if that is known.

    `first_byte_ms` is what a request has to expect now; 0 is not known. A `rests_s` of 0 is over: a request may probe.
    """

    state: Literal["well", "resting", "probing"]
    failures: int
    error_rate: float
    first_byte_ms: float
    rests_s: float | None = None
    reason: str | None = None

    @property
    def avoided(self) -> str | None:
        """Why requests avoid it now; None where they do not."""
        if self.reason is None or self.rests_s == 0.0:
            return None
        if self.state == "probing":
            return f"is being probed by another request: {self.reason}"
        return self.reason if self.rests_s is None else f"rests for {math.ceil(self.rests_s)} s more: {self.reason}"


class UpstreamState(msgspec.Struct, frozen=True, omit_defaults=True):
    """How many requests run at it, how each key is, by fingerprint, and why it cannot be asked, if it cannot."""

    running: int
    keys: dict[str, str]
    reason: str | None = None


class Readiness(msgspec.Struct, frozen=True):
    """`status` is `ready`, or why not. Targets are named as UPSTREAM/MODEL: those that were asked lately."""

    status: str
    alarms: Sequence[str]
    targets: dict[str, TargetState]
    upstreams: dict[str, UpstreamState]

    @property
    def ready(self) -> bool:
        return self.status == "ready"


def readiness(relay: Relay, alarms: Sequence[str]) -> Readiness:
    """An alarm (the log cannot be written) is told, and keeps nothing from being served."""
    now, upstreams = time.perf_counter(), relay.setup.upstreams
    expected = relay.health.first_bytes(now)
    return Readiness(
        "draining" if relay.draining else "ready" if _usable(relay.setup) else "no upstream can be used",
        alarms,
        {
            _written(name): _target(name, vital, expected.get(name, 0.0), upstreams.get(name.partition("/")[0]), now)
            for name, vital in relay.health.vitals().items()
        },
        {name: _upstream(upstream, now) for name, upstream in upstreams.items()},
    )


def _usable(setup: Setup) -> bool:
    """Whether an upstream can be asked. The built-in one always can, and counts where there is no other."""
    others = {name: upstream for name, upstream in setup.upstreams.items() if name != ECHO}
    if others or setup.routes.off:
        return any(not upstream.credentials.refused for upstream in others.values())
    return bool(setup.upstreams)


def _target(name: str, vital: Vital, first_byte_ms: float, upstream: Upstream | None, now: float) -> TargetState:
    """What its keys cannot do counts as an illness of its own, as it does when a target is chosen."""
    state, until, reason, model = vital.state, vital.until, vital.reason, name.partition("/")[2]
    if upstream is not None and upstream.credentials.refused:
        state, until, reason = "resting", None, REFUSED
    elif upstream is not None and (limited := upstream.credentials.limited(model, now)) is not None:
        state, until, reason = "resting", limited, "rate limited"
    rests = None if until is None else max(0.0, math.ceil((until - now) * 10) / 10)
    return TargetState(state, vital.failures, round(vital.error_rate, 3), round(first_byte_ms, 1), rests, reason)


def _upstream(upstream: Upstream, now: float) -> UpstreamState:
    found = upstream.credentials
    return UpstreamState(upstream.engine.running, found.states(now), REFUSED if found.refused else None)


def _written(name: str) -> str:
    """The name as UTF-8 can hold it: a model's name can come from the caller."""
    return name.encode(errors="replace").decode()
