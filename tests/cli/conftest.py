"""The world of every test of the command line."""

from pathlib import Path

import pytest

from tests.cli.world import World


@pytest.fixture
def world(tmp_path: Path) -> World:
    made = World(tmp_path)
    made.config.write_text(f"store: sqlite:///{made.store}\n")
    return made
