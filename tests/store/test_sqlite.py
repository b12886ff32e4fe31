"""What every kind of store does, run over all kinds; and, at the end, what is SQLite's own."""

import json
import os
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from importlib.resources import files
from pathlib import Path

import msgspec
import pytest
from msgspec.structs import asdict

from relay.errors import SetupFault
from relay.keys import Key
from relay.record import BODY_KEPT, ERROR_KEPT, Batch, Entry, Record, Why, storable
from relay.store import Bodies, Filter, Place, Store, StoreFault
from relay.store.sqlite import SqliteStore
from tests.records import DAY, NOON, batch, identity, record

STORES: dict[str, Callable[[Path], Store]] = {"sqlite": lambda folder: SqliteStore(folder / "relay.db")}


@pytest.fixture(params=STORES)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    with STORES[request.param](tmp_path) as opened:
        yield opened


def names(store: Store, **wanted: object) -> list[str]:
    return [str(found.client) for found in store.requests(Filter(**wanted))]  # type: ignore[arg-type]  # the fields of a table


def test_a_record_comes_back_as_it_went(store: Store) -> None:
    full, bare = record("full"), record("bare", key=None, ttft_ms=None, cost_nano=None, tags=(), tries=(), edits=())

    assert 2 == store.insert(batch(Entry(full), Entry(bare)))

    assert full == store.request(identity("full"))
    assert bare == store.request(identity("bare"))


def test_a_batch_is_kept_whole_or_not_at_all(store: Store) -> None:
    whole = batch(Entry(record("a"), b'{"messages": ["x"]}', b"y"))
    place = store.place("1-1.journal")

    with pytest.raises(msgspec.DecodeError):
        store.insert(Batch([*whole.lines, b"[no record]"], whole.bodies, 9), place)

    assert [] == names(store)
    assert place == store.place("1-1.journal")
    assert 1 == store.insert(whole)
    assert Bodies(b'{"messages": ["x"]}', b"y") == store.bodies(identity("a"))


def test_what_was_read_of_a_segment_is_taken_once(store: Store) -> None:
    begin = store.place("1-1.journal")
    first, second = batch(Entry(record("a")))._replace(end=100), batch(Entry(record("b")))._replace(end=200)

    assert Place("1-1.journal", 0) == begin
    assert 1 == store.insert(first, begin)
    assert store.insert(first, begin) is None
    assert Place("1-1.journal", 100) == store.place("1-1.journal")
    assert 1 == store.insert(second, Place("1-1.journal", 100))
    assert ["b", "a"] == names(store)


def test_a_segment_that_was_forgotten_is_not_read_by_who_began_before(store: Store) -> None:
    """Another reader has brought it all in, removed the file and forgotten its place."""
    begin = store.place("1-1.journal")
    store.place("2-2.journal")

    store.forget(["1-1.journal"])

    assert store.insert(batch(Entry(record("a")))._replace(end=100), begin) is None
    assert [] == names(store)
    assert ["2-2.journal"] == store.segments()


def test_what_an_older_relay_has_written_is_kept_once(store: Store) -> None:
    """It kept an id once and no places, so its segments are read from their beginning."""
    older = [msgspec.msgpack.encode(record(name, key=None)) for name in ("a", "b")]
    store.insert(batch(Entry(record("a", status=500), b"first")))

    assert 1 == store.insert(Batch(older, {0: (b"again", None), 1: (b"second", None)}))

    assert record("a", status=500) == store.request(identity("a"))
    assert record("b", key=None) == store.request(identity("b"))
    assert Bodies(b"first", None) == store.bodies(identity("a"))
    assert Bodies(b"second", None) == store.bodies(identity("b"))


def test_what_utf8_cannot_hold_is_replaced_and_large_numbers_are_kept(store: Store) -> None:
    odd = record("a", model="m\ud800", input_tokens=10**30)

    store.insert(batch(Entry(odd)))

    assert storable(odd) == store.request(identity("a"))


FILTERS: dict[str, tuple[dict[str, object], list[str]]] = {
    "all, newest first": ({}, ["d", "c", "b", "a", "e"]),
    "since": ({"since": NOON + 2}, ["d", "c"]),
    "key": ({"key": "other"}, ["b"]),
    "model": ({"model": "gpt-4o"}, ["c"]),
    "alias": ({"model": "smart"}, ["c"]),
    "model of an upstream": ({"model": "openai/gpt-4o"}, ["c"]),
    "model of another upstream": ({"model": "azure/gpt-4o"}, []),
    "pattern": ({"model": "gpt-*4o"}, ["c"]),
    "pattern with an upstream": ({"model": "openai/*o"}, ["c"]),
    "pattern over the slash": ({"model": "open*4o"}, ["c"]),
    "pattern of all that an upstream served": ({"model": "openai*"}, ["d", "c", "b", "a"]),
    "pattern of aliases": ({"model": "s*t"}, ["c"]),
    "pattern of all models": ({"model": "*"}, ["d", "c", "b", "a"]),
    "what is no pattern": ({"model": "gpt_4o"}, []),
    "what is no pattern either": ({"model": "GPT-4O"}, []),
    "status": ({"status": (500, 599)}, ["d"]),
    "text of the record": ({"text": "OVERLOADED"}, ["d"]),
    "text of a request": ({"text": "zürich"}, ["a"]),
    "text as JSON writes it": ({"text": 'say "hi"'}, ["a"]),
    "text of an answer": ({"text": "Answer"}, ["a"]),
    "limit": ({"limit": 2}, ["d", "c"]),
    "limit of those that match": ({"limit": 1, "text": "answer"}, ["a"]),
    "page": ({"limit": 2, "before": (NOON + 2, identity("c", NOON + 2))}, ["b", "a"]),
    "several": ({"key": "ci", "status": (200, 200), "since": NOON + 1}, ["c"]),
    "none": ({"key": "nobody"}, []),
}


@pytest.mark.parametrize("case", FILTERS)
def test_filters(store: Store, case: str) -> None:
    body = json.dumps({"messages": [{"content": 'In Zürich: say "hi"'}]}).encode()
    store.insert(
        batch(
            Entry(record("d", started_at=NOON + 3, status=503, error="overloaded")),
            Entry(record("a"), body, b"the answer"),
            Entry(record("c", started_at=NOON + 2, alias="smart", model="gpt-4o")),
            Entry(record("b", started_at=NOON + 1, key="other")),
            Entry(record("e", started_at=NOON - 1, alias=None, upstream=None, model=None, status=401)),
        )
    )
    wanted, expected = FILTERS[case]

    assert expected == names(store, **wanted)


def test_pages_hold_everything_once_though_times_are_equal(store: Store) -> None:
    store.insert(batch(*[Entry(record(f"{index:02}", started_at=NOON + index // 7)) for index in range(30)]))

    seen: list[Record] = []
    page = store.requests(Filter(limit=4))
    while page:
        seen += page
        page = store.requests(Filter(limit=4, before=(page[-1].started_at, page[-1].id)))

    assert 30 == len({found.id for found in seen})
    assert sorted(seen, key=lambda found: found.id, reverse=True) == seen


def test_a_request_is_found_by_what_its_id_begins_with(store: Store) -> None:
    store.insert(batch(*[Entry(record(name)) for name in "abc"], Entry(record("x", started_at=NOON + (1 << 20)))))
    asked = [identity("a"), identity("b")[:-1], identity("c")[:20], identity("x", NOON + (1 << 20))[:12]]

    assert ["a", "b", "c", "x"] == [found.client for found in map(store.request, asked) if found]
    for unknown in (
        "z",
        "%",
        "req_z",
        "req_0",
        "xxx_64752550bf",
        identity("d"),
        identity("a") + "0",
        identity("a").upper(),
    ):
        assert store.request(unknown) is None
    for several in ("", "r", "req_", identity("a")[:12], identity("a")[:17]):
        with pytest.raises(SetupFault, match="more than one"):
            store.request(several)


def test_arrivals_come_in_the_order_of_insertion(store: Store) -> None:
    store.insert(batch(Entry(record("old"))))
    place, nothing = store.arrivals(None, Filter())
    store.insert(batch(Entry(record("b", started_at=NOON + 9)), Entry(record("a")), Entry(record("other", key="x"))))

    place, found = store.arrivals(place, Filter(key="ci"))

    assert [] == nothing
    assert ["b", "a"] == [each.client for each in found]
    assert (place, []) == store.arrivals(place, Filter(key="ci"))


def history(turns: int) -> bytes:
    return json.dumps({"model": "m", "messages": [{"content": f"{turn}" * 400} for turn in range(turns)]}).encode()


BODIES = {
    "none kept": (None, None),
    "empty": (b"", b""),
    "not text": (b"\xff\x00", bytes(range(256))),
    "history": (history(7), b'{"choices": []}'),
    "zstd's own bytes": (b"\x28\xb5\x2f\xfd\x00", None),
    "large": (b"a" * BODY_KEPT, os.urandom(BODY_KEPT)),
}


@pytest.mark.parametrize("case", BODIES)
def test_bodies_come_back_byte_for_byte(store: Store, case: str) -> None:
    store.insert(batch(Entry(record("a"), *BODIES[case])))

    assert Bodies(*BODIES[case]) == store.bodies(identity("a"))


def test_each_record_of_a_page_has_its_own_bodies(store: Store) -> None:
    bodies = {"a": (b"1", b"one"), "b": (None, b""), "c": (b"", None), "d": (None, None), "e": (b"5", b"five")}
    store.insert(batch(*[Entry(record(f"{name}0"), *kept) for name, kept in bodies.items()]))
    store.insert(batch(*[Entry(record(f"{name}1"), *reversed(kept)) for name, kept in bodies.items()]))

    assert bodies == {name: (store.bodies(identity(f"{name}0")) or ())[:2] for name in bodies}
    assert {name: kept[::-1] for name, kept in bodies.items()} == {
        name: (store.bodies(identity(f"{name}1")) or ())[:2] for name in bodies
    }


def test_what_came_together_goes_together(store: Store) -> None:
    """With the last of it, and its bodies with it."""
    store.insert(batch(Entry(record("a"), b"1", b"one"), Entry(record("b", started_at=NOON + 9), b"2", b"two")))
    store.insert(batch(Entry(record("c", started_at=NOON + 3), b"3", b"three")))

    assert [1] == purged(store, NOON + 9)
    assert ["b", "a"] == names(store)
    assert Bodies(b"1", b"one") == store.bodies(identity("a"))

    assert [2, 3] == purged(store, NOON + 2 * DAY)
    assert [] == names(store)


def test_long_bodies_are_cut_and_marked(store: Store) -> None:
    store.insert(batch(Entry(record("a"), bytes(BODY_KEPT + 1), b"x" * (BODY_KEPT + 1))))
    store.insert(batch(Entry(record("b"), b"short", b"x" * (BODY_KEPT + 1))))

    assert Bodies(bytes(BODY_KEPT), b"x" * BODY_KEPT, ("request", "response")) == store.bodies(identity("a"))
    assert Bodies(b"short", b"x" * BODY_KEPT, ("response",)) == store.bodies(identity("b"))


@pytest.mark.parametrize(("size", "cut"), [(ERROR_KEPT, ()), (ERROR_KEPT + 1, ("response",))])
def test_less_is_kept_of_an_error(store: Store, size: int, cut: tuple[str, ...]) -> None:
    store.insert(batch(Entry(record("a", status=500), bytes(size), b"x" * size), Entry(record("b"), b"", b"y" * size)))

    assert Bodies(bytes(size), b"x" * ERROR_KEPT, cut) == store.bodies(identity("a"))
    assert Bodies(b"", b"y" * size) == store.bodies(identity("b"))


def test_bodies_of_no_request(store: Store) -> None:
    assert store.bodies(identity("a")) is None


KEY = Key("id1", "ci", b"digest", ("fast", "gpt-*"), 60, 1000, 2, "20/month", 99, None, "none", 1, ("eu", "fast"))


def test_keys_come_back_as_they_went(store: Store) -> None:
    second = Key("id2", "other", b"digest2", created_at=2)
    store.add_key(second)
    store.add_key(KEY)

    assert [KEY, second] == store.keys()


def revocations(store: Store) -> list[int | None]:
    keys = store.keys()
    return [key.revoked_at for key in keys]


def test_a_name_is_taken_until_its_key_is_revoked(store: Store) -> None:
    store.add_key(KEY)
    again = Key("id2", "ci", b"digest2", created_at=2)
    with pytest.raises(SetupFault, match="key ci"):
        store.add_key(again)

    assert store.revoke_key("ci", 7)
    store.add_key(again)

    assert [7, None] == revocations(store)
    assert store.revoke_key("id2", 8)
    assert not store.revoke_key("ci", 9)
    assert not store.revoke_key("nobody", 9)
    assert [7, 8] == revocations(store)


def test_the_version_of_the_keys_changes_with_them(store: Store) -> None:
    versions = [store.keys_version()]
    store.add_key(KEY)
    versions.append(store.keys_version())
    store.revoke_key("ci", 7)
    versions.append(store.keys_version())

    assert 3 == len(set(versions))
    assert not store.revoke_key("ci", 8)
    assert versions[-1] == store.keys_version()


def test_meta(store: Store) -> None:
    assert store.get_meta("a") is None
    store.set_meta("a", "1")
    store.set_meta("a", "2")
    assert "2" == store.get_meta("a")


def purged(store: Store, before: int) -> list[int]:
    return list(iter(lambda: store.purge(before), 0))


def test_old_requests_go_in_small_batches(store: Store) -> None:
    for index in range(0, 1200, 20):
        store.insert(batch(*[Entry(record(f"{each:04}", started_at=NOON + each)) for each in range(index, index + 20)]))

    assert [500, 500, 100] == purged(store, NOON + 1110)
    assert 100 == len(names(store, limit=2000))


def test_a_span_goes_with_the_last_request_that_has_it(store: Store) -> None:
    for day in (0, 5, 2):
        store.insert(batch(Entry(record(f"day {day}", started_at=NOON + day * DAY), history(day + 1), b"answer")))

    purged(store, NOON + 4 * DAY)
    assert ["day 5"] == names(store)
    assert Bodies(history(6), b"answer") == store.bodies(identity("day 5", NOON + 5 * DAY))
    assert store.bodies(identity("day 0")) is None

    purged(store, NOON + 9 * DAY)
    assert [] == names(store)
    store.insert(batch(Entry(record("again", started_at=NOON + 5 * DAY), history(6))))
    assert Bodies(history(6), None) == store.bodies(identity("again", NOON + 5 * DAY))


TABLES = ("pages", "facets", "answers", "bodies", "spans")


def spans(folder: Path) -> tuple[int, int]:
    """How many spans SQLite holds, and their bytes."""
    connection = sqlite3.connect(folder / "relay.db")
    try:
        number, size = connection.execute("SELECT count(*), coalesce(sum(length(data)), 0) FROM spans").fetchone()
        return number, size
    finally:
        connection.close()


def test_sqlite_stores_a_growing_history_once(tmp_path: Path) -> None:
    turns = [os.urandom(600).hex() for _ in range(40)]
    bodies = [json.dumps({"messages": turns[: number + 1]}).encode() for number in range(40)]
    with SqliteStore(tmp_path / "relay.db") as store:
        store.insert(batch(*[Entry(record(str(number)), body) for number, body in enumerate(bodies)]))
        assert bodies == [(store.bodies(identity(str(number))) or Bodies(None, None)).request for number in range(40)]

    assert spans(tmp_path)[1] < 2 * len(bodies[-1])


def test_sqlite_frees_all_that_belongs_to_what_is_purged(tmp_path: Path) -> None:
    with SqliteStore(tmp_path / "relay.db") as store:
        store.insert(batch(Entry(record("a"), history(9), b"b"), Entry(record("b"))))
        purged(store, NOON + 2 * DAY)

    assert (0, 0) == spans(tmp_path)
    connection = sqlite3.connect(tmp_path / "relay.db")
    count = "SELECT count(*) FROM {}"
    left = [connection.execute(count.format(table)).fetchone()[0] for table in TABLES]
    connection.close()
    assert [0] * len(TABLES) == left


def test_sqlite_is_read_while_it_is_written(tmp_path: Path) -> None:
    with SqliteStore(tmp_path / "relay.db") as store:
        store.insert(batch(Entry(record("a"))))
        writer = sqlite3.connect(tmp_path / "relay.db", isolation_level=None)
        writer.execute("BEGIN IMMEDIATE")
        with SqliteStore(tmp_path / "relay.db", readonly=True) as reader:
            assert ["a"] == names(reader)
            with pytest.raises(StoreFault, match="readonly"):
                reader.set_meta("a", "b")
        writer.close()


def test_sqlite_is_read_whole_while_it_is_purged(tmp_path: Path) -> None:
    """What is read takes several queries, between which another process may take the records away."""
    over = threading.Event()
    found: list[str] = []

    def reader() -> None:
        with SqliteStore(tmp_path / "relay.db", readonly=True) as store:
            while not over.is_set():
                for each in store.requests(Filter(text="answer", limit=9)):
                    found.append(str(each.client))
                    bodies = store.bodies(each.id)
                    assert bodies is None or f"answer {each.client}".encode() == bodies.response

    with SqliteStore(tmp_path / "relay.db") as store, ThreadPoolExecutor(2) as pool:
        reading = [pool.submit(reader) for _ in range(2)]
        for number in range(600):
            slow, quick = f"{number} slow", f"{number} quick"
            store.insert(batch(Entry(record(slow, started_at=NOON + number - 5), b"{}", f"answer {slow}".encode())))
            store.insert(batch(Entry(record(quick, started_at=NOON + number), b"{}", f"answer {quick}".encode())))
            purged(store, NOON + number - 2)
        over.set()
        for each in reading:
            each.result()

    assert found


def test_sqlite_is_read_when_nobody_else_has_it_open(tmp_path: Path) -> None:
    with SqliteStore(tmp_path / "relay.db") as store:
        store.insert(batch(Entry(record("a"))))

    with SqliteStore(tmp_path / "relay.db", readonly=True) as reader:
        assert ["a"] == names(reader)
    assert 0o600 == (tmp_path / "relay.db").stat().st_mode & 0o777


COME_AND_GO = """
import sys
from pathlib import Path
from relay.store.sqlite import SqliteStore
SqliteStore(Path(sys.argv[1])).close()
SqliteStore(Path(sys.argv[1]), readonly=True).close()
"""


def test_sqlite_stays_whole_when_another_process_comes_and_goes(tmp_path: Path) -> None:
    with SqliteStore(tmp_path / "relay.db") as first, SqliteStore(tmp_path / "relay.db") as second:
        first.insert(batch(Entry(record("a"))))
        subprocess.run([sys.executable, "-c", COME_AND_GO, tmp_path / "relay.db"], check=True)
        second.insert(batch(Entry(record("b"))))

        with SqliteStore(tmp_path / "relay.db", readonly=True) as reader:
            assert ["b", "a"] == names(reader)


def test_sqlite_is_opened_by_several_at_once(tmp_path: Path) -> None:
    versions = []

    def opened() -> None:
        with SqliteStore(tmp_path / "relay.db") as store:
            versions.append(store.keys_version())

    threads = [threading.Thread(target=opened) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert [1] * 8 == versions


def test_sqlite_waits_for_who_writes_to_a_new_file(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "relay.db", isolation_level=None, check_same_thread=False)) as other:
        other.execute("BEGIN IMMEDIATE")
        end = threading.Timer(0.1, other.execute, ["COMMIT"])
        end.start()

        with SqliteStore(tmp_path / "relay.db") as store:
            assert 1 == store.keys_version()

        end.join()


def newer(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 99")
    connection.close()


FAULTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "newer": (newer, "version 99, made by a newer relay"),
    "no database": (lambda path: path.write_bytes(b"words " * 500), "file is not a database"),
    "a folder": (lambda path: path.mkdir(), r"store .*/relay\.db: "),
}


@pytest.mark.parametrize("readonly", [False, True])
@pytest.mark.parametrize("case", FAULTS)
def test_sqlite_that_cannot_be_used_is_told_in_a_line(tmp_path: Path, case: str, readonly: bool) -> None:
    make, expected = FAULTS[case]
    make(tmp_path / "relay.db")

    with pytest.raises(SetupFault, match=expected) as raised:
        SqliteStore(tmp_path / "relay.db", readonly=readonly)

    assert "\n" not in str(raised.value)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_sqlite_needs_a_file_that_it_may_write(tmp_path: Path) -> None:
    SqliteStore(tmp_path / "relay.db").close()
    (tmp_path / "relay.db").chmod(0o400)

    with pytest.raises(SetupFault, match="Permission denied"):
        SqliteStore(tmp_path / "relay.db")


def test_sqlite_needs_its_folder(tmp_path: Path) -> None:
    with pytest.raises(SetupFault, match="No such file or directory"):
        SqliteStore(tmp_path / "missing" / "relay.db")


def test_sqlite_of_an_older_version_is_not_read(tmp_path: Path) -> None:
    sqlite3.connect(tmp_path / "relay.db").close()

    with pytest.raises(SetupFault, match="version 0 is not current"):
        SqliteStore(tmp_path / "relay.db", readonly=True)


def test_sqlite_has_a_view_with_all_that_a_record_says(tmp_path: Path) -> None:
    why = Why(msgspec.Raw(b'{"strategy":"order"}'), should_retry=True, retry_after=0.5)
    full = record("a", stream=True, why=why, limits=(("rpm", 60, 59),))
    bare = record("b", key=None, ttft_ms=None, cost_nano=None, tags=(), tries=())
    with SqliteStore(tmp_path / "relay.db") as store:
        store.insert(batch(Entry(full), Entry(bare)))
    connection = sqlite3.connect(tmp_path / "relay.db")

    rows = connection.execute("SELECT * FROM log ORDER BY id")

    assert Record.__struct_fields__ == tuple(column[0] for column in rows.description)
    found = [dict(zip(Record.__struct_fields__, row, strict=True)) for row in rows]
    for row in found:
        row.update(
            {name: json.loads(row[name]) for name in ("tags", "tries", "edits", "limits")}, stream=bool(row["stream"])
        )
        row["why"] = row["why"] and msgspec.json.decode(row["why"], type=Why)
    assert [full, bare] == [msgspec.convert(list(row.values()), Record) for row in found]
    connection.close()


def test_sqlite_never_uses_a_place_twice(tmp_path: Path) -> None:
    with SqliteStore(tmp_path / "relay.db") as store:
        store.insert(batch(Entry(record("new", started_at=NOON + DAY))))
        store.insert(batch(Entry(record("old")), Entry(record("old too"))))
        before, _ = store.arrivals(None, Filter())
        purged(store, NOON + 1)
        purged(store, NOON + 2 * DAY)
        store.insert(batch(Entry(record("next"))))

        assert ["next"] == [found.client for found in store.arrivals(before, Filter())[1]]


OLD_ROW = """
INSERT INTO requests VALUES (
    :seq, :id, :started_at, :key, :alias, :upstream, :model, :endpoint, :stream, :status, :outcome, :error, :ttft_ms,
    :duration_ms, :overhead_us, :input_tokens, :output_tokens, :cached_tokens, :reasoning_tokens, :cost_nano,
    :usage_source, :bytes_out, :client, :tags, :tries, :edits
)
"""


def first_version(path: Path, records: list[Record]) -> None:
    """A store as the first version made it."""
    connection = sqlite3.connect(path)
    connection.executescript((files("relay.store") / "sql" / "001_first.sql").read_text())
    for seq, each in enumerate(records, 7):
        lists = {name: msgspec.json.encode(getattr(each, name)).decode() for name in ("tags", "tries", "edits")}
        connection.execute(OLD_ROW, {**asdict(each), **lists, "seq": seq})
        connection.execute("INSERT INTO bodies VALUES (?, NULL, ?, 6, '')", (seq, b"answer"))
    connection.execute("DELETE FROM requests WHERE client = 'gone'")
    connection.execute("INSERT INTO keys (id, name, digest, rpm, created_at) VALUES ('id1', 'ci', x'01', 60, 1)")
    connection.execute("PRAGMA user_version = 1")
    connection.commit()
    connection.close()


def test_sqlite_of_the_first_version_is_brought_up_to_date(tmp_path: Path) -> None:
    kept = [
        record("full", stream=True, model='m"\\\n\t\x00é€😀', duration_ms=1234567.125),
        record("bare", started_at=NOON + 1, key=None, ttft_ms=None, cost_nano=None, tags=(), tries=(), edits=()),
    ]
    first_version(tmp_path / "relay.db", [*kept, record("gone")])

    with SqliteStore(tmp_path / "relay.db") as store:
        assert kept == [store.request(each.id) for each in kept]
        assert [Bodies(None, b"answer")] * 2 == [store.bodies(each.id) for each in kept]
        assert ["bare"] == names(store, since=NOON + 1)
        assert [Key("id1", "ci", b"\x01", rpm=60, created_at=1)] == store.keys()
        store.insert(batch(Entry(record("new"))))
        assert ["new"] == [found.client for found in store.arrivals(9, Filter())[1]]
