"""Output that cannot be written, or that nobody reads any more: told in one line, and never lost without a word."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import IO

import pytest

from relay.record import Entry
from tests.cli.world import World
from tests.records import record

COMMANDS = [
    ["log"],
    ["log", "--json"],
    ["check"],
    ["key", "list"],
    ["route", "echo"],
    ["log", "--help"],
]
each_command = pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
FULL = "relay: the output cannot be written: No space left on device\n"
CLOSED = "relay: the output cannot be written: it is closed\n"


@pytest.fixture
def filled(world: World) -> World:
    world.insert(Entry(record("a")))
    return world


@contextmanager
def full() -> Iterator[IO[str]]:
    with Path("/dev/full").open("w") as file:
        yield file


@contextmanager
def unread() -> Iterator[IO[str]]:
    """A pipe that nobody reads any more."""
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as file:
        yield file


def run(world: World, out: IO[str] | None, *command: str) -> tuple[int, str]:
    """The exit code, and what stands on stderr; `out` is None for an output that is closed."""
    closing = ["sh", "-c", 'exec "$@" >&-', "sh"] if out is None else []
    whole = [*closing, sys.executable, "-m", "relay", *command, "--config", str(world.config)]
    done = subprocess.run(whole, stdout=out, stderr=subprocess.PIPE, text=True, timeout=20, check=False)
    return done.returncode, done.stderr


@each_command
def test_a_full_disk_is_told_in_one_line(filled: World, command: list[str]) -> None:
    with full() as out:
        assert (1, FULL) == run(filled, out, *command)


@pytest.mark.parametrize("command", [*COMMANDS, ["tail"]], ids=" ".join)
def test_a_closed_output_is_told_in_one_line(filled: World, command: list[str]) -> None:
    assert (1, CLOSED) == run(filled, None, *command)


@each_command
def test_a_reader_that_has_seen_enough_is_no_failure(filled: World, command: list[str]) -> None:
    with unread() as out:
        assert (0, "") == run(filled, out, *command)


@pytest.mark.parametrize("out", [full, unread, nullcontext])
def test_a_key_that_could_not_be_shown_is_taken_back(
    world: World, out: Callable[[], AbstractContextManager[IO[str] | None]]
) -> None:
    with out() as to:
        code, said = run(world, to, "key", "create", "a")

    assert (1, 1) == (code, said.count("\n"))
    assert said.startswith("relay: key a: revoked again, as nobody has seen it: the output cannot be written: ")
    assert ["revoked"] == [row["status"] for row in world.json("key", "list")]


def test_a_relay_serves_all_the_same(world: World) -> None:
    command = [sys.executable, "-m", "relay", "serve", "--port", "0", "--config", str(world.config)]
    with (
        full() as out,
        subprocess.Popen(command, stdout=out, stderr=subprocess.PIPE, text=True) as process,
    ):
        assert process.stderr is not None
        assert FULL in process.stderr
        process.terminate()

        assert 0 == process.wait(20)
