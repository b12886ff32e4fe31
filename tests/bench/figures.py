"""figures: what is measured. STEPS are the runs, ROWS the figures that are read off them. Knows no processes."""

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil

from tests.bench.dialogue import KEPT_KEY, TLS_MODEL, Ask
from tests.bench.load import Outcome

Results = dict[str, dict[str, list[float]]]  # by row and contender, a value for each round

_STREAMS, _CHUNKS, _TICK = 64, 200, 0.02


@dataclass(frozen=True, slots=True)
class Step:
    """One run of the load: `once` ends it when each client has one answer, else it takes the time that is given."""

    name: str
    ask: Ask
    clients: int
    once: bool = False
    think: float = 0.0  # seconds between an answer and the next request, of one client
    of: frozenset[str] = frozenset({"relay", "nginx"})


@dataclass(frozen=True, slots=True)
class Measured:
    """What one step brought for one contender."""

    step: Step
    outcome: Outcome
    cpu: int  # nanoseconds
    first: Sequence[float]  # microseconds until the first byte, of each request
    delays: Sequence[float]  # microseconds on its way, of each chunk


_ALL = frozenset({"direct", "relay", "nginx"})
STEPS = (
    Step("request", Ask(), 16),
    Step("body", Ask(size=100_000), 16),
    Step("kept", Ask(key=KEPT_KEY), 16, of=frozenset({"relay"})),
    Step("tls", Ask(model=TLS_MODEL), 16),
    Step("paced", Ask(chunks=_CHUNKS, pause=_TICK), _STREAMS, once=True, of=_ALL),
    Step("burst", Ask(chunks=_CHUNKS), _STREAMS),
    Step("first", Ask(chunks=1), 1, think=0.002, of=_ALL),
    Step("lone", Ask(chunks=1000, pause=0.001), 1, once=True, of=_ALL),
)


@dataclass(frozen=True, slots=True)
class Row:
    """One figure. `added`: told as how much more it is than with nobody between. `per`: another row, for the ratio."""

    name: str
    title: str
    unit: str = "µs"
    digits: int = 1
    step: str = ""
    read: Callable[[Measured], float] | None = None  # where it comes from a step
    added: bool = False
    per: str = ""


def per_request(measured: Measured) -> float:
    return measured.cpu / 1e3 / measured.outcome.count


def per_chunk(measured: Measured) -> float:
    return measured.cpu / 1e3 / (measured.outcome.count * measured.step.ask.chunks)


def delay(share: float) -> Callable[[Measured], float]:
    return lambda measured: percentile(measured.delays, share)


def first_byte(share: float) -> Callable[[Measured], float]:
    return lambda measured: percentile(measured.first, share)


ROWS = (
    Row(
        "request", "CPU for a request of 0.4 KB and its answer of 1 KB, 16 at a time", step="request", read=per_request
    ),
    Row("body", "CPU for a request of 100 KB", step="body", read=per_request),
    Row("tls", "CPU for a request, with TLS to the upstream", step="tls", read=per_request),
    Row(
        "kept", "CPU for a request, its bodies kept (ratio: to none kept)", step="kept", read=per_request, per="request"
    ),
    Row("paced", "CPU for a chunk, 64 streams at 20 ms a chunk", step="paced", read=per_chunk),
    Row("burst", "CPU for a chunk without pause, 64 streams", digits=2, step="burst", read=per_chunk),
    Row(
        "first-p50", "first byte of a lone client's stream, added, p50", step="first", read=first_byte(0.5), added=True
    ),
    Row("first-p99", "the same, p99", step="first", read=first_byte(0.99), added=True),
    Row("lone-p50", "a chunk on its way, one stream at 1 ms a chunk, p50", step="lone", read=delay(0.5)),
    Row("lone-p99", "the same, p99", step="lone", read=delay(0.99)),
    Row("paced-p50", "a chunk on its way, 64 streams at 20 ms a chunk, p50", step="paced", read=delay(0.5)),
    Row("paced-p99", "the same, p99", step="paced", read=delay(0.99)),
    Row("idle", "memory at rest", "MB"),
    Row("open", "memory with {open:,} slow streams open", "MB"),
    Row("stream", "memory for each of them", "KB"),
    Row("one", "requests a second, one worker, 64 at a time", "/s", 0),
    Row("two", "requests a second, two workers (ratio: to one)", "/s", 0, per="one"),
    Row("ready", "`relay serve` until it is ready", "ms", 0),
    Row("help", "`relay --help`", "ms", 0),
    Row("fresh", "CPU for a request, the store new", digits=1),
    Row("logged", "CPU for a request, {logged:,} requests logged (ratio: to the store new)", per="fresh"),
    Row("fresh-memory", "memory, the store new", "MB"),
    Row("logged-memory", "memory, {logged:,} requests logged (ratio: to the store new)", "MB", per="fresh-memory"),
)
NAMES = tuple(dict.fromkeys([*(step.name for step in STEPS), "memory", "workers", "start"]))


def percentile(values: Sequence[float], share: float) -> float:
    """The least of them that at least `share` of them do not exceed."""
    return sorted(values)[max(0, ceil(len(values) * share) - 1)]


def least(values: Sequence[float] | None) -> float | None:
    return min(values) if values else None


def median(values: Sequence[float] | None) -> float | None:
    return statistics.median(values) if values else None


@dataclass(frozen=True, slots=True)
class Line:
    """One row as it is told; None where there is nothing to tell."""

    row: Row
    relay: float | None
    nginx: float | None
    direct: float | None
    ratio: float | None


def lines(results: Results, of: Callable[[Sequence[float] | None], float | None] = least) -> list[Line]:
    """The rows that there are figures for, each by `of` over its rounds."""
    told = [_line(row, results, of) for row in ROWS if row.name in results]
    return [line for line in told if line.relay is not None or line.nginx is not None]


def _line(row: Row, results: Results, of: Callable[[Sequence[float] | None], float | None]) -> Line:
    found = results[row.name]
    direct, relay, nginx = (of(found.get(name)) for name in ("direct", "relay", "nginx"))
    if row.added and direct is not None:
        relay, nginx = (None if value is None else value - direct for value in (relay, nginx))
    base = of(results.get(row.per, {}).get("relay")) if row.per else nginx
    ratio = None if relay is None or base is None or base <= 0 else relay / base
    return Line(row, relay, nginx, direct, ratio)


def add(results: Results, row: str, contender: str, value: float) -> None:
    """One more round's value."""
    results.setdefault(row, {}).setdefault(contender, []).append(value)


def read(results: Results, contender: str, measured: Measured) -> None:
    """Every row that comes from this step."""
    for row in ROWS:
        if row.read is None or row.step != measured.step.name:
            continue
        if measured.cpu or row.read not in {per_request, per_chunk}:  # nobody between takes no CPU
            add(results, row.name, contender, row.read(measured))
