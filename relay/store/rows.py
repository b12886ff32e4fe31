"""Rows: named statements, and those that write many rows at a time. Knows SQL's text; no database."""

from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import chain
from typing import Any

_TOGETHER = (64, 8, 1)  # rows that one statement inserts, largest first

Row = tuple[Any, ...]


def named_queries(text: str) -> dict[str, str]:
    """The statements of a file in which each begins with a line `-- name: what it does`."""
    found = {}
    for part in text.split("\n-- "):
        title, _, statement = part.removeprefix("-- ").partition("\n")
        found[title.partition(":")[0]] = statement.strip().rstrip(";")
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
