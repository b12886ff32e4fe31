"""Delivery: an upstream's answer on its way to the client, in one of two manners. Knows the Account and a Sink.

Whole   an answer that is one thing: JSON is held until it is complete, so that its cost can stand in its head and a
        death on the way is still a real error; what is large or not JSON goes through as it comes.
Stream  an event stream: whole events as they come, each read over by the meter; a large one goes through as it comes.
        It ends as the upstream ended it, or in one error event when it was cut.

`take` is called for every read from the upstream, from within the network's own callback: it never raises and never
waits. What goes wrong in it is kept in `fault`, which `drained` raises, or the story after the last piece.
"""

import time
from typing import Protocol

import msgspec

from relay import edits, estimate, redaction, sse, usage
from relay.call.account import Account, outcome_of
from relay.call.heads import passed
from relay.call.mending import completed, mended
from relay.call.refrain import Refrain
from relay.call.refusal import error_alone, first_error, may_pass
from relay.call.sink import Sink
from relay.errors import RelayError, UpstreamError, UpstreamFault
from relay.exchange import ERROR, Chunk, Lines, Reply
from relay.record import Outcome
from relay.upstream.door import Opened
from relay.verdict import wait_of

_HELD_MAX = 8 << 20  # bytes of a JSON answer that are held for its cost; a larger one goes through as it comes
_NANO = 10**9  # nano-dollars in a dollar


class Delivery(Protocol):
    fault: RelayError | None  # what went wrong in `take`, perhaps with the last piece, after which nobody waits
    chunk: Chunk | None  # what needs no closer look, offered before `take`

    @property
    def begun(self) -> bool:
        """Whether something has gone to the client, after which nobody else may be asked."""

    def take(self, piece: bytes, last: bool) -> bool:
        """See relay.exchange.Take."""

    async def drained(self) -> None:
        """Wait for room at the client; raise what went wrong in `take`."""

    def fail(self, fault: RelayError) -> bool:
        """End what has begun because of `fault`; False when nothing has begun, so a real error can still be sent."""


def deliver(account: Account, opened: Opened, sink: Sink) -> Delivery | None:
    """The manner that fits the answer; None once it has gone out as one. Of one that is here as a whole it has all.

    Raises UpstreamFault where the answer is nothing but an error.
    """
    reply = opened.reply
    found = passed(reply.status, reply.headers)
    account.content_type = found.content_type
    whole = reply.whole
    delivery: Delivery
    if found.streams:
        refrain = Refrain(account, account.keep != "none")
        alias, hides_usage = account.plan.renamed, opened.edited.asks_usage
        delivery = Stream(account, reply, found.told, sink, alias, hides_usage, refrain, refrain.chunk)
    else:
        told = found.told if reply.status < ERROR else found.told + _advice(account, reply)
        if found.held and whole is not None:  # nearly all that is no stream
            account.last_at = opened.at
            _answer(account, reply, told, sink, whole)
            return None
        delivery = Whole(account, reply, told, sink, found.held)
    if whole is not None:
        delivery.take(whole, True)
    return delivery


def _answer(account: Account, reply: Reply, told: Lines, sink: Sink, body: bytes) -> None:
    """Settle, and send a whole answer. Raises UpstreamFault where it is nothing but an error."""
    status = reply.status
    if status < ERROR:
        used = account.usage = usage.of_body(body)
        if used is None and (fault := error_alone(body, _upstream(account), wait_of(reply.headers))):
            raise _scrubbed(fault, account)
        if used is None or (used.output is None and account.head.endpoint.finishes):
            account.words = estimate.written(body)
        if account.plan.renamed is not None:
            body = edits.renamed(body, account.plan.renamed)
    account.status = status
    account.sends(body)
    _settle(account, status)
    told = account.marks() + told
    if account.cost is not None and account.estimated is None:
        told += b"x-relay-cost: %b\r\n" % (b"%d.%09d" % divmod(account.cost, _NANO)).rstrip(b"0").rstrip(b".")
    sink.answer(status, told, body)


def _settle(account: Account, status: int) -> None:
    """The end of an answer that came whole, or to its end."""
    if status < ERROR:
        account.settle("ok")
    else:
        account.settle("upstream_error", f"HTTP {status}")


def _advice(account: Account, reply: Reply) -> Lines:
    """Whether to try again, noted and told: as the upstream says, or by the status; not where the relay has done so."""
    said = next((value for name, value in reply.headers if name == b"x-should-retry"), None)
    again = may_pass(reply.status) if said is None else said.lower() == b"true"
    wait = wait_of(reply.headers)
    again = again and not account.is_spent(wait)
    account.hint = again, wait
    return b"x-should-retry: true\r\n" if again else b"x-should-retry: false\r\n"


def _upstream(account: Account) -> str:
    return account.target.upstream if account.target else ""


def _scrubbed(fault: UpstreamFault, account: Account) -> UpstreamFault:
    """A fault in the upstream's words, without its secrets."""
    fault.message = redaction.scrub(fault.message, account.secrets)
    return fault


class Whole(msgspec.Struct, eq=False):
    """See the head of this module."""

    account: Account
    reply: Reply
    told: Lines
    sink: Sink
    held: bool
    fault: RelayError | None = None
    chunk: Chunk | None = None
    pieces: list[bytes] = []
    size: int = 0
    tail: bytes = b""

    def take(self, piece: bytes, last: bool) -> bool:
        """Hold the answer, or pass it on; at its end settle, then send the end."""
        self.account.last_at = time.perf_counter_ns()
        if not self.held:
            return self._pass(piece, last)
        self.pieces.append(piece)
        self.size += len(piece)
        if self.size > _HELD_MAX:
            self.held = False
            return self._pass(b"".join(self.pieces), last)
        if last:
            try:
                _answer(self.account, self.reply, self.told, self.sink, b"".join(self.pieces))
            except UpstreamFault as fault:
                self.fault = fault
        return False

    def _pass(self, piece: bytes, last: bool) -> bool:
        account = self.account
        if not account.first_at:
            account.status = self.reply.status
            account.unread = True
            self.reply.begun()
            self.sink.start(account.status, account.marks() + self.told, len(piece) if last else None)
        account.sends(piece)
        self.tail = usage.tail(self.tail, piece)
        if not last:
            return self.sink.write(piece)
        if account.status < ERROR:
            account.usage = usage.of_tail(self.tail)
        _settle(account, account.status)
        self.sink.end(piece)
        return False

    @property
    def begun(self) -> bool:
        """See Delivery."""
        return self.account.first_at > 0

    async def drained(self) -> None:
        """See Delivery."""
        await self.sink.drained()

    def fail(self, fault: RelayError) -> bool:
        """See Delivery: a body that has begun has no place for an error, so the connection is broken."""
        if not self.account.first_at:
            return False
        self.account.settle(outcome_of(fault), fault.message)
        self.sink.abort()
        return True


class Stream(msgspec.Struct, eq=False):
    """See the head of this module. `alias` is what the model is called in its answer, None for its own name.

    `early` is what came before the first event that says something. `aside`: what comes is no matter of whole events,
    since there is a fault, or an event under way that is too large to be held.
    """

    account: Account
    reply: Reply
    told: Lines
    sink: Sink
    alias: str | None
    hides_usage: bool
    refrain: Refrain
    chunk: Chunk | None
    splitter: sse.EventSplitter = msgspec.field(default_factory=sse.EventSplitter)
    meter: usage.Meter = msgspec.field(default_factory=usage.Meter)
    begun: bool = False
    early: bytes = b""
    aside: bool = False
    fault: RelayError | None = None

    def take(self, piece: bytes, last: bool) -> bool:
        """Pass on the whole events that `piece` completes, and at the end what the end asks for."""
        held = self._take(piece, last)
        steady = self.begun and self.alias is None and self.splitter.is_empty and self.account.outcome is None
        self.refrain.passage = self.sink.passage() if steady else None
        return held

    def _take(self, piece: bytes, last: bool) -> bool:
        """Any piece, looked at closely unless a few searches find nothing in it."""
        if self.aside:
            return self._take_aside(piece, last)
        out = self.splitter.feed(piece) if piece else b""
        if last:
            self.account.last_at = time.perf_counter_ns()
            out += completed(self.splitter.rest())
        if out:
            if last or self.alias is not None or not self._is_plain(out):
                out = self._read(out)
        elif self.splitter.is_large:
            return self._let_go()
        first = not self.begun
        if first:
            out, self.early = self.early + out, b""
            if not self._begin(out, last):
                self.aside = self.fault is not None
                return self.aside
        held = self._send(out, last)
        if first:
            self._once_begun()
        return held

    def _let_go(self) -> bool:
        """Pass on what there is of an event that is too large to be held."""
        first, large = not self.begun, self.splitter.let_go()
        self.meter.skim(large)
        out, self.early = self.early + large, b""
        if first:
            self._begin(out, False)  # no error is that large
        self.aside = True
        held = self._pass(out, False)
        if first:
            self._once_begun()
        return held

    def _take_aside(self, piece: bytes, last: bool) -> bool:
        """Pass on what comes of a large event, and take what is behind it; nothing where there is a fault."""
        if self.fault is not None:
            return True
        end = self.splitter.end(piece)
        part, behind = piece[:end], b"" if end is None else piece[end:]
        if last and end is None:
            part += self.splitter.rest()
        self.meter.skim(part)
        self.aside = not last and end is None
        held = self._pass(part, not self.aside)
        if self.aside:
            return held
        self.meter.skimmed(end is not None)
        if self.account.outcome is None:
            self.account.usage = self.meter.usage
        return self._take(behind, last) or held

    def _pass(self, part: bytes, ends: bool) -> bool:
        self.account.sends(part)
        return self.sink.part(part, ends)

    def _is_plain(self, whole: bytes) -> bool:
        plain = self.meter.plain(whole)
        if plain and self.begun:  # the first event is like no other, and in a hurry
            self.refrain.learn(whole)
        return plain

    def _read(self, whole: bytes) -> bytes:
        """These events as the client gets them."""
        meter = self.meter
        kept: list[bytes] = []
        for event in map(mended, sse.events(whole)):
            hidden = meter.read(event) and self.hides_usage
            if not hidden:
                kept.append(event if self.alias is None else edits.renamed_event(event, self.alias))
        if self.account.outcome is None:
            self.account.usage = meter.usage
        return b"".join(kept)

    def _begin(self, out: bytes, last: bool) -> bool:
        """Send the head once there is an event to send with it; an error as the first event becomes a real error."""
        if self.meter.errored and self._failed(out):
            return False
        if not (out and self.meter.spoke):
            if last and self.account.head.endpoint.finishes:
                self.fault = self._too_early()
            if self.fault is not None or not last:
                self.early = out  # comments alone promise nothing: a real error may still follow
                return False
        self.begun = True
        self.account.status = self.reply.status
        self.sink.start(self.reply.status, self.account.marks() + self.told, None)
        return True

    def _failed(self, out: bytes) -> bool:
        """Whether that begins with an error, which is a fault then."""
        fault = first_error(out, _upstream(self.account), wait_of(self.reply.headers))
        if fault is not None:
            self.fault = _scrubbed(fault, self.account)
        return fault is not None

    def _once_begun(self) -> None:
        """Do what has time until the first bytes are out."""
        self.reply.begun()
        heartbeat = self.account.setup.heartbeat
        if heartbeat is not None and self.account.outcome is None:
            self.sink.beat(heartbeat)

    def _send(self, out: bytes, last: bool) -> bool:
        account, meter = self.account, self.meter
        account.hears(out)
        if last and not (meter.done or meter.finished or meter.errored) and account.head.endpoint.finishes:
            self._cut("incomplete", self._too_early(), out)
            return False
        if out:
            account.sends(out)
        if last or meter.done:  # with [DONE] a client has all it wants: nothing delivered goes unlogged
            self._settle()
        if last:
            self.sink.end(out)
            return False
        return self.sink.write(out) if out else False

    def _too_early(self) -> UpstreamError:
        return UpstreamError(f"Upstream {_upstream(self.account)!r} ended its stream too early.")

    def _settle(self) -> None:
        if self.meter.errored:
            self.account.settle("upstream_error", "the upstream sent an error event")
        else:
            self.account.settle("ok")

    def _cut(self, outcome: Outcome, fault: RelayError, out: bytes = b"") -> None:
        """The one error event that a cut stream ends in, and the end."""
        out += sse.event(fault.body(self.account.id))
        self.account.sends(out)
        self.account.settle(outcome, fault.message)
        self.sink.end(out)

    async def drained(self) -> None:
        """See Delivery."""
        if self.fault is not None:
            raise self.fault
        await self.sink.drained()

    def fail(self, fault: RelayError) -> bool:
        """See Delivery. A stream that said it was done, or what failed, has said all, whatever its connection does."""
        if not self.begun:
            return False
        out = self._read(completed(self.splitter.rest()))
        if self.meter.done or self.meter.errored:
            self.account.sends(out)
            self._settle()
            self.sink.end(out)
        else:
            self._cut(outcome_of(fault), fault, out)
        return True
