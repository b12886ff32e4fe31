"""models: the `models:` and `prices:` of the file, as routes and rates. Knows the upstreams by their names only."""

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from itertools import chain
from typing import Any

from relay.config.document import Place
from relay.config.reading import Reading, nearest
from relay.config.shapes import AliasShape, PriceShape, TargetShape
from relay.config.upstreams import ECHO
from relay.errors import ModelNotFound
from relay.pricing import Rate
from relay.routing import OFF, WILDCARD, Alias, Routes, Strategy, Target

# What a request is about is the caller's; a parameter that is always overwritten would make the alias lie.
CALLERS = frozenset({"model", "stream", "messages", "input"})
_EMPTY = "has no target; write UPSTREAM/MODEL"


def read_routes(
    reading: Reading,
    data: Mapping[str, Any] | None,
    upstreams: Collection[str],
    default_model: str | None,
    off: Mapping[str, str],
) -> Routes:
    """No models in the file is every name at the first upstream. The model `echo` is always there.

    `off`: upstreams that cannot be used, and why.
    """
    if not data:
        first = next((name for name in upstreams if name != ECHO), None)
        data = {WILDCARD: f"{first}/{WILDCARD}"} if first else {}
    aliases = {name: _alias(reading, name, entry, upstreams) for name, entry in data.items()}
    known = [alias for alias in aliases.values() if alias is not None]
    if ECHO not in data:
        known.append(Alias(ECHO, ((Target(ECHO, ECHO),),)))
    routes = Routes.of(known, default_model, {name: f"{OFF}: {reason}" for name, reason in off.items()})
    if default_model is not None:
        faulty = [Alias(name, ()) for name, alias in aliases.items() if alias is None]  # but their names are known
        _check_default(reading, Routes.of([*known, *faulty]), default_model)
    return routes


def read_prices(reading: Reading, data: Mapping[str, Any], upstreams: Collection[str]) -> dict[str, Rate]:
    """Rates by UPSTREAM/MODEL."""
    rates = {}
    for name, entry in data.items():
        place: Place = ("prices", name)
        shape = reading.shape(PriceShape, entry, place)
        target = _target(reading, name, place, upstreams)
        if target is not None and target.model == WILDCARD:
            reading.fault(place, "a price is that of one model; write UPSTREAM/MODEL")
        elif target is not None and shape is not None:
            cached = None if shape.cached_input is None else Decimal(str(shape.cached_input))
            rates[name] = Rate.per_million(Decimal(str(shape.input)), Decimal(str(shape.output)), cached)
    return rates


def _alias(reading: Reading, name: str, entry: Any, upstreams: Collection[str]) -> Alias | None:
    """One alias in any of its three forms; None when it has faults."""
    place: Place = ("models", name)
    before = len(reading.faults)
    shape, items = _form(reading, entry, place)
    tiers = [_tier(reading, item, here, upstreams) for here, item in items.items()]
    strategy, is_one = _strategy(reading, shape.strategy, list(items.values()), place)
    forced = dict(_parameters(reading, shape.set or {}, (*place, "set")))
    filled = dict(_parameters(reading, shape.default or {}, (*place, "default")))
    written = shape.fallback.model_dump(exclude_unset=True) if shape.fallback else {}
    fallback = {why: _fallback(reading, to, (*place, "fallback", why), upstreams) for why, to in written.items()}
    if not items and len(reading.faults) == before:
        reading.fault(place, _EMPTY)
    if not name:
        reading.fault(place, "a model's name is empty; write one")
    if len(reading.faults) > before:
        return None
    order = (tuple(chain.from_iterable(tiers)),) if is_one else tuple(tiers)
    return Alias(name, order, forced, filled, shape.response_model, strategy, fallback)


def _form(reading: Reading, entry: Any, place: Place) -> tuple[AliasShape, dict[Place, Any]]:
    """An alias as a mapping, whichever form it has, and its targets by where they stand."""
    shape = AliasShape.model_validate({"targets": []})
    if isinstance(entry, list):
        return shape, {(*place, index): item for index, item in enumerate(entry)}
    if isinstance(entry, dict):
        shape = reading.shape(AliasShape, entry, place) or AliasShape.model_validate(
            {"targets": [], **reading.sound(AliasShape, entry)}
        )
        return shape, {(*place, "targets", index): item for index, item in enumerate(shape.targets)}
    return shape, {place: entry}


def _strategy(reading: Reading, written: Strategy | None, items: Sequence[Any], place: Place) -> tuple[Strategy, bool]:
    """The strategy, and whether it has all of the targets to choose from: those of a flat list, but for `order`."""
    nested = any(isinstance(item, list) for item in items)
    targets = chain.from_iterable(item if isinstance(item, list) else [item] for item in items)
    weighed = any(_has_weight(item) for item in targets)
    if written == "order" and weighed:
        reading.fault((*place, "strategy"), "order ignores weights; leave one out")
    strategy = written or ("weighted" if nested or weighed else "order")
    return strategy, strategy != "order" and not nested


def _tier(reading: Reading, item: Any, place: Place, upstreams: Collection[str]) -> tuple[Target, ...]:
    """The targets of one place in the order: of a list, or the one that is written."""
    if isinstance(item, list):
        return _targets(reading, item, place, upstreams)
    target = _weighed(reading, item, place, upstreams)
    return (target,) if target else ()


def _targets(reading: Reading, items: Sequence[Any], place: Place, upstreams: Collection[str]) -> tuple[Target, ...]:
    """The targets of a list without lists in it."""
    if not items:
        reading.fault(place, _EMPTY)
    found = [_weighed(reading, item, (*place, index), upstreams) for index, item in enumerate(items)]
    return tuple(target for target in found if target)


def _fallback(reading: Reading, items: Sequence[Any], place: Place, upstreams: Collection[str]) -> tuple[Target, ...]:
    """The targets for what the alias's own refuse for one reason; they are asked in order."""
    for index in (index for index, item in enumerate(items) if _has_weight(item)):
        reading.fault((*place, index, "weight"), "fallbacks are asked in order, whatever they weigh; leave it out")
    return _targets(reading, items, place, upstreams)


def _has_weight(item: Any) -> bool:
    return isinstance(item, dict) and "weight" in item


def _weighed(reading: Reading, item: Any, place: Place, upstreams: Collection[str]) -> Target | None:
    """A target written as text, or as {to, weight, tags}."""
    if isinstance(item, str):
        return _target(reading, item, place, upstreams)
    if isinstance(item, list):
        reading.fault(place, "is one list too deep; write its targets one level up")
        return None
    if not isinstance(item, dict):
        reading.fault(place, "is neither text nor a mapping; write UPSTREAM/MODEL")
        return None
    shape = reading.shape(TargetShape, item, place)
    to = reading.sound(TargetShape, item).get("to")
    target = None if to is None else _target(reading, to, (*place, "to"), upstreams)
    return replace(target, weight=shape.weight, tags=frozenset(shape.tags or ())) if shape and target else None


def _target(reading: Reading, text: str, place: Place, upstreams: Collection[str]) -> Target | None:
    """UPSTREAM/MODEL, split at the first slash."""
    upstream, slash, model = text.partition("/")
    if not (upstream and slash and model):
        reading.fault(place, f"{text!r} names no upstream and model; write UPSTREAM/MODEL")
    elif upstream not in upstreams:
        reading.fault(place, f"there is no upstream {upstream!r}{nearest(upstream, upstreams)}")
    elif WILDCARD in model and model != WILDCARD:
        reading.fault(place, f"{model!r} is no model; write {upstream}/{WILDCARD} for the name that was asked for")
    else:
        return Target(upstream, model)
    return None


def _parameters(reading: Reading, given: Mapping[str, Any], place: Place) -> Iterator[tuple[str, bytes]]:
    """Request parameters as raw JSON values."""
    for name, value in given.items():
        if name in CALLERS:
            reading.fault((*place, name), "is what the caller asks for, and cannot be set here; leave it out")
            continue
        try:
            yield name, json.dumps(value, separators=(",", ":"), allow_nan=False).encode()
        except ValueError:
            reading.fault((*place, name), "JSON has no such number; write a finite one")


def _check_default(reading: Reading, routes: Routes, model: str) -> None:
    try:
        routes.plan(model)
    except ModelNotFound:
        reading.fault(("default_model",), f"there is no model {model!r}{nearest(model, routes.exact)}")
