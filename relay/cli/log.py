"""`relay log`: the requests that were made."""

from pathlib import Path
from typing import Any

import click

from relay.cli import tables
from relay.cli.options import DURATION, config_option, filter_options, json_option, which


@click.command()
@click.option("--since", type=DURATION, metavar="1h", help="Only those that began at most that long ago.")
@filter_options
@click.option("-n", "limit", type=click.IntRange(min=1), default=50, show_default=True, help="At most so many.")
@json_option
@config_option
def log(*, as_json: bool, config_file: Path | None, **wanted: Any) -> None:
    """List the requests that were made, newest first; one that its client made several times is one line."""
    from relay.cli import access  # noqa: PLC0415 - pydantic comes with it, and --help must be quick

    with access.reading(config_file) as store:
        records = store.requests(which(**wanted))
    if as_json:
        for record in records:
            tables.print_json(tables.line(record))
    else:
        tables.print_table(tables.COLUMNS, map(tables.cells, tables.calls(records)))
