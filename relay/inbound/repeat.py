"""Repeat: a request's head that comes again. Knows bytes; decides nothing.

A keep-alive client sends the same head with every request, but for the length of its body. What the parser found in
those bytes once holds for the same bytes again, so they are compared instead of being parsed.
"""

import re

import msgspec

from relay.ask import Arrival

_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*(\d+)(?=\r\n)", re.IGNORECASE)
_DIGITS = 12  # of a body's length, at most
_END = b"\r\n\r\n"


class Repeat(msgspec.Struct, frozen=True):
    """The bytes of a head before and behind the length of its body, and the arrival that they were."""

    start: bytes
    end: bytes
    arrival: Arrival

    def body(self, data: bytes) -> bytes | None:
        """The body, if `data` is one whole request with the same head and nothing more; else None."""
        start = self.start
        if not data.startswith(start):
            return None
        digits, _, body = data[len(start) :].partition(self.end)
        if len(digits) > _DIGITS or not digits.isdigit() or int(digits) != len(body):
            return None
        return body


def of(data: bytes, arrival: Arrival) -> Repeat | None:
    """What a repetition of `arrival`, the one request that `data` is, would begin with; None when that is not plain."""
    head = data[: data.find(_END) + len(_END)]
    length = _LENGTH.search(head)
    if length is None or arrival.head.expects:
        return None
    found = Repeat(head[: length.start(1)], head[length.end(1) :], arrival)
    return found if found.body(data) is not None else None
