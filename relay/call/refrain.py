"""Refrain: the chunk that a stream repeats with other words in it, as nearly every piece of a stream does.

It goes on as it came, framing and all. Knows bytes and an Account; no parser, and nothing of what an event means.
"""

import msgspec

from relay.call.account import Account
from relay.call.sink import Passage
from relay.exchange import unframed

_WORDS = b'"content":"'
_QUOTE, _LINE_FEED, _RETURN = b'"\n\r'
_NEVER = b"\0"  # no event begins or ends with it


class Refrain(msgspec.Struct, eq=False):
    """What stands around the words of the last plain event: `before` and `after` them, in so many bytes.

    `keeps`: the account keeps what is sent. `passage` is where the event's like goes, None while none may.
    """

    account: Account
    keeps: bool
    passage: Passage | None = None
    before: bytes = _NEVER
    begin: int = len(_NEVER)
    after: bytes = _NEVER
    tail: int = len(_NEVER)

    def learn(self, plain: bytes) -> None:
        """Note what stands around the words of a plain chat event, if it is that, and one alone."""
        words = plain.find(_WORDS) + len(_WORDS)
        end = plain.find(b'"', words)
        if words >= len(_WORDS) and plain[end - 1 : end] != b"\\" and plain.find(b"\n\n") == len(plain) - 2:
            self.before, self.after = plain[:words], plain[end:] + b"\r\n"  # as its chunk has to end
            self.begin, self.tail = words, len(self.after)

    def chunk(self, framed: bytes, begin: int) -> bool:
        """See relay.exchange.Chunk: sends what is the last plain event with other words in its string.

        All of that is in this one function, and what it looks at in this one object: a piece of a slow stream finds
        caches that others have emptied, and takes as long as it touches memory. Words that end in a backslash leave a
        string without its end: nobody finds anything in such an event.
        """
        size, words = len(framed), begin + self.begin
        end, passage = size - self.tail, self.passage
        if passage is None or words > end or framed[begin:words] != self.before or framed[end:] != self.after:
            return False
        said = framed[words:end]
        if _QUOTE in said or _LINE_FEED in said or _RETURN in said or passage.full:
            return False
        now = passage.now  # called as a method it would be looked up at length
        try:
            now(framed)
        except RuntimeError:
            return False
        account = self.account
        account.bytes_out += size - begin - 2
        account.words += end - words
        if self.keeps:
            account.keeps(unframed(framed, begin))
        return True
