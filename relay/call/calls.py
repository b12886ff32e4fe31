"""Calls: which requests are one call, made again by the client because it failed. Knows accounts; nothing upstream.

OpenAI's clients say with `x-stainless-retry-count` that a request is another try, and not of which: so what failed
lately is remembered, by who asked it and by what it said.
"""

import time
from collections import OrderedDict
from hashlib import blake2b

from relay.call.account import Account

KEPT = 4096  # calls that failed lately
_AGE_MAX = 900.0  # seconds: clients wait two minutes at most between two tries, after at most ten of silence


class Calls:
    def __init__(self) -> None:
        self._failed: OrderedDict[bytes, tuple[str, float]] = OrderedDict()  # the first request's id, and when

    def __len__(self) -> int:
        return len(self._failed)

    def failed(self, account: Account) -> None:
        """This request failed: the next one that says the same may be another try of its call."""
        told = _told(account)
        self._failed[told] = (account.call or account.id, time.monotonic())
        self._failed.move_to_end(told)
        if len(self._failed) > KEPT:
            self._failed.popitem(last=False)

    def first(self, account: Account) -> str | None:
        """The id of the request that this call began with; None where nobody knows."""
        found = self._failed.get(_told(account))
        if found is None or time.monotonic() - found[1] > _AGE_MAX:
            return None
        return found[0]


def _told(account: Account) -> bytes:
    """The same for all tries of a call, and for hardly anything else."""
    who = account.key.id if account.key else ""
    body = account.ask.body if account.ask else b""
    told = b"\0".join((who.encode(), account.head.client.encode(), account.head.endpoint.name.encode(), body))
    return blake2b(told, digest_size=16).digest()
