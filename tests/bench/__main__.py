"""The relay's benchmark: `python -m tests.bench`, on Linux, beside nginx where that is installed."""

import json
import os
import shlex
import sys
import tempfile
from pathlib import Path

import click
from rich.console import Console

from tests.bench import counted, table
from tests.bench.contender import Cores, Stage, upstream
from tests.bench.contest import Contest, Wanted
from tests.bench.figures import NAMES
from tests.bench.machine import UNLIKE, machine
from tests.bench.picture import picture as drawn
from tests.bench.profile import Profile, profile

_WIDTH = 200
_HERE = str(Path(sys.executable).with_name("relay"))
_FILE = click.Path(path_type=Path, dir_okay=False)


@click.command(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.option("--rounds", default=3, help="How often the contenders take turns.")
@click.option("--seconds", default=1.5, help="How long one step of one contender takes.")
@click.option("--only", default=",".join(NAMES), help="Just these steps.")
@click.option("--relay", "command", default=_HERE, help="The relay's command.")
@click.option("--open", "streams", default=1000, help="How many streams are open for the memory.")
@click.option("--logged", default=0, help="Also what a request costs after so many: a million takes minutes.")
@click.option("--profile", "profiled", is_flag=True, help="Also where the microseconds go, by layer.")
@click.option("--bounds", is_flag=True, help="Only count one request and one chunk, and write tests/bench/bounds.json.")
@click.option("--json", "json_file", type=_FILE, help="Write everything there, each round's own values too.")
@click.option("--picture", type=_FILE, help="Draw the CPU figures there, as SVG.")
def main(
    rounds: int,
    seconds: float,
    only: str,
    command: str,
    streams: int,
    logged: int,
    profiled: bool,
    bounds: bool,
    json_file: Path | None,
    picture: Path | None,
) -> None:
    """Measure the relay as it is installed: CPU, delay and memory, side by side with nginx as a plain proxy."""
    names = [*only.split(","), *(["logged"] if logged else [])]
    if unknown := set(names) - {*NAMES, "logged", ""}:
        raise click.BadParameter(f"there is no step {', '.join(sorted(unknown))}; there are {', '.join(NAMES)}")
    progress = Console(stderr=True, highlight=False)
    wanted = Wanted(names, rounds, seconds, shlex.split(command), streams, logged, progress.print)
    with tempfile.TemporaryDirectory(prefix="relay-bench-") as folder:
        if bounds:
            _bound(Path(folder))
            return
        contest, found = _measured(wanted, Path(folder), profiled)
    _show(contest, found)
    where = machine()
    notes = [*contest.notes, *UNLIKE.splitlines()]
    if json_file is not None:
        layers = {} if found is None else found.document()
        told = table.document(contest.results, contest.counts, where, notes, layers)
        json_file.write_text(json.dumps(told, indent=1) + "\n")
    if picture is not None:
        picture.write_text(drawn(contest.results, where, UNLIKE.splitlines()))


def _measured(wanted: Wanted, folder: Path, profiled: bool) -> tuple[Contest, Profile | None]:
    cores = Cores(tuple(sorted(os.sched_getaffinity(0))))
    os.sched_setaffinity(0, cores.load)
    with upstream(folder, cores) as (plain, secure):
        contest = Contest(wanted, Stage(folder, cores, wanted.command, plain, secure, wanted.open))
        contest.run()
        return contest, profile(contest.stage, wanted.seconds) if profiled else None


def _show(contest: Contest, found: Profile | None) -> None:
    screen = Console(width=_WIDTH, highlight=False)
    if contest.results:
        screen.print(table.table(contest.results, contest.counts))
    if found is not None:
        screen.print(found.table())
    screen.print("\n".join([str(machine()), *contest.notes, UNLIKE]), markup=False)


def _bound(folder: Path) -> None:
    with counted.traced(folder) as relay:
        counts = relay.counts()
    counted.write_bounds(counts)
    click.echo(", ".join(f"{name}: {sum(each.values()):,}" for name, each in counts.items()))


if __name__ == "__main__":
    main()
