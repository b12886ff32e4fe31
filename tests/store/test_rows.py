"""Named statements, and how many rows go into one."""

import pytest

from relay.store.rows import named_queries, together


def test_named_queries() -> None:
    text = "-- one: The first.\nSELECT 1;\n\n-- two: The second.\nSELECT 2\nFROM t;\n"

    assert {"one": "SELECT 1", "two": "SELECT 2\nFROM t"} == named_queries(text)


@pytest.mark.parametrize(("count", "sizes"), [(0, []), (1, [1]), (9, [8, 1]), (73, [64, 8, 1]), (130, [64, 64, 1, 1])])
def test_every_row_is_written_once_and_in_order(count: int, sizes: list[int]) -> None:
    rows = [(seq, f"row {seq}") for seq in range(count)]
    statements = list(together("INSERT INTO t VALUES /* rows */", rows))

    assert sizes == [text.count("(?, ?)") for text, _ in statements]
    assert [value for row in rows for value in row] == [value for _, values in statements for value in values]
