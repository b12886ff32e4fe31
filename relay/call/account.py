"""Account: what is noted while one request runs, and made into its one Record when it ends, however it ends.

`settle` is a plain call, done once: it gives the lease back and tells the journal, and nothing is awaited between the
upstream's last byte and the record. Whoever sends the last byte settles first.
"""

import time
from collections.abc import Sequence
from functools import lru_cache
from typing import Self
from urllib.parse import quote

import msgspec

from relay import estimate, pricing, redaction, routing
from relay.ask import Ask, Head, new_id
from relay.call.setup import Setup
from relay.counters import FREE, Lease
from relay.edits import Edited
from relay.errors import RelayError, UpstreamTimeout
from relay.exchange import ERROR, NO_SUCCESS, Lines, lines
from relay.journal import Blotter, Journal
from relay.keys import Key
from relay.record import UNTOLD, Keep, Outcome, Record, Try, Why, attempts, kept
from relay.routing import Alias, Plan, Target
from relay.usage import Usage

_NO_USAGE = Usage()
_GIVEN_UP = frozenset({"client_disconnect", "upstream_timeout", "refused"})
_UNREAD = Ask(b"", {}, None, stream=False)
_NOWHERE = Target("", "")
_NO_PLAN = Plan(Alias("", ()), "", ())
_UNCOUNTED_MAX = 8192  # bytes of events whose words are counted later, if at all
_UNEDITED = Edited(b"", (), asks_usage=False)


class Account:
    """One request's, once it is opened, when the head is in; it is made before, as a request is in a hurry.

    `at` is in microseconds since 1970. All other times are nanoseconds of the performance counter; 0 means not yet.
    """

    __slots__ = (
        "ask", "asked_at", "at", "began", "bytes_out", "call", "content_type", "cost", "edited", "error",
        "estimated", "first_at", "head", "hint", "id", "journal", "keep", "kept", "key", "last_at", "lease", "outcome",
        "plan", "ready_at", "repeated", "response", "settled_at", "setup", "status", "target", "tries",
        "uncounted", "unread", "usage", "words",
    )  # fmt: skip

    head: Head  # these are there once it is opened
    setup: Setup
    at: int
    id: str
    settled_at: int  # and both of these once it is settled
    error: str | None

    def __init__(self, journal: Journal | Blotter) -> None:
        self.journal = journal
        self.began = 0
        self.key: Key | None = None
        self.keep: Keep = "none"
        self.ask: Ask | None = None
        self.target: Target | None = None
        self.plan = _NO_PLAN
        self.edited = _UNEDITED
        self.hint: tuple[bool, float | None] | None = None  # whether to try again, and after how many seconds
        self.repeated = False  # a target was asked once more
        self.call: str | None = None  # the first request of this call, where the client tries it again
        self.lease: Lease = FREE
        self.tries: list[Try] = []
        self.usage: Usage | None = None  # as the upstream states it,
        self.estimated: Usage | None = None  # and with what it left unsaid, or said against all reason
        self.words = 0  # bytes of them that were counted in the answer so far,
        self.uncounted = b""  # and the events of a stream in which they were not yet;
        self.unread = False  # it goes through as it comes, and nobody looks for them
        self.cost: int | None = None  # in nano-dollars, rounded up; known once it is settled, if price and usage are
        self.status = 499  # of a client that left before it saw one
        self.content_type: str | None = None
        self.response: list[bytes] = []
        self.kept = 0
        self.bytes_out = 0
        self.ready_at = 0  # the request was wholly read; 0 also where that was when its head was
        self.asked_at = 0  # the upstream was asked
        self.first_at = 0  # the first byte of the answer's body went out
        self.last_at = 0  # the answer's last byte came
        self.outcome: Outcome | None = None  # once it is settled

    def open(self, head: Head, setup: Setup) -> Self:
        """The request has come: this is its head, and what is in force for it."""
        self.at = at = time.time_ns() // 1000
        self.began = time.perf_counter_ns()
        self.id = new_id(at)
        self.head = head
        self.setup = setup
        return self

    def sends(self, piece: bytes) -> None:
        """Note a piece of the answer's body that is about to go to the client, while all is not settled."""
        if self.outcome is not None:
            return
        if not self.first_at:
            self.first_at = self.last_at or time.perf_counter_ns()
        self.bytes_out += len(piece)
        if self.keep != "none":
            self.keeps(piece)

    def hears(self, events: bytes) -> None:
        """Note whole events of a stream. Nearly always the upstream counts their words itself: so that is put off."""
        self.uncounted += events
        if len(self.uncounted) > _UNCOUNTED_MAX:
            self.spoken()

    def spoken(self) -> int:
        """How many bytes of words the answer brought so far."""
        self.words += estimate.spoken(self.uncounted)
        self.uncounted = b""
        return self.words

    def keeps(self, piece: bytes) -> None:
        """Keep a piece of the answer's body for the log, while there is not enough of it."""
        if self.kept <= kept(self.status):
            self.response.append(piece)
            self.kept += len(piece)

    @property
    def secrets(self) -> Sequence[bytes]:
        """What nobody may read where the target repeats it."""
        upstream = self.setup.upstreams.get(self.target.upstream) if self.target else None
        return upstream.credentials.secrets if upstream else ()

    def starts_over(self) -> None:
        """Forget what another try brought, of which nothing went to the client."""
        self.usage, self.words, self.uncounted = None, 0, b""
        self.last_at = 0

    def is_spent(self, wait: float | None) -> bool:
        """Whether the relay has tried again itself, so that whoever does it on top makes a storm of it.

        Where every target was only asked once, a stated `wait` in seconds may still help.
        """
        return self.repeated or (wait is None and attempts(self.tries) > 1)

    def marks(self) -> Lines:
        """The relay's own response headers, as far as they are known by now."""
        target, asked = self.target, len(self.tries)
        if asked > 1:
            asked = attempts(self.tries)
        served = b"\r\n" if target is None else _served(target.upstream, target.model, asked)
        return b"".join((b"x-relay-id: ", self.id.encode(), served))

    def settle(self, outcome: Outcome, error: str | None = None) -> None:
        """Give the lease back and have the record written, once; later calls do nothing."""
        if self.outcome is not None:
            return
        self.outcome, self.error, self.settled_at = outcome, error, time.perf_counter_ns()
        self.lease.settle()
        rates, used, target = self.setup.rates, self.usage, self.target
        if used is None or used.input is None or not used.output:
            self.estimated = self._estimate(used or _NO_USAGE)
            used = self.estimated or used
        if rates and used is not None and target is not None and (rate := rates.get(target.name)) is not None:
            self.cost = pricing.cost(rate, used.input, used.output, used.cached)
        if self.keep == "none":
            self.journal.note(self)
        else:
            self.journal.note(self, *self._bodies())

    def record(self) -> Record:
        """See relay.journal.Noted. It is settled, and nothing is noted any more."""
        outcome = self.outcome or "relay_error"
        head, ask, used = self.head, self.ask or _UNREAD, self.usage or _NO_USAGE
        key, target = self.key, self.target or _NOWHERE
        ended, began, first = self.settled_at, self.began, self.first_at
        # what passed here: before the upstream was asked, and after its last byte came
        waited = (self.asked_at or ended) - (self.ready_at or began) + (ended - (self.last_at or ended))
        return Record(  # in the order of its fields: by their names it would take eight times as long
            self.id,
            self.at,
            key.name if key else None,
            ask.model,
            target.upstream or None,
            target.model or None,
            head.endpoint.name,
            ask.stream,
            self.status,
            outcome,
            redaction.scrub(self.error) if self.error else None,
            # milliseconds to the microsecond, by division: round() costs as much as all of the record's encoding
            (first - began) // 1000 / 1e3 if first else None,
            (ended - began) // 1000 / 1e3,
            waited // 1000,
            used.input,
            used.output,
            used.cached,
            used.reasoning,
            self.cost,
            "estimated" if self.estimated else "upstream" if self.usage else "none",
            self.bytes_out,
            head.client,
            head.tags,
            tuple(self.tries),
            self.edited.names,
            self.lease.read,
            self._why() if self.plan.told or self.hint or self.edited.patch or head.retry or self.estimated else None,
        )

    def _why(self) -> Why:
        """What was decided that cannot be told from the rest of the record."""
        again, after = self.hint or (None, None)
        told = self.plan.told
        if not self.tries and self.plan.targets:  # nobody was asked: what its tries would tell is told by the plan
            told = routing.told(self.plan)
        guess = None if self.estimated is None else (self.estimated.input, self.estimated.output)
        return Why(_raw(told), _raw(self.edited.patch), again, after, self.head.retry, self.call, guess)

    def _estimate(self, stated: Usage) -> Usage | None:
        """What the call took, as far as the upstream leaves that open; None where all is said, or nothing was done.

        Some say at a stream's begin that nothing was written yet: of one that is cut that was the last word.
        """
        endpoint, given, made = self.head.endpoint, stated.input, stated.output
        speaks = endpoint.finishes and (made is None or (made == 0 and self.spoken() > 0))
        if self.ask is None or not self._is_worked_on() or (given is not None and not speaks):
            return None
        if given is None:
            given = estimate.prompt(self.ask.body, self.ask.fields)
        if speaks and not self.unread:
            made = estimate.tokens(self.spoken())
        return Usage(given, made, stated.cached, stated.reasoning)

    def _is_worked_on(self) -> bool:
        """Whether the upstream was at work to the end, or until it was given up: then it bills for that."""
        last = self.tries[-1] if self.tries else None
        if last is None or not last.sent or (last.status or 0) >= NO_SUCCESS:
            return False
        return self.outcome in _GIVEN_UP or (last.status is not None and self.status < ERROR)

    def _bodies(self) -> Sequence[bytes | None]:
        if self.ask is None:
            return None, None
        request, response = self.ask.body, b"".join(self.response)
        if self.status >= ERROR or self.outcome == "upstream_error":
            response = redaction.scrub(response, self.secrets)  # what says what went wrong may quote a credential
        else:
            response = redaction.without(response, self.secrets)
        if self.keep == "full":
            return request, response
        return redaction.redact(request, None), redaction.redact(response, self.content_type)


def outcome_of(fault: RelayError) -> Outcome:
    """How the record calls a request that ended by `fault`."""
    if isinstance(fault, UpstreamTimeout):
        return "upstream_timeout"
    if fault.source == "upstream":
        return "upstream_error"
    return "relay_error" if fault.status == 500 else "refused"  # noqa: PLR2004  # our own crash


def _raw(told: bytes) -> msgspec.Raw:
    return msgspec.Raw(told) if told else UNTOLD


@lru_cache(maxsize=1024)
def _served(upstream: str, model: str, asked: int) -> Lines:
    """What follows the id."""
    named = ((b"x-relay-upstream", _value(upstream)), (b"x-relay-model", _value(model)))
    return b"\r\n" + lines((*named, (b"x-relay-attempts", b"%d" % asked)))


def _value(name: str) -> bytes:
    """A name as a header's value. A model's name can come from the caller, line ends and all."""
    return (name if name.isprintable() else quote(name)).encode()
