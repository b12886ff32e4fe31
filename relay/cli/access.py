"""access: how a command gets at the store of a configuration, whether the relay runs or not. Prints nothing."""

import os
from contextlib import suppress
from pathlib import Path

from relay.config import Config, find, load
from relay.errors import SetupFault
from relay.journal import beside, segments
from relay.store.sqlite import SqliteStore
from relay.store.writer import drain


def settings(config_file: Path | None) -> Config:
    """The configuration that --config, RELAY_CONFIG or the working directory names. Raises SetupFault."""
    return load(find(config_file, os.environ, Path.cwd()), os.environ)


def reading(config_file: Path | None) -> SqliteStore:
    """The store, to be read, with all that a relay that was killed has left in its journal. Raises SetupFault."""
    path = settings(config_file).store
    if not path.exists():
        raise SetupFault(f"store {path}: there is none yet; `relay serve` makes it, and --config names another")
    _ensure_current(path)
    folder = beside(path)
    if segments(folder):
        # Who may not write, or has to wait, still sees what is in the store.
        with suppress(SetupFault), SqliteStore(path) as store:
            drain(store, folder)
    return SqliteStore(path, readonly=True)


def writing(path: Path) -> SqliteStore:
    """The store at `path`, to be changed; made when there is none. Raises SetupFault."""
    if path.exists():
        _ensure_current(path)
    return SqliteStore(path)


def _ensure_current(path: Path) -> None:
    """Leave a store of an older layout to `relay serve`: an older relay may still be writing to it."""
    SqliteStore(path, readonly=True).close()
