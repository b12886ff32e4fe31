"""course: which target one request is tried at next, as its tries fail. Pure: it is told the time.

Every target of the plan is asked once, in order and without a pause. After that, those that are worth it are asked once
more, each when its wait is over. All of it ends when the caller's patience does.
"""

from typing import NamedTuple

import msgspec

from relay.routing import Target
from relay.verdict import Verdict

PAUSE = 0.25  # seconds before the same target is asked once more, doubled each time
LEAST = 0.01  # seconds that have to be left for a try: less is for nothing
WAIT_MAX = 2.0  # seconds that the relay waits by itself; a longer wait is told the caller, who may have better to do


class Step(NamedTuple):
    """Ask `target`, after `wait` seconds; `again`: it was asked before."""

    target: Target
    wait: float = 0.0
    again: bool = False


class Course(msgspec.Struct, eq=False):
    """`more`: how often the same target may be asked once more; `until`: when all has to be over, in seconds."""

    targets: tuple[Target, ...]
    more: int
    until: float
    ahead: int = 1  # the first target that was not asked yet
    later: list[tuple[float, Target]] = []  # those to ask once more, and when
    repeated: dict[str, int] = {}

    def after(self, target: Target, verdict: Verdict, now: float) -> Step | None:
        """What comes after the try of `target` that failed so; None where nothing is left that could help."""
        if not verdict.onward:
            return None
        if verdict.again:
            self._note(target, verdict.wait, now)
        if self._is_over(now):
            return None
        if self.ahead < len(self.targets):
            self.ahead += 1
            return Step(self.targets[self.ahead - 1])
        return self._once_more(now)

    def instead(self, targets: tuple[Target, ...], now: float) -> Step | None:
        """The first of other targets, for a request that these refuse as it is."""
        if not targets or self._is_over(now):
            return None
        self.targets = targets
        self.ahead = 1
        self.later = []
        return Step(targets[0])

    def _is_over(self, now: float) -> bool:
        """Whether nobody would wait for what begins at that moment."""
        return now > self.until - LEAST

    def _note(self, target: Target, wait: float | None, now: float) -> None:
        times = self.repeated.get(target.name, 0)
        pause = PAUSE * 2**times if wait is None else wait
        if times < self.more and pause <= WAIT_MAX and not self._is_over(now + pause):
            self.repeated[target.name] = times + 1
            self.later.append((now + pause, target))

    def _once_more(self, now: float) -> Step | None:
        if not self.later:
            return None
        soonest = min(self.later, key=lambda noted: noted[0])
        self.later.remove(soonest)
        at, target = soonest
        return Step(target, max(0.0, at - now), again=True)
