"""machine: where and when it was measured, and with what. Figures mean nothing without it."""

import os
import platform
import re
import subprocess
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from shutil import which

import relay

UNLIKE = """\
nginx is the floor, not a rival: it compares one key, swaps headers and keeps an access log. It reads no body, counts no
tokens, knows no limits, prices or models, and stores nothing.
Figures of different runs or machines are not comparable; the ratios of one run are. A p99 on a busy machine is noise.
Upstream and load are plain Python: beside faster ones the microseconds of both contenders come out differently.
"""


@dataclass(frozen=True, slots=True)
class Machine:
    """The machine, the day and the versions."""

    cores: int
    model: str
    memory: float  # GiB
    kernel: str
    date: str
    versions: dict[str, str]

    def __str__(self) -> str:
        """In one line."""
        told = ", ".join(f"{name} {number}" for name, number in self.versions.items())
        return f"{self.date}, {self.cores} cores ({self.model}), {self.memory:.0f} GiB, Linux {self.kernel}; {told}"


def nginx_command() -> str | None:
    """Where nginx is, also where users do not have its folder on their path; None when it is not installed."""
    return which("nginx", path=f"{os.environ['PATH']}:/usr/sbin:/usr/local/sbin")


def machine() -> Machine:
    """This one, now."""
    found = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    versions = {"relay": relay.__version__, "Python": platform.python_version(), "uvloop": version("uvloop")}
    if command := nginx_command():
        said = subprocess.run([command, "-v"], capture_output=True, text=True, check=True).stderr
        versions["nginx"] = said.strip().rpartition("/")[2]
    return Machine(
        os.cpu_count() or 1,
        found[1] if found else platform.machine(),
        os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30,
        platform.release(),
        f"{datetime.now(UTC):%Y-%m-%d}",
        versions,
    )
