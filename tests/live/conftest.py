"""What the live tests stand on: one scripted upstream and one real relay process for a module."""

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any
from uuid import uuid4

import pytest

from tests.process import RelayProcess, Start, configuration
from tests.upstream import Upstream


@pytest.fixture(scope="module")
def upstream() -> Iterator[Upstream]:
    with Upstream() as running:
        yield running


@pytest.fixture(scope="module")
def start(upstream: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Start]:
    """Starts a relay with the scripted upstream; keyword arguments are sections of its config.yaml."""
    with ExitStack() as running:

        def started(environ: dict[str, str] | None = None, **sections: Any) -> RelayProcess:
            config = configuration(upstream.port, **sections)
            relay = RelayProcess(tmp_path_factory.mktemp("relay"), config, environ or {})
            running.callback(relay.end)
            relay.start()
            return relay

        yield started


@pytest.fixture(scope="module")
def relay(start: Start) -> RelayProcess:
    """A relay on defaults; a module that needs other settings has its own fixture of this name."""
    return start()


@pytest.fixture
def model() -> str:
    """A model name that no other test uses."""
    return f"m-{uuid4().hex[:12]}"
