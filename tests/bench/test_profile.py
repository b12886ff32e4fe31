"""Samples: a stack counts for the innermost layer that is known, and only where requests are served."""

from tests.bench.profile import shares

STACKS = """\
thread (1): MainThread;run (asyncio/runners.py:118) 5
thread (1): MainThread;run (asyncio/runners.py:118);send (relay/wire/connection.py:9);dumps (json/encoder.py:3) 3
thread (1): MainThread;run (asyncio/runners.py:118);take (relay/call/delivery.py:9) 2
thread (2): writer;insert (relay/store/sqlite.py:9) 7
thread (1): MainThread;<module> (elsewhere.py:1) 1
"""


def test_shares() -> None:
    assert {"loop": 5, "wire": 3, "answer": 2, "rest": 1} == shares(STACKS)
