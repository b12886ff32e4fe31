"""`relay check`: everything that is wrong with a configuration."""

import os
from pathlib import Path

import click

from relay.cli.options import config_option


@click.command()
@click.argument("file", type=click.Path(path_type=Path), required=False)
@config_option
def check(file: Path | None, config_file: Path | None) -> None:
    """Tell everything that is wrong with a configuration, by file, line and field. Exit code 1 if anything is."""
    from relay.config import AT_START, faults, find, load  # noqa: PLC0415 - pydantic comes with it, and --help must be quick

    path = find(file or config_file, os.environ, Path.cwd())
    found = faults(path, os.environ)
    for fault in found:
        click.echo(str(fault))
    if found:
        raise click.exceptions.Exit(1)
    for warning in load(path, os.environ).warnings:
        click.echo(f"warning: {warning}", err=True)
    click.echo(f"{path or 'defaults (no config.yaml)'}: ok")
    click.echo(f"applied on save, except: {', '.join(AT_START)} (these take a restart)")
