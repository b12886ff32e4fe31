"""`relay check`: everything that is wrong with a configuration."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from relay.cli import tables
from relay.cli.options import config_option, json_option

if TYPE_CHECKING:
    from relay.config import Fault


@click.command()
@click.argument("file", type=click.Path(path_type=Path), required=False)
@json_option
@config_option
def check(file: Path | None, as_json: bool, config_file: Path | None) -> None:
    """Tell everything that is wrong with a configuration, by file, line and field. Exit code 1 if anything is."""
    from relay.config import AT_START, faults, find, load  # noqa: PLC0415 - pydantic comes with it, and --help must be quick

    path = find(file or config_file, os.environ, Path.cwd())
    found = faults(path, os.environ)
    warnings = () if found else load(path, os.environ).warnings
    if as_json:
        tables.print_json(_told(path, found, warnings, AT_START))
    elif found:
        click.echo("\n".join(map(str, found)))
    else:
        _print(path, warnings, AT_START)
    if found:
        raise click.exceptions.Exit(1)


def _told(
    path: Path | None, found: Sequence["Fault"], warnings: Sequence[str], at_start: Sequence[str]
) -> dict[str, Any]:
    """Everything, as `--json` prints it. A fault of the whole file has neither line nor field."""
    return {
        "file": None if path is None else str(path),
        "ok": not found,
        "faults": [{"line": each.line or None, "field": each.field or None, "message": each.message} for each in found],
        "warnings": list(warnings),
        "restart": list(at_start),
    }


def _print(path: Path | None, warnings: Sequence[str], at_start: Sequence[str]) -> None:
    for warning in warnings:
        click.echo(f"warning: {warning}", err=True)
    click.echo(f"{path or 'defaults (no config.yaml)'}: ok")
    click.echo(f"applied on save, except: {', '.join(at_start)} (these take a restart)")
