"""No test sees the settings of the person who runs it, or how the tests were started.

And what all tests with a real relay stand on, whose folder has a fixture `start`.
"""

import os
import signal
from collections.abc import Iterator
from uuid import uuid4

import pytest

from tests.process import RelayProcess, Start

_SETTINGS = ("RELAY_", "OPENAI_", "AZURE_", "ANTHROPIC_")


def _is_setting(name: str) -> bool:
    return name.startswith(_SETTINGS) or name.lower().endswith("_proxy")


@pytest.fixture(autouse=True, scope="session")
def scrubbed() -> Iterator[None]:
    """Settings and proxies leave the environment while the tests run."""
    kept = {name: os.environ.pop(name) for name in list(os.environ) if _is_setting(name)}
    yield
    os.environ.update(kept)


@pytest.fixture(autouse=True, scope="session")
def interruptible() -> None:
    """Programs that tests start hear Ctrl-C, also where a shell runs the tests in the background, which ignores it."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="module")
def relay(start: Start) -> RelayProcess:
    """A relay on defaults; a module that needs other settings has its own fixture of this name."""
    return start()


@pytest.fixture
def model() -> str:
    """A model name that no other test uses."""
    return f"m-{uuid4().hex[:12]}"
