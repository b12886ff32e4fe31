"""Opening: how the last answer in chunks on one connection began: its head, and one whole chunk. Knows bytes alone.

The first piece of a stream is in a hurry, and many servers send the same head with every answer. So what begins with
the bytes of the last one is known without a parser, which can be told of them later.
"""

from relay.exchange import Header, unframed
from relay.wire.chunk import BEGINNINGS, SIZED

_END = b"\r\n\r\n"
_NEVER = b"\0"  # no answer begins with it


class Opening:
    """`head` is the last one as it came; `known` what it was found to say: status and headers."""

    __slots__ = ("head", "known")

    known: tuple[int, tuple[Header, ...]]

    def __init__(self) -> None:
        self.head = _NEVER

    def piece(self, data: bytes) -> bytes | None:
        """What the chunk holds, if `data` is the head that is known, one whole chunk, and nothing more; else None."""
        head = self.head
        return _piece(data[len(head) :]) if data.startswith(head) else None

    def learn(self, data: bytes, piece: bytes, known: tuple[int, tuple[Header, ...]]) -> None:
        """Take the head of `data` for the one that comes again, if a parser found `piece` in one chunk behind it."""
        begin = data.find(_END) + len(_END)
        if piece and _piece(data[begin:]) == piece:
            self.head, self.known = data[:begin], known


def _piece(framed: bytes) -> bytes | None:
    """What one whole chunk holds; None for anything else."""
    size = len(framed)
    line = BEGINNINGS[size] if size < SIZED else _NEVER
    whole = framed.startswith(line) and framed.endswith(b"\r\n")
    return unframed(framed, len(line)) if whole else None
