"""Each module of the relay belongs to a layer, and a file is found by its path wherever it is installed."""

from pathlib import Path

import pytest

from tests.bench.layers import LAYERS, known, layer, module

ROOT = Path(__file__).parents[2]
MODULES = sorted(module(str(path)) for path in (ROOT / "relay").rglob("*.py"))


@pytest.mark.parametrize("name", [name for name in MODULES if name != "relay"])
def test_every_module_has_a_layer(name: str) -> None:
    assert known(name) not in {None, "relay"}, f"{name} has no entry in tests/bench/layers.py"


@pytest.mark.parametrize("name", [name for name in LAYERS if name.startswith("relay.")])
def test_no_entry_is_left_over(name: str) -> None:
    assert any(each == name or each.startswith(f"{name}.") for each in MODULES)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/home/me/relay/relay/wire/pool.py", "wire"),
        ("/home/me/relay/relay/call/__init__.py", "call"),
        ("/home/me/relay/relay/call/delivery.py", "answer"),
        ("relay/call/delivery.py", "answer"),
        ("/opt/venv/lib/python3.11/site-packages/relay/journal.py", "journal"),
        ("/opt/venv/lib/python3.11/site-packages/uvicorn/protocols/http/httptools_impl.py", "inbound"),
        ("/opt/venv/lib/python3.11/site-packages/uvicorn/server.py", "loop"),
        ("/usr/lib/python3.11/asyncio/events.py", "loop"),
        ("/usr/lib/python3.11/json/decoder.py", "rest"),
        ("<frozen importlib._bootstrap>", "rest"),
    ],
)
def test_a_file_has_its_layer(path: str, expected: str) -> None:
    assert expected == layer(path)
