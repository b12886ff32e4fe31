"""tables: records and keys as lines of JSON, or as a table for people. Knows no store."""

import json
import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

import click

from relay.record import PUBLIC, Record, public

_WIDE = 240  # characters, where no terminal says how wide it is
COLUMNS = ("time", "id", "key", "model", "status", "outcome", "tokens", "cost $", "first ms", "ms")


def print_json(shown: dict[str, Any]) -> None:
    """One JSON object on a line of its own, at once."""
    click.echo(json.dumps(shown, ensure_ascii=False))


def line(record: Record) -> dict[str, Any]:
    """The record as `--json` prints it where there are many."""
    shown = public(record)
    return {name: shown[name] for name in PUBLIC}


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
        table.add_row(*(Text(cell) for cell in row))
    Console(width=None if sys.stdout.isatty() else _WIDE).print(table)


def cells(record: Record) -> tuple[str, ...]:
    """The record's cells under COLUMNS, times in the reader's own zone."""
    began = datetime.fromtimestamp(record.started_at / 1e6, UTC).astimezone()
    served = f"{record.upstream or '-'}/{record.model or '-'}"
    return (
        f"{began:%m-%d %H:%M:%S}",
        record.id,
        record.key or "-",
        served if record.alias in {None, record.model} else f"{record.alias} → {served}",
        str(record.status),
        record.outcome,
        "-" if record.input_tokens is None else f"{record.input_tokens}+{_number(record.output_tokens)}",
        "-" if record.cost_nano is None else f"{record.cost_nano / 1e9:.6f}",
        _number(record.ttft_ms),
        _number(record.duration_ms),
    )


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.0f}"
