"""requirements.lock: that it covers what pyproject.toml asks for. That it is whole, pip tells in .ci/run."""

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
LOCK = (ROOT / "requirements.lock").read_text()
PINS = dict(re.findall(r"^(\S+)==(\S+) \\$", LOCK, re.MULTILINE))
WANTED = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]


@pytest.mark.parametrize("wanted", WANTED)
def test_every_dependency_is_pinned(wanted: str) -> None:
    requirement = Requirement(wanted)

    assert requirement.specifier.contains(PINS[canonicalize_name(requirement.name)])


def test_nothing_but_pins_with_hashes() -> None:
    whole = re.compile(r"(?:[a-z0-9.-]+==\S+(?: \\\n    --hash=sha256:[0-9a-f]{64})+\n)+")

    assert whole.fullmatch(LOCK)
