"""file: where config.yaml is, and what it says as a whole. The only part of the configuration that opens it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from relay.config.access import read_keys
from relay.config.document import ConfigFault, Document, Fault, parse
from relay.config.models import read_prices, read_routes
from relay.config.reading import Reading
from relay.config.shapes import FileShape, LogShape, ServerShape
from relay.config.upstreams import read_upstreams
from relay.config.values import Config, Log, Server

NAME = "config.yaml"
VARIABLE = "RELAY_CONFIG"


def find(option: Path | None, environ: Mapping[str, str], cwd: Path) -> Path | None:
    """The file of `--config`, else of RELAY_CONFIG, else config.yaml in `cwd`; None when there is none.

    Raises ConfigFault when a file is named that does not exist.
    """
    named = [(option, "--config"), (Path(environ[VARIABLE]) if environ.get(VARIABLE) else None, VARIABLE)]
    for path, source in named:
        if path is not None:
            if not (cwd / path).is_file():
                raise ConfigFault((Fault(str(path), 1, "", f"there is no such file, but {source} names it"),))
            return path
    return Path(NAME) if (cwd / NAME).is_file() else None


def load(path: Path | None, environ: Mapping[str, str]) -> Config:
    """The configuration of the file at `path`, or of no file. Raises ConfigFault with everything that is wrong."""
    config, found = _read(path, environ)
    if found:
        raise ConfigFault(found)
    return config


def faults(path: Path | None, environ: Mapping[str, str]) -> list[Fault]:
    """Everything that is wrong, in the order of the file; each prints as one line. Empty when `load` would work."""
    try:
        return list(_read(path, environ)[1])
    except ConfigFault as unreadable:
        return list(unreadable.faults)


def _read(path: Path | None, environ: Mapping[str, str]) -> tuple[Config, tuple[Fault, ...]]:
    """The configuration, to be used only when there are no faults. Raises ConfigFault when the file is unreadable."""
    document = Document(NAME) if path is None else parse(_text(path), str(path))
    reading = Reading(document, environ)
    root = _root(reading, document.data)
    upstreams = read_upstreams(reading, root.upstreams)
    server = reading.shape(ServerShape, root.server, ("server",))
    log = reading.shape(LogShape, root.log, ("log",))
    config = Config(
        path=path,
        server=Server(**server.model_dump(exclude_unset=True)) if server else Server(),
        store=cast("Path", root.store),
        counters="memory",
        log=Log(**log.model_dump(exclude_unset=True)) if log else Log(),
        upstreams=upstreams.usable,
        disabled=upstreams.disabled,
        routes=read_routes(reading, root.models, upstreams.names, root.default_model),
        prices=read_prices(reading, root.prices or {}, upstreams.names),
        keys=read_keys(reading, root.keys or []),
        warnings=tuple(reading.warnings),
    )
    return config, tuple(sorted(reading.faults, key=lambda fault: fault.line))


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigFault((Fault(str(path), 1, "", f"cannot be read: {error.strerror}"),)) from error
    except UnicodeDecodeError as error:
        raise ConfigFault((Fault(str(path), 1, "", "is not UTF-8; save it as that"),)) from error


def _root(reading: Reading, data: Mapping[str, Any]) -> FileShape:
    """The top level, each field on its own, so that a fault in one hides none in another; an empty one is not there."""
    given = {name: value for name, value in data.items() if value is not None}
    sound = {name: value for name, value in given.items() if reading.shape(FileShape, {name: value}, ())}
    return FileShape.model_validate(sound)
