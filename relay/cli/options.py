"""options: what several commands take, and what their words mean. Knows no store."""

import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from relay.store import Filter

_STATUS = re.compile(r"([1-5])xx|([1-5]\d\d)")


class Read(click.ParamType[Any]):
    """A parameter that a function reads; its ValueError is the complaint."""

    def __init__(self, name: str, read: Callable[[str], Any]) -> None:
        self.name = name
        self._read = read

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """What the text means."""
        try:
            return self._read(value)
        except ValueError as fault:
            self.fail(str(fault), param, ctx)


def _duration(text: str) -> float:
    from relay.config.units import duration  # noqa: PLC0415 - pydantic comes with it, and --help must be quick

    try:
        return duration(text)
    except ValueError:
        raise ValueError(f"{text!r} is not a duration such as 30m, 12h or 7d") from None


def _lifetime(text: str) -> float:
    seconds = _duration(text)
    if seconds < 1:
        raise ValueError(f"{text!r} is over at once; a key lasts for a second at least, such as 12h or 30d")
    return seconds


def _budget(text: str) -> str:
    from relay.config.units import budget  # noqa: PLC0415 - as above

    try:
        return budget(text)
    except ValueError:
        raise ValueError(f"{text!r} is not a budget in USD such as 5/day or 20/month") from None


def _status(text: str) -> tuple[int, int]:
    found = _STATUS.fullmatch(text.lower())
    if found is None:
        raise ValueError(f"{text!r} is not a status such as 5xx or 404")
    return (int(found[1]) * 100, int(found[1]) * 100 + 99) if found[1] else (int(text), int(text))


DURATION = Read("duration", _duration)
LIFETIME = Read("duration", _lifetime)
BUDGET = Read("budget", _budget)
STATUS = Read("status", _status)

config_option = click.option(
    "--config",
    "config_file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="The configuration that names the store (else RELAY_CONFIG, else config.yaml here).",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object a line.")


def filter_options(command: Callable[..., None]) -> Callable[..., None]:
    """The options that `which` takes."""
    for option in (
        click.option("--grep", metavar="TEXT", help="Only those with this text in the record or a body, in any case."),
        click.option("--status", type=STATUS, metavar="5xx|404", help="Only those answered so."),
        click.option(
            "--model", metavar="MODEL", help="Only those for this alias, model or UPSTREAM/MODEL; * is any text."
        ),
        click.option("--key", metavar="KEY", help="Only those of the key of this name."),
    ):
        command = option(command)
    return command


def which(
    *,
    key: str | None,
    model: str | None,
    status: tuple[int, int] | None,
    grep: str | None,
    since: float | None = None,
    limit: int = 1000,
) -> Filter:
    """The filter of the options; `since` is seconds ago."""
    start = None if since is None else time.time_ns() // 1000 - int(since * 1e6)
    return Filter(since=start, key=key, model=model, status=status, text=grep, limit=limit)
