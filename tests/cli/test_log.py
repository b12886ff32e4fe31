"""`relay log`."""

import subprocess
import sys
import time

import pytest

from relay.journal import Journal, beside, segments
from relay.record import PUBLIC, Entry
from tests.cli.world import World
from tests.records import identity, record


def test_one_json_object_a_line_newest_first(world: World) -> None:
    world.insert(Entry(record("a", started_at=1)), Entry(record("b", started_at=2)))

    rows = world.json("log")

    assert ["b", "a"] == [row["client"] for row in rows]
    assert list(PUBLIC) == list(rows[0])


def test_a_table_for_people(world: World) -> None:
    world.insert(Entry(record("a", alias="fast[/bold]")))

    shown = world.run("log").stdout

    assert ["time", "id", "key", "model", "status"] == shown.split()[:5]
    for cell in (identity("a"), "fast[/bold] → openai/gpt-4o-mini", "200", "9+3", "0.000003"):
        assert cell in shown


FILTERS = {
    "--since 1h": ["new"],
    "--key other": ["old"],
    "--model smart": ["old"],
    "--status 4xx": ["old"],
    "--status 429": ["old"],
    "--grep WORDS": ["new"],
    "-n 1": ["new"],
    "--key nobody": [],
}


@pytest.mark.parametrize("options", FILTERS)
def test_filters(world: World, options: str) -> None:
    now = time.time_ns() // 1000
    old = record("old", started_at=now - 7_200_000_000, key="other", alias="smart", status=429)
    world.insert(Entry(old), Entry(record("new", started_at=now), b"some words"))

    assert FILTERS[options] == [row["client"] for row in world.json("log", *options.split())]


def test_what_a_killed_relay_left_in_its_journal_is_shown(world: World) -> None:
    world.insert(Entry(record("a", started_at=1)))
    program = (
        "import os, sys; from pathlib import Path; from relay.journal import Journal; from tests.records import record;"
        "Journal(Path(sys.argv[1])).append(record('b', started_at=2), b'words', None); os.kill(os.getpid(), 9)"
    )
    done = subprocess.run([sys.executable, "-c", program, beside(world.store)], check=False)
    assert -9 == done.returncode

    assert ["b", "a"] == [row["client"] for row in world.json("log")]

    assert [] == segments(beside(world.store))
    assert ["b", "a"] == [row["client"] for row in world.json("log")]


def test_the_journal_of_a_relay_that_runs_is_left_to_it(world: World) -> None:
    world.insert(Entry(record("a")))
    journal = Journal(beside(world.store))
    journal.append(record("b"))

    assert ["a"] == [row["client"] for row in world.json("log")]

    assert [journal.current] == segments(journal.folder)
    journal.close()
