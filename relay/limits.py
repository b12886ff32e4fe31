"""limits: whether one more request fits, and if not, when. Pure: the clock's reading is an argument.

Requests are counted by the clock's minutes, in two numbers: this minute's, and the last one's, which fades out evenly
while this minute goes by. The promise: never more than `rpm` in one minute of the clock nor twice that in any 60
seconds, all of `rpm` at once for a key that was at rest, and a stated wait after which a request is admitted.
"""

from dataclasses import dataclass
from typing import Protocol

MINUTE = 60.0
MARGIN = 0.001  # seconds on top of a wait: far above a float's rounding of the time, so that who waits is admitted


class Limits(Protocol):
    """What may be used, each 1 or more; None is no limit. A Key is one."""

    @property
    def rpm(self) -> int | None: ...
    @property
    def concurrency(self) -> int | None: ...


@dataclass(slots=True)
class Use:
    """What was used lately. `minute` counts from 1970; `running` are requests that have not ended."""

    minute: float = 0.0
    previous: int = 0
    current: int = 0
    running: int = 0


def check(limits: Limits, use: Use, now: float) -> float | None:
    """None when one more request fits, else the seconds until it does: 1 where that hangs on a running request's end.

    `now` is in seconds since 1970. Nothing is counted here: whoever goes on adds to `use.current` and `use.running`.
    """
    minute = now // MINUTE
    if minute != use.minute:
        _turn(use, minute)
    if limits.concurrency is not None and use.running >= limits.concurrency:
        return 1.0
    rpm = limits.rpm
    if rpm is None or use.current + use.previous < rpm:  # nothing of the last minute has to fade for that
        return None
    second = now - minute * MINUTE
    if use.current + use.previous * (1.0 - second / MINUTE) < rpm:
        return None
    return _wait(rpm, use, second)


def _turn(use: Use, minute: float) -> None:
    """Begin another minute. A clock that was set back starts afresh, rather than refuse until it has caught up."""
    use.previous = use.current if minute == use.minute + 1 else 0
    use.current = 0
    use.minute = minute


def _wait(rpm: int, use: Use, second: float) -> float:
    """Seconds until the faded count falls below `rpm`: in this minute while it is not used up, else in the next."""
    room = rpm - use.current
    faded = 1.0 - room / use.previous if room > 0 else 2.0 - rpm / use.current
    return MINUTE * faded - second + MARGIN
