"""The one door out: `ask` carries a request to one target. Knows no clients, no plan, no prices and no other target.

What an upstream answers is looked at here only as far as its head, and further in two cases: when it refuses one of
the relay's own keys, which no caller may see, and when it refuses the usage option that the relay itself put in.
"""

import math
import time
from asyncio import CancelledError
from collections.abc import Iterable
from dataclasses import dataclass, field

import msgspec

from relay.ask import Ask, Head
from relay.edits import Edited, edit
from relay.errors import RelayError, UpstreamAuthFailed, UpstreamError, UpstreamFault
from relay.exchange import NO_SUCCESS, RATE_LIMITED, UNSENT, Chunk, Drained, Engine, Reply, Request, Take
from relay.line import Line
from relay.record import Try
from relay.routing import Alias, Target
from relay.upstream.credentials import Credential, Credentials
from relay.verdict import OBJECTS, wait_of

REFUSED_KEY = frozenset({401, 403})
_OF_KEY = REFUSED_KEY.union({402, RATE_LIMITED})  # what another key may do better
_REDIRECTS = range(300, 400)
_NOT_PASSED = REFUSED_KEY.union(_REDIRECTS)
_REQUESTS_KEPT = 64
_LONG = 64 << 10  # bytes of an error that nobody needs to look at
_GATHERED_MAX = 8 << 20  # bytes of an answer that did not say how long it is
_USAGE_OPTION = (b"stream_options", b"include_usage")


@dataclass(frozen=True, slots=True, eq=False)
class Upstream:
    """One configured upstream.

    `refuse_usage`: models that turned out not to take `stream_options`; learnt while running, forgotten at the end.
    `line` is who waits for a connection.
    """

    name: str
    engine: Engine = field(repr=False)
    credentials: Credentials = field(default_factory=lambda: Credentials([Credential(())]), repr=False)
    refuse_usage: set[str] = field(default_factory=set, repr=False)
    line: Line = field(default_factory=lambda: Line(0, 0.0), repr=False)


class Opened(msgspec.Struct, frozen=True):
    """An answer whose head is in, and what was sent to get it.

    `at` is when it came, in nanoseconds of the performance counter: its head, or all of one that is whole.
    """

    reply: Reply
    edited: Edited
    first_byte_ms: float
    at: int


async def ask(  # noqa: PLR0917  # one call a request: by their names they would cost a microsecond
    upstream: Upstream, target: Target, alias: Alias, head: Head, asked: Ask, tries: list[Try], began: int, until: float
) -> Opened:
    """Ask for `target`, and return the answer once its head is in. Every try is added to `tries`.

    Where a kept connection was found closed, it is asked once more: what was sent there it cannot have seen.

    It begins at `began`, now, in nanoseconds of the performance counter; `until` is when the caller has to get
    something of it, in seconds. Raises UpstreamError, UpstreamAuthFailed, UpstreamTimeout, Overloaded, BadRequest.
    """
    model = target.model
    credential = upstream.credentials.sole or _pick(upstream, model, tries)
    may_ask_usage, fresh = model not in upstream.refuse_usage, False
    while True:
        request = head.requests.get(credential) or _request(credential, head)
        edited = edit(asked, head.endpoint, alias, target, may_ask_usage)
        try:
            reply = await upstream.engine.open(request, edited.body, until - began / 1e9, fresh)
        except (RelayError, CancelledError) as fault:
            now = time.perf_counter_ns()
            stale = isinstance(fault, UpstreamFault) and fault.stale and not fresh
            key, spent, (error, sent) = credential.fingerprint, _ms(began, now), _told(fault)
            tries.append(Try(upstream.name, model, error=error, reused=stale, key=key, total_ms=spent, sent=sent))
            if not stale:
                raise
            began, fresh = now, True
            continue
        status, key, now = reply.status, credential.fingerprint, time.perf_counter_ns()
        spent = _ms(began, now)
        tries.append(Try(upstream.name, model, status, None, reply.reused, reply.connect_ms, spent, key))
        if status < NO_SUCCESS:
            if not may_ask_usage:
                upstream.refuse_usage.add(model)
            return Opened(reply, edited, spent, now)
        if status in _OF_KEY and (other := _spare(upstream, credential, reply, tries)) is not None:
            reply.abort()
            credential, began = other, now
            continue
        if status in _NOT_PASSED:
            reply.abort()
            raise _not_passed(upstream.name, status)
        if status not in OBJECTS or not (edited.asks_usage or alias.stands_by) or _is_long(reply):
            return Opened(reply, edited, spent, now)
        answer = await gather(reply)
        if not (edited.asks_usage and any(word in answer for word in _USAGE_OPTION)):
            return Opened(Gathered(reply, answer), edited, spent, time.perf_counter_ns())
        may_ask_usage, began = False, time.perf_counter_ns()


def _told(fault: RelayError | CancelledError) -> tuple[str, bool]:
    """How a try ended that brought no answer, and whether its upstream may have seen the request."""
    if isinstance(fault, RelayError):
        return fault.message, fault.sent
    sent = UNSENT not in getattr(fault, "__notes__", ())
    return "given up before it answered" if sent else "given up before it was asked", sent


def _is_long(reply: Reply) -> bool:
    """Whether the answer is too long to be read before it is passed on."""
    return any(name == b"content-length" and int(value) > _LONG for name, value in reply.headers)


def _pick(upstream: Upstream, model: str, tries: list[Try]) -> Credential:
    """A key that can serve, rather one that this request has not used, or where all rest any of them.

    Raises UpstreamAuthFailed when all were refused.
    """
    now, pick = time.perf_counter(), upstream.credentials.pick
    found = pick(model, now, used(tries, upstream.name, model)) or pick(model, now) or pick(model, math.inf)
    if found is None:
        raise _not_passed(upstream.name, 401)
    return found


def _spare(upstream: Upstream, credential: Credential, reply: Reply, tries: list[Try]) -> Credential | None:
    """Another key, after the answer to this one; None where there is none, or none that this request has not used."""
    now, model = time.perf_counter(), tries[-1].model
    if reply.status == RATE_LIMITED:
        credential.rest(model, now, wait_of(reply.headers))
    else:
        upstream.credentials.refuse(credential, reply.status)
    if upstream.credentials.sole:
        return None
    return upstream.credentials.pick(model, now, used(tries, upstream.name, model))


def used(tries: Iterable[Try], upstream: str, model: str) -> set[str | None]:
    """The fingerprints of the keys with which these tries asked that upstream for that model."""
    return {one.key for one in tries if (one.upstream, one.model) == (upstream, model)}


def _request(credential: Credential, head: Head) -> Request:
    """What is asked with this key for all requests with this head."""
    query = _forwarded_query(head.query) if head.query else b""
    own = {name for name, _ in credential.headers}
    forwarded = [header for header in head.forwarded if header[0] not in own]
    found = Request(b"POST", head.endpoint.path + query, (*credential.headers, *forwarded))
    if len(head.requests) >= _REQUESTS_KEPT:  # of keys that a new configuration has done away with
        head.requests.clear()
    head.requests[credential] = found
    return found


def _forwarded_query(query: bytes) -> bytes:
    """The query as it came, without the version that Azure's clients name to their own service."""
    kept = b"&".join(part for part in query.split(b"&") if not part.startswith(b"api-version="))
    return b"?" + kept if kept else b""


def _not_passed(upstream: str, status: int) -> UpstreamFault:
    """What the caller is told instead of that answer."""
    if status in _REDIRECTS:
        return UpstreamError(f"Upstream {upstream!r} answered with a redirect, which is not followed.")
    return refused_key(upstream)


def refused_key(upstream: str) -> UpstreamAuthFailed:
    """The fault of an upstream that refuses the relay's key, in words that tell nothing of it."""
    return UpstreamAuthFailed(
        f"Upstream {upstream!r} refused the relay's own credential; its `api_key` has to be looked at."
    )


def _ms(began: int, now: int) -> float:
    """The milliseconds between two nanoseconds, to the microsecond."""
    return (now - began) // 1000 / 1e3


async def gather(reply: Reply) -> bytes:
    """The whole body of an answer. Raises what `pump` raises, and UpstreamError where there is no end to it."""
    pieces: list[bytes] = []
    size = 0

    def take(piece: bytes, _last: bool) -> bool:
        nonlocal size
        pieces.append(piece)
        size += len(piece)
        return size > _GATHERED_MAX

    async def drained() -> None:
        raise UpstreamError(f"The upstream's answer, an error, is longer than {_GATHERED_MAX} bytes.")

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

    async def pump(self, take: Take, _drained: Drained, _chunk: Chunk | None = None) -> None:
        """See relay.exchange.Reply."""
        take(self.whole, True)

    def begun(self) -> None:
        """See relay.exchange.Reply: nobody waits for it any more."""

    def abort(self) -> None:
        """See relay.exchange.Reply: there is nothing to close."""
