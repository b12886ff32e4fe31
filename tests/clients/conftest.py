"""What the tests of real clients stand on: one real relay process for a module, and its log.

The suite of langchain-tests brings marks and plugins of its own; what they need is said here and in test_langchain.py.
"""

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from tests.process import KEY, RelayProcess, Start, free_port


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Start]:
    """Starts a relay; keyword arguments are sections of its config.yaml. Without any, the echo model is all there is."""
    with ExitStack() as running:

        def started(environ: dict[str, str] | None = None, **sections: Any) -> RelayProcess:
            server = {"host": "127.0.0.1", "port": free_port()}
            keys = [{"name": "tests", "key": "env:CALLER_KEY"}]
            config = {"server": server, "store": "sqlite:///relay.db", "keys": keys} | sections
            relay = RelayProcess(tmp_path_factory.mktemp("relay"), config, environ or {})
            running.callback(relay.end)
            relay.start()
            return relay

        yield started


@pytest.fixture(scope="module")
def relay(start: Start) -> RelayProcess:
    """A relay on defaults; a module that needs other settings has its own fixture of this name."""
    return start()


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "benchmark: of pytest-benchmark, which one standard test of LangChain uses")
