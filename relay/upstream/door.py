"""The one door out: `open_first` carries a request to the first target of its plan. Knows no clients, keys or prices.

What an upstream answers is looked at here only as far as its head, and further in two cases: when it refuses the
relay's own credential, which no caller may see, and when it refuses the usage option that the relay itself put in.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field

import msgspec

from relay.ask import FORWARDED, Ask, Head
from relay.edits import Edited, edit
from relay.errors import RelayError, UpstreamAuthFailed, UpstreamError, UpstreamFault, UpstreamOff
from relay.exchange import Drained, Engine, Header, Reply, Request, Take
from relay.record import Try
from relay.routing import Plan

_REFUSED_KEY = frozenset({401, 403})
_BAD_REQUEST = 400
_REDIRECTS = range(300, 400)
_NOT_PASSED = _REFUSED_KEY.union(_REDIRECTS)
_USAGE_OPTION = (b"stream_options", b"include_usage")


@dataclass(frozen=True, slots=True, eq=False)
class Upstream:
    """One configured upstream. `headers` go with every request: its credential, and those from the configuration.

    `refuse_usage`: models that turned out not to take `stream_options`; learnt while running, forgotten at the end.
    """

    name: str
    engine: Engine = field(repr=False)
    headers: tuple[Header, ...] = field(default=(), repr=False)
    refuse_usage: set[str] = field(default_factory=set, repr=False)
    # The caller's headers that the configuration replaces: mostly none, so a request looks at one empty set.
    replaced: frozenset[bytes] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "replaced", FORWARDED.intersection(name for name, _ in self.headers))


class Opened(msgspec.Struct, frozen=True):
    """An answer whose head is in, and what was sent to get it."""

    reply: Reply
    edited: Edited


async def open_first(plan: Plan, head: Head, ask: Ask, upstreams: Mapping[str, Upstream], tries: list[Try]) -> Opened:
    """Ask the plan's target, and return its answer once the head is in. Every try is added to `tries`.

    Raises UpstreamError, UpstreamAuthFailed, UpstreamTimeout, Overloaded, BadRequest.
    """
    target = plan.targets[0]
    upstream = upstreams.get(target.upstream)
    if upstream is None:
        raise UpstreamOff(f"Upstream {target.upstream!r} is switched off; `relay check` tells why.")
    request = head.requests.get(upstream) or _request(upstream, head)
    may_ask_usage = target.model not in upstream.refuse_usage
    while True:
        edited = edit(ask, head.endpoint, plan.alias, target, may_ask_usage)
        began = time.perf_counter_ns()
        try:
            reply = await upstream.engine.open(request, edited.body)
        except RelayError as fault:
            tries.append(Try(upstream.name, target.model, error=fault.message, first_byte_ms=_since(began)))
            raise
        status = reply.status
        tries.append(Try(upstream.name, target.model, status, None, reply.reused, reply.connect_ms, _since(began)))
        if status in _NOT_PASSED:
            reply.abort()
            raise _not_passed(upstream.name, status)
        if status != _BAD_REQUEST:
            if not may_ask_usage:
                upstream.refuse_usage.add(target.model)
            return Opened(reply, edited)
        if not edited.asks_usage:
            return Opened(reply, edited)
        answer = await gather(reply)
        if not any(word in answer for word in _USAGE_OPTION):
            return Opened(Gathered(reply, answer), edited)
        may_ask_usage = False


def _request(upstream: Upstream, head: Head) -> Request:
    """What `upstream` is asked for all requests with this head."""
    query = _forwarded_query(head.query) if head.query else b""
    forwarded = [header for header in head.forwarded if header[0] not in upstream.replaced]
    found = Request(b"POST", head.endpoint.path + query, (*upstream.headers, *forwarded))
    head.requests[upstream] = found
    return found


def _forwarded_query(query: bytes) -> bytes:
    """The query as it came, without the version that Azure's clients name to their own service."""
    kept = b"&".join(part for part in query.split(b"&") if not part.startswith(b"api-version="))
    return b"?" + kept if kept else b""


def _not_passed(upstream: str, status: int) -> UpstreamFault:
    """What the caller is told instead of that answer."""
    if status in _REDIRECTS:
        return UpstreamError(f"Upstream {upstream!r} answered with a redirect, which is not followed.")
    return UpstreamAuthFailed(
        f"Upstream {upstream!r} refused the relay's own credential; its `api_key` has to be looked at."
    )


def _since(began: int) -> float:
    """Milliseconds since `began`, nanoseconds of the performance counter."""
    return (time.perf_counter_ns() - began) // 1000 / 1000


async def gather(reply: Reply) -> bytes:
    """The whole body of an answer. Raises what `pump` raises."""
    pieces: list[bytes] = []

    def take(piece: bytes, _last: bool) -> bool:
        pieces.append(piece)
        return False

    async def drained() -> None:
        return

    await reply.pump(take, drained)
    return b"".join(pieces)


class Gathered:
    """A Reply whose body is here already."""

    def __init__(self, reply: Reply, body: bytes) -> None:
        self.status = reply.status
        self.headers = reply.headers
        self.reused = reply.reused
        self.connect_ms = reply.connect_ms
        self.whole = body

    async def pump(self, take: Take, drained: Drained) -> None:  # noqa: ARG002  # one piece needs no waiting
        """See relay.exchange.Reply."""
        take(self.whole, True)

    def abort(self) -> None:
        """See relay.exchange.Reply: there is nothing to close."""
