"""SqliteStore: the store in one SQLite file. The only module that knows sqlite3; its errors end here as StoreFault."""

import errno
import json
import os
import sqlite3
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import asdict
from importlib.resources import files
from pathlib import Path
from typing import Any, Self

import zstandard

from relay.errors import SetupFault
from relay.keys import Key
from relay.record import Batch, Record, is_old, read, written
from relay.routing import WILDCARD
from relay.store import Bodies, Filter, Place, StoreFault, spans
from relay.store.mention import mentions
from relay.store.page import moments, newest_first, page
from relay.store.rows import Row, named_queries, together

_DAY = 86_400_000_000  # microseconds
_END = 2**63 - 1  # later than any moment
_WAIT = 5  # seconds for another's lock
_PURGED = 500  # records after which a purge lets others write
_FRESH = 16_384  # spans of which is remembered that they are stored, so that a history costs no look-up
_SQL = files("relay.store") / "sql"
_QUERY = named_queries((_SQL / "queries.sql").read_text())
_FILES = sorted(_SQL.iterdir(), key=lambda file: file.name)
_MIGRATIONS = [file.read_text() for file in _FILES if file.name[0].isdigit()]


class SqliteStore:
    """A connection to the store in the file at `path`, for the thread that opens it. See Store for the verbs."""

    def __init__(self, path: Path, *, readonly: bool = False) -> None:
        """Open the file, made and brought up to date when need be; readonly opens only what is there and current."""
        self._path = path
        self._zstd = zstandard.ZstdCompressor()
        self._fresh: dict[bytes, int] = {}  # the day of spans that are stored
        self._seen = 0, b""  # a page, and its answers
        try:
            if not readonly:
                _create(path)
            uri = f"{path.absolute().as_uri()}?mode={'ro' if readonly else 'rw'}"
            self._db = sqlite3.connect(uri, uri=True, isolation_level=None, timeout=_WAIT)
        except OSError as fault:
            raise SetupFault(f"store {path}: {fault.strerror}; the relay needs a file it can write to") from fault
        except sqlite3.Error as fault:
            raise SetupFault(f"store {path}: {fault}") from fault
        self._db.row_factory = sqlite3.Row
        try:
            with self._wall():
                self._prepare(readonly)
        except SetupFault:
            self._db.close()
            raise

    def insert(self, batch: Batch, read_from: Place | None = None) -> int | None:
        with self._writing():
            if (
                read_from is not None
                and not self._run(_QUERY["move_place"], **read_from._asdict(), end=batch.end).rowcount
            ):
                return None
            if batch.lines and is_old(batch.lines[0]):  # and so is the rest of it: a segment is one process's
                batch = self._unknown(batch)
            first: int = self._db.execute(_QUERY["next_place"]).fetchone()["place"]
            return self._insert(first, batch) if batch.lines else 0

    def place(self, segment: str) -> Place:
        with self._wall():
            row = self._db.execute(_QUERY["place"], [segment]).fetchone()
        if row is None:
            with self._writing():
                self._db.execute(_QUERY["begin_segment"], [segment])
                row = self._db.execute(_QUERY["place"], [segment]).fetchone()
        return Place(segment, row["place"])

    def segments(self) -> list[str]:
        with self._wall():
            return [row["segment"] for row in self._db.execute(_QUERY["segments"])]

    def forget(self, segments: Iterable[str]) -> None:
        with self._writing():
            self._db.executemany(_QUERY["forget_segment"], [(segment,) for segment in segments])

    def requests(self, wanted: Filter) -> list[Record]:
        until, last = wanted.before or (_END, "")
        since = wanted.since or 0
        found: list[Record] = []
        with self._reading():
            pages = self._run(_filtered("pages", wanted), **_asked(wanted), since=since, until=until)
            for place, record in newest_first(pages):
                if len(found) == wanted.limit or record.started_at < since:
                    break
                if (record.started_at, record.id) < (until, last) and self._fits(place, record, wanted):
                    found.append(record)
        return found

    def arrivals(self, place: int | None, wanted: Filter) -> tuple[int, list[Record]]:
        found: list[Record] = []
        with self._reading():
            if place is None:
                return self._run(_QUERY["newest_arrival"]).fetchone()["place"], found
            done = place
            for first, records in self._run(_filtered("arrivals", wanted), **_asked(wanted), place=place):
                for at, record in enumerate(read(records.encode()), first):
                    if len(found) == wanted.limit:
                        return done, found
                    if at > done:
                        done = at
                        found += [record] * self._fits(at, record, wanted)
        return done, found

    def request(self, name: str) -> Record | None:
        with self._reading():
            found = [record for _, record in self._beginning(name)]
        exact = [record for record in found if record.id == name]
        if len(found) > 1 and not exact:
            raise SetupFault(f"{name}: more than one request begins with this; give more of its id")
        return next(iter(exact or found), None)

    def bodies(self, request_id: str) -> Bodies | None:
        with self._reading():
            place = self._place_of(request_id)
            return None if place is None else self._bodies(place)

    def add_key(self, key: Key) -> None:
        models = None if key.models is None else json.dumps(key.models)
        row = asdict(key) | {"models": models, "tags": json.dumps(key.tags)}
        with self._writing():
            try:
                self._run(_QUERY["add_key"], **row)
            except sqlite3.IntegrityError as fault:
                raise SetupFault(
                    f"key {key.name}: there is one of that name; revoke it first or take another"
                ) from fault
            self._run(_QUERY["bump_keys"])

    def keys(self) -> list[Key]:
        with self._wall():
            rows = self._run(_QUERY["keys"]).fetchall()
        return [_key(dict(row)) for row in rows]

    def revoke_key(self, name_or_id: str, when: int) -> bool:
        with self._writing():
            found = self._run(_QUERY["revoke_key"], name=name_or_id, moment=when).rowcount > 0
            if found:
                self._run(_QUERY["bump_keys"])
            return found

    def keys_version(self) -> int:
        return int(self.get_meta("keys_version") or 0)

    def purge(self, before: int) -> int:
        self._fresh.clear()
        gone = 0
        with self._writing():
            self._db.execute(_QUERY["note_last_place"])
            for first, number in self._db.execute(_QUERY["old_pages"], [before]).fetchall():
                self._db.execute(_QUERY["purge_bodies"], [first, first + number - 1])
                for part in ("purge_answers", "purge_facets", "purge_page"):
                    self._db.execute(_QUERY[part], [first])
                gone += number
                if gone >= _PURGED:
                    break
            return gone or self._db.execute(_QUERY["purge_spans"], [before // _DAY]).rowcount

    def get_meta(self, name: str) -> str | None:
        with self._wall():
            row = self._db.execute(_QUERY["get_meta"], [name]).fetchone()
            return None if row is None else str(row["value"])

    def set_meta(self, name: str, value: str) -> None:
        with self._writing():
            self._db.execute(_QUERY["set_meta"], [name, value])

    def close(self) -> None:
        self._db.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()

    def _run(self, query: str, **values: Any) -> sqlite3.Cursor:
        return self._db.execute(query, values)

    @contextmanager
    def _wall(self) -> Iterator[None]:
        """Where sqlite3's errors become ours."""
        try:
            yield
        except sqlite3.Error as fault:
            raise StoreFault(f"store {self._path}: {fault}") from fault

    def _reading(self) -> AbstractContextManager[None]:
        """One snapshot for several queries: another process may purge between them."""
        return self._transaction("BEGIN")

    def _writing(self) -> AbstractContextManager[None]:
        return self._transaction("BEGIN IMMEDIATE")

    @contextmanager
    def _transaction(self, begin: str) -> Iterator[None]:
        """One transaction, whole or not at all."""
        with self._wall():
            self._db.execute(begin)
            try:
                yield
                self._db.execute("COMMIT")
            finally:
                if self._db.in_transaction:
                    self._db.rollback()
                    self._fresh.clear()

    def _prepare(self, readonly: bool) -> None:
        version = self._version()
        if version > len(_MIGRATIONS):
            raise SetupFault(
                f"store {self._path}: version {version}, made by a newer relay; this one knows up to {len(_MIGRATIONS)}"
            )
        if readonly:
            if version < len(_MIGRATIONS):
                raise SetupFault(
                    f"store {self._path}: version {version} is not current; `relay serve` brings it up to date"
                )
            return
        self._log_ahead()
        self._db.execute("PRAGMA synchronous = NORMAL")
        self._db.execute("PRAGMA journal_size_limit = 67108864")
        self._migrate()

    def _log_ahead(self) -> None:
        """SQLite waits for nobody where a read becomes a write, as here (https://sqlite.org/c3ref/busy_handler.html)."""
        until = time.monotonic() + _WAIT
        while True:
            try:
                self._db.execute("PRAGMA journal_mode = WAL")
                break
            except sqlite3.OperationalError as fault:
                if fault.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > until:
                    raise
            time.sleep(0.01)

    def _version(self) -> int:
        return int(self._db.execute("PRAGMA user_version").fetchone()[0])

    def _migrate(self) -> None:
        """Each migration in a transaction of its own, which also keeps a second process from doing the same."""
        while self._version() < len(_MIGRATIONS):
            with self._writing():
                version = self._version()
                for statement in "".join(_MIGRATIONS[version : version + 1]).split(";\n"):
                    self._db.execute(statement)
                self._db.execute(f"PRAGMA user_version = {min(version + 1, len(_MIGRATIONS))}")

    def _insert(self, first: int, batch: Batch) -> int:
        """A page, of which the first record gets that place; return how many records it has."""
        made, begins = page(batch.lines)
        self._db.execute(_QUERY["insert_page"], (first, *made[:-1]))
        self._insert_many("insert_facets", [(first, nth, *facet) for nth, facet in enumerate(made.facets)])
        if batch.bodies:
            found = ((*begins[index], bodies) for index, bodies in batch.bodies.items())
            bodies = {first + before: Bodies.cut(*bodies, status) for before, status, bodies in found}
            self._insert_bodies(first, made.until // _DAY, bodies)
        return made.number

    def _insert_bodies(self, first: int, day: int, bodies: Mapping[int, Bodies]) -> None:
        """The bodies of some records of a page, by their places; the requests' spans are stored."""
        answers, size, rows = [], 0, []
        for place, (request, response, truncated) in bodies.items():
            names = None if request is None else self._keep(request, day)
            begin = length = None
            if response is not None:
                begin, length = size, len(response)
                answers.append(response)
                size += length
            rows.append((place, names, begin, length, " ".join(truncated)))
        self._db.execute(_QUERY["insert_answers"], (first, size, self._packed(b"".join(answers))))
        self._insert_many("insert_bodies", rows)

    def _insert_many(self, insert: str, rows: Sequence[Row]) -> None:
        for statement, values in together(_QUERY[insert], rows):
            self._db.execute(statement, values)

    def _beginning(self, begin: str, most: int = 2) -> Iterator[tuple[int, Record]]:
        """The records whose ids begin so, each with its place, of so many pages."""
        first, last = moments(begin)
        values = {"first": first, "last": last, "begin": f'["{begin}', "most": most}
        for place, records in self._run(_QUERY["request"], **values):
            yield from (each for each in enumerate(read(records.encode()), place) if each[1].id.startswith(begin))

    def _place_of(self, request_id: str) -> int | None:
        """One page is enough, and no other is looked for: a cursor is always a row ahead."""
        return next((place for place, record in self._beginning(request_id, 1) if record.id == request_id), None)

    def _unknown(self, batch: Batch) -> Batch:
        """Of an older relay's records those that are not there: it did not note how far its segments were read."""
        found = Batch([], {}, batch.end)
        for index, line in enumerate(batch.lines):
            (record,) = read(line)
            if self._place_of(record.id) is not None:
                continue
            if index in batch.bodies:
                found.bodies[len(found.lines)] = batch.bodies[index]
            found.lines.append(written([record]))
        return found

    def _bodies(self, place: int) -> Bodies:
        row = self._db.execute(_QUERY["bodies"], [place]).fetchone()
        if row is None:
            return Bodies(None, None)
        begin, size = row["begin"], row["response_size"]
        answer = _unpacked(row["response"], size) if begin is None else self._answers(place)[begin : begin + size]
        return Bodies(self._joined(row["request"]), answer, tuple(row["truncated"].split()))

    def _answers(self, place: int) -> bytes:
        """The answers of the page in which that place is; the last ones are remembered, for who reads one by one."""
        first, size, data = self._db.execute(_QUERY["answers"], [place]).fetchone()
        if first != self._seen[0]:
            self._seen = first, _unpacked(data, size) or b""
        return self._seen[1]

    def _keep(self, body: bytes, day: int) -> bytes:
        """Store what is new of a body, and return the names of its spans."""
        names = []
        for span in spans.cut(body):
            name = spans.digest(span)
            names.append(name)
            if self._fresh.get(name, -1) >= day:
                continue
            if not self._run(_QUERY["touch_span"], hash=name, day=day).rowcount:
                self._db.execute(_QUERY["insert_span"], (name, day, len(span), self._packed(span)))
            if len(self._fresh) >= _FRESH:
                self._fresh.clear()
            self._fresh[name] = day
        return b"".join(names)

    def _packed(self, data: bytes) -> bytes:
        """The data as it is stored: by zstd where that makes it shorter."""
        packed = self._zstd.compress(data)
        return packed if len(packed) < len(data) else data

    def _joined(self, names: bytes | None) -> bytes | None:
        if names is None:
            return None
        keys = (names[at : at + spans.HASH] for at in range(0, len(names), spans.HASH))
        rows = (self._db.execute(_QUERY["span"], [key]).fetchone() for key in keys)
        return b"".join(_unpacked(row["data"], row["size"]) or b"" for row in rows if row)

    def _fits(self, place: int, record: Record, wanted: Filter) -> bool:
        """Whether all filters let the record at that place through, but for those by time."""
        text = wanted.text
        return wanted.admits(record) and (text is None or mentions(text, record, lambda: self._bodies(place)[:2]))


def _create(path: Path) -> None:
    """An empty file for its owner only, where there is none.

    A file that is there is not opened: closing it would drop the locks that other connections of this process hold.
    """
    with suppress(FileExistsError):
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    if not os.access(path, os.W_OK):  # which SQLite would open all the same, to fail at the first write
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))


def _key(row: dict[str, Any]) -> Key:
    models = row["models"] and tuple(json.loads(row["models"]))
    return Key(**{**row, "models": models, "tags": tuple(json.loads(row["tags"]))})


def _filtered(query: str, wanted: Filter) -> str:
    """The query with only those filters that are asked for."""
    named = None if wanted.model is None or WILDCARD in wanted.model else wanted.model  # a pattern is on no list
    filters = {"of_key": wanted.key, "of_model": named, "of_status": wanted.status}
    asked = " ".join(_QUERY[name] for name, value in filters.items() if value is not None)
    return _QUERY[query].replace("/* filters */", _QUERY["some"].replace("/* asked */", asked) if asked else "TRUE")


def _asked(wanted: Filter) -> dict[str, Any]:
    first, last = wanted.status or (None, None)
    served = (wanted.model or "").partition("/")[2]  # by any upstream: which one is looked at in the record
    return {"key": wanted.key, "model": wanted.model, "served": served, "status_from": first, "status_to": last}


def _unpacked(data: bytes | None, size: int) -> bytes | None:
    """The `size` bytes that were packed into `data`."""
    return zstandard.decompress(data, max_output_size=size) if data is not None and len(data) < size else data
