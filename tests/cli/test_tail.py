"""`relay tail`, as a process of its own."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

from relay.record import PUBLIC, Entry
from relay.store.sqlite import SqliteStore
from tests.cli.world import World
from tests.records import batch, record
from tests.waiting import until


@contextmanager
def following(world: World, *options: str) -> Iterator[tuple[subprocess.Popen[str], IO[str]]]:
    """A tail that has begun: it has printed a record that came after its start."""
    world.insert(Entry(record("old")))
    command = [sys.executable, "-m", "relay", "tail", *options, "--config", str(world.config)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        os.set_blocking(process.stdout.fileno(), False)
        numbers = iter(range(1000))

        def begun() -> str:
            world.insert(Entry(record(f"probe {next(numbers)}", alias="probe")))
            return process.stdout.readline() if process.stdout else ""

        assert "probe" in until(begun, within=20, every=0.1)
        os.set_blocking(process.stdout.fileno(), True)
        yield process, process.stdout
        process.kill()


def test_records_are_printed_as_they_come(world: World) -> None:
    with following(world, "--json") as (_, out):
        world.insert(Entry(record("b", started_at=2)), Entry(record("a", started_at=1)))

        rows = take(out, 2)

        assert ["b", "a"] == [row["client"] for row in rows]
        assert list(PUBLIC) == list(rows[0])


def test_a_line_of_the_table_is_one_line(world: World) -> None:
    with following(world) as (_, out):
        world.insert(Entry(record("a", alias="odd\n\x1b[31m\u202e")))
        line = next(line for line in out if "probe" not in line)

    assert "odd��[31m�" in line


def take(out: IO[str], number: int) -> list[dict[str, object]]:
    """The next records that are no probes."""
    found: list[dict[str, object]] = []
    while len(found) < number:
        row = json.loads(out.readline())
        found += [] if "probe" in str(row["client"]) else [row]
    return found


def test_filters(world: World) -> None:
    with following(world, "--json", "--key", "ci") as (_, out):
        world.insert(Entry(record("b", key="other")), Entry(record("a")))

        assert ["a"] == [row["client"] for row in take(out, 1)]


def test_ctrl_c_ends_it_cleanly(world: World) -> None:
    with following(world) as (process, _):
        process.send_signal(signal.SIGINT)

        assert 0 == process.wait(10)
        assert process.stderr is not None
        assert "" == process.stderr.read()


def test_a_reader_that_goes_ends_it_cleanly(world: World) -> None:
    with following(world) as (process, out):
        out.close()

        assert 0 == process.wait(10)
        assert process.stderr is not None
        assert "" == process.stderr.read()


def test_a_purge_hides_nothing_that_comes_after_it(world: World) -> None:
    with following(world, "--json") as (_, out):
        with SqliteStore(world.store) as store:
            while store.purge(2**62):
                pass
            store.insert(batch(Entry(record("a"))))

        assert ["a"] == [row["client"] for row in take(out, 1)]
