"""What is read off the runs: percentiles, the least and the median, ratios, what is told as added."""

import pytest

from tests.bench.figures import ROWS, Results, least, lines, median, percentile
from tests.bench.table import amount, ratio


@pytest.mark.parametrize(
    ("values", "share", "expected"),
    [
        ([7.0], 0.5, 7.0),
        ([7.0], 0.99, 7.0),
        ([3.0, 1.0, 2.0], 0.5, 2.0),
        ([4.0, 1.0, 3.0, 2.0], 0.5, 2.0),
        ([float(number) for number in range(1, 101)], 0.99, 99.0),
        ([float(number) for number in range(1, 101)], 1.0, 100.0),
    ],
)
def test_percentile(values: list[float], share: float, expected: float) -> None:
    assert expected == percentile(values, share)


RESULTS: Results = {
    "request": {"relay": [60.0, 50.0, 90.0], "nginx": [20.0, 30.0, 25.0]},
    "kept": {"relay": [75.0]},
    "first-p50": {"direct": [100.0], "relay": [260.0], "nginx": [180.0]},
    "paced": {"relay": [40.0]},
}


def test_lines() -> None:
    found = {line.row.name: (line.relay, line.nginx, line.direct, line.ratio) for line in lines(RESULTS)}

    assert {
        "request": (50.0, 20.0, None, 2.5),
        "kept": (75.0, None, None, 1.5),  # to none kept
        "first-p50": (160.0, 80.0, 100.0, 2.0),  # beyond what it takes with nobody between
        "paced": (40.0, None, None, None),
    } == found


def test_lines_of_medians() -> None:
    request = next(line for line in lines(RESULTS, median) if line.row.name == "request")

    assert (60.0, 25.0, 2.4) == (request.relay, request.nginx, request.ratio)
    assert lines(RESULTS, least) == lines(RESULTS)


def test_rows_have_names_of_their_own() -> None:
    assert len(ROWS) == len({row.name for row in ROWS})


def test_how_values_are_told() -> None:
    line = lines(RESULTS)[0]

    assert "1,234.5 µs" == amount(line.row, 1234.5)
    assert not amount(line.row, None)
    assert "2.50" == ratio(line)
