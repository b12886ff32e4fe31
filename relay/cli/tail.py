"""`relay tail`: requests as they finish."""

import select
import sys
from pathlib import Path
from typing import Any

import click

from relay.cli import tables
from relay.cli.options import config_option, filter_options, json_option, which
from relay.record import Record
from relay.store import Filter
from relay.store.sqlite import SqliteStore

_EVERY = 0.2  # seconds


@click.command()
@filter_options
@json_option
@config_option
def tail(*, as_json: bool, config_file: Path | None, **wanted: Any) -> None:
    """Print requests as they finish, until Ctrl-C."""
    from relay.cli import access  # noqa: PLC0415 - pydantic comes with it, and --help must be quick

    with access.reading(config_file) as store:
        try:
            _follow(store, which(**wanted), as_json)
        except KeyboardInterrupt:
            return  # the usual way to end it


def _follow(store: SqliteStore, wanted: Filter, as_json: bool) -> None:
    place, _ = store.arrivals(None, wanted)
    while not _closed(_EVERY):
        place, records = store.arrivals(place, wanted)
        for record in records:
            _print(record, as_json)


def _print(record: Record, as_json: bool) -> None:
    if as_json:
        tables.print_json(tables.line(record))
    else:
        click.echo(tables.plain("  ".join(tables.cells(record))))


def _closed(seconds: float) -> bool:
    """Wait, and tell whether whoever read our output has gone meanwhile."""
    poll = select.poll()
    poll.register(sys.stdout.fileno(), 0)  # errors and hang-ups are always told
    return bool(poll.poll(seconds * 1000))
