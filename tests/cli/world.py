"""A folder with a configuration and a store, and the commands run in it as a person runs them."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result

from relay.cli import relay
from relay.record import Entry
from relay.store.sqlite import SqliteStore
from tests.records import batch


@dataclass(frozen=True)
class World:
    folder: Path

    @property
    def config(self) -> Path:
        return self.folder / "config.yaml"

    @property
    def store(self) -> Path:
        return self.folder / "relay.db"

    def insert(self, *entries: Entry) -> None:
        with SqliteStore(self.store) as store:
            store.insert(batch(*entries))

    def run(self, *arguments: str) -> Result:
        return CliRunner().invoke(relay, [*arguments, "--config", str(self.config)])

    def json(self, *arguments: str) -> list[dict[str, Any]]:
        done = self.run(*arguments, "--json")
        assert (0, "") == (done.exit_code, done.stderr)
        return [json.loads(line) for line in done.stdout.splitlines()]


def complaint(done: Result) -> str:
    """The one line on stderr."""
    lines: Sequence[str] = done.stderr.splitlines()
    assert 1 == len(lines), done.output
    assert "" == done.stdout
    assert lines[0].startswith("relay: ")
    return lines[0]
