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

    __slots__ = ("_at", "_behind", "_skip", "_start", "_to", "_vain", "known")

    known: T

    def __init__(self) -> None:
        self._vain = 0
        self._expect(_NEVER, b"")

    def _expect(self, start: bytes, behind: bytes) -> None:
        """Heads are the bytes before and behind the length."""
        self._start, self._at = start, len(start)
        self._behind, self._skip = behind, len(behind)
        self._to = self._at + _DIGITS + self._skip

    def body(self, data: bytes) -> bytes | None:
        """The body, if `data` is one whole message with the head that is known and nothing more; else None."""
        if not data.startswith(self._start):
            return None
        end = data.find(self._behind, self._at, self._to)
        begin = end + self._skip
        if end < 0 or data[self._at : end] != b"%d" % (len(data) - begin):
            return None
        self._vain = 0
        return data[begin:]

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
        self._expect(head[: length.start(1)], head[length.end(1) :])
        if self.body(data) != body:
            self._expect(_NEVER, b"")
        self._vain = vain
        self.known = known
