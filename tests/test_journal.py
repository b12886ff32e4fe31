"""The journal: what is appended is read again, whole frames only, whatever happens to the process or the disk."""

import asyncio
import os
import resource
import struct
import subprocess
import sys
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.errors import SetupFault
from relay.journal import SEGMENT, Blotter, Journal, beside, claim, frames, segments
from relay.outbox import Outbox
from relay.record import BODY_KEPT, ERROR_KEPT, Entry, storable
from tests.records import Noted, record

BODIES = st.none() | st.binary(max_size=40)


def read(folder: Path) -> list[Entry]:
    return [entry for path in segments(folder) for _, entry in frames(path)]


def test_what_is_appended_is_read(tmp_path: Path) -> None:
    entries = [Entry(record("a"), b"request", b"response"), Entry(record("b"), None, b""), Entry(record("c"))]
    journal = Journal(tmp_path / "deep" / "journal")

    for entry in entries:
        journal.append(*entry)

    assert entries == read(journal.folder)
    assert journal.signal.is_set()
    assert (0, None) == (journal.lost, journal.alarm)
    assert 0o600 == journal.current.stat().st_mode & 0o777


@given(st.lists(st.tuples(BODIES, BODIES), min_size=1, max_size=4), st.floats(0, 1))
def test_a_cut_anywhere_leaves_exactly_the_whole_frames_before_it(
    bodies: list[tuple[bytes | None, bytes | None]], share: float
) -> None:
    with TemporaryDirectory() as folder:
        journal = Journal(Path(folder))
        for index, (request, response) in enumerate(bodies):
            journal.append(record(str(index)), request, response)
        journal.close()
        whole = list(frames(journal.current))
        cut = round(share * journal.current.stat().st_size)
        os.truncate(journal.current, cut)

        assert [frame for frame in whole if frame[0] <= cut] == list(frames(journal.current))


@given(st.integers(0, 10_000), st.integers(1, 255))
def test_a_damaged_record_ends_the_reading(place: int, change: int) -> None:
    with TemporaryDirectory() as folder:
        journal = Journal(Path(folder))
        journal.append(record("a"))
        journal.append(record("b"))
        data = bytearray(journal.current.read_bytes())
        first = next(frames(journal.current))[0]
        data[place % len(data)] ^= change
        journal.current.write_bytes(data)

        assert (["a"] if place % len(data) >= first else []) == [entry.record.client for entry in read(journal.folder)]


def test_reading_goes_on_from_an_offset(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.append(record("a"))
    offset = [end for end, _ in frames(journal.current)][-1]
    assert [] == list(frames(journal.current, offset))

    journal.append(record("b"))

    assert ["b"] == [entry.record.client for _, entry in frames(journal.current, offset)]


def test_what_an_older_relay_wrote_is_read(tmp_path: Path) -> None:
    """Its records are in msgpack, or each by itself; what is checked and how is the same."""
    path = tmp_path / "1-1.journal"
    for encode, each, request in (
        (msgspec.msgpack.encode, record("a"), b"request"),
        (msgspec.msgpack.encode, record("b"), None),
        (msgspec.json.encode, record("c"), b"third"),
    ):
        encoded = encode(each)
        lengths = struct.pack("<III", len(encoded), 0xFFFFFFFF if request is None else len(request), 0xFFFFFFFF)
        frame = struct.pack("<I", zlib.crc32(encoded, zlib.crc32(lengths))) + lengths + encoded + (request or b"")
        path.write_bytes((path.read_bytes() if path.exists() else b"") + frame)

    assert [Entry(record("a"), b"request"), Entry(record("b")), Entry(record("c"), b"third")] == read(tmp_path)


def test_a_long_body_is_cut_and_can_be_told_from_a_whole_one(tmp_path: Path) -> None:
    journal = Journal(tmp_path)

    journal.append(record("a"), bytes(BODY_KEPT), bytes(BODY_KEPT * 3))

    (entry,) = read(tmp_path)
    assert (BODY_KEPT, BODY_KEPT + 1) == (len(entry.request or b""), len(entry.response or b""))


def test_of_an_error_less_is_written(tmp_path: Path) -> None:
    Journal(tmp_path).append(record("a", status=404), bytes(BODY_KEPT), bytes(BODY_KEPT))

    (entry,) = read(tmp_path)
    assert (BODY_KEPT, ERROR_KEPT + 1) == (len(entry.request or b""), len(entry.response or b""))


def test_segments_end_at_their_size_and_stay_in_order(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    number = 2 * SEGMENT // BODY_KEPT

    for index in range(number + 1):
        journal.append(record(f"{index:03}"), bytes(BODY_KEPT))

    assert 3 == len(segments(tmp_path))
    assert [f"{index:03}" for index in range(number + 1)] == [entry.record.client for entry in read(tmp_path)]
    assert journal.current == segments(tmp_path)[-1]


def test_only_the_segment_that_is_written_to_is_held(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    assert claim(journal.current) is None

    journal.close()
    first = claim(journal.current)

    assert first is not None
    assert claim(journal.current) is None
    os.close(first)


def test_a_segment_that_is_gone_is_not_claimed(tmp_path: Path) -> None:
    assert claim(tmp_path / "1-1.journal") is None


def test_what_utf8_cannot_hold_is_appended_all_the_same(tmp_path: Path) -> None:
    odd = record("a", model="m\ud800", input_tokens=10**30)
    journal = Journal(tmp_path)

    journal.append(odd)

    assert [storable(odd)] == [entry.record for entry in read(tmp_path)]


@contextmanager
def full_disk(size: int) -> Iterator[None]:
    """No file grows beyond `size` bytes, as on a full disk: first a short write, then an error."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_loses_what_does_not_fit_and_nothing_else(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.append(record("before"))
    size = journal.current.stat().st_size

    with full_disk(size + 100):
        journal.append(record("short"))
    with full_disk(size):
        journal.append(record("none"))
    assert 2 == journal.lost
    assert "2 records lost" in str(journal.alarm)
    assert size == journal.current.stat().st_size

    journal.append(record("after"))

    assert ["before", "after"] == [entry.record.client for entry in read(tmp_path)]
    assert (2, None) == (journal.lost, journal.alarm)


def test_of_what_is_written_together_only_what_does_not_fit_is_lost(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    entries = [(record("small"), None, None), (record("large"), bytes(5000), None), (record("last"), None, None)]

    with full_disk(2000):
        journal.write(entries)

    assert ["small", "last"] == [entry.record.client for entry in read(tmp_path)]
    assert 1 == journal.lost


def test_what_comes_after_the_end_is_lost_and_told(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.close()

    journal.append(record("late"))

    assert (1, 1) == (journal.lost, len(segments(tmp_path)))
    assert "1 records lost" in str(journal.alarm)


async def test_what_ends_in_one_turn_is_written_at_its_end(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    blotter = Blotter(journal, Outbox())

    blotter.note(Noted(record("a")), b"request", b"response")
    blotter.note(Noted(record("b")))
    assert [] == read(tmp_path)
    await asyncio.sleep(0)

    assert [Entry(record("a"), b"request", b"response"), Entry(record("b"))] == read(tmp_path)
    assert journal.signal.is_set()


async def test_what_has_no_bodies_shares_a_frame(tmp_path: Path) -> None:
    blotter = Blotter(journal := Journal(tmp_path), Outbox())
    several = [Entry(record(name, tags=("],[", "\n"))) for name in "abc"]

    for entry in several:
        blotter.note(Noted(entry.record), *entry[1:])
    await asyncio.sleep(0)

    assert several == read(tmp_path)
    assert 1 == len({end for end, _ in frames(journal.current)})


async def test_it_is_written_before_anything_is_sent(tmp_path: Path) -> None:
    outbox = Outbox()
    blotter = Blotter(Journal(tmp_path), outbox)

    blotter.note(Noted(record("a")))
    outbox.send()

    assert ["a"] == [entry.record.client for entry in read(tmp_path)]


async def test_many_records_do_not_wait_for_the_end_of_a_turn(tmp_path: Path) -> None:
    blotter = Blotter(Journal(tmp_path), Outbox())

    for index in range(40):
        blotter.note(Noted(record(str(index))))

    assert 32 == len(read(tmp_path))


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(SetupFault, match=r"file/journal: Not a directory"):
        Journal(tmp_path / "file" / "journal")


def test_the_journal_lies_beside_its_store() -> None:
    assert Path("/a/relay.journal") == beside(Path("/a/relay.db"))


APPENDER = """
import os, sys
from pathlib import Path
from relay.journal import Journal
from tests.records import record
journal = Journal(Path(sys.argv[1]))
for index in range(10_000_000):
    journal.append(record(str(index)), bytes(index % 5000), b"answer")
    os.write(1, b"%d\\n" % index)
"""


def test_a_killed_process_loses_nothing_that_it_acknowledged(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", APPENDER, tmp_path], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        seen = [process.stdout.readline() for _ in range(500)]
        process.kill()
        seen += process.stdout.readlines()

    (path,) = segments(tmp_path)
    acknowledged = [int(line) for line in seen if line.endswith(b"\n")]
    found = [int(str(entry.record.client)) for _, entry in frames(path)]

    assert acknowledged == found[: len(acknowledged)]
    assert len(found) <= len(acknowledged) + 1
    file = claim(path)
    assert file is not None
    os.close(file)
