"""Tries: the tries of one request, at one target after the other, until one of them has an answer for the caller.

It asks the upstream, tells the health of each target what became of it, and knows what comes next from its course.
"""

import asyncio
import time
from collections.abc import Coroutine
from typing import Any

import msgspec
from msgspec.structs import replace

from relay.ask import Ask
from relay.call.account import Account
from relay.call.choice import circumstances
from relay.course import Course, Step
from relay.edits import Edited
from relay.errors import RelayError, UpstreamAuthFailed, UpstreamOff, UpstreamRefusal, UpstreamTimeout
from relay.exchange import NO_SUCCESS, RATE_LIMITED
from relay.health import Health, Illness
from relay.routing import Target, fallback, filled
from relay.upstream import door
from relay.upstream.door import Opened
from relay.verdict import OBJECTS, Verdict, objection, of_fault, of_status, wait_of

_REST = 1.0  # seconds that a target rests after a 429 that does not say how long
_FAILED = {"incomplete": "ended its stream too early", "upstream_error": "ended its stream with an error"}
_EARLY = 0.002  # seconds: a timer of uvloop's rounds to whole milliseconds, twice, and can be early by one and a half
_REFUSED_REST = 60.0  # seconds that a target rests whose key was refused, while another is left


class Refused(msgspec.Struct, frozen=True):
    """What `target` said to a request for which others are asked instead, also behind a status of success."""

    target: Target
    edited: Edited
    said: Opened | UpstreamRefusal


class Tries(msgspec.Struct, eq=False):
    """`target` is asked now, since `begun`, in nanoseconds of the performance counter.

    `until` is when the caller's patience ends, in seconds of it.
    """

    account: Account
    asked: Ask
    health: Health
    target: Target
    begun: int
    until: float
    course: Course | None = None  # made when the first try fails, which is seldom
    noted: int = 0  # tries that were noted before this target was asked
    heeded: bool = False  # its answer was an error, whose status has said what comes next
    doubted: bool = False  # the target is well only if its answer comes to its end
    opened: Opened | None = None  # its answer, until it is known how that ended
    probe: Illness | None = None  # of the target, for which this is the probe: the others wait for what becomes of it
    refused: Refused | None = None  # as the caller gets it if those that stand by have nothing better
    stands: Refused | None = None  # the same, once they have not

    async def enter(self) -> None:
        """Wait for a place among the requests that the caller's key may run at a time. Raises Overloaded."""
        await self.account.lease.enter(self.until - self.begun / 1e9)
        self.account.asked_at = self.begun = time.perf_counter_ns()

    def ask(self) -> Coroutine[Any, Any, Opened]:
        """Ask the target. Raises UpstreamOff, and what `door.ask` raises."""
        account, target = self.account, self.target
        account.target = target
        if self.stands is not None:
            return _said(self.stands)
        if self.health.ill:
            self.probe = self.health.probes(target.name, time.perf_counter())
        upstream = account.setup.upstreams.get(target.upstream)
        if upstream is None:
            raise UpstreamOff(f"Upstream {target.upstream!r} is switched off; `relay check` tells why.")
        alias, head, tries = account.plan.alias, account.head, account.tries
        return door.ask(upstream, target, alias, head, self.asked, tries, self.begun, self.until)

    def answered(self, opened: Opened) -> Step | None:
        """What comes next where another may do better than this answer; None for an answer that goes to the caller."""
        self.opened, reply = opened, opened.reply
        self.account.edited = opened.edited
        if reply.status < NO_SUCCESS:
            if self.health.torn and self.health.doubts(self.target.name):
                self.doubted = True
            else:
                self.health.passed(self.target.name, opened.first_byte_ms, opened.at / 1e9)
            return None
        if self.stands is not None:
            return None
        self.heeded = True
        wait, now = wait_of(reply.headers), time.perf_counter()
        if reply.status == RATE_LIMITED:
            wait = self._limited(wait, now)
        verdict = of_status(reply.status, wait)
        if not verdict.onward:  # it is well: the fault is the caller's
            self.health.passed(self.target.name, opened.first_byte_ms, now)
        step = self._after(verdict, f"HTTP {reply.status}", now)
        if reply.status in OBJECTS and reply.whole is not None:
            step = self._instead(reply.whole, opened, now) or step
        step = step or self._back()
        if step is not None:
            reply.abort()
        return step

    def ended(self) -> None:
        """Tell how an answer ended whose head alone said too little."""
        opened, self.opened = self.opened, None
        now, outcome = time.perf_counter(), self.account.outcome
        if opened is None or opened.reply.status >= NO_SUCCESS:
            return
        if outcome in _FAILED:
            self.health.failed(self.target.name, _FAILED[outcome], now, torn=True)
        elif outcome == "ok" and self.doubted:
            self.health.passed(self.target.name, opened.first_byte_ms, now)

    def failed(self, fault: RelayError, begun: bool) -> Step | None:
        """What comes next after that fault; None where nothing does, as when the answer has `begun` to go out.

        The caller is told then not to try again either, where the relay has done so.
        """
        step = self._next(fault, begun)
        if step is None and self.account.is_spent(fault.retry_after):
            fault.should_retry = False
        return step

    def _next(self, fault: RelayError, begun: bool) -> Step | None:
        if self.account.outcome is not None or self.stands is not None:
            self.ended()  # the answer had said all, and is recorded: how its connection ends is nothing to anyone
            return None
        step = self._heed(fault, begun)
        return None if begun else step or self._back()

    def over(self) -> None:
        """The try is over, whatever became of it: let go of what it holds."""
        if self.opened is not None:
            self.opened.reply.abort()
        if self.probe is not None:
            self.health.unproven(self.target.name, self.probe, time.perf_counter())

    async def turn_to(self, step: Step) -> None:
        """Make it the target, when its time has come."""
        self.over()
        self.account.starts_over()
        self.account.repeated |= step.again
        if step.wait:
            await asyncio.sleep(step.wait + _EARLY)
        self.target, self.begun = step.target, time.perf_counter_ns()
        self.noted = len(self.account.tries)
        self.doubted = self.heeded = False
        self.probe = self.opened = None

    def _heed(self, fault: RelayError, begun: bool) -> Step | None:
        """What comes next by that fault alone."""
        now = time.perf_counter()
        status = self._given_up(fault.message, now)
        if self.heeded or status in OBJECTS:
            return None  # an error was cut, and its status has said what comes next
        torn = 0 < status < NO_SUCCESS
        if torn and self._spares(fault, now):
            return Step(self.target) if now < self.until and not begun else None
        if isinstance(fault, UpstreamAuthFailed):
            self.health.rests(self.target.name, "its key was refused", _REFUSED_REST, now, mends=True)
        if isinstance(fault, UpstreamRefusal) and (step := self._instead(fault.said, fault, now)) is not None:
            return step
        verdict = of_fault(fault)
        if now >= self.until - _EARLY and (torn or self.health.is_soon(self.target.name, now - self.begun / 1e9)):
            verdict = verdict._replace(blames=False)  # that its caller waits no longer says nothing of the target
        return self._after(verdict, _told(fault), now, torn)

    def _limited(self, wait: float | None, now: float) -> float | None:
        """Let the target rest until the first of its keys can serve again; the wait for that, if one was stated."""
        upstream = self.account.setup.upstreams.get(self.target.upstream)
        until = upstream.credentials.resting(self.target.model, now) if upstream else None
        rest = until - now if until is not None else _REST if wait is None else wait
        self.health.rests(self.target.name, "rate limited", rest, now)
        return None if wait is None else min(wait, rest)

    def _spares(self, fault: RelayError, now: float) -> bool:
        """Where an answer is, or begins with, a refusal of the key, do as after such a status. Whether one is left."""
        tries, model = self.account.tries, self.target.model
        upstream = self.account.setup.upstreams.get(self.target.upstream)
        used = upstream.credentials.named(tries[-1].key) if upstream else None
        if upstream is None or used is None:
            return False
        limited = isinstance(fault, UpstreamRefusal) and fault.status == RATE_LIMITED
        if limited:
            used.rest(model, now, fault.retry_after)
        elif isinstance(fault, UpstreamAuthFailed):
            upstream.credentials.refuse(used, 401)
        else:
            return False
        if upstream.credentials.spare(model, now, door.used(tries, upstream.name, model)):
            return True
        if limited:
            self._limited(fault.retry_after, now)
        return False

    def _given_up(self, fault: str, now: float) -> int:
        """Note of a try that it failed after its head was in. The status that it had; 0 where there was no head."""
        tries = self.account.tries
        if len(tries) == self.noted or tries[-1].error is not None:
            return 0
        before = sum(each.total_ms or each.first_byte_ms or 0.0 for each in tries[self.noted : -1])  # by other keys
        spent = (now - self.begun / 1e9) * 1000 - before
        tries[-1] = replace(tries[-1], error=fault, total_ms=round(spent, 3))
        return tries[-1].status or 0

    def _after(self, verdict: Verdict, reason: str, now: float, torn: bool = False) -> Step | None:
        if verdict.blames:
            self.health.failed(self.target.name, reason, now, torn=torn)
        return self._course().after(self.target, verdict, now)

    def _instead(self, body: bytes, said: Opened | UpstreamRefusal, now: float) -> Step | None:
        """Other targets, where the alias has some for what this one objects to; once for each reason."""
        account, plan, why = self.account, self.account.plan, objection(body)
        targets = filled(plan.alias.fallback.get(why, ()), plan.asked) if why else ()
        if why is None or why in plan.fallbacks or not targets:
            return None
        at_present = circumstances(account, self.asked, targets, self.health, "order")
        found = fallback(plan.alias, why, plan.asked, at_present)
        account.plan = plan.falling_back(why, found)
        step = self._course().instead(found.targets, now)
        if step is not None and self.refused is None:
            self.refused = Refused(self.target, account.edited, said)
        return step

    def _back(self) -> Step | None:
        """To what the request was refused with, where there was somebody to ask instead, and nobody is left."""
        self.stands = self.refused
        if self.stands is None:
            return None
        self.account.edited = self.stands.edited
        return Step(self.stands.target)

    def _course(self) -> Course:
        if self.course is None:
            self.course = Course(self.account.plan.targets, self.account.setup.retries, self.until)
        return self.course


async def _said(refused: Refused) -> Opened:
    """The same again, as if it came just now."""
    if isinstance(refused.said, Opened):
        return refused.said
    raise refused.said


def _told(fault: RelayError) -> str:
    """What is told of it to anyone who asks how the target is: no address, and nothing in the upstream's own words."""
    if isinstance(fault, UpstreamRefusal):
        return "said that it failed, behind a status that promised an answer"
    if not fault.sent:
        return "could not be reached"
    return "timed out" if isinstance(fault, UpstreamTimeout) else "broke off, or made no sense"
