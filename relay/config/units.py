"""units: durations, sizes and budgets as people write them. Text in, numbers out; ValueError says what is wrong."""

import re

SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
BYTES = {"": 1, "B": 1, "KB": 2**10, "MB": 2**20, "GB": 2**30, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}
_LONGEST = 100 * 365.25 * SECONDS["d"]
_DURATION = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h|d|w)")
_SIZE = re.compile(r"([0-9]+) ?([A-Za-z]*)")
_BUDGET = re.compile(r"[0-9]+(\.[0-9]+)?/(day|week|month)")


def duration(text: object) -> float:
    """Seconds from `250ms`, `5s`, `10m`, `12h`, `30d` or `2w`; a hundred years at most."""
    found = _DURATION.fullmatch(text) if isinstance(text, str) else None
    if found is None:
        raise ValueError(f"{text!r} is not a duration")
    seconds = float(found[1]) * SECONDS[found[2]]
    if seconds > _LONGEST:
        raise ValueError(f"{text!r} is more than a hundred years")
    return seconds


def size(text: object) -> int:
    """Bytes from an int, or from `512KB`, `64MB` or `1GB`, which count in 1024s."""
    if isinstance(text, int) and not isinstance(text, bool):
        return text
    found = _SIZE.fullmatch(text) if isinstance(text, str) else None
    if found is None or found[2].upper() not in BYTES:
        raise ValueError(f"{text!r} is not a size")
    return int(found[1]) * BYTES[found[2].upper()]


def budget(text: str) -> str:
    """The text itself, when it is USD per time, as in `20/month`."""
    if _BUDGET.fullmatch(text) is None:
        raise ValueError(f"{text!r} is not a budget")
    return text
