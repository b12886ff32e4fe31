"""Opening: how the last answer in chunks on one connection began: its head, and one whole chunk. Knows bytes alone.

The first piece of a stream is in a hurry, and many servers send the same head with every answer. So what begins with
the bytes of the last one is known without a parser, which can be told of them later.
"""

from relay.exchange import Header
from relay.wire.chunk import piece_in

_END = b"\r\n\r\n"
_NEVER = b"\0"  # no answer begins with it

Said = tuple[int, tuple[Header, ...]]  # by an answer's head: its status and headers


class Opening:
    """`head` is the last one as it came; `known` what it was found to say."""

    __slots__ = ("head", "known")

    known: Said

    def __init__(self) -> None:
        self.head = _NEVER

    def piece(self, data: bytes) -> bytes | None:
        """What the chunk holds, if `data` is the head that is known, one whole chunk, and nothing more; else None."""
        head = self.head
        return piece_in(data[len(head) :]) if data.startswith(head) else None

    def learn(self, data: bytes, piece: bytes, known: Said) -> None:
        """Take the head of `data` for the one that comes again, if a parser found `piece` in one chunk behind it."""
        begin = data.find(_END) + len(_END)
        if piece and piece_in(data[begin:]) == piece:
            self.head, self.known = data[:begin], known
