"""Pages: what is told beside them, and records of many pages in one order."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.record import Record, read, written
from relay.store.page import newest_first, page
from tests.records import NOON, record


def test_a_page_has_all_records_and_what_filters_look_at() -> None:
    first, second = record("a", started_at=NOON + 5), record("b", started_at=NOON + 9, status=503)
    third, like_the_second = record("c", key=None), record("d", started_at=NOON + 7, status=503)

    made, begins = page([written([first, second]), written([third]), written([like_the_second])])

    assert (4, NOON, NOON + 9) == (made.number, made.since, made.until)
    assert [first, second, third, like_the_second] == read(made.records.encode())
    assert {
        ("ci", "fast", "gpt-4o-mini", 200),
        ("ci", "fast", "gpt-4o-mini", 503),
        (None, "fast", "gpt-4o-mini", 200),
    } == set(made.facets)
    assert 3 == len(made.facets)
    assert [(0, 200), (2, 200), (3, 503)] == begins


def test_a_record_that_an_older_relay_wrote_by_itself_is_taken() -> None:
    made, begins = page([msgspec.json.encode(record("a")), written([record("b")])])

    assert [record("a"), record("b")] == read(made.records.encode())
    assert [(0, 200), (1, 200)] == begins


@pytest.mark.parametrize("line", [b"[no record]", b'[["req_1","x"]]', b'[["req_1",1', b"[[1,2]]"])
def test_what_is_no_record_makes_no_page(line: bytes) -> None:
    with pytest.raises(msgspec.DecodeError):
        page([written([record("a")]), line])


@given(st.lists(st.lists(st.integers(0, 40), min_size=1, max_size=6), max_size=8))
def test_records_of_many_pages_come_in_one_order(moments: list[list[int]]) -> None:
    """Pages overlap in time, as slow requests end together with fast ones."""
    pages: list[tuple[int, int, str]] = []
    placed: list[tuple[int, Record]] = []
    for together in moments:
        records = [record(f"{at}-{len(placed) + n}", started_at=NOON + at) for n, at in enumerate(together)]
        made, _ = page([written(records)])
        pages.append((len(placed), made.until, made.records))
        placed += enumerate(records, len(placed))
    pages.sort(key=lambda found: (found[1], found[0]), reverse=True)

    assert sorted(placed, key=lambda each: (each[1].started_at, each[1].id), reverse=True) == list(newest_first(pages))


def test_no_page_is_read_before_it_is_needed() -> None:
    records = written([record("a", started_at=NOON + 5), record("b", started_at=NOON + 9)]).decode()

    def pages() -> object:
        yield 1, NOON + 9, records
        yield 3, NOON + 6, written([record("c", started_at=NOON + 6)]).decode()
        raise AssertionError("a third page was read")

    found = newest_first(pages())  # type: ignore[arg-type]  # a generator that ends by a fault

    assert [(2, "b")] == [(place, each.client) for place, each in [next(found)]]
