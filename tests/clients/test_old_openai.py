"""OpenAI's other SDKs that are in use, the 1.x line for Python and the one for JavaScript, through a real relay."""

from pathlib import Path

import pytest

from tests.clients.program import needed, told
from tests.process import KEY, RelayProcess

PYTHON = needed("OPENAI1_PYTHON")
NODE_MODULES = needed("RELAY_NODE_MODULES")
HERE = Path(__file__).parent

CLIENTS = [
    pytest.param(
        "OpenAI/Python 1.",
        [PYTHON, HERE / "openai1.py"],
        marks=pytest.mark.skipif(PYTHON is None, reason="OPENAI1_PYTHON names no python with openai<2"),
        id="Python 1.x",
    ),
    pytest.param(
        "OpenAI/JS ",
        ["node", HERE / "openai.cjs"],
        marks=pytest.mark.skipif(NODE_MODULES is None, reason="RELAY_NODE_MODULES names no folder with npm's openai"),
        id="JavaScript",
    ),
]


@pytest.mark.parametrize(("agent", "command"), CLIENTS)
def test_a_program(relay: RelayProcess, agent: str, command: list[str | Path]) -> None:
    got = told(
        command,
        relay.folder,
        OPENAI_BASE_URL=f"http://127.0.0.1:{relay.port}/v1",
        OPENAI_API_KEY=KEY,
        NODE_PATH=NODE_MODULES or "",
    )

    assert "Good morning" == got["chat"]
    assert "one two three" == "".join(got["stream"])
    assert 1 < len(got["stream"])
    assert ["get_weather"] == got["tools"]
    assert [401, "invalid_api_key"] == got["error"]
    rows = [row for row in relay.log() if row["client"].startswith(f"127.0.0.1 {agent}")]
    assert [("ok", False), ("ok", True), ("ok", False)] == [(row["outcome"], row["stream"]) for row in rows]
