"""Nothing that a user can meet is missing from README.md, and what it says of the house is so."""

import re
import tomllib
from collections.abc import Iterator
from inspect import getmembers, isclass
from pathlib import Path
from typing import get_args

import click
import pytest
from starlette.routing import Route

import relay
from relay import errors
from relay.call import Relay
from relay.cli import relay as commands
from relay.config import AT_START, load, shapes
from relay.endpoints import ENDPOINTS, TEXT
from relay.errors import RelayError
from relay.pages import pages
from relay.record import PUBLIC, Outcome
from tests.test_architecture import FLOOR

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
SOURCES = {path: path.read_text() for path in sorted((ROOT / "relay").rglob("*.py"))}
YAML = "".join(re.findall(r"^```yaml\n(.*?)^```$", README, re.MULTILINE | re.DOTALL))
# Spelled so that this line names none of them.
HOSTS = re.compile(r"pyp[i]\.(?:org|python)|pythonhos[t]ed|npmj[s]\.|npmmirro[r]|deb\.debia[n]|mirro[r]s?\.[a-z]+\.")


def fields() -> Iterator[tuple[str, str]]:
    """Every field of config.yaml, as the shape that it belongs to and its name."""
    for name, shape in getmembers(shapes, isclass):
        if issubclass(shape, shapes.Shape):
            yield from ((name, field) for field in shape.model_fields)


@pytest.mark.parametrize(("shape", "field"), list(fields()))
def test_every_field_stands_in_an_example(shape: str, field: str) -> None:
    assert re.search(rf"(?<![\w-]){field}:", YAML), f"{shape}.{field}"


@pytest.mark.parametrize("field", AT_START)
def test_every_field_that_needs_a_restart_is_named(field: str) -> None:
    assert f"`{field}`" in README


def paths() -> Iterator[str]:
    def nobody() -> Relay:
        raise AssertionError

    yield from (endpoint.name for endpoint in (*ENDPOINTS, TEXT))
    yield from (route.path.replace(":path", "") for route in pages(nobody, list, 0).routes if isinstance(route, Route))


@pytest.mark.parametrize("path", list(paths()))
def test_every_endpoint_is_there(path: str) -> None:
    """Models by their id are written once, for the first of the paths that they are under."""
    known = path.replace("{name}", "{id}") if path.startswith("/v1/") else path.removesuffix("/{name}")

    assert f"{known}`" in README


def headers() -> list[str]:
    named = re.compile(r"\bx-relay-[a-z]+(?:-[a-z]+)*|x-should-retry|retry-after(?:-ms)?")
    return sorted({name for text in SOURCES.values() for name in named.findall(text)})


@pytest.mark.parametrize("header", headers())
def test_every_header_is_there(header: str) -> None:
    assert re.search(rf"`{header}[`:]", README)


def walk(command: click.Command, name: str) -> Iterator[tuple[str, click.Command]]:
    """A command and all that are below it, each with its whole name."""
    yield name, command
    if isinstance(command, click.Group):
        context = click.Context(command)
        for part in command.list_commands(context):
            found = command.get_command(context, part)
            assert found is not None
            yield from walk(found, f"{name} {part}")


COMMANDS = dict(walk(commands, "relay"))


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_there_with_its_options(name: str) -> None:
    assert f"`{name}" in README
    for parameter in COMMANDS[name].get_params(click.Context(COMMANDS[name])):
        if isinstance(parameter, click.Option):
            longest = max(parameter.opts, key=len)
            assert re.search(rf"(?<![\w-]){longest}(?![\w-])", README), f"{name} {longest}"


@pytest.mark.parametrize("word", [*PUBLIC, *get_args(Outcome)])
def test_every_field_and_outcome_of_the_log_is_there(word: str) -> None:
    assert f"`{word}`" in README


def kinds(kind: type[RelayError] = RelayError) -> Iterator[type[RelayError]]:
    for below in kind.__subclasses__():
        yield below
        yield from kinds(below)


@pytest.mark.parametrize("kind", [kind for kind in kinds() if not kind.__subclasses__()])
def test_every_error_is_there(kind: type[RelayError]) -> None:
    assert kind.__module__ == errors.__name__
    code = f"`{kind.default_code}`" if kind.default_code else ""
    assert re.search(rf"^\| {kind.status} \|.*{code}", README, re.MULTILINE)


def floors() -> dict[str, int]:
    """The picture of the floors."""
    picture = re.search(r"^```text\n(F0 .*?)^```$", README, re.MULTILINE | re.DOTALL)
    assert picture
    found, floor = {}, 0
    for number, noun in re.findall(r"^(?:F(\d))? +([a-z_]+)/? ", picture[1], re.MULTILINE):
        floor = int(number or floor)
        found[noun] = floor
    return found


def test_the_picture_of_the_floors_is_true() -> None:
    assert {room: floor for room, floor in FLOOR.items() if room != "__main__"} == floors()


def test_one_version() -> None:
    newest = re.search(r"^## \[(\S+)\] - \d{4}-\d\d-\d\d$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

    assert newest
    assert relay.__version__ == newest[1] == project["version"]


def test_config_yaml_loads() -> None:
    assert load(ROOT / "config.yaml", {}).routes.exact


def texts() -> Iterator[Path]:
    """The files of the project that people write, and the lock."""
    yield from (path for path in ROOT.iterdir() if path.suffix in {".md", ".yaml", ".toml", ".lock"})
    for folder in ("relay", "tests", ".ci"):
        yield from (path for path in (ROOT / folder).rglob("*") if path.is_file() and "__pycache__" not in path.parts)


def test_no_package_index_is_named() -> None:
    assert [] == [path for path in texts() if HOSTS.search(path.read_text(errors="replace"))]
