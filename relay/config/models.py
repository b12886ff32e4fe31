"""models: the `models:` and `prices:` of the file, as routes and rates. Knows the upstreams by their names only."""

import json
from collections.abc import Collection, Iterator, Mapping
from decimal import Decimal
from typing import Any

from relay.config.document import Place
from relay.config.reading import Reading, nearest
from relay.config.shapes import AliasShape, PriceShape, TargetShape
from relay.config.upstreams import ECHO
from relay.errors import ModelNotFound
from relay.pricing import Rate
from relay.routing import WILDCARD, Alias, Routes, Target

# What a request is about is the caller's; a parameter that is always overwritten would make the alias lie.
CALLERS = frozenset({"model", "stream", "messages", "input"})


def read_routes(
    reading: Reading, data: Mapping[str, Any] | None, upstreams: Collection[str], default_model: str | None
) -> Routes:
    """No models in the file is every name at the first upstream. The model `echo` is always there."""
    if not data:
        first = next((name for name in upstreams if name != ECHO), None)
        data = {WILDCARD: f"{first}/{WILDCARD}"} if first else {}
    aliases = [_alias(reading, name, entry, upstreams) for name, entry in data.items()]
    known = [alias for alias in aliases if alias is not None]
    if ECHO not in data:
        known.append(Alias(ECHO, (Target(ECHO, ECHO),)))
    routes = Routes.of(known, default_model)
    if default_model is not None and None not in aliases:
        _check_default(reading, routes, default_model)
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
    shape = AliasShape.model_validate({"targets": []})
    items: list[tuple[Place, Any]] = [(place, entry)]
    if isinstance(entry, list):
        items = [((*place, index), item) for index, item in enumerate(entry)]
    elif isinstance(entry, dict):
        shape = reading.shape(AliasShape, entry, place) or shape
        items = [((*place, "targets", index), item) for index, item in enumerate(shape.targets)]
    targets = [_weighed(reading, item, here, upstreams) for here, item in items]
    forced = dict(_parameters(reading, shape.set or {}, (*place, "set")))
    filled = dict(_parameters(reading, shape.default or {}, (*place, "default")))
    if not items and len(reading.faults) == before:
        reading.fault(place, "has no target; write UPSTREAM/MODEL")
    if not name:
        reading.fault(place, "a model's name is empty; write one")
    if len(reading.faults) > before:
        return None
    return Alias(name, tuple(target for target in targets if target), forced, filled, shape.response_model)


def _weighed(reading: Reading, item: Any, place: Place, upstreams: Collection[str]) -> Target | None:
    """A target written as text, or as {to, weight}."""
    if isinstance(item, str):
        return _target(reading, item, place, upstreams)
    if not isinstance(item, dict):
        reading.fault(place, "is neither text nor a mapping; write UPSTREAM/MODEL")
        return None
    shape = reading.shape(TargetShape, item, place)
    return _target(reading, shape.to, (*place, "to"), upstreams, shape.weight) if shape else None


def _target(reading: Reading, text: str, place: Place, upstreams: Collection[str], weight: int = 1) -> Target | None:
    """UPSTREAM/MODEL, split at the first slash."""
    upstream, slash, model = text.partition("/")
    if not (upstream and slash and model):
        reading.fault(place, f"{text!r} names no upstream and model; write UPSTREAM/MODEL")
    elif upstream not in upstreams:
        reading.fault(place, f"there is no upstream {upstream!r}{nearest(upstream, upstreams)}")
    elif WILDCARD in model and model != WILDCARD:
        reading.fault(place, f"{model!r} is no model; write {upstream}/{WILDCARD} for the name that was asked for")
    else:
        return Target(upstream, model, weight)
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
