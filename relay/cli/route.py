"""`relay route`: where requests for a model would go now, and why. Nothing is asked of any upstream."""

import json
import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from relay import routing
from relay.cli import tables
from relay.cli.options import Read, config_option, json_option
from relay.errors import RelayError
from relay.keys import Key, ended
from relay.pricing import Rate
from relay.routing import OFF, Circumstances, Plan, Strategy, Target, fallback, filled, plan, served

if TYPE_CHECKING:
    from relay.call.readiness import Readiness, TargetState
    from relay.config import Config

_BY_WEIGHT: frozenset[Strategy] = frozenset({"weighted", "sticky"})
_GOES_BY: dict[Strategy, str] = {
    "order": "as written",
    "weighted": "drawn for each request, by weight; this is one draw",
    "least_busy": "the fewest running requests for its weight first, equal ones drawn; this is one draw",
    "fastest": "of two that are drawn by weight, the faster one first; this is one draw",
    "sticky": "the same for all of a conversation: by the session that an agent names, else `prompt_cache_key`, else"
    " `conversation`, else how its messages begin; this is one draw, as for a request with none of them",
}


def _written(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("a model's name is UTF-8") from None
    return text


@click.command()
@click.argument("model", type=Read("model", _written))
@click.option(
    "--key", "key_name", metavar="KEY", help="For the key of this name; else for a caller whom nothing limits."
)
@json_option
@config_option
def route(model: str, *, key_name: str | None, as_json: bool, config_file: Path | None) -> None:
    """Tell where requests for MODEL would go now, and why, without a call."""
    from relay.cli import access, running  # noqa: PLC0415 - pydantic comes with it, and --help must be quick

    config = access.settings(config_file)
    key = _key(config, key_name, config_file) if key_name is not None else None
    view = View(config, key, running.ask(config.server))
    try:
        planned = _planned(view, model)
    except RelayError as fault:
        raise click.ClickException(f"HTTP {fault.status} {fault.code}: {fault.message}") from fault
    if as_json:
        tables.print_json(_told(view, planned))
    else:
        tables.print_told(_lines(view, planned))


@dataclass(frozen=True, slots=True)
class View:
    """What a plan is made of: the configuration, the caller, and the relay where it runs."""

    config: "Config"
    key: Key | None
    running: "Readiness | None"

    def state(self, target: Target) -> "TargetState | None":
        """None where nothing is known of it."""
        return self.running.targets.get(target.name) if self.running else None

    def avoided(self, target: Target) -> str | None:
        """Why it would not be asked now, while another is left."""
        state = self.state(target)
        return state.avoided if state else None

    def off(self) -> dict[str, str]:
        """Why upstreams cannot be asked. A relay that runs knows best: the secrets are in its environment, not here."""
        if self.running is None:
            return dict(self.config.routes.off)
        known, running = {*self.config.disabled, *self.config.upstreams}, self.running.upstreams
        out_of_keys = {name: each.reason for name, each in running.items() if each.reason is not None}
        return dict.fromkeys(known - running.keys(), OFF) | out_of_keys

    def busy(self) -> dict[str, int]:
        """How many requests run at each upstream."""
        return {name: each.running for name, each in self.running.upstreams.items()} if self.running else {}


def _key(config: "Config", name: str, config_file: Path | None) -> Key:
    """The key in force of that name or id, the configuration's own or the store's."""
    from relay.cli import access  # noqa: PLC0415 - as above

    found = [each.key(b"") for each in config.keys]
    if name not in {part for each in found for part in (each.id, each.name)} and config.store.exists():
        with access.reading(config_file) as store:
            found = store.keys()
    now = time.time()
    for each in found:
        if name in {each.id, each.name} and ended(each, now) is None:
            return each
    raise click.ClickException(f"{name}: no such key in force")


def _planned(view: View, model: str) -> Plan:
    """The plan of a request that came now. Raises ModelNotAllowed, ModelNotFound."""
    routes, key = view.config.routes, view.key
    found = routes.plan(model, key.models if key else None)
    alias = found.alias
    # Not those of `found`: it leaves out what is switched off here.
    targets = filled(chain(alias.targets, *alias.fallback.values()), model)
    limitless: frozenset[str] = frozenset().union(*(target.tags for target in targets))
    circumstances = Circumstances(
        tags=limitless if key is None else frozenset(key.tags),
        chance=random.getrandbits(128),
        unusable=view.off(),
        ill={target.name: reason for target in targets if (reason := view.avoided(target)) is not None},
        busy=view.busy(),
        first_byte={
            each.name: state.first_byte_ms for each in targets if (state := view.state(each)) and state.first_byte_ms
        },
    )
    planned = served(plan(alias, model, circumstances))
    for why in alias.fallback:
        planned = planned.falling_back(why, fallback(alias, why, model, circumstances))
    return planned


def _drawn(planned: Plan) -> bool:
    """Whether the order is another one for another request."""
    return planned.alias.strategy != "order" and any(len(tier) > 1 for tier in planned.alias.tiers)


def _share(planned: Plan, target: Target) -> float | None:
    """What comes to a target of those that are left of its place in the order; None where that is not by weight."""
    if planned.alias.strategy not in _BY_WEIGHT:
        return None
    left = {each.name for each in planned.targets}
    for tier in planned.alias.tiers:
        weights = {each.name: each.weight for each in filled(tier, planned.asked) if each.name in left}
        if target.name in weights and len(tier) > 1:
            return target.weight / sum(weights.values())
    return None


def _told(view: View, planned: Plan) -> dict[str, Any]:
    """Everything, as `--json` prints it. Prices in USD per million tokens."""
    alias, running = planned.alias, view.running
    decided = json.loads(routing.told(planned))
    return {
        "model": planned.asked,
        "alias": alias.name,
        "key": view.key.name if view.key else None,
        "relay": running.status if running else None,
        "strategy": alias.strategy,
        "drawn": _drawn(planned),
        "targets": [_target(view, planned, target) for target in planned.targets],
        "dropped": decided["dropped"],
        "fallback": decided["fallback"],
        "limits": [{"name": name, "limit": limit} for name, limit in _limits(view.key)],
        "set": {name: json.loads(value) for name, value in alias.set.items()},
        "default": {name: json.loads(value) for name, value in alias.default.items()},
    }


def _limits(key: Key | None) -> Iterator[tuple[str, int]]:
    """Those that a request is held to. What is left of them is in the memory of the relay that runs."""
    for name, limit in (("rpm", key.rpm), ("concurrency", key.concurrency)) if key else ():
        if limit is not None:
            yield name, limit


def _target(view: View, planned: Plan, target: Target) -> dict[str, Any]:
    state, upstreams = view.state(target), view.running.upstreams if view.running else {}
    rate = view.config.prices.get(target.name)
    return {
        "target": target.name,
        "share": _share(planned, target),
        "state": state and state.state,
        "failures": state and state.failures,
        "error_rate": state and state.error_rate,
        "first_byte_ms": state and state.first_byte_ms,
        "off": view.off().get(target.upstream),
        "avoided": view.avoided(target),
        "running": upstreams[target.upstream].running if target.upstream in upstreams else None,
        "price": rate and {name: _usd(rate, name) for name in ("input", "output", "cached_input")},
    }


def _lines(view: View, planned: Plan) -> Iterator[tuple[str, Sequence[str]]]:
    """The same for people: labels and lines."""
    told = _told(view, planned)
    matched = f", by the pattern {told['alias']}" if told["alias"] != told["model"] else ""
    yield "model", [f"{told['model']}{matched}"]
    yield "key", [told["key"] or "none: as for a caller whom nothing limits"]
    yield "relay", [_relay(view)]
    yield "strategy", [f"{told['strategy']}: {_GOES_BY[planned.alias.strategy if told['drawn'] else 'order']}"]
    yield "targets", [f"{at}. {_shown(view, each)}" for at, each in enumerate(told["targets"], 1)]
    yield "dropped", tables.dropped(told) or ["-"]
    yield "fallback", list(tables.fallbacks(told))
    yield "limits", [f"{each['name']} {each['limit']}" for each in told["limits"]]
    for field in ("set", "default"):
        yield field, [f"{name}: {json.dumps(value, ensure_ascii=False)}" for name, value in told[field].items()]


def _relay(view: View) -> str:
    server = view.config.server
    if view.running is None:
        return f"no relay runs here ({server.host}:{server.port}): health unknown, secrets as they are in this shell"
    alone = "" if server.workers == 1 else f"; these are the numbers of one of {server.workers} workers"
    return f"{view.running.status}, on {server.host}:{server.port}{alone}"


def _shown(view: View, each: dict[str, Any]) -> str:
    price = each["price"]
    parts = [
        each["share"] and f"{each['share']:.0%} of the requests",
        _health(view, each),
        f"{each['running']} running" if each["running"] is not None else None,
        f"USD {price['input']:g} in, {price['output']:g} out, {price['cached_input']:g} cached"
        if price
        else "no price",
    ]
    return f"{each['target']}: {'; '.join(filter(None, parts))}"


def _health(view: View, each: dict[str, Any]) -> str | None:
    if each["off"]:
        return f"{each['off']}, and nobody else is left: a request gets 502"
    if each["avoided"]:
        return f"{each['avoided']}, but nobody else is left"
    if each["state"] is None:
        return "not asked lately" if view.running else None
    if each["state"] != "well":
        return "has rested: the next request probes it"
    first = f", first byte {each['first_byte_ms']:.1f} ms" if each["first_byte_ms"] else ""
    return f"well{first}, {each['error_rate']:.0%} failed"


def _usd(rate: Rate, name: str) -> float:
    """USD per million tokens."""
    pico: int = getattr(rate, name)
    return pico / 1_000_000
