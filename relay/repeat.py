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
        self._begin = 0  # where the last body began
        self._vain = 0

    def body(self, data: bytes) -> bytes | None:
        """The body, if `data` is one whole message with the head that is known and nothing more; else None."""
        begin = self._begin
        length = len(data) - begin
        if length < 0 or data[:begin] != b"%b%d%b" % (self._start, length, self._behind):
            begin = self._look(data)
            if begin < 0:
                return None
        self._vain = 0
        return data[begin:]

    def _look(self, data: bytes) -> int:
        """Where the body begins, of which the length may have more or fewer digits than the last; -1 for none."""
        if not data.startswith(self._start):
            return -1
        at = len(self._start)
        end = data.find(self._behind, at, at + _DIGITS + len(self._behind))
        begin = end + len(self._behind)
        if end < 0 or data[at:end] != b"%d" % (len(data) - begin):
            return -1
        self._begin = begin
        return begin

    def learn(self, data: bytes, body: bytes, known: T) -> None:
        """Take the head of `data` for the one that comes again, if it is plain: a parser found `body` behind it.

        Where heads never come again, as with servers that number their answers, this soon ceases to be tried.
        """
        if self._vain == _VAIN:
            return
        head = data[: data.find(_END) + len(_END)]
        length = _LENGTH.search(head)
        if length is None:
            return
        vain = self._vain + 1
        self._start, self._behind, self._begin = head[: length.start(1)], head[length.end(1) :], len(head)
        if self.body(data) != body:
            self._start = _NEVER
        self._vain = vain
        self.known = known
