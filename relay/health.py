"""health: which targets are well, and which had better rest. Knows targets by their names only; never looks at a clock.

The traffic itself tells: each outcome is `passed` or `failed`. A target that fails too often, or begins too slowly,
falls ill and rests; when its rest is over, one request probes it, and the others still avoid it until that one's
outcome. A passed probe makes it well, with a clean sheet; a failed one lets it rest for twice as long; and one that is
given up leaves it to the next.

    well ── too many failures, or too slow ──> resting ── its rest is over, `probes` ──> probing
      ^                                           ^ <────────────── failed, or slow ────────┤
      └────────────────────────────────────────── passed ───────────────────────────────────┘

Every `now` is in seconds of one monotonic clock.
"""

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Literal

# How far one outcome moves an average: a tenth of the way, which remembers about the last twenty.
STEP = 0.1
SEEN = 10  # outcomes before an error rate means anything
TIMED = 5  # answers before the average of their first bytes does
LONGEST = 8  # times the first rest
FADES = 10.0  # seconds without an answer after which a first byte counts for half
SOON = 1.0  # seconds within which nobody's silence says anything of him
KNOWN = 1000  # names: callers can make up any number of them where a pattern leads to a model of the asked name


@dataclass(frozen=True, slots=True)
class Policy:
    """When a target falls ill: `failures` in a row, a greater share of failures, or later first bytes on average.

    `cooldown` and `first_byte` are in seconds; a `first_byte` of None is no bound.
    """

    failures: int = 5
    error_rate: float = 0.5
    cooldown: float = 15.0
    first_byte: float | None = None


@dataclass(frozen=True, slots=True)
class Illness:
    """Why a target is avoided, and until when; `rest` is how many seconds it is given in all.

    `mends`: a reading of the configuration may have mended it, so it ends with that.
    """

    reason: str
    until: float
    probing: bool
    rest: float
    mends: bool = False


@dataclass(frozen=True, slots=True)
class Vital:
    """How a target is, for people: the failures in a row, the share of failures, and where it is ill, why and until."""

    state: Literal["well", "resting", "probing"]
    failures: int
    error_rate: float
    first_byte_ms: float
    until: float | None = None
    reason: str | None = None


@dataclass(slots=True)
class Pulse:
    """A target's running numbers. `first_byte_ms` follows a slower answer at once, and faster ones step by step.

    `mean_ms` is the average of the first bytes of `timed` answers: of all of them, and later of the last ones.
    """

    failures: int = 0
    seen: int = 0
    error_rate: float = 0.0
    first_byte_ms: float = 0.0
    answered: float = 0.0
    mean_ms: float = 0.0
    timed: int = 0

    def time(self, first_byte_ms: float) -> None:
        """One more answer, whose first byte took so long."""
        self.timed += 1
        self.mean_ms += (first_byte_ms - self.mean_ms) * max(STEP, 1 / self.timed)


def fallen(pulse: Pulse, failure: str | None, policy: Policy, now: float) -> Illness | None:
    """The illness of a target that was well until this outcome, None where it still is."""
    if failure is None:
        reason = slowness(pulse.mean_ms, policy, "first bytes take") if pulse.timed >= TIMED else None
    elif pulse.failures >= policy.failures:
        reason = f"{pulse.failures} failures in a row, the last: {failure}"
    elif pulse.error_rate > policy.error_rate and pulse.seen >= SEEN:
        reason = f"{pulse.error_rate:.0%} of its last requests failed, the last: {failure}"
    else:
        reason = None
    return Illness(reason, now + policy.cooldown, False, policy.cooldown) if reason else None


def probed(illness: Illness, now: float) -> Illness | None:
    """The illness while a request that begins now probes it; None while it rests, or while another one probes it."""
    return replace(illness, until=now + illness.rest, probing=True) if illness.until <= now else None


def after(illness: Illness, failure: str | None, policy: Policy, now: float) -> Illness | None:
    """What an outcome leaves of an illness: None is well. `failure` says what went wrong, None that all was well.

    While it rests, outcomes are those of requests from before, or of the last resort. One that passed is no proof, but
    a sign of life: the rest is over, and the next request may probe it.
    """
    if illness.probing:
        if failure is None:
            return None
        rest = min(2 * illness.rest, LONGEST * policy.cooldown)
        return Illness(f"a probe failed: {failure}", now + rest, False, rest)
    return illness if failure is not None or illness.until <= now else replace(illness, until=now)


def slowness(first_byte_ms: float, policy: Policy, what: str = "first byte took") -> str | None:
    """What is wrong with this time to the first byte; None where it will do."""
    if policy.first_byte is None or first_byte_ms <= policy.first_byte * 1000:
        return None
    return f"its {what} {first_byte_ms / 1000:.1f} s"


class Health:
    """How every target is, by its name UPSTREAM/MODEL: one for a process. `policy` may be replaced at any time.

    `torn` are those whose last failure came after an answer had begun.
    """

    __slots__ = ("_pulses", "ill", "policy", "torn")

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        # Swapped whole, so that whoever holds it sees one moment. Empty while all is well.
        self.ill: Mapping[str, Illness] = MappingProxyType({})
        self.torn: set[str] = set()
        self._pulses: dict[str, Pulse] = {}

    def passed(self, name: str, first_byte_ms: float, now: float) -> None:
        """It answered, and the first byte took so long."""
        # Every request comes here: all the numbers of a well target are moved in place, and nothing is made.
        pulse = self._pulses.get(name) or self._begin(name)
        pulse.failures = 0
        pulse.seen += 1
        pulse.answered = now
        if pulse.error_rate:
            pulse.error_rate -= pulse.error_rate * STEP
        if first_byte_ms > pulse.first_byte_ms:
            pulse.first_byte_ms = first_byte_ms
        else:
            pulse.first_byte_ms += (first_byte_ms - pulse.first_byte_ms) * STEP
        bound = self.policy.first_byte
        if bound is not None:
            pulse.time(first_byte_ms)
        if self.ill or (bound is not None and pulse.mean_ms > bound * 1000):
            self._consider(name, first_byte_ms, now)

    def doubts(self, name: str) -> bool:
        """Whether an answer that has only begun says nothing yet: those that failed lately had begun as well."""
        return name in self.torn and (self._pulses[name].failures > 0 or name in self.ill)

    def failed(self, name: str, reason: str, now: float, *, torn: bool = False) -> None:
        """It failed, in a way that another target might not have; `reason` is for people.

        `torn`: after its answer had begun.
        """
        pulse = self._pulses.get(name) or self._begin(name)
        (self.torn.add if torn else self.torn.discard)(name)
        pulse.failures += 1
        pulse.seen += 1
        pulse.error_rate += (1.0 - pulse.error_rate) * STEP
        illness = self.ill.get(name)
        judged = after(illness, reason, self.policy, now) if illness else fallen(pulse, reason, self.policy, now)
        self._swap(name, judged)

    def rests(self, name: str, reason: str, seconds: float, now: float, *, mends: bool = False) -> None:
        """It asked to be left alone for so long, which is no failure; then it may be probed.

        `mends`: or once the configuration was read again. One that is ill rests for no less than it had to.
        """
        if name not in self._pulses:
            self._begin(name)
        illness, until = self.ill.get(name), now + seconds
        if illness is None:
            self._swap(name, Illness(reason, until, False, self.policy.cooldown, mends))
        elif illness.probing or illness.until < until:
            self._swap(name, Illness(reason, until, False, illness.rest, mends))

    def is_soon(self, name: str, seconds: float) -> bool:
        """Whether to wait that long for its first byte says nothing of it: it takes half as long as a rule, or more."""
        pulse = self._pulses.get(name)
        usual = pulse.first_byte_ms / 1000 if pulse else 0.0
        return seconds < max(SOON, 2 * usual)

    def mend(self, upstreams: Collection[str]) -> None:
        """The configuration was read: what was known of these upstreams, which are new or gone, holds no more."""
        gone = [name for name in self._pulses if name.partition("/")[0] in upstreams]
        for name in gone:
            self._forget(name)
        for name in {*gone, *(name for name, illness in self.ill.items() if illness.mends)}:
            self._swap(name, None)

    def probes(self, name: str, now: float) -> Illness | None:
        """A request is about to ask it. Its illness where it was ill and has rested: then the request is its probe.

        Until that has an outcome, or for another rest at most, others avoid the target.
        """
        illness = self.ill.get(name)
        probing = None if illness is None else probed(illness, now)
        if probing is not None:
            self._swap(name, probing)
        return probing

    def unproven(self, name: str, probe: Illness, now: float) -> None:
        """That probe is over. If it had no outcome, the next request may be one."""
        if self.ill.get(name) is probe:
            self._swap(name, replace(probe, until=now, probing=False))

    def resting(self, now: float) -> dict[str, str]:
        """The targets to avoid now, and why. One whose rest is over is not among them: a request may probe it."""
        return {name: _avoided(illness, now) for name, illness in self.ill.items() if illness.until > now}

    def first_bytes(self, now: float) -> dict[str, float]:
        """The milliseconds to the first byte that a request now has to expect, for each target that has ever answered.

        They fade while nobody asks, or else a target that was slow once would never be tried again.
        """
        return {
            name: pulse.first_byte_ms / (1.0 + (now - pulse.answered) / FADES)
            for name, pulse in self._pulses.items()
            if pulse.first_byte_ms
        }

    def vitals(self) -> dict[str, Vital]:
        """How each target is of which anything is known."""
        return {name: _vital(pulse, self.ill.get(name)) for name, pulse in self._pulses.items()}

    def _consider(self, name: str, first_byte_ms: float, now: float) -> None:
        """Whether an answer makes it well, or was one too slow."""
        illness = self.ill.get(name)
        if illness is None:
            self._swap(name, fallen(self._pulses[name], None, self.policy, now))
            return
        left = after(illness, slowness(first_byte_ms, self.policy), self.policy, now)
        if left is None:
            self._pulses[name] = Pulse(
                seen=1, first_byte_ms=first_byte_ms, answered=now, mean_ms=first_byte_ms, timed=1
            )
            self.torn.discard(name)
        self._swap(name, left)

    def _begin(self, name: str) -> Pulse:
        """The numbers of a name that is new. Where there are too many, the oldest that is well is forgotten."""
        if len(self._pulses) >= KNOWN:
            oldest = next((known for known in self._pulses if known not in self.ill), next(iter(self._pulses)))
            self._forget(oldest)
            self._swap(oldest, None)
        pulse = self._pulses[name] = Pulse()
        return pulse

    def _forget(self, name: str) -> None:
        del self._pulses[name]
        self.torn.discard(name)

    def _swap(self, name: str, illness: Illness | None) -> None:
        if illness is self.ill.get(name):
            return
        others = {other: each for other, each in self.ill.items() if other != name}
        self.ill = MappingProxyType(others if illness is None else {**others, name: illness})


def _avoided(illness: Illness, now: float) -> str:
    if illness.probing:
        return f"is being probed by another request: {illness.reason}"
    return f"rests for {math.ceil(illness.until - now)} s more: {illness.reason}"


def _vital(pulse: Pulse, illness: Illness | None) -> Vital:
    numbers = pulse.failures, pulse.error_rate, pulse.first_byte_ms
    if illness is None:
        return Vital("well", *numbers)
    return Vital("probing" if illness.probing else "resting", *numbers, illness.until, illness.reason)
