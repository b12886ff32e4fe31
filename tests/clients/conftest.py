"""What the tests of real clients stand on: one real relay process for a module, and what other programs they need.

The plugins that langchain-tests brings do nothing unless they are told to: pytest-socket forbids sockets only where a
mark or --disable-socket says so, pytest-recording replaces answers only under its mark.
"""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.process import RelayProcess, Start, free_port, starting


def pytest_configure(config: pytest.Config) -> None:
    """Marks of plugins that are not installed, on tests that LangChain's suite brings."""
    config.addinivalue_line("markers", "benchmark: pytest-benchmark's")


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Start]:
    """Starts a relay; keyword arguments are sections of its config.yaml. The model echo is always there."""

    def configured(**sections: Any) -> dict[str, Any]:
        server = {"host": "127.0.0.1", "port": free_port()}
        keys = [{"name": "tests", "key": "env:CALLER_KEY"}]
        return {"server": server, "store": "sqlite:///relay.db", "keys": keys} | sections

    with starting(tmp_path_factory, configured) as started:
        yield started


@pytest.fixture(scope="module")
def relay(start: Start) -> RelayProcess:
    """A relay whose models are echo and an alias of it; a module that needs others has its own fixture of this name."""
    return start(models={"alias": "echo/served"})
