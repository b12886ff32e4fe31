"""`relay log`."""

import sqlite3
import subprocess
import sys
import time

import pytest

from relay.journal import Journal, beside, segments
from relay.record import PUBLIC, Entry, Why
from tests.cli.world import World, complaint
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


ESTIMATED = record(
    "a", input_tokens=None, output_tokens=None, usage_source="estimated", why=Why(estimate=(1200, 340)), cost_nano=3150
)


def test_what_is_estimated_is_told_apart(world: World) -> None:
    of_vectors = record("b", input_tokens=None, usage_source="estimated", why=Why(estimate=(7, None)), cost_nano=None)
    world.insert(Entry(ESTIMATED), Entry(of_vectors))

    shown = world.run("log").stdout

    assert all(f" {cell} " in shown for cell in ("~1200+340", "~0.000003", "~7+-"))
    assert {tuple(PUBLIC)} == {tuple(row) for row in world.json("log")}


def test_a_name_of_a_callers_own_fills_one_cell_alone(world: World) -> None:
    world.insert(Entry(record("a", alias="odd\n\x1b[31m" + "x" * 500)))

    lines = world.run("log").stdout.splitlines()

    assert 2 == len(lines)
    assert "odd��[31mxxx" in lines[1]
    assert identity("a") in lines[1]
    assert "…" in lines[1]


def test_a_call_that_its_client_made_several_times_is_one_line_of_the_table(world: World) -> None:
    first = record("a", started_at=1, status=502)
    tries = [
        record(name, started_at=at, status=status, why=Why(retry=at - 1, call=first.id))
        for name, at, status in (("b", 2, 503), ("c", 3, 200))
    ]
    world.insert(*(Entry(each) for each in (first, *tries, record("d", started_at=4))))

    shown = [line.split() for line in world.run("log").stdout.splitlines()[1:]]
    rows = world.json("log")

    assert [identity("d", 4), identity("c", 3)] == [row[2] for row in shown]
    assert [["200", "ok"], ["200", "×3"]] == [row[row.index("200") :][:2] for row in shown]  # noqa: RUF001  # the sign is meant
    assert [(0, None), (2, first.id), (1, first.id), (0, None)] == [
        (row.get("retry", 0), row.get("call")) for row in rows
    ]


@pytest.mark.parametrize("command", [("log",), ("show", "req_1"), ("key", "create", "ci"), ("key", "list")])
def test_a_store_of_an_older_relay_is_left_as_it_is(world: World, command: tuple[str, ...]) -> None:
    """That relay may still be running, and write to it."""
    world.insert(Entry(record("a")))
    Journal(beside(world.store)).append(record("b"))
    connection = sqlite3.connect(world.store)
    connection.execute("PRAGMA user_version = 4")

    done = world.run(*command)

    assert 2 == done.exit_code
    assert "version 4 is not current; `relay serve` brings it up to date" in complaint(done)
    assert (4,) == connection.execute("PRAGMA user_version").fetchone()
    connection.close()


def test_a_client_that_tries_again_what_nobody_remembers(world: World) -> None:
    world.insert(*(Entry(record(name, started_at=at, why=Why(retry=1))) for name, at in (("a", 1), ("b", 2))))

    shown = world.run("log").stdout

    assert 2 == shown.count("200 ×2")  # noqa: RUF001  # the sign is meant


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
