"""Waiting for what happens elsewhere: ask until the answer is there, instead of sleeping for long enough."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def until(found: Callable[[], T], within: float = 5.0, every: float = 0.005) -> T:
    """The first truthy answer of `found`; its last answer when `within` seconds are over (assert on it)."""
    end = time.monotonic() + within
    while not (answer := found()) and time.monotonic() < end:
        time.sleep(every)
    return answer
