"""routing: which upstream and model serve an asked name. Pure: knows no clock, no connection and no config file.

An Alias maps a name, or a pattern with `*`, to its targets in order. Routes is an immutable snapshot of all of them;
`Routes.plan` answers one request: an exact name beats any pattern, and the longest pattern wins.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

import msgspec

from relay.errors import ModelNotAllowed, ModelNotFound

WILDCARD = "*"


@dataclass(frozen=True, slots=True)
class Target:
    """A model at an upstream. The model `*` stands for the name that was asked for; `weight` is a share, 1 or more.

    `written` is the model's name as JSON, `name` both together, as prices are listed.
    """

    upstream: str
    model: str
    weight: int = 1
    written: bytes = field(init=False, repr=False, compare=False)
    name: str = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", f"{self.upstream}/{self.model}")
        object.__setattr__(self, "written", msgspec.json.encode(self.model))


@dataclass(frozen=True, slots=True)
class Alias:
    """A name that callers ask for. `set` and `default` are request parameters as raw JSON values."""

    name: str
    targets: tuple[Target, ...]
    set: Mapping[str, bytes] = field(default_factory=dict)
    default: Mapping[str, bytes] = field(default_factory=dict)
    response_model: Literal["upstream", "alias"] = "upstream"


@dataclass(frozen=True, slots=True)
class Plan:
    """What one request may do: its alias, and the targets to try in this order, with no wildcard left in them."""

    alias: Alias
    targets: tuple[Target, ...]


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
    """Every alias: exact names in the order of the configuration, patterns longest first."""

    exact: Mapping[str, Alias]
    patterns: tuple[Alias, ...] = ()
    default_model: str | None = None
    # Exact names are nearly all of the traffic: their plans are made once, so that planning is one look-up.
    _plans: Mapping[str, Plan] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        longest_first = sorted(self.patterns, key=lambda alias: len(alias.name), reverse=True)
        object.__setattr__(self, "patterns", tuple(longest_first))
        object.__setattr__(self, "_plans", {name: _plan(alias, name) for name, alias in self.exact.items()})

    @classmethod
    def of(cls, aliases: Iterable[Alias], default_model: str | None = None) -> "Routes":
        """Sort aliases into exact names and patterns."""
        aliases = tuple(aliases)
        exact = {alias.name: alias for alias in aliases if WILDCARD not in alias.name}
        return cls(exact, tuple(alias for alias in aliases if WILDCARD in alias.name), default_model)

    def plan(self, model: str, allowed: tuple[str, ...] | None = None) -> Plan:
        """The plan for the asked name. Raises ModelNotAllowed before ModelNotFound: a key learns only of its own."""
        if allowed is not None and model not in allowed and not is_allowed(model, allowed):
            raise ModelNotAllowed(
                f"The model {_shown(model)} is not allowed for this key; ask for one of: {', '.join(allowed)}.",
                param="model",
            )
        return self._plans.get(model) or self._by_pattern(model)

    def names(self, allowed: tuple[str, ...] | None = None) -> list[str]:
        """The exact names that a key may ask for, in the order of the configuration."""
        return [name for name in self.exact if is_allowed(name, allowed)]

    def _by_pattern(self, model: str) -> Plan:
        for alias in self.patterns:
            if matches(alias.name, model):
                return _plan(alias, model)
        raise ModelNotFound(
            f"The model {_shown(model)} does not exist here; GET /v1/models lists the names to ask for.",
            param="model",
        )


def _plan(alias: Alias, model: str) -> Plan:
    targets = (replace(target, model=model) if target.model == WILDCARD else target for target in alias.targets)
    return Plan(alias, tuple(targets))


def _shown(model: str) -> str:
    return repr(model if len(model) <= 100 else f"{model[:100]}…")  # noqa: PLR2004  a caller may ask for anything
