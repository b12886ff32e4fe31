"""clock: what the kernel knows of processes: their CPU time, memory and children. Linux only."""

import os
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

_QUIET = 0.05  # seconds without work after which a process is taken to be done
_PATIENCE = 5.0
_IDLE = 0.01  # of one core, that timers of an idle process may take


def tree(pid: int) -> list[int]:
    """A process and all that descend from it."""
    found = [pid]
    for each in found:
        for tasks in Path(f"/proc/{each}/task").glob("*/children"):
            with suppress(OSError):
                found += map(int, tasks.read_text().split())
    return found


def cpu(pids: Iterable[int]) -> int:
    """Nanoseconds of CPU time, user and system, of all threads: each process's own clock, by its number in Linux."""
    return sum(time.clock_gettime_ns((~pid << 3) | 2) for pid in pids)


def settled(pids: list[int]) -> int:
    """The same once they have nothing left to do: what a writer does later belongs to the requests it is done for."""
    over, before = time.monotonic() + _PATIENCE, cpu(pids)
    while True:
        time.sleep(_QUIET)
        now = cpu(pids)
        if now - before < _QUIET * _IDLE * 1e9 or time.monotonic() > over:
            return now
        before = now


def memory(pids: Iterable[int]) -> int:
    """Bytes in memory; of what is shared with other processes, their share of it."""
    rolled = (Path(f"/proc/{pid}/smaps_rollup").read_text() for pid in pids)
    return sum(int(line.split()[1]) << 10 for text in rolled for line in text.splitlines() if line.startswith("Pss:"))


def main_thread(pid: int) -> int:
    """Nanoseconds of CPU time of the first thread."""
    return int(Path(f"/proc/{pid}/task/{pid}/schedstat").read_text().split()[0])


def system(pid: int) -> int:
    """Nanoseconds that all threads spent in the kernel, in steps of the kernel's tick."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[12]) * 1_000_000_000 // os.sysconf("SC_CLK_TCK")
