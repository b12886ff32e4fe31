"""The commands as a whole: help, faults, and what they cost."""

import subprocess
import sys
import time

import pytest
from click.testing import CliRunner

from relay import __version__
from relay.cli import relay
from tests.cli.world import World, complaint

HELP = [
    [],
    ["serve"],
    ["check"],
    ["key"],
    ["log"],
    ["show"],
    ["why"],
    ["route"],
    ["tail"],
    *(["key", each] for each in ("create", "list", "show", "revoke")),
]


@pytest.mark.parametrize("command", HELP, ids=" ".join)
def test_help(command: list[str]) -> None:
    done = CliRunner().invoke(relay, [*command, "--help"])

    assert 0 == done.exit_code
    assert done.stdout.startswith("Usage: " + " ".join(["relay", *command]))


@pytest.mark.parametrize("command", ["serve", "log", "why", "route"])
def test_help_is_quick(command: str) -> None:
    """200 ms is the promise; the least of several runs, and room for a busy machine."""
    taken = []
    for _ in range(4):
        began = time.perf_counter()
        subprocess.run([sys.executable, "-m", "relay", command, "--help"], check=True, capture_output=True)
        taken.append(time.perf_counter() - began)

    assert min(taken) < 0.4


@pytest.mark.parametrize("command", HELP, ids=" ".join)
def test_help_imports_nothing_heavy(command: list[str]) -> None:
    program = (
        "import atexit, sys\nfrom relay.cli import main\n"
        "heavy = {'pydantic', 'rich', 'fastapi', 'uvicorn', 'openai', 'httpx'}\n"
        "atexit.register(lambda: print(sorted(heavy & set(sys.modules))))\nmain()"
    )

    done = subprocess.run(
        [sys.executable, "-c", program, *command, "--help"], check=True, capture_output=True, text=True
    )

    assert "[]" == done.stdout.splitlines()[-1]


def test_version() -> None:
    assert f"relay, version {__version__}\n" == CliRunner().invoke(relay, ["--version"]).stdout


FAULTS = {
    "no such command": (["nonsense"], "No such command"),
    "no such option": (["log", "--nonsense"], "No such option"),
    "not a duration": (["log", "--since", "yesterday"], "'yesterday' is not a duration such as"),
    "a duration without end": (["log", "--since", "99999999999999w"], "'99999999999999w' is not a duration such as"),
    "not a status": (["log", "--status", "9xx"], "'9xx' is not a status such as"),
    "not a number": (["log", "-n", "0"], "0 is not in the range"),
    "no configuration": (["log", "--config", "missing.yaml"], "missing.yaml"),
    "not a budget": (["key", "create", "a", "--budget", "much"], "'much' is not a budget"),
    "not a name": (["key", "create", "a b"], "'a b' is no name"),
    "not models": (["key", "create", "a", "--models", "a,,b"], "'a,,b' is not a list of models"),
}


@pytest.mark.parametrize("case", FAULTS)
def test_what_cannot_run_is_one_line_and_code_2(case: str) -> None:
    command, expected = FAULTS[case]

    done = CliRunner().invoke(relay, command)

    assert expected in complaint(done)
    assert 2 == done.exit_code


@pytest.mark.parametrize(
    "command", [["log"], ["tail"], ["show", "a"], ["why", "a"], ["key", "list"], ["key", "show", "a"]], ids=" ".join
)
def test_a_store_that_is_not_there_yet(world: World, command: list[str]) -> None:
    done = world.run(*command)

    assert "there is none yet" in complaint(done)
    assert 2 == done.exit_code
    assert not world.store.exists()


def test_a_store_that_is_none(world: World) -> None:
    world.store.write_bytes(b"words " * 500)

    for command in (["log"], ["key", "create", "a"]):
        done = world.run(*command)
        assert "not a database" in complaint(done)
        assert 2 == done.exit_code


def test_output_that_nobody_reads_any_more() -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "relay", "--help"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert b"" == process.stderr.read()
