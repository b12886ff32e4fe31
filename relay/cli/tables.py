"""tables: records and keys as lines of JSON, or as a table for people. Knows no store."""

import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

import click

from relay.record import PUBLIC, Record, public

_WIDE = 240  # characters, where no terminal says how wide it is
_WIDEST = 80  # characters of a cell that a caller can fill
COLUMNS = ("time", "id", "key", "model", "status", "outcome", "tokens", "cost $", "first ms", "ms")


def print_json(shown: dict[str, Any]) -> None:
    """One JSON object on a line of its own, at once."""
    click.echo(json.dumps(shown, ensure_ascii=False))


def line(record: Record) -> dict[str, Any]:
    """The record as `--json` prints it where there are many. Of what a client tried again it says which call it was."""
    shown = public(record)
    names = (*PUBLIC, "retry", "call") if shown["retry"] else PUBLIC
    return {name: shown[name] for name in names}


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """A table as wide as the terminal."""
    # rich takes longer to import than the rest of the command takes to run; --help and --json do without it.
    from rich.console import Console  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    table = Table(*columns, box=None, pad_edge=False, header_style="bold")
    for column in table.columns:
        column.no_wrap = True
    for row in rows:
        table.add_row(*(Text(plain(cell)) for cell in row))
    Console(width=None if sys.stdout.isatty() else _WIDE).print(table)


def print_told(told: Iterable[tuple[str, Sequence[str]]]) -> None:
    """Labels, each with its lines."""
    for label, lines in told:
        for number, text in enumerate(lines):
            click.echo(f"{'' if number else label:<12} {plain(text)}")


def dropped(told: dict[str, Any]) -> list[str]:
    """Who was dropped from a plan, and why."""
    return [f"{each['target']}: {each['reason']}" for each in told["dropped"]]


def fallbacks(told: dict[str, Any]) -> Iterator[str]:
    """Who stands by for what a plan's own targets refuse, by the reason, and who was dropped of them."""
    for why, found in told["fallback"].items():
        yield f"{why}: {', '.join(found['targets']) or 'nobody'}"
        yield from (f"not {each}" for each in dropped(found))


def plain(text: str, but: str = "") -> str:
    """The text without what a terminal would obey, save for the characters in `but`: much of it comes from callers."""
    return "".join([each if each.isprintable() or each in but else "�" for each in text])


def calls(records: Iterable[Record]) -> Iterator[Record]:
    """Of each call the request that comes first: the last of those in which its client made it, newest first."""
    seen = set()
    for record in records:
        call = (record.why and record.why.call) or record.id
        if call not in seen:
            seen.add(call)
            yield record


def cells(record: Record) -> tuple[str, ...]:
    """The record's cells under COLUMNS, times in the reader's own zone.

    The status tells which time this is, where its client has made the same call before.
    """
    retry = record.why.retry if record.why else 0
    began = datetime.fromtimestamp(record.started_at / 1e6, UTC).astimezone()
    served = f"{record.upstream or '-'}/{record.model or '-'}"
    return (
        f"{began:%m-%d %H:%M:%S}",
        record.id,
        record.key or "-",
        _short(served if record.alias in {None, record.model} else f"{record.alias} → {served}"),
        f"{record.status} ×{retry + 1}" if retry else str(record.status),  # noqa: RUF001  # the sign is meant
        record.outcome,
        _tokens(record),
        "-" if record.cost_nano is None else f"{_about(record)}{record.cost_nano / 1e9:.6f}",
        _number(record.ttft_ms),
        _number(record.duration_ms),
    )


def _tokens(record: Record) -> str:
    """Those in and out, with a mark where one of them is estimated."""
    used = (record.why and record.why.estimate) or (record.input_tokens, record.output_tokens)
    return "-" if used[0] is None else f"{_about(record)}{used[0]}+{_number(used[1])}"


def _about(record: Record) -> str:
    return "~" if record.usage_source == "estimated" else ""


def _short(text: str) -> str:
    """One long name must not take the room of all other columns."""
    return text if len(text) <= _WIDEST else f"{text[: _WIDEST - 1]}…"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.0f}"
