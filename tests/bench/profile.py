"""profile: where the microseconds of a request and of a chunk go, by layer: counted exactly, and sampled by py-spy."""

import re
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from math import inf
from pathlib import Path
from typing import Any

from rich import box
from rich.table import Table

from tests.bench import clock
from tests.bench.contender import Contender, Stage
from tests.bench.counted import Counts, traced
from tests.bench.dialogue import Ask
from tests.bench.figures import STEPS, Step
from tests.bench.layers import ORDER, layer
from tests.bench.load import Load

_SPY = Path(sys.executable).with_name("py-spy")
_FRAME = re.compile(r"\((\S+?)(?::\d+)?\)$")
_RATE = 400  # samples a second
_WARM = 200
_STEPS = {"request": "request", "chunk": "paced"}


@dataclass(frozen=True, slots=True)
class Spent:
    """Microseconds of CPU for one of them: in all, of these in the kernel, and of all in the writer's thread."""

    total: float
    kernel: float
    writer: float
    sampled: Mapping[str, float]  # of the thread that serves, by layer; empty without py-spy


@dataclass(frozen=True, slots=True)
class Profile:
    """Both ways, by what is profiled: a request, or a chunk."""

    counted: Mapping[str, Counts]
    spent: Mapping[str, Spent]

    def table(self) -> Table:
        """A line for each layer, as Markdown."""
        shown = Table("layer", box=box.MARKDOWN)
        for column in ("request, counted", "chunk, counted", "request, sampled", "chunk, sampled"):
            shown.add_column(column, justify="right", no_wrap=True)
        for name in ORDER:
            counts = [f"{self.counted[unit][name]:,}" for unit in _STEPS]
            shown.add_row(name, *counts, *(_micros(self.spent[unit].sampled.get(name)) for unit in _STEPS))
        shown.add_row("writer's thread", "", "", *(_micros(self.spent[unit].writer) for unit in _STEPS))
        sums = [f"{sum(self.counted[unit].values()):,}" for unit in _STEPS]
        shown.add_row("all", *sums, *(_micros(self.spent[unit].total) for unit in _STEPS))
        shown.add_row("of it in the kernel", "", "", *(_micros(self.spent[unit].kernel) for unit in _STEPS))
        return shown

    def document(self) -> dict[str, Any]:
        """For machines."""
        return {"counted": dict(self.counted), "spent": {unit: asdict(each) for unit, each in self.spent.items()}}


def profile(stage: Stage, seconds: float) -> Profile:
    """Take both, on a relay of its own."""
    with traced(stage.folder / "counted") as relay:
        counted = relay.counts()
    steps = {step.name: step for step in STEPS}
    with stage.relay("profiled") as contender:
        return Profile(counted, {unit: _spent(contender, steps[name], seconds) for unit, name in _STEPS.items()})


def _spent(contender: Contender, step: Step, seconds: float) -> Spent:
    pid = contender.pid
    assert pid is not None
    with Load(contender.port, step.clients) as load:
        load.run(Ask(), total=_WARM)
        before = clock.settled([pid]), clock.main_thread(pid), clock.system(pid)
        outcome = load.run(step.ask, seconds=seconds, total=step.clients if step.once else inf)
        after = clock.settled([pid]), clock.main_thread(pid), clock.system(pid)
        units = 1e3 * outcome.count * max(1, step.ask.chunks)
        total, main, kernel = ((late - early) / units for late, early in zip(after, before, strict=True))
        return Spent(total, kernel, total - main, _sampled(pid, load, step, main, seconds))


def _sampled(pid: int, load: Load, step: Step, micros: float, seconds: float) -> Mapping[str, float]:
    """`micros` dealt out to the layers by how often each was met; nothing when py-spy is missing or may not look."""
    if not _SPY.exists():
        return {}
    command = [str(_SPY), "record", "--pid", str(pid), "--rate", str(_RATE), "--format", "raw", "--threads"]
    spying = subprocess.Popen([*command, "--output", "/dev/stdout"], stdout=subprocess.PIPE, text=True)
    with spying:
        load.run(step.ask, seconds=seconds, total=step.clients if step.once else inf)
        spying.send_signal(signal.SIGINT)
        stacks = spying.communicate()[0]
    met = shares(stacks)
    return {name: micros * count / met.total() for name, count in met.items()}


def shares(stacks: str) -> Counter[str]:
    """How often each layer was met in the first thread: by the innermost frame of a layer that is known.

    A line of `stacks` is the frames of one stack, outermost first and parted by semicolons, and how often it was met.
    """
    met: Counter[str] = Counter()
    for line in stacks.splitlines():
        stack, _, count = line.rpartition(" ")
        if "MainThread" not in stack:
            continue
        files = [found[1] for frame in stack.split(";") if (found := _FRAME.search(frame))]
        layers = (layer(file) for file in reversed(files))
        met[next((each for each in layers if each != "rest"), "rest")] += int(count)
    return met


def _micros(value: float | None) -> str:
    return "" if value is None else f"{value:.1f} µs"
