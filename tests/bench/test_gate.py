"""The gate: one request and one chunk take no more bytecodes and calls than they did. Counted, not timed.

`python -m tests.bench --bounds` writes the bounds anew, after a change that is meant to be so.
"""

import json
from collections.abc import Mapping

import pytest

from tests.bench.counted import BOUNDS, VERSION, Counts, traced, verdict

BOUND = json.loads(BOUNDS.read_text())


@pytest.fixture(scope="module")
def counts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Counts]:
    if VERSION != BOUND["python"]:
        pytest.skip(f"the bounds were counted on Python {BOUND['python']}, and each version has bytecodes of its own")
    with traced(tmp_path_factory.mktemp("gate")) as relay:
        return relay.counts()


@pytest.mark.parametrize("name", ["request", "chunk"])
def test_it_takes_no_more_than_it_did(name: str, counts: dict[str, Counts]) -> None:
    assert verdict(name, BOUND[name], counts[name]) is None


DEARER = "make it cheaper, or `python -m tests.bench --bounds`"


@pytest.mark.parametrize(
    ("now", "expected"),
    [
        ({"wire": 100, "keys": 100}, None),
        ({"wire": 110, "keys": 100}, None),
        ({"wire": 85, "keys": 85}, None),
        ({"wire": 99, "keys": 112}, f"takes 211 bytecodes and calls, bound 200 (+5.5%): keys +12, wire -1; {DEARER}"),
        (
            {"wire": 100, "keys": 100, "new": 20},
            f"takes 220 bytecodes and calls, bound 200 (+10.0%): new +20; {DEARER}",
        ),
        (
            {"wire": 60, "keys": 100},
            "takes 160 bytecodes and calls, bound 200 (-20.0%): wire -40; lower it: `python -m tests.bench --bounds`",
        ),
    ],
)
def test_the_verdict_names_the_layer(now: Mapping[str, int], expected: str | None) -> None:
    said = verdict("chunk", {"wire": 100, "keys": 100}, now)

    assert (expected and f"one chunk {expected}") == said
