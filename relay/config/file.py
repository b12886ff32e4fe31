"""file: where config.yaml is, and what it says as a whole. The only part of the configuration that opens it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar, cast

from relay.config.access import read_keys
from relay.config.document import ConfigFault, Document, Fault, parse
from relay.config.models import read_prices, read_routes
from relay.config.reading import Reading
from relay.config.shapes import FileShape, HealthShape, LogShape, QueueShape, RetryShape, ServerShape, Shape
from relay.config.upstreams import read_upstreams
from relay.config.values import Config, Log, Queue, Retry, Server, Stamp
from relay.health import Policy

V = TypeVar("V")

NAME = "config.yaml"
VARIABLE = "RELAY_CONFIG"


def find(option: Path | None, environ: Mapping[str, str], cwd: Path) -> Path | None:
    """The file of `--config`, else of RELAY_CONFIG, else config.yaml in `cwd`; None when there is none.

    Raises ConfigFault when a file is named that does not exist.
    """
    named = [(option, "the command"), (Path(environ[VARIABLE]) if environ.get(VARIABLE) else None, VARIABLE)]
    for path, source in named:
        if path is not None:
            if not (cwd / path).is_file():
                raise ConfigFault((Fault(str(path), 0, "", f"there is no such file, but {source} names it"),))
            return path
    return Path(NAME) if (cwd / NAME).is_file() else None


def load(path: Path | None, environ: Mapping[str, str]) -> Config:
    """The configuration of the file at `path`, or of no file. Raises ConfigFault with everything that is wrong."""
    config, found = _read(path, environ)
    if found:
        raise ConfigFault(found)
    return config


def stamp(path: Path) -> Stamp | None:
    """What tells one state of a file from another, without reading it; None while it cannot be reached."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


def faults(path: Path | None, environ: Mapping[str, str]) -> list[Fault]:
    """Everything that is wrong, in the order of the file; each prints as one line. Empty when `load` would work."""
    try:
        return list(_read(path, environ)[1])
    except ConfigFault as unreadable:
        return list(unreadable.faults)


def _read(path: Path | None, environ: Mapping[str, str]) -> tuple[Config, tuple[Fault, ...]]:
    """The configuration, to be used only when there are no faults. Raises ConfigFault when the file is unreadable."""
    marked = None if path is None else stamp(path)  # before it is read: what changes from here on is seen later
    document = Document(NAME) if path is None else parse(_text(path), str(path))
    reading = Reading(document, environ)
    root = _root(reading, document.data)
    upstreams = read_upstreams(reading, root.upstreams)
    keys = read_keys(reading, root.keys or [])
    config = Config(
        path=path,
        server=_section(reading, "server", root.server, ServerShape, Server),
        store=cast("Path", root.store),
        counters="memory",
        log=_section(reading, "log", root.log, LogShape, Log),
        retry=_section(reading, "retry", root.retry, RetryShape, Retry),
        queue=_section(reading, "queue", root.queue, QueueShape, Queue),
        health=_section(reading, "health", root.health, HealthShape, Policy),
        upstreams=upstreams.usable,
        disabled=upstreams.disabled,
        routes=read_routes(reading, root.models, upstreams.names, root.default_model, upstreams.disabled),
        prices=read_prices(reading, root.prices or {}, upstreams.names),
        keys=keys.usable,
        key_names=keys.names,
        warnings=tuple(reading.warnings),
        stamp=marked,
    )
    return config, tuple(sorted(reading.faults, key=lambda fault: fault.line))


def _section(reading: Reading, name: str, data: Any, shape: type[Shape], value: type[V]) -> V:
    """A part of the top level as a value, with its defaults where nothing is written or all is wrong."""
    read = reading.shape(shape, data, (name,))
    return value(**read.model_dump(exclude_unset=True)) if read else value()


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigFault((Fault(str(path), 0, "", f"cannot be read: {error.strerror}"),)) from error
    except UnicodeDecodeError as error:
        raise ConfigFault((Fault(str(path), 1, "", "is not UTF-8; save it as that"),)) from error


def _root(reading: Reading, data: Mapping[str, Any]) -> FileShape:
    """The top level, each field on its own, so that a fault in one hides none in another; an empty one is not there."""
    given = {name: value for name, value in data.items() if value is not None}
    sound = {name: value for name, value in given.items() if reading.shape(FileShape, {name: value}, ())}
    return FileShape.model_validate(sound)
