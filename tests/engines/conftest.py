"""Every test that asks for `build` is run for each engine."""

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

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

    def one(url: str, **fields: Any) -> Engine:
        spec = config.Upstream("up", base_url=url, **({"engine": kind} | fields))
        made.append(kinds.build(spec).engine)
        return made[-1]

    yield one
    for engine in made:
        await engine.close()
