"""The writer: everything appended arrives, once, whoever died in between."""

import os
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from relay.errors import SetupFault
from relay.journal import Journal, batches, segments
from relay.record import BODY_KEPT, Entry
from relay.store import Filter, StoreFault
from relay.store.sqlite import SqliteStore
from relay.store.writer import Writer, drain, read_on
from tests.records import DAY, NOON, batch, record
from tests.waiting import until


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    opened = Journal(tmp_path / "relay.journal")
    yield opened
    opened.close()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    with SqliteStore(tmp_path / "relay.db") as opened:
        yield opened


@pytest.fixture
def writer(journal: Journal, tmp_path: Path, store: SqliteStore) -> Iterator[Writer]:
    writer = Writer(journal, lambda: SqliteStore(tmp_path / "relay.db"))
    writer.start()
    yield writer
    writer.stop()
    assert store.keys_version()


def names(store: SqliteStore) -> set[str]:
    """Of all records, each of which is there once."""
    found = [str(record.client) for record in store.requests(Filter(limit=100_000))]
    assert len(found) == len(set(found))
    return set(found)


def test_what_is_appended_arrives(journal: Journal, writer: Writer, store: SqliteStore) -> None:
    journal.append(record("a"), b"request", b"response")
    assert until(lambda: names(store) == {"a"})

    journal.append(record("b"))
    assert until(lambda: names(store) == {"a", "b"})
    assert writer.alarm is None
    assert [journal.current] == segments(journal.folder)


def test_stopping_drains_and_counts(journal: Journal, tmp_path: Path, store: SqliteStore) -> None:
    writer = Writer(journal, lambda: SqliteStore(tmp_path / "relay.db"))
    for index in range(1000):
        journal.append(record(str(index)), b"x" * index, None)
    writer.start()
    assert until(lambda: names(store))
    journal.append(record("last"))

    journal.close()
    counted = writer.stop()

    assert 1 <= counted <= 1001
    assert 1001 == len(names(store))
    assert [] == segments(journal.folder)
    assert 0 == writer.stop()


def test_segments_that_are_full_are_brought_in_and_removed(
    journal: Journal, writer: Writer, store: SqliteStore
) -> None:
    for index in range(40):
        journal.append(record(str(index)), os.urandom(1) * BODY_KEPT)

    assert until(lambda: len(names(store)) == 40)
    assert until(lambda: segments(journal.folder) == [journal.current])
    assert writer.alarm is None


def test_an_idle_writer_does_nothing(journal: Journal, writer: Writer, store: SqliteStore) -> None:
    journal.append(record("a"))
    assert until(lambda: names(store))
    before = time.process_time()

    time.sleep(0.5)  # doing nothing is the behaviour

    assert time.process_time() - before < 0.05
    assert writer.alarm is None


def test_a_locked_store_delays_and_loses_nothing(journal: Journal, tmp_path: Path, store: SqliteStore) -> None:
    blocker = sqlite3.connect(tmp_path / "relay.db", isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")

    writer = Writer(journal, lambda: SqliteStore(tmp_path / "relay.db"))
    writer.start()
    journal.append(record("a"))
    assert until(lambda: writer.alarm, within=10)
    assert "locked" in str(writer.alarm)
    assert set() == names(store)
    blocker.execute("ROLLBACK")
    blocker.close()

    assert until(lambda: names(store) == {"a"})
    assert until(lambda: writer.alarm is None)
    writer.stop()


def test_a_store_that_cannot_be_opened_leaves_the_journal_for_later(journal: Journal, store: SqliteStore) -> None:
    def refused() -> SqliteStore:
        raise SetupFault("store: a newer version")

    writer = Writer(journal, refused)
    writer.start()
    journal.append(record("a"))
    assert until(lambda: writer.alarm == "store: a newer version")

    journal.close()
    assert 0 == writer.stop()

    assert "store: a newer version" == writer.alarm
    assert 1 == drain(store, journal.folder)
    assert {"a"} == names(store)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_writer_that_ends_by_itself_is_told(journal: Journal) -> None:
    def faulty() -> SqliteStore:
        raise AssertionError

    writer = Writer(journal, faulty)
    writer.start()

    assert until(lambda: "restart the relay" in (writer.alarm or ""))


def test_old_records_go(journal: Journal, tmp_path: Path, store: SqliteStore) -> None:
    now = time.time_ns() // 1000
    store.insert(batch(*[Entry(record(f"old {index}", started_at=NOON - 99 * DAY)) for index in range(1100)]))
    store.insert(batch(Entry(record("new", started_at=now))))
    writer = Writer(journal, lambda: SqliteStore(tmp_path / "relay.db"), retention=3600.0)

    writer.start()

    assert until(lambda: names(store) == {"new"})
    writer.stop()


def test_draining_leaves_alone_what_a_process_writes_to(journal: Journal, store: SqliteStore) -> None:
    journal.append(record("a"))

    assert 0 == drain(store, journal.folder)
    assert 1 == drain(store, journal.folder, journal.current)
    assert [journal.current] == segments(journal.folder)

    journal.close()
    assert 0 == drain(store, journal.folder)
    assert [] == segments(journal.folder)


def test_a_segment_is_read_on_by_whoever_claims_it(journal: Journal, tmp_path: Path, store: SqliteStore) -> None:
    """Its writer died behind a transaction, or between the removal of the file and that of its place."""
    journal.append(record("a"))
    assert 1 == read_on(store, journal.current)
    journal.append(record("b"))
    journal.close()
    with SqliteStore(tmp_path / "relay.db") as second:
        store.place("0-0.journal")
        assert 1 == drain(second, journal.folder)

    assert {"a", "b"} == names(store)
    assert [] == segments(journal.folder)
    assert [] == store.segments()


def test_two_readers_of_one_segment_take_each_batch_once(journal: Journal, tmp_path: Path, store: SqliteStore) -> None:
    """A segment that was let go of may be claimed while its own writer still reads it."""
    for index in range(6000):
        journal.append(record(str(index)))
    counts = []

    def reader() -> None:
        with SqliteStore(tmp_path / "relay.db") as own:
            counts.append(read_on(own, journal.current))

    threads = [threading.Thread(target=reader) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert 6000 == sum(counts)
    assert 6000 == len(names(store))


def test_a_reader_that_was_overtaken_ends_where_the_segment_does(journal: Journal, store: SqliteStore) -> None:
    for index in range(2000):
        journal.append(record(str(index)))
    first = next(batches(journal.current))
    place = store.place(journal.current.name)
    assert len(first.lines) == store.insert(first, place)

    assert store.insert(first, place) is None
    assert 2000 - len(first.lines) == read_on(store, journal.current)

    assert 2000 == len(names(store))


def test_a_segment_that_cannot_be_read_keeps_back_no_other(journal: Journal, store: SqliteStore) -> None:
    (journal.folder / "0-0.journal").mkdir()
    journal.append(record("a"))
    journal.close()

    with pytest.raises(StoreFault, match=r"0-0\.journal"):
        drain(store, journal.folder)

    assert {"a"} == names(store)


def test_memory_stays_flat_while_a_large_journal_is_read(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "relay.journal")
    for index in range(150):
        journal.append(record(str(index)), None, os.urandom(1) * BODY_KEPT)
    journal.close()
    program = (
        "import resource, sys; from pathlib import Path; from relay.store.sqlite import SqliteStore;"
        "from relay.store.writer import drain; store = SqliteStore(Path(sys.argv[1]) / 'relay.db');"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss;"
        "assert drain(store, Path(sys.argv[1]) / 'relay.journal') == 150;"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)"
    )

    done = subprocess.run([sys.executable, "-c", program, tmp_path], capture_output=True, text=True, check=True)

    assert int(done.stdout) < 48 * 1024


RELAY = """
import os, sys
from pathlib import Path
from relay.journal import Journal, beside
from relay.store.sqlite import SqliteStore
from relay.store.writer import Writer
from tests.records import record
path, start = Path(sys.argv[1]), int(sys.argv[2])
journal = Journal(beside(path))
Writer(journal, lambda: SqliteStore(path)).start()
for index in range(start, start + 10_000_000):
    journal.append(record(str(index)), bytes(index % 3000), b"answer")
    os.write(1, b"%d\\n" % index)
"""


def test_a_process_killed_again_and_again_loses_nothing_that_it_acknowledged(tmp_path: Path) -> None:
    acknowledged: set[str] = set()
    for start in range(0, 3_000_000, 1_000_000):
        command = [sys.executable, "-c", RELAY, str(tmp_path / "relay.db"), str(start)]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            lines = [process.stdout.readline() for _ in range(1500)]
            process.kill()
            lines += process.stdout.readlines()
        acknowledged |= {line.decode().strip() for line in lines if line.endswith(b"\n")}

    with SqliteStore(tmp_path / "relay.db") as store:
        drain(store, tmp_path / "relay.journal")
        found = names(store)

    assert set() == acknowledged - found
    assert len(found - acknowledged) <= 3
    assert [] == segments(tmp_path / "relay.journal")
