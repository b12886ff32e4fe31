"""routing: which upstream and model serve an asked name. Pure: knows no clock, no connection and no config file.

An Alias maps a name, or a pattern with `*`, to its targets, in tiers that are asked one after the other. Routes is an
immutable snapshot of all of them; `Routes.plan` finds the alias of one request: an exact name beats any pattern, and
the longest pattern wins. `plan` then decides by the circumstances whom to ask, in which order, and says of each other
target why it was dropped. A plan that no circumstance changes was made with the Routes.
"""

from bisect import bisect
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from itertools import accumulate, chain, starmap
from math import log
from typing import Literal

import msgspec

from relay.errors import ModelNotAllowed, ModelNotFound

WILDCARD = "*"
_ORDERS_KEPT = 128  # of the targets of one alias
OFF = "is switched off"  # what is told of an upstream that cannot be asked until the configuration changes
Strategy = Literal["order", "weighted", "least_busy", "fastest", "sticky"]


@dataclass(frozen=True, slots=True)
class Target:
    """A model at an upstream. The model `*` stands for the name that was asked for; `weight` is a share, 1 or more.

    It serves only callers who have all of its `tags`. `written` is the model's name as JSON, `name` upstream and model
    together, as prices are listed.
    """

    upstream: str
    model: str
    weight: int = 1
    tags: frozenset[str] = frozenset()
    written: bytes = field(init=False, repr=False, compare=False)
    name: str = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", f"{self.upstream}/{self.model}")
        object.__setattr__(self, "written", msgspec.json.encode(self.model))


@dataclass(frozen=True, slots=True)
class Alias:
    """A name that callers ask for. `set` and `default` are request parameters as raw JSON values.

    `tiers` are asked in order, the targets within one as the strategy says; `targets` are those of all tiers. Those of
    `fallback` stand by: they are asked when a target refused a request for that reason. `stands_by` says that there
    are any. `is_plain`: it changes no parameters. `fixed`: the strategy has no choice, and no target asks for tags.
    `is_open`: it has one tier, whose targets are there for everybody, each once and by its own name.
    """

    name: str
    tiers: tuple[tuple[Target, ...], ...]
    set: Mapping[str, bytes] = field(default_factory=dict)
    default: Mapping[str, bytes] = field(default_factory=dict)
    response_model: Literal["upstream", "alias"] = "upstream"
    strategy: Strategy = "order"
    fallback: Mapping[str, tuple[Target, ...]] = field(default_factory=dict)
    targets: tuple[Target, ...] = field(init=False, repr=False, compare=False)
    stands_by: bool = field(init=False, repr=False, compare=False)
    fixed: bool = field(init=False, repr=False, compare=False)
    is_plain: bool = field(init=False, repr=False, compare=False)
    is_open: bool = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        targets = tuple(chain.from_iterable(self.tiers))
        no_choice = self.strategy == "order" or all(len(tier) == 1 for tier in self.tiers)
        object.__setattr__(self, "targets", targets)
        object.__setattr__(self, "is_plain", not (self.set or self.default))
        object.__setattr__(self, "stands_by", any(self.fallback.values()))
        tagged = any(target.tags for target in targets)
        each_once = len({target.name for target in targets if target.model != WILDCARD}) == len(targets)
        object.__setattr__(self, "fixed", no_choice and not tagged)
        object.__setattr__(self, "is_open", len(self.tiers) == 1 and each_once and not tagged)


@dataclass(frozen=True, slots=True)
class Dropped:
    """A target, as UPSTREAM/MODEL, that is not asked, and why, in words for a person."""

    target: str
    reason: str


@dataclass(frozen=True, slots=True)
class Plan:
    """What one request may do: its alias, the name it was asked by, and the targets to try in this order.

    No wildcard is left in them.

    `fixed` says that it follows from the configuration alone. One of `Routes.plan` that is not has all the targets as
    they are written, and is made good by `plan`. `told` is what the record says of it: nothing of one target alone.
    `renamed` is what the model is called in the answer; None is what the upstream calls it. In `orders` is what `drawn`
    has made of it.
    """

    alias: Alias
    asked: str
    targets: tuple[Target, ...]
    dropped: tuple[Dropped, ...] = ()
    fixed: bool = False
    fallbacks: Mapping[str, "Plan"] = field(default_factory=dict)
    orders: dict[tuple[int, ...], "Plan"] = field(init=False, repr=False, compare=False, default_factory=dict)
    told: bytes = field(init=False, repr=False, compare=False)
    renamed: str | None = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "renamed", self.asked if self.alias.response_model == "alias" else None)
        tells = len(self.targets) > 1 or self.dropped or self.fallbacks
        object.__setattr__(self, "told", told(self) if tells else b"")

    def falling_back(self, why: str, found: "Plan") -> "Plan":
        """It, with whom to ask where its own targets refused the request for that reason."""
        return replace(self, fallbacks={**self.fallbacks, why: found})


def told(plan: Plan) -> bytes:
    """The plan as JSON, for the record."""
    fallback = {why: _asked(found) for why, found in plan.fallbacks.items()}
    return msgspec.json.encode({"strategy": plan.alias.strategy, **_asked(plan), "fallback": fallback})


def _asked(plan: Plan) -> dict[str, object]:
    return {"targets": [target.name for target in plan.targets], "dropped": plan.dropped}


class Circumstances(msgspec.Struct, frozen=True):
    """All that a plan depends on beside the configuration.

    `tags` are the caller's; `chance` is 128 random bits; `session` is the same for all of a conversation, and empty
    where nobody knows. `unusable` says of upstreams, and `ill` of targets by name, why they should not be asked now.
    `busy` counts an upstream's running requests; `first_byte` is a target's time to the first byte, in milliseconds.
    """

    tags: frozenset[str] = frozenset()
    chance: int = 0
    session: bytes = b""
    unusable: Mapping[str, str] = {}
    ill: Mapping[str, str] = {}
    busy: Mapping[str, int] = {}
    first_byte: Mapping[str, float] = {}


def matches(pattern: str, name: str) -> bool:
    """Whether `name` is `pattern`, in which each `*` stands for any text. Linear in the length of the name."""
    if WILDCARD not in pattern:
        return pattern == name
    first, *middle, last = pattern.split(WILDCARD)
    at, end = len(first), len(name) - len(last)
    if at > end or not name.startswith(first) or not name.endswith(last):
        return False
    for part in middle:
        found = name.find(part, at, end)
        if found < 0:
            return False
        at = found + len(part)
    return True


def is_allowed(name: str, allowed: tuple[str, ...] | None) -> bool:
    """Whether an allow-list of names and patterns admits `name`; None admits every name."""
    return allowed is None or name in allowed or any(matches(pattern, name) for pattern in allowed)


@dataclass(frozen=True, slots=True)
class Routes:
    """Every alias: exact names in the order of the configuration, patterns longest first.

    `off` are the upstreams that cannot be asked until the configuration changes, and what is told of each. Fixed plans
    are made without them; for any other, they belong among the unusable ones.
    """

    exact: Mapping[str, Alias]
    patterns: tuple[Alias, ...] = ()
    default_model: str | None = None
    off: Mapping[str, str] = field(default_factory=dict)
    # Exact names are nearly all of the traffic: their plans are made once, so that planning is one look-up.
    _plans: Mapping[str, Plan] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        longest_first = sorted(self.patterns, key=lambda alias: len(alias.name), reverse=True)
        plans = {name: _configured(alias, name, self.off) for name, alias in self.exact.items()}
        object.__setattr__(self, "patterns", tuple(longest_first))
        object.__setattr__(self, "_plans", plans)

    @classmethod
    def of(
        cls, aliases: Iterable[Alias], default_model: str | None = None, off: Mapping[str, str] | None = None
    ) -> "Routes":
        """Sort aliases into exact names and patterns. `off`: what is told of upstreams that are switched off."""
        aliases = tuple(aliases)
        exact = {alias.name: alias for alias in aliases if WILDCARD not in alias.name}
        return cls(exact, tuple(alias for alias in aliases if WILDCARD in alias.name), default_model, off or {})

    def plan(self, model: str, allowed: tuple[str, ...] | None = None) -> Plan:
        """The plan for the asked name: one to follow where it is fixed, else every target, for `plan` to choose from.

        Raises ModelNotAllowed before ModelNotFound: a key learns only of its own.
        """
        if allowed is not None and model not in allowed and not is_allowed(model, allowed):
            raise ModelNotAllowed(
                f"The model {_shown(model)} is not allowed for this key; ask for one of: {', '.join(allowed)}.",
                param="model",
            )
        return self._plans.get(model) or self._by_pattern(model)

    def names(self, allowed: tuple[str, ...] | None = None, tags: frozenset[str] = frozenset()) -> list[str]:
        """The exact names that a key with these tags may ask for, in the order of the configuration."""
        return [
            name
            for name, alias in self.exact.items()
            if is_allowed(name, allowed) and any(target.tags <= tags for target in alias.targets)
        ]

    def _by_pattern(self, model: str) -> Plan:
        for alias in self.patterns:
            if matches(alias.name, model):
                return _configured(alias, model, self.off)
        raise ModelNotFound(
            f"The model {_shown(model)} does not exist here; GET /v1/models lists the names to ask for.",
            param="model",
        )


def plan(alias: Alias, model: str, circumstances: Circumstances) -> Plan:
    """Whom to ask for the asked name, in which order, and why not the others.

    A target that stands there twice is asked once. One whose upstream is unusable, or that is ill, is dropped while
    another is left: a plan is only empty where every target asks for a tag that the caller lacks.
    """
    return Plan(alias, model, *_choose(alias.tiers, alias.strategy, model, circumstances))


def drawn(known: Plan, circumstances: Circumstances) -> Plan:
    """What `plan` comes to where the alias is open and every target can be asked; made once for each order.

    `known` is what `Routes.plan` says. Of the circumstances it goes by those that the strategy goes by.
    """
    alias, orders = known.alias, known.orders
    order = STRATEGIES[alias.strategy](known.targets, circumstances)
    which = tuple(map(id, order))  # they are those of `known`, and live as long
    found = orders.get(which)
    if found is None:
        if len(orders) >= _ORDERS_KEPT:
            orders.clear()
        found = orders[which] = Plan(alias, known.asked, tuple(order))
    return found


def served(plan: Plan) -> Plan:
    """The plan. Raises ModelNotAllowed where it is empty."""
    if not plan.targets:
        raise ModelNotAllowed(
            f"The model {_shown(plan.asked)} is not allowed for this key: it is served only to keys with tags that "
            "this one lacks.",
            param="model",
        )
    return plan


def fallback(alias: Alias, why: str, model: str, circumstances: Circumstances) -> Plan:
    """Whom to ask after a refusal for that reason: those of the alias that stand by for it, in order.

    Its targets are empty where there are none, none for the caller's tags, or none that can be asked: the refusal then
    stands.
    """
    off = circumstances.unusable
    targets = filled(alias.fallback.get(why, ()), model)
    able = [(target,) for target in targets if target.upstream not in off]
    chosen, dropped = _choose(able, "order", model, circumstances)
    unable = {target.name: off[target.upstream] for target in targets if target.upstream in off}
    return Plan(alias, model, chosen, (*starmap(Dropped, unable.items()), *dropped))


def filled(targets: Iterable[Target], model: str) -> tuple[Target, ...]:
    """These targets for the asked name: no wildcard is left in them."""
    return tuple(_filled(target, model) for target in targets)


def _choose(
    tiers: Iterable[Sequence[Target]], strategy: Strategy, model: str, circumstances: Circumstances
) -> tuple[tuple[Target, ...], tuple[Dropped, ...]]:
    tiers = [[_filled(target, model) for target in tier] for tier in tiers]
    written = list(chain.from_iterable(tiers))
    left, reasons = _judge(written, circumstances)
    chosen: list[Target] = []
    for tier in tiers:
        # Taken out of what is left, a target that stands twice is asked once.
        remaining = [left.pop(target.name) for target in tier if left.get(target.name) is target]
        chosen += STRATEGIES[strategy](remaining, circumstances) if len(remaining) > 1 else remaining
    names = dict.fromkeys(target.name for target in written) if reasons else ()
    return tuple(chosen), tuple([Dropped(name, reasons[name]) for name in names if name in reasons])


def _judge(written: Sequence[Target], circumstances: Circumstances) -> tuple[dict[str, Target], dict[str, str]]:
    """The targets that may be asked, by name, and of each other name the reason."""
    left: dict[str, Target] = {}
    reasons: dict[str, str] = {}
    for target in written:
        if target.tags <= circumstances.tags:
            left.setdefault(target.name, target)
    if len(left) < len(written):
        reasons = {each.name: _lacking(each.tags - circumstances.tags) for each in written if each.name not in left}
    # Who cannot be asked at all is of less use than who is ill, and is dropped first.
    for unfit in (_unusable(left, circumstances.unusable), circumstances.ill):
        out = {name: unfit[name] for name in left if name in unfit} if unfit else {}
        if 0 < len(out) < len(left):
            reasons |= out
            left = {name: target for name, target in left.items() if name not in out}
    return left, reasons


def _unusable(left: Mapping[str, Target], upstreams: Mapping[str, str]) -> Mapping[str, str]:
    return {name: upstreams[each.upstream] for name, each in left.items() if each.upstream in upstreams}


def _lacking(tags: frozenset[str]) -> str:
    return f"serves only keys with the tag{'s' * (len(tags) > 1)} {', '.join(sorted(tags))}"


def _in_order(targets: Sequence[Target], _: Circumstances) -> Sequence[Target]:
    return targets


def _weighted(targets: Sequence[Target], circumstances: Circumstances) -> Sequence[Target]:
    """Drawn by weight without putting back. Where so many are drawn that chance runs out, the rest come as written."""
    left, drawn, chance = list(targets), [], circumstances.chance
    while len(left) > 1:
        shares = list(accumulate([target.weight for target in left]))
        chance, share = divmod(chance, shares[-1])
        drawn.append(left.pop(bisect(shares, share)))
    return drawn + left


def _least_busy(targets: Sequence[Target], circumstances: Circumstances) -> Sequence[Target]:
    """The upstream with the fewest running requests for its weight first; equal ones as they are drawn."""
    busy, drawn = circumstances.busy, _weighted(targets, circumstances)
    if not any(busy.values()):  # who asks alone is in a hurry
        return drawn
    return sorted(drawn, key=lambda target: busy.get(target.upstream, 0) / target.weight)


def _fastest(targets: Sequence[Target], circumstances: Circumstances) -> Sequence[Target]:
    """The faster of two that are drawn: always the fastest of all would drown in everybody's requests at once."""
    drawn = _weighted(targets, circumstances)

    def wait(target: Target) -> float:
        running = circumstances.busy.get(target.upstream, 0)
        known = circumstances.first_byte.get(target.name)
        # Unknown is 1 ms for each running request: an idle one gets tried, but not by everybody lest it hangs.
        return float(running) if known is None else known * (1 + running)

    return [*sorted(drawn[:2], key=wait), *sorted(drawn[2:], key=wait)]


def _sticky(targets: Sequence[Target], circumstances: Circumstances) -> Sequence[Target]:
    """The same order for all of a conversation, by weight over all of them.

    Each target's place hangs on its own name alone, so that one that is lost moves only its own conversations.
    """
    if not circumstances.session:
        return _weighted(targets, circumstances)

    def place(target: Target) -> float:
        digest = blake2b(circumstances.session + target.name.encode(), digest_size=8).digest()
        return -log((int.from_bytes(digest, "big") + 1) / 2**64) / target.weight

    return sorted(targets, key=place)


STRATEGIES: dict[Strategy, Callable[[Sequence[Target], Circumstances], Sequence[Target]]] = {
    "order": _in_order,
    "weighted": _weighted,
    "least_busy": _least_busy,
    "fastest": _fastest,
    "sticky": _sticky,
}


def _configured(alias: Alias, model: str, off: Mapping[str, str]) -> Plan:
    """What the configuration alone says of an asked name."""
    if alias.fixed and off and any(target.upstream in off for target in alias.targets):
        return replace(plan(alias, model, Circumstances(unusable=off)), fixed=True)
    targets = {target.name: target for target in [_filled(target, model) for target in alias.targets]}
    return Plan(alias, model, tuple(targets.values()), fixed=alias.fixed)


def _filled(target: Target, model: str) -> Target:
    return Target(target.upstream, model, target.weight, target.tags) if target.model == WILDCARD else target


def _shown(model: str) -> str:
    return repr(model if len(model) <= 100 else f"{model[:100]}…")  # noqa: PLR2004  a caller may ask for anything
