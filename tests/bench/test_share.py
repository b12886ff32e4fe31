"""Processes are held to a share by what is written into control groups, and nothing of it is left afterwards."""

import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.bench import clock
from tests.bench.contender import ended
from tests.bench.share import Groups, Refused


def group(path: Path, **files: str) -> Path:
    """A control group as it looks on disk; a name's underscore stands for its first dot."""
    path.mkdir(parents=True, exist_ok=True)
    for name, text in {"cgroup_procs": "", **files}.items():
        (path / name.replace("_", ".", 1)).write_text(text)
    return path


def fake(folder: Path, told: dict[int, str]) -> Groups:
    """Groups that are plain folders, whose files have to be removed with them; `told` is what /proc has, by process."""
    for pid, text in told.items():
        (folder / "proc" / str(pid)).mkdir(parents=True)
        (folder / "proc" / str(pid) / "cgroup").write_text(text)
    return Groups(folder / "root", folder / "proc", shutil.rmtree)


def read(folder: Path) -> dict[str, str]:
    return {each.name: each.read_text() for each in folder.iterdir() if each.is_file()}


def folders(groups: Groups) -> list[str]:
    return sorted(str(each.relative_to(groups.root)) for each in groups.root.rglob("*") if each.is_dir())


@pytest.fixture
def first(tmp_path: Path) -> Groups:
    """Of version 1, where one process is in a group, and of the other one's only the end is in sight."""
    group(tmp_path / "root/cpu/inner")
    return fake(tmp_path, {7: "2:memory:/far\n1:cpu,cpuacct:/inner\n0::/x\n", 8: "1:cpu:/docker/4711\n"})


@pytest.fixture
def second(tmp_path: Path) -> Groups:
    """Of version 2, where one process is two below the group whose children may be limited."""
    group(tmp_path / "root", cgroup_controllers="cpu memory\n", cgroup_subtree_control="memory cpu\n")
    group(tmp_path / "root/user", cgroup_subtree_control="memory cpuset\n")
    group(tmp_path / "root/user/session", cgroup_subtree_control="")
    return fake(tmp_path, {7: "0::/user/session\n", 8: "0::/\n"})


def test_version_1(first: Groups) -> None:
    group(first.root / "cpu")
    limits = {"cpu.cfs_period_us": "100000", "cpu.cfs_quota_us": "40000"}

    with first.held([7, 8], 0.4):
        assert {**limits, "cgroup.procs": "7"} == read(first.root / "cpu/inner/relay-bench-7")
        assert {**limits, "cgroup.procs": "8"} == read(first.root / "cpu/relay-bench-8")

    assert ["cpu", "cpu/inner"] == folders(first)
    assert "7" == (first.root / "cpu/inner/cgroup.procs").read_text()
    assert "8" == (first.root / "cpu/cgroup.procs").read_text()


def test_version_2(second: Groups) -> None:
    with second.held([7, 8], 0.25):
        assert {"cpu.max": "25000 100000", "cgroup.procs": "7"} == read(second.root / "relay-bench-7")
        assert {"cpu.max": "25000 100000", "cgroup.procs": "8"} == read(second.root / "relay-bench-8")

    assert ["user", "user/session"] == folders(second)
    assert "7" == (second.root / "user/session/cgroup.procs").read_text()
    assert "8" == (second.root / "cgroup.procs").read_text()


def test_who_was_born_in_a_group_leaves_it_too(second: Groups) -> None:
    with second.held([7], 0.4):
        (second.root / "relay-bench-7/cgroup.procs").write_text("12\n")

    assert "12" == (second.root / "user/session/cgroup.procs").read_text()


def test_nothing_is_left_after_a_fault(second: Groups) -> None:
    with pytest.raises(ZeroDivisionError), second.held([7, 8], 1 / 4):
        _ = 1 / 0

    assert ["user", "user/session"] == folders(second)


def test_refused_where_none_are_mounted(tmp_path: Path) -> None:
    refused(fake(tmp_path, {7: "0::/\n"}), "no control groups for CPU time are mounted")


def test_refused_where_no_child_may_be_limited(second: Groups) -> None:
    (second.root / "cgroup.subtree_control").write_text("memory\n")

    refused(second, "the controller cpu is on for no control group around")


def test_refused_where_none_can_be_made(second: Groups) -> None:
    """One process is held by then, and let go again. A file is in the way, which stops root as well."""
    (second.root / "relay-bench-8").write_text("")

    refused(second, "control groups cannot be used: .*relay-bench-8")
    assert "7" == (second.root / "user/session/cgroup.procs").read_text()


def refused(groups: Groups, why: str) -> None:
    before = folders(groups)
    with pytest.raises(Refused, match=why), groups.held([7, 8], 0.4):
        pytest.fail("held after all")
    assert before == folders(groups)


@pytest.fixture
def busy() -> Iterator[int]:
    """A process of two threads, both of which want all the time there is."""
    spin = (
        "import threading\ndef spin():\n while True: pass\nthreading.Thread(target=spin, daemon=True).start()\nspin()"
    )
    process = subprocess.Popen([sys.executable, "-c", spin], text=True)
    with ended(process):
        yield process.pid


def test_a_busy_process_gets_no_more(busy: int) -> None:
    told = Path(f"/proc/{busy}/cgroup")
    where = told.read_text()
    try:
        with Groups().held([busy], 0.2):
            assert where != told.read_text()
            began, before = time.monotonic(), clock.cpu([busy])
            time.sleep(1)
            share = (clock.cpu([busy]) - before) / 1e9 / (time.monotonic() - began)
    except Refused as why:
        pytest.skip(f"no process can be held to a share here: {why}")

    assert share < 0.6
    assert where == told.read_text()
