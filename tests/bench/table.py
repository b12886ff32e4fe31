"""table: the figures as a table for people, and as JSON for machines."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.table import Table

from tests.bench.figures import Line, Results, Row, least, lines, median
from tests.bench.machine import Machine

_COLUMNS = ("relay", "median", "nginx", "median", "relay / nginx", "direct")


def table(results: Results, counts: Mapping[str, int]) -> Table:
    """Markdown as it is printed: the least of the rounds and their median; ratios are those of the least.

    `counts` are the numbers that some titles name.
    """
    shown = Table("what", box=box.MARKDOWN)
    for column in _COLUMNS:
        shown.add_column(column, justify="right", no_wrap=True)
    for best, usual in zip(lines(results, least), lines(results, median), strict=True):
        values = (best.relay, usual.relay, best.nginx, usual.nginx)
        told = [amount(best.row, value) for value in values]
        shown.add_row(title(best.row, counts), *told, ratio(best), amount(best.row, best.direct))
    return shown


def title(row: Row, counts: Mapping[str, int]) -> str:
    """A row's words, with the numbers of this run."""
    return row.title.format(**counts)


def amount(row: Row, value: float | None) -> str:
    """A value with its unit; nothing for None."""
    return "" if value is None else f"{value:,.{row.digits}f} {row.unit}"


def ratio(line: Line) -> str:
    """Of the relay's figure to what its row compares it with."""
    return "" if line.ratio is None else f"{line.ratio:.2f}"


def document(
    results: Results, counts: Mapping[str, int], where: Machine, notes: Sequence[str], profile: Mapping[str, Any]
) -> dict[str, Any]:
    """Everything, with each round's own values; a ratio is that of the least of them."""
    told = {
        line.row.name: {
            "title": title(line.row, counts),
            "unit": line.row.unit,
            "ratio": line.ratio,
            **results[line.row.name],
        }
        for line in lines(results)
    }
    versions = dict(where.versions)
    at = {"cores": where.cores, "cpu": where.model, "date": where.date, "kernel": where.kernel, "versions": versions}
    return {"machine": at, "figures": told, "notes": list(notes), "profile": dict(profile)}
