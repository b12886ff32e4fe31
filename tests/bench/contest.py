"""contest: the steps in rounds, each contender alone; then what is measured once: memory, workers, starts."""

import resource
import subprocess
import time
from collections.abc import Callable, Collection, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from math import inf

from tests.bench import clock
from tests.bench.contender import Contender, Stage
from tests.bench.dialogue import TLS_MODEL, Ask
from tests.bench.figures import STEPS, Measured, Results, Step, add, read
from tests.bench.load import Load, most_open
from tests.bench.machine import nginx_command
from tests.bench.share import Groups, Refused

_WARM = 100  # requests before a step is measured
_STARTS = 5
_OPENED = 2500  # slow streams that are opened in a second, at least
_FILES = 200  # descriptors beyond those of clients and upstream
_CORES_FOR_WORKERS = 4  # two for workers, and one each for upstream and load
_CORES_FOR_SHARES = 2  # upstream and load take the better part of one, and two shares are another's
_SHARE = 0.4  # of a core, for each worker where there are fewer
_NEARLY = 0.9  # of its share, that a worker with enough to do gets unless the cores run out
_WORKERS = {"one": 1, "two": 2}  # by row
_BATCH = 50_000  # requests between two words on how far it is


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a person asked for."""

    names: Collection[str]
    rounds: int
    seconds: float
    command: Sequence[str]
    open: int
    logged: int
    tell: Callable[[str], None]


@dataclass(slots=True)
class Contest:
    """What was found so far, and the notes that belong to it."""

    wanted: Wanted
    stage: Stage
    results: Results = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @property
    def counts(self) -> dict[str, int]:
        """The numbers that titles name."""
        return {"open": self.wanted.open, "logged": self.wanted.logged}

    def run(self) -> None:
        """All that is wanted."""
        too_few = room(2 * self.wanted.open + _FILES)  # before anything starts that inherits it
        if too_few is not None:
            self.notes.append(f"memory with {self.wanted.open:,} streams open: {too_few}")
        with ExitStack() as running:
            contenders = self._contenders(running)
            for number in range(self.wanted.rounds):
                for step in STEPS:
                    if step.name in self.wanted.names:
                        self.wanted.tell(f"round {number + 1} of {self.wanted.rounds}: {step.name}")
                        self._round(step, contenders)
            if "memory" in self.wanted.names and too_few is None:
                self._memory([each for each in contenders if each.pid is not None])
        for name, measure in {"workers": self._workers, "start": self._starts, "logged": self._logged}.items():
            if name in self.wanted.names:
                self.wanted.tell(name)
                measure()

    def _contenders(self, running: ExitStack) -> list[Contender]:
        """All of them, stopped; the upstream itself is the one with nobody between."""
        found = [Contender("direct", self.stage.plain, self.stage.secure), running.enter_context(self.stage.relay())]
        if nginx_command():
            found.append(running.enter_context(self.stage.nginx()))
        else:
            self.notes.append("nginx is not installed here, so there is nothing to compare with: ratios are missing")
        for each in found:
            if each.pid is not None and "memory" in self.wanted.names:
                clock.settled(each.pids)
                add(self.results, "idle", each.name, _mb(clock.memory(each.pids)))
            each.stop()
        return found

    def _round(self, step: Step, contenders: Sequence[Contender]) -> None:
        for each in contenders:
            if each.name in step.of:
                with each.awake():
                    read(self.results, each.name, self._measure(step, each))

    def _measure(self, step: Step, contender: Contender) -> Measured:
        port = contender.tls_port if step.ask.model == TLS_MODEL else contender.port
        with Load(port, 1) as one:
            one.run(Ask(model=step.ask.model, key=step.ask.key), total=_WARM)
        with Load(port, step.clients) as load:
            before = clock.settled(contender.pids)
            total = step.clients if step.once else inf
            outcome = load.run(step.ask, seconds=self.wanted.seconds, total=total, think=step.think)
            taken = clock.settled(contender.pids) - before
        delays = list(chain.from_iterable(each.delays() for each in outcome.exchanges))
        return Measured(step, outcome, taken, [each.first_byte for each in outcome.exchanges], delays)

    def _memory(self, contenders: Sequence[Contender]) -> None:
        count = self.wanted.open
        slow = Ask(chunks=6, pause=max(1.0, count / _OPENED))
        for each in contenders:
            self.wanted.tell(f"memory with {count:,} streams open: {each.name}")
            seen = [0]
            with each.awake(), Load(each.port, count) as load:
                pids = each.pids
                outcome = load.run(slow, total=count, watch=partial(_look, pids, seen))
            if (together := most_open(outcome.exchanges)) < count:
                self.notes.append(f"memory: only {together:,} streams of {each.name} were open at a time")
            most = max(seen)
            add(self.results, "open", each.name, _mb(most))
            add(self.results, "stream", each.name, (most / 1e6 - self.results["idle"][each.name][0]) * 1e3 / count)

    def _workers(self) -> None:
        """Where cores do not run out: on some of their own, or each held to a share. Else they only take turns."""
        there = len(self.stage.cores.own)
        missing = f"two workers: not measured; that takes {_CORES_FOR_WORKERS} cores, and here are {there}"
        if there >= _CORES_FOR_WORKERS:
            self._workers_on_cores()
        elif there < _CORES_FOR_SHARES:
            self.notes.append(missing)
        else:
            try:
                self._workers_by_share()
            except Refused as why:
                self.notes.append(f"{missing}; nor can each be held to a share of one: {why}")

    def _workers_on_cores(self) -> None:
        for row, number in _WORKERS.items():
            with self.stage.relay(row, number) as relay:
                for _ in range(self.wanted.rounds):
                    self._rate(row, relay)

    def _workers_by_share(self) -> None:
        """In turns, as the machine's speed wanders. Raises Refused where they cannot be held."""
        got = []
        with ExitStack() as running:
            found = {row: self._held(running, row, number) for row, number in _WORKERS.items()}
            for _ in range(self.wanted.rounds):
                for row, relay in found.items():
                    with relay.awake():
                        got.append(self._got(row, relay))
        self.notes.append(f"two workers: each held to {100 * _SHARE:.0f} % of a core")
        if (least := min(got, default=_SHARE)) < _SHARE * _NEARLY:
            self.notes.append(f"two workers: one got only {100 * least:.0f} % of a core: the cores ran out after all")

    def _held(self, running: ExitStack, row: str, number: int) -> Contender:
        """A relay whose workers run anywhere, but each for its share alone; warm, and stopped."""
        relay = running.enter_context(self.stage.relay(row, number, cores=len(self.stage.cores.own)))
        with Load(relay.port, 64) as load:
            load.run(Ask(), total=_WARM)
        running.enter_context(Groups().held(relay.workers, _SHARE))
        relay.stop()
        return relay

    def _got(self, row: str, relay: Contender) -> float:
        """How much of a core the worker had meanwhile that had the least."""
        before = {pid: clock.cpu([pid]) for pid in relay.workers}
        seconds = self._rate(row, relay)
        return min(clock.cpu([pid]) - each for pid, each in before.items()) / 1e9 / seconds

    def _rate(self, row: str, relay: Contender) -> float:
        """Add one more, and return the seconds it took."""
        with Load(relay.port, 64) as load:
            outcome = load.run(Ask(), seconds=self.wanted.seconds)
        add(self.results, row, "relay", outcome.count / outcome.seconds)
        return outcome.seconds

    def _starts(self) -> None:
        for number in range(_STARTS):
            with self.stage.relay(f"start-{number}") as relay:
                add(self.results, "ready", "relay", relay.ready * 1e3)
            began = time.perf_counter()
            subprocess.run([*self.wanted.command, "--help"], check=True, stdout=subprocess.DEVNULL)
            add(self.results, "help", "relay", (time.perf_counter() - began) * 1e3)

    def _logged(self) -> None:
        """A relay that logged so many, driven for real, and a new one, in turns: so both meet the same noise."""
        with self.stage.relay("full") as full, self.stage.relay("new") as new:
            new.stop()
            with Load(full.port, 16) as load:
                for done in range(0, self.wanted.logged, _BATCH):
                    self.wanted.tell(f"logged: {done:,} of {self.wanted.logged:,}")
                    load.run(Ask(), total=min(_BATCH, self.wanted.logged - done))
            clock.settled(full.pids)
            full.stop()
            for _ in range(max(5, self.wanted.rounds)):
                for row, each in (("fresh", new), ("logged", full)):
                    with each.awake():
                        measured = self._measure(STEPS[0], each)
                        add(self.results, row, "relay", measured.cpu / 1e3 / measured.outcome.count)
            for row, each in (("fresh-memory", new), ("logged-memory", full)):
                add(self.results, row, "relay", _mb(clock.memory(each.pids)))


def room(files: int) -> str | None:
    """Have this process and its children open so many files; else the reason why that may not be."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft >= files:
        return None
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (files, max(files, hard)))
    except (ValueError, OSError):
        return f"this takes {files:,} open files, and the limit is {hard:,} (ulimit -Hn)"
    return None


def _look(pids: list[int], seen: list[int]) -> None:
    seen.append(clock.memory(pids))


def _mb(count: int) -> float:
    return count / 1e6
