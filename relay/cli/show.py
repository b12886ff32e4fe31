"""`relay show`: one request with all that is kept of it, or a program that makes it again."""

import json
from pathlib import Path
from typing import Any

import click

from relay import redaction, splice
from relay.cli import tables
from relay.cli.options import config_option, json_option
from relay.cli.reproduction import PROGRAMS
from relay.errors import SetupFault
from relay.record import Record, public
from relay.store import Bodies


@click.command()
@click.argument("name", metavar="ID")
@click.option("--as", "form", type=click.Choice([*PROGRAMS, "json"]), help="Print it in this form, ready to run.")
@json_option
@config_option
def show(name: str, form: str | None, as_json: bool, config_file: Path | None) -> None:
    """Show one request by its x-relay-id, or as much of that as is unique."""
    from relay.cli import access  # noqa: PLC0415 - pydantic comes with it, and --help must be quick

    with access.reading(config_file) as store:
        record = store.request(name)
        if record is None:
            raise click.ClickException(f"{name}: no such request")
        bodies = store.bodies(record.id) or Bodies(None, None)
    if form in PROGRAMS:
        click.echo(_program(form, record, bodies))
        if bodies.request is not None and redaction.is_redacted(bodies.request):
            click.echo("relay: it sends [N chars] for texts, which were not kept; with bodies: full they are", err=True)
    elif as_json or form == "json":
        told = {"request": _value(bodies.request), "response": _value(bodies.response)}
        tables.print_json(public(record) | told | {"truncated": list(bodies.truncated)})
    else:
        _print(record, bodies)


def _program(form: str, record: Record, bodies: Bodies) -> str:
    if bodies.request is None or "request" in bodies.truncated:
        raise SetupFault(f"{record.id}: its request was not kept whole, so it cannot be made again; see log.bodies")
    value = _value(bodies.request)
    if not isinstance(value, dict):
        raise SetupFault(f"{record.id}: its request is no JSON object, so no program can be made of it")
    body = bodies.request
    if record.alias is not None and value.get("model") != record.alias:  # its path named the model, as Azure's do
        body = splice.patch(body, splice.read(body), {"model": json.dumps(record.alias).encode()})
    return PROGRAMS[form](record, body.decode(json.detect_encoding(body)), json.loads(body))


def _value(body: bytes | None) -> Any:
    """JSON as it is, anything else as text."""
    if body is None:
        return None
    try:
        return json.loads(body)
    except (ValueError, RecursionError):  # the latter: nested too deep
        return body.decode(errors="replace")


def _print(record: Record, bodies: Bodies) -> None:
    for field, value in public(record).items():
        click.echo(f"{field:<16} {'-' if value is None else tables.plain(_text(value))}")
    for field, kept in (("request", bodies.request), ("response", bodies.response)):
        note = " (truncated)" if field in bodies.truncated else ""
        shown = "(not kept)" if kept is None else tables.plain(_text(_value(kept), indent=2), but="\n\t")
        click.echo(f"\n{field}{note}\n{shown}")


def _text(value: Any, indent: int | None = None) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, indent=indent)
