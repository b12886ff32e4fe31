"""`relay serve`: run the relay."""

import sys
from pathlib import Path
from typing import Any

import click

from relay.cli.options import config_option


@click.command()
@config_option
@click.option("--host", help="Listen here (else server.host).")
@click.option(
    "--port", type=click.IntRange(0, 65535), help="Listen on this port (else server.port); 0 takes a free one."
)
@click.option("--workers", type=click.IntRange(min=1), help="How many processes serve (else server.workers).")
def serve(config_file: Path | None, **flags: Any) -> None:
    """Run the relay until SIGTERM or Ctrl-C: then it finishes what runs, and a second signal ends it at once.

    A configuration that is saved meanwhile is taken over within two seconds, and on SIGHUP at once.
    """
    from relay.cli import server  # noqa: PLC0415 - uvicorn and FastAPI come with it, and --help must be quick

    sys.exit(server.serve(config_file, flags))
