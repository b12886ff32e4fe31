"""share: processes held to a share of one core each, by control groups of the kernel, version 2 or 1. Linux only."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

_PERIOD = 100_000  # microseconds, after each of which a group has its time anew; the kernel's own default
_MEMBERS = "cgroup.procs"  # a process that is written there comes with all its threads


class Refused(Exception):
    """This machine does not let processes be held, and why."""


@dataclass(frozen=True, slots=True)
class Groups:
    """The control groups of a machine: where they are, where it says which one a process is in, how one is removed."""

    root: Path = Path("/sys/fs/cgroup")
    proc: Path = Path("/proc")
    remove: Callable[[Path], None] = Path.rmdir  # though there seem to be files in it

    @contextmanager
    def held(self, pids: Iterable[int], share: float) -> Iterator[None]:
        """Meanwhile each has at most `share` of a core, in a group of its own. Raises Refused where that may not be."""
        with ExitStack() as made:
            try:
                for pid in pids:
                    made.enter_context(self._held(pid, share))
            except OSError as fault:
                raise Refused(f"control groups cannot be used: {fault}") from fault
            yield

    @contextmanager
    def _held(self, pid: int, share: float) -> Iterator[None]:
        around = self._around(pid)
        group = self._parent(around) / f"relay-bench-{pid}"
        group.mkdir()
        try:
            for name, value in self._limits(share).items():
                (group / name).write_text(value)
            (group / _MEMBERS).write_text(str(pid))
            yield
        finally:
            _empty(group, around[0])
            self.remove(group)

    @property
    def _unified(self) -> bool:
        """Whether they are of version 2; that of version 1 has a tree for each controller."""
        return (self.root / "cgroup.controllers").exists()

    def _around(self, pid: int) -> list[Path]:
        """The group that a process is in, and those around it; in a container some of them may be out of sight."""
        tree = self.root if self._unified else self.root / "cpu"
        inside = tree / _path((self.proc / str(pid) / "cgroup").read_text(), "" if self._unified else "cpu")
        found = [each for each in (inside, *inside.parents) if each.is_relative_to(tree) and (each / _MEMBERS).exists()]
        if not found:
            raise Refused(f"no control groups for CPU time are mounted at {tree}")
        return found

    def _parent(self, around: list[Path]) -> Path:
        """The nearest one whose children may be limited: in version 2 that is never one with processes of its own."""
        if not self._unified:
            return around[0]
        for each in around:
            if "cpu" in (each / "cgroup.subtree_control").read_text().split():
                return each
        raise Refused(f"the controller cpu is on for no control group around {around[0]}")

    def _limits(self, share: float) -> dict[str, str]:
        quota = round(_PERIOD * share)
        if self._unified:
            return {"cpu.max": f"{quota} {_PERIOD}"}
        return {"cpu.cfs_period_us": str(_PERIOD), "cpu.cfs_quota_us": str(quota)}


def _path(told: str, controller: str) -> str:
    """Where a process is in the tree of a controller, by its lines `number:controllers:path`; at the top by default."""
    lines = (line.split(":", 2) for line in told.splitlines())
    return next((path.lstrip("/") for _, names, path in lines if controller in names.split(",")), "")


def _empty(group: Path, into: Path) -> None:
    """Move back who is in it, also those that were born there."""
    with suppress(FileNotFoundError):  # it was refused before it had members
        for pid in (group / _MEMBERS).read_text().split():
            with suppress(ProcessLookupError):
                (into / _MEMBERS).write_text(pid)
