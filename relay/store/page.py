"""Page: records that came together, which the store keeps as one. Knows the record's fields; no SQL and no database.

A row for each record would cost several times as much as its share of a page does. What filters look at is told beside
it, so that only pages are read in which something may be found.
"""

from collections.abc import Iterable, Iterator, Sequence
from heapq import heappop, heappush
from operator import attrgetter
from typing import NamedTuple

import msgspec

from relay.record import Record, listed, read

Facet = tuple[str | None, str | None, str | None, int]  # key, alias, model and status that some record of a page has
_Waiting = tuple[int, int, Record]  # the moment, negative, so that the newest is the least; the place; the record


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


def page(lines: Sequence[bytes]) -> tuple[Page, list[tuple[int, int]]]:
    """The page of what those lines hold, and for each line how many records stand before it and its first one's status.

    Raises msgspec.DecodeError for a line that is none.
    """
    heads: list[_Head] = []
    begins: list[tuple[int, int]] = []
    arrays = [listed(line) for line in lines]
    for array in arrays:
        found = _heads(array)
        begins.append((len(heads), found[0].status))
        heads += found
    begun = list(map(_moment, heads))
    records = b"[%b]" % b",".join([array[1:-1] for array in arrays])
    return Page(len(heads), min(begun), max(begun), records.decode(), tuple(set(map(_facet, heads)))), begins


def newest_first(pages: Iterable[tuple[int, int, str]]) -> Iterator[tuple[int, Record]]:
    """Each record of these pages with its place, the newest first.

    A page is the place of its first record, its `until`, by which they come, the latest first, and its records.
    """
    waiting: list[_Waiting] = []
    for first, until, records in pages:
        yield from _later(waiting, until)
        for place, record in enumerate(read(records.encode()), first):
            heappush(waiting, (-record.started_at, place, record))
    yield from _later(waiting, -1)


def _later(waiting: list[_Waiting], until: int) -> Iterator[tuple[int, Record]]:
    """Those of the heap that began later than that moment, in order; they wait no more, as all others began before."""
    while waiting and -waiting[0][0] > until:
        moment = waiting[0][0]
        together: list[tuple[str, int, Record]] = []
        while waiting and waiting[0][0] == moment:
            _, place, record = heappop(waiting)
            together.append((record.id, place, record))
        yield from ((place, record) for _, place, record in sorted(together, reverse=True))


def moments(name: str) -> tuple[int, int]:
    """The first and last moment of requests whose ids begin with `name`: `req_` and the moment in hexadecimal."""
    try:
        first, last = (int(name[4:17].ljust(13, digit), 16) for digit in "0f")
    except ValueError:
        return 1, 0  # none
    return (first, last) if "req_".startswith(name[:4]) else (1, 0)
