"""`relay key`: the keys that callers use. A key's text is printed once, when it is made; only its digest is stored."""

import os
import re
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from relay.cli import tables
from relay.cli.options import BUDGET, LIFETIME, Read, config_option, json_option
from relay.cli.output import OutputFault
from relay.errors import SetupFault
from relay.keys import Key, mint, tag
from relay.record import Keep, iso
from relay.store.pepper import pepper

if TYPE_CHECKING:
    from relay.config import Config

_NAME = re.compile(r"[\w.@:+-]{1,64}")
_MOMENTS = ("expires_at", "revoked_at", "created_at")
_SHOWN = ("id", "name", "status", "models", "tags", "rpm", "tpm", "concurrency", "budget", "log", *_MOMENTS)


def _name(text: str) -> str:
    if _NAME.fullmatch(text) is None:
        raise ValueError(f"{text!r} is no name for a key: letters, digits and . _ @ : + -, at most 64")
    return text


def _models(text: str) -> tuple[str, ...]:
    names = tuple(name.strip() for name in text.split(","))
    if not all(names):
        raise ValueError(f"{text!r} is not a list of models such as fast,gpt-4*")
    return names


def _tags(text: str) -> tuple[str, ...]:
    return tuple(tag(part.strip()) for part in text.split(","))


_MANY = click.IntRange(min=1)


@click.group()
def key() -> None:
    """Make, list, show and revoke the keys that callers use."""


@key.command()
@click.argument("name", type=Read("name", _name))
@click.option("--models", type=Read("models", _models), metavar="A,B*", help="The only models it may ask for.")
@click.option("--tags", type=Read("tags", _tags), metavar="A,B", help="What it may use beside what is for everyone.")
@click.option("--budget", type=BUDGET, metavar="20/month", help="USD that it may spend in a day, week or month.")
@click.option("--rpm", type=_MANY, help="Requests a minute.")
@click.option("--tpm", type=_MANY, help="Tokens a minute.")
@click.option("--concurrency", type=_MANY, help="Requests at a time.")
@click.option("--expires", type=LIFETIME, metavar="30d", help="How long it lasts.")
@click.option("--log", type=click.Choice(["full", "redacted", "none"]), help="What is kept of its bodies.")
@json_option
@config_option
def create(
    name: str,
    *,
    tags: tuple[str, ...] | None,
    expires: float | None,
    log: Keep | None,
    as_json: bool,
    config_file: Path | None,
    **limits: Any,
) -> None:
    """Make a key and print it: this once, since only its digest is kept."""
    from relay.cli import access  # noqa: PLC0415 - pydantic comes with it, and --help must be quick

    config = access.settings(config_file)
    if name in config.key_names:
        raise SetupFault(f"key {name}: the configuration has one of that name; take another")
    now = int(time.time())
    until = None if expires is None else now + int(expires)
    with access.writing(config.store) as store:
        secret = pepper(config.store, os.environ, used=bool(store.keys()))
        text, made = mint(name, secret, now, tags=tags or (), expires_at=until, log=log, **limits)
        store.add_key(made)
        try:
            _hand_out(text, made, as_json)
        except OutputFault as fault:  # what nobody has seen nobody should have to revoke
            store.revoke_key(made.id, now)
            raise click.ClickException(f"key {name}: revoked again, as nobody has seen it: {fault.message}") from fault


def _hand_out(text: str, made: Key, as_json: bool) -> None:
    if as_json:
        tables.print_json({"key": text, **_shown(made)})
    else:
        click.echo(text)


@key.command("list")
@json_option
@config_option
def list_keys(as_json: bool, config_file: Path | None) -> None:
    """List the keys in the store, oldest first."""
    from relay.cli import access  # noqa: PLC0415 - as above

    with access.reading(config_file) as store:
        keys = store.keys()
    rows = [_shown(found) for found in keys]
    if as_json:
        for row in rows:
            tables.print_json(row)
    else:
        tables.print_table(_SHOWN, ([_cell(value) for value in row.values()] for row in rows))


@key.command()
@click.argument("name_or_id", metavar="NAME|ID")
@json_option
@config_option
def show(name_or_id: str, as_json: bool, config_file: Path | None) -> None:
    """Show one key, all but its text, which nobody has."""
    from relay.cli import access  # noqa: PLC0415 - as above

    config = access.settings(config_file)
    with access.reading(config_file) as store:
        keys = store.keys()
    found = [each for each in keys if name_or_id in {each.id, each.name}]
    if not found:
        raise click.ClickException(_unknown(config, name_or_id, "no such key"))
    row = _shown(min(found, key=lambda each: each.revoked_at is not None))
    if as_json:
        tables.print_json(row)
    else:
        for name, value in row.items():
            click.echo(f"{name:<12} {_cell(value)}")


@key.command()
@click.argument("name_or_id", metavar="NAME|ID")
@json_option
@config_option
def revoke(name_or_id: str, as_json: bool, config_file: Path | None) -> None:
    """Refuse a key from now on, within a second in a relay that runs."""
    from relay.cli import access  # noqa: PLC0415 - as above

    config = access.settings(config_file)
    with access.writing(config.store) as store:
        if not store.revoke_key(name_or_id, int(time.time())):
            raise click.ClickException(_unknown(config, name_or_id, "no such key in force"))
    if as_json:
        tables.print_json({"revoked": name_or_id})
    else:
        click.echo(f"{name_or_id}: revoked")


def _unknown(config: "Config", name: str, otherwise: str) -> str:
    """Why that key is not in the store."""
    if name in config.key_names:
        return f"{name}: stands in {config.path}, and not in the store; change it there"
    return f"{name}: {otherwise}"


def _shown(found: Key) -> dict[str, Any]:
    now = time.time()
    expired = found.expires_at is not None and found.expires_at <= now
    status = "revoked" if found.revoked_at is not None else "expired" if expired else "active"
    moments = {name: getattr(found, name) for name in _MOMENTS}
    told: dict[str, Any] = {name: moment and iso(moment * 1_000_000) for name, moment in moments.items()}
    told["status"] = status
    return {name: told[name] if name in told else getattr(found, name) for name in _SHOWN}


def _cell(value: Any) -> str:
    return "-" if value is None or value == () else ",".join(value) if isinstance(value, tuple) else str(value)
