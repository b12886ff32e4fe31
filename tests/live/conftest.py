"""What the live tests stand on: one scripted upstream and one real relay process for a module and face.

A module, or a test, that is marked `faces("fast", "asgi")` runs over both: `relay serve`, and the plain ASGI
application behind stock uvicorn. The mark of a test counts before that of its module; without one it is the fast face.
"""

from collections.abc import Iterator
from functools import partial

import pytest

from tests.process import Face, Start, configuration, starting
from tests.upstream import Upstream


def pytest_configure(config: pytest.Config) -> None:
    """Make the mark known."""
    config.addinivalue_line("markers", "faces(*names): the faces of the relay that the test runs over")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a marked test once over each of its faces."""
    mark = metafunc.definition.get_closest_marker("faces")
    if mark is not None:
        metafunc.parametrize("face", mark.args, indirect=True, scope="module")


@pytest.fixture(scope="module")
def face(request: pytest.FixtureRequest) -> Face:
    found: Face = getattr(request, "param", "fast")
    return found


@pytest.fixture(scope="module")
def upstream(face: Face) -> Iterator[Upstream]:  # noqa: ARG001  # each face has its own, which has seen no other
    with Upstream() as running:
        yield running


@pytest.fixture(scope="module")
def start(upstream: Upstream, face: Face, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Start]:
    """Starts a relay with the scripted upstream; keyword arguments are sections of its config.yaml."""
    with starting(tmp_path_factory, partial(configuration, upstream.port), face) as started:
        yield started
