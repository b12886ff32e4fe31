"""`relay why`: all that was decided about one request, and how each try went."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import click
import msgspec

from relay.cli import tables
from relay.cli.options import config_option, json_option
from relay.record import Record, Try, Why, estimate, iso

# The edits that a record's other fields tell.
_USAGE = {"op": "add", "path": "/stream_options/include_usage", "value": True}


@click.command()
@click.argument("name", metavar="ID")
@json_option
@config_option
def why(name: str, as_json: bool, config_file: Path | None) -> None:
    """Tell all that was decided about one request, by its x-relay-id or as much of that as is unique."""
    from relay.cli import access  # noqa: PLC0415 - pydantic comes with it, and --help must be quick

    with access.reading(config_file) as store:
        record = store.request(name)
    if record is None:
        raise click.ClickException(f"{name}: no such request")
    told = explained(record)
    if as_json:
        tables.print_json(told)
    else:
        tables.print_told(_lines(told))


def explained(record: Record) -> dict[str, Any]:
    """Everything, as `--json` prints it. Times in milliseconds, `retry_after` in seconds."""
    decided = record.why or Why()
    plan = _plan(record, decided)
    return {
        "id": record.id,
        "started_at": iso(record.started_at),
        "key": record.key,
        "alias": record.alias,
        "endpoint": record.endpoint,
        "stream": record.stream,
        "strategy": plan["strategy"],
        "candidates": plan["targets"],
        "dropped": plan["dropped"],
        "fallback": plan.get("fallback", {}),
        "tries": list(_tries(record)),
        "edits": list(record.edits),
        "patch": json.loads(bytes(decided.patch) or b"null") or _patch(record),
        "usage_source": record.usage_source,
        "estimate": estimate(record),
        "limits": [{"name": limit, "limit": of, "left": left} for limit, of, left in record.limits],
        "status": record.status,
        "outcome": record.outcome,
        "error": record.error,
        "duration_ms": record.duration_ms,
        "should_retry": decided.should_retry,
        "retry_after": decided.retry_after,
        "retry": decided.retry,
        "call": decided.call,
    }


def _plan(record: Record, decided: Why) -> dict[str, Any]:
    """Of one that is not told there was one candidate, which was asked first, or none was found."""
    if bytes(decided.plan):
        told: dict[str, Any] = msgspec.json.decode(decided.plan)
        return told
    first = record.tries[0] if record.tries else record
    return {"strategy": None, "targets": [f"{first.upstream}/{first.model}"] if first.upstream else [], "dropped": []}


def _tries(record: Record) -> Iterator[dict[str, Any]]:
    """Each try with its whole time. The last one has what is left of the request's, and so has a pause before it."""
    left = record.duration_ms - record.overhead_us / 1000
    for each in record.tries:
        total = _total(each, left if each is record.tries[-1] else 0.0)
        left -= total
        yield {
            "target": f"{each.upstream}/{each.model}",
            "key": each.key,
            "status": each.status,
            "error": each.error,
            "reused": each.reused,
            "connect_ms": each.connect_ms,
            "first_byte_ms": each.first_byte_ms,
            "total_ms": round(total, 3),
        }


def _total(each: Try, left: float) -> float:
    """It was noted, or else it ended with the head of its answer, or with the request."""
    return max(left, each.first_byte_ms or 0.0) if each.total_ms is None else each.total_ms


def _patch(record: Record) -> list[dict[str, Any]]:
    """As far as the record tells it: of a parameter whose value was not noted there is no operation."""
    known: dict[str, dict[str, Any]] = {
        "model": {"op": "replace", "path": "/model", "value": record.model},
        "stream_options": _USAGE,
    }
    return [known[name] for name in record.edits if name in known]


def _lines(told: dict[str, Any]) -> Iterator[tuple[str, Sequence[str]]]:
    """The same for people: labels and lines."""
    yield "request", [told["id"], f"{told['started_at']}, {told['endpoint']}{', streamed' * told['stream']}"]
    yield "asked for", [f"{told['alias'] or 'no model'}, with the key {told['key'] or '-'}"]
    yield "strategy", [told["strategy"] or "-"]
    yield "candidates", [f"{at}. {name}" for at, name in enumerate(told["candidates"], 1)] or ["-"]
    yield "dropped", tables.dropped(told) or ["-"]
    yield "fallback", list(tables.fallbacks(told))
    tries = told["tries"]
    shown = [_try(each, told["candidates"], 1 < at == len(tries)) for at, each in enumerate(tries, 1)]
    yield "tries", [f"{at}. {each}" for at, each in enumerate(shown, 1)] or ["-"]
    yield "edits", list(_edits(told)) or ["-"]
    yield "limits", [f"{each['name']} {each['limit']}, {each['left']} left" for each in told["limits"]] or ["-"]
    if (guess := told["estimate"]) is not None:
        yield (
            "tokens",
            [f"about {guess['input_tokens']} in, {guess['output_tokens']} out: estimated, as not all was said"],
        )
    yield "answer", [f"HTTP {told['status']} ({told['outcome']}) after {_ms(told['duration_ms'])}"]
    yield "error", [told["error"] or "-"]
    yield "hint", [_hint(told["should_retry"], told["retry_after"])]
    yield "retry", [_retry(told["retry"], told["call"])]


def _try(each: dict[str, Any], candidates: Sequence[str], paused: bool) -> str:
    """One try; where there may have been a pause before it, its whole time is no more than a bound."""
    status = f"HTTP {each['status']}" if each["status"] else None
    error = each["error"] and each["error"].removesuffix(".")
    fallback = "" if each["target"] in candidates else ", a fallback"
    parts = [
        ", then ".join(filter(None, [status, error])) or "-",
        each["key"] and f"key {each['key']}",
        "kept connection" if each["reused"] else _after("connected in", each["connect_ms"]),
        _after("first byte after", each["first_byte_ms"]),
        f"{'at most ' * paused}{_ms(each['total_ms'])} in all",
    ]
    return f"{each['target']}{fallback}: {'; '.join(filter(None, parts))}"


def _edits(told: dict[str, Any]) -> Iterator[str]:
    for each in told["patch"]:
        yield f"{each['op']} {each['path']} {json.dumps(each['value'], ensure_ascii=False)}"
    shown = {each["path"].split("/")[1].replace("~1", "/").replace("~0", "~") for each in told["patch"]}
    for name in told["edits"]:
        if name not in shown:
            yield f"{name}, whose value was not noted"


def _hint(again: bool | None, after: float | None) -> str:
    if again is None:
        return "-"
    said = "try again" if again else "do not try again"
    return said if after is None else f"{said}; a wait of {after:g} s would help"


def _retry(retry: int, call: str | None) -> str:
    """Which of its client's own tries it is."""
    if not retry:
        return "-"
    return f"number {retry} by the client itself; the call began with {call or 'a request that is not known'}"


def _after(what: str, value: float | None) -> str | None:
    return None if value is None else f"{what} {_ms(value)}"


def _ms(value: float) -> str:
    return f"{value:.1f} ms"
