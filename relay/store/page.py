"""Page: records that came together, which the store keeps as one. Knows the record's fields; no SQL and no database.

A row for each record would cost several times as much as its share of a page does. What filters look at is told beside
it, so that only pages are read in which something may be found.
"""

from collections.abc import Iterable, Iterator, Sequence
from operator import attrgetter
from typing import NamedTuple

import msgspec

from relay.record import Record, listed, read

Facet = tuple[str | None, str | None, str | None, int]  # key, alias, model and status that some record of a page has


class Page(NamedTuple):
    """`records` is a JSON array of so many, of which the first and the last began at `since` and `until`."""

    number: int
    since: int
    until: int
    records: str
    facets: tuple[Facet, ...]


class _Head(msgspec.Struct, array_like=True, gc=False):
    """The first of a record's fields, as far as they are told beside the page; the decoder skips the others."""

    id: str
    started_at: int
    key: str | None
    alias: str | None
    upstream: str | None
    model: str | None
    endpoint: str
    stream: bool
    status: int


_heads = msgspec.json.Decoder(list[_Head]).decode
_facet = attrgetter("key", "alias", "model", "status")
_moment = attrgetter("started_at")


def page(lines: Sequence[bytes]) -> tuple[Page, list[int]]:
    """The page of what those lines hold, and for each line how many records stand before it.

    Raises msgspec.DecodeError for a line that is none.
    """
    heads: list[_Head] = []
    before: list[int] = []
    arrays = [listed(line) for line in lines]
    for array in arrays:
        before.append(len(heads))
        heads += _heads(array)
    moments = list(map(_moment, heads))
    records = b"[%b]" % b",".join([array[1:-1] for array in arrays])
    return Page(len(heads), min(moments), max(moments), records.decode(), tuple(set(map(_facet, heads)))), before


def newest_first(pages: Iterable[tuple[int, int, str]]) -> Iterator[tuple[int, Record]]:
    """Each record of these pages with its place, the newest first.

    A page is the place of its first record, its `until`, by which they come, the latest first, and its records.
    """
    waiting: list[tuple[int, str, int, Record]] = []
    for first, until, records in pages:
        waiting, ready = _parted(waiting, until)
        yield from ready
        found = enumerate(read(records.encode()), first)
        waiting += [(record.started_at, record.id, place, record) for place, record in found]
    yield from _parted(waiting, -1)[1]


def _parted(
    waiting: list[tuple[int, str, int, Record]], until: int
) -> tuple[list[tuple[int, str, int, Record]], list[tuple[int, Record]]]:
    """Who has to wait, as others may have begun later; and the rest, in order."""
    ready = sorted((each for each in waiting if each[0] > until), reverse=True)
    left = [each for each in waiting if each[0] <= until]
    return left, [(place, record) for _, _, place, record in ready]
