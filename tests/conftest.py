"""No test sees the settings of the person who runs it."""

import os
from collections.abc import Iterator

import pytest

_SETTINGS = ("RELAY_", "OPENAI_", "AZURE_", "ANTHROPIC_")


def _is_setting(name: str) -> bool:
    return name.startswith(_SETTINGS) or name.lower().endswith("_proxy")


@pytest.fixture(autouse=True, scope="session")
def scrubbed() -> Iterator[None]:
    """Settings and proxies leave the environment while the tests run."""
    kept = {name: os.environ.pop(name) for name in list(os.environ) if _is_setting(name)}
    yield
    os.environ.update(kept)
