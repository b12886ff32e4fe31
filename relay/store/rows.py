"""Rows: what is written for each request, and statements that write many at a time. Knows SQL's text; no database."""

from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import chain
from typing import Any

import msgspec

_TOGETHER = (64, 8, 1)  # rows that one statement inserts, largest first

Row = tuple[Any, ...]


def named_queries(text: str) -> dict[str, str]:
    """The statements of a file in which each begins with a line `-- name: what it does`."""
    found = {}
    for part in text.split("\n-- "):
        title, _, statement = part.removeprefix("-- ").partition("\n")
        found[title.partition(":")[0]] = statement.strip().rstrip(";")
    return found


class _Head(msgspec.Struct, array_like=True, gc=False):
    """The first of a record's fields, as far as the columns need them; the decoder skips the others."""

    id: str
    started_at: int
    key: str | None
    alias: str | None
    upstream: str | None
    model: str | None
    endpoint: str
    stream: bool
    status: int


_head = msgspec.json.Decoder(_Head).decode


def of_records(first: int, records: Sequence[bytes]) -> list[Row]:
    """The row of each record: its place, from `first` on, the columns, and the record itself."""
    found: list[Row] = []
    for seq, record in enumerate(records, first):
        head = _head(record)
        found.append((seq, head.started_at, head.key, head.alias, head.model, head.status, record.decode()))
    return found


@lru_cache
def _statement(insert: str, width: int, size: int) -> str:
    """The insert for `size` rows of `width` columns."""
    row = f"({', '.join('?' * width)})"
    return insert.replace("/* rows */", ", ".join([row] * size))


def together(insert: str, rows: Sequence[Row]) -> Iterator[tuple[str, list[Any]]]:
    """Statements that insert many of the rows each, and their values.

    SQLite lets go of the interpreter's lock once a statement. A statement a row would hand it to and fro between the
    writer and the thread that serves requests, which costs more than the rows do.
    """
    done = 0
    for size in _TOGETHER:
        while len(rows) - done >= size:
            yield _statement(insert, len(rows[0]), size), list(chain.from_iterable(rows[done : done + size]))
            done += size
