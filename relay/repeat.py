"""Repeat: a message's head that comes again on one connection. Knows bytes; decides nothing.

Clients send the same head with every request, and many servers with every answer, but for the length of what follows.
What a parser found in those bytes once holds for the same bytes again, so they are compared instead of being parsed.
"""

import re
from typing import Generic, TypeVar

T = TypeVar("T")

_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*(\d+)(?=\r\n)", re.IGNORECASE)
_DIGITS = 12  # of a body's length, at most
_END = b"\r\n\r\n"
_VAIN = 3  # heads learnt for nothing, one after the other, before this connection's are no longer looked at
_NEVER = b"\0"  # no message begins with it


class Repeat(Generic[T]):
    """The last plain head of one connection; `known` is what it was found to say."""

    __slots__ = ("_begin", "_behind", "_start", "_vain", "known")

    known: T

    def __init__(self) -> None:
        self._start = self._behind = _NEVER  # the bytes of the head before and behind the length
        self._begin = 0  # where the last body began; 0 while no head is known
        self._vain = 0

    def body(self, data: bytes) -> bytes | None:
        """The body, if `data` is one whole message with the head that is known and nothing more; else None."""
        begin = self._begin
        if not begin:
            return None
        length = len(data) - begin
        if length < 0 or data[:begin] != b"%b%d%b" % (self._start, length, self._behind):
            begin = self._look(data)
            if begin < 0:
                return None
        self._vain = 0
        return data[begin:]

    def begun(self, data: bytes) -> tuple[int, int] | None:
        """Where the body begins and how long it is, if `data` begins a message with the head that is known; else None.

        The body need not be there yet, nor all of it; and there may be more behind it.
        """
        if not data.startswith(self._start):
            return None
        at = len(self._start)
        end = data.find(self._behind, at, at + _DIGITS + len(self._behind))
        digits = data[at:end]
        if end < 0 or not digits.isdigit() or digits != b"%d" % (length := int(digits)):
            return None
        self._vain = 0
        return end + len(self._behind), length

    def _look(self, data: bytes) -> int:
        """Where the body begins, of which the length may have more or fewer digits than the last; -1 for none."""
        found = self.begun(data)
        if found is None or sum(found) != len(data):
            return -1
        self._begin = found[0]
        return self._begin

    def learn(self, data: bytes, body: bytes, known: T, length: int | None = None) -> None:
        """Take the head of `data` for the one that comes again, if it is plain: a parser found `body` behind it.

        `length` is that of the whole body, where not all of it has come. Where heads never come again, as with servers
        that number their answers, this soon ceases to be tried.
        """
        if self._vain == _VAIN:
            return
        head = data[: data.find(_END) + len(_END)]
        stated = _LENGTH.search(head)
        if stated is None:
            return
        vain = self._vain + 1
        self._start, self._behind, self._begin = head[: stated.start(1)], head[stated.end(1) :], len(head)
        size = len(body) if length is None else length
        if self.begun(data) != (len(head), size) or data[len(head) :] != body:
            self._start, self._begin = _NEVER, 0
        self._vain = vain
        self.known = known
