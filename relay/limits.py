"""limits: whether one more request fits, and if not, when. Pure: the clock's reading is an argument.

Requests are counted by the clock's minutes, in two numbers: this minute's, and the last one's, which fades out evenly
while this minute goes by. The promise: never more than `rpm` in one minute of the clock nor twice that in any 60
seconds, all of `rpm` at once for a key that was at rest, and a stated wait after which a request is admitted.
"""

from dataclasses import dataclass

MINUTE = 60.0
MARGIN = 0.001  # seconds on top of a wait: far above a float's rounding of the time, so that who waits is admitted


@dataclass(slots=True)
class Use:
    """What was used lately, in this minute, which began at `minute`, and the one before it.

    `running` are requests that have not ended; `limit` of them may, as it was last said.
    """

    minute: float = 0.0  # seconds since 1970
    previous: int = 0
    current: int = 0
    running: int = 0
    limit: int = 0


def check(rpm: int | None, use: Use, now: float) -> float | None:
    """None when one more request fits, else the seconds until it does. `rpm` is 1 or more; None is no limit.

    `now` is in seconds since 1970. Nothing is counted here: whoever goes on adds to `use.current`.
    """
    second = now - use.minute
    if not 0.0 <= second < MINUTE:
        _turn(use, now // MINUTE * MINUTE)
        second = now - use.minute
    if rpm is None or use.current + use.previous < rpm:  # nothing of the last minute has to fade for that
        return None
    if use.current + use.previous * (1.0 - second / MINUTE) < rpm:
        return None
    return _wait(rpm, use, second)


def left(rpm: int, use: Use, now: float) -> int:
    """How many requests more fit at `now`, in the minute that `check` was last told of."""
    if not use.previous:
        return rpm - use.current
    faded = use.previous * (1.0 - (now - use.minute) / MINUTE)
    return max(0, int(rpm - use.current - faded))


def _turn(use: Use, minute: float) -> None:
    """Begin another minute. A clock that was set back starts afresh, rather than refuse until it has caught up."""
    use.previous = use.current if minute == use.minute + MINUTE else 0
    use.current = 0
    use.minute = minute


def _wait(rpm: int, use: Use, second: float) -> float:
    """Seconds until the faded count falls below `rpm`: in this minute while it is not used up, else in the next."""
    room = rpm - use.current
    faded = 1.0 - room / use.previous if room > 0 else 2.0 - rpm / use.current
    return MINUTE * faded - second + MARGIN
