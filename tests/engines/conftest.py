"""Every test that asks for `build` is run for each engine."""

import ssl
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import trustme

from relay import config
from relay.exchange import Engine
from relay.upstream import kinds

Build = Callable[..., Engine]


@pytest.fixture(params=["wire", "httpx"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
async def build(kind: str) -> AsyncIterator[Build]:
    """Makes engines for a URL, from the fields of a configured upstream; closes them in the end."""
    made: list[Engine] = []

    def one(url: str, *, queue: tuple[int, float] = (1000, 5.0), **fields: Any) -> Engine:
        spec = config.Upstream("up", base_url=url, **({"engine": kind} | fields))
        made.append(kinds.build(spec, config.Queue(*queue)).engine)
        return made[-1]

    yield one
    for engine in made:
        await engine.close()


@pytest.fixture(scope="session")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="session")
def ca(authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The authority's certificate as a file, as a configured upstream names it."""
    path = tmp_path_factory.mktemp("tls") / "ca.pem"
    authority.cert_pem.write_to_path(str(path))
    return path


@pytest.fixture(scope="session")
def tls(authority: trustme.CA) -> ssl.SSLContext:
    """What a server needs that is called localhost or 127.0.0.1."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost", "127.0.0.1").configure_cert(context)
    return context
