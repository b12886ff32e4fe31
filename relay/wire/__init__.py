"""The fast HTTP/1.1 client: one pool of keep-alive connections to one origin. Knows no provider, no model and no JSON.

`Wire` is the engine (relay.exchange.Engine). A connection is an asyncio protocol over httptools; what it reads is
handed on within the same call, and deadlines are found by one coarse sweep, not by a timer a request.
"""

from relay.wire.origin import Origin
from relay.wire.pool import Wire

__all__ = ["Origin", "Wire"]
