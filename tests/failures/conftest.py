"""What the failure tests stand on: a scripted upstream, a proxy that spoils before it, and a real relay process.

Everything passes the proxy unharmed until a test inflicts a fault; each test begins healthy again.
"""

from collections.abc import Iterator
from functools import partial

import pytest

from tests.faults import HEALTHY, FaultProxy
from tests.process import Start, configuration, starting
from tests.upstream import Upstream


@pytest.fixture(scope="module")
def upstream() -> Iterator[Upstream]:
    with Upstream() as running:
        yield running


@pytest.fixture(scope="module")
def between(upstream: Upstream) -> Iterator[FaultProxy]:
    """The proxy of a whole module, for its relays to be configured with."""
    with FaultProxy(upstream.port) as running:
        yield running


@pytest.fixture
def proxy(between: FaultProxy) -> Iterator[FaultProxy]:
    yield between
    between.inflict(HEALTHY)


@pytest.fixture(scope="module")
def start(between: FaultProxy, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Start]:
    """Starts a relay whose upstream is behind the proxy; keyword arguments are sections of its config.yaml."""
    with starting(tmp_path_factory, partial(configuration, between.port)) as started:
        yield started
