"""`relay show --as`: each program is run, against a server that only writes down what it was asked."""

import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from relay.record import Entry
from tests.cli.world import World
from tests.records import identity, record

Asked = list[tuple[str, str | None, bytes]]

CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "chat": (
        "/v1/chat/completions",
        {"model": "fast", "messages": [{"role": "user", "content": 'it\'s "$HOME" `x`\nRELAY\n\\ü🦊'}], "top_k": 3},
    ),
    "embeddings": ("/v1/embeddings", {"model": "e", "input": ["a", None, True, 0.5], "encoding_format": "float"}),
    "another": ("/v1/rerank", {"model": "r", "query": "q"}),
}
ANSWER = b'{"data": [{"embedding": [0.5]}]}'


@pytest.fixture
def server() -> Iterator[tuple[str, Asked]]:
    asked: Asked = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            asked.append((self.path, self.headers["authorization"], body))
            self.send_response(200)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(ANSWER)))
            self.end_headers()
            self.wfile.write(ANSWER)

        def log_message(self, *parts: object) -> None:
            """Say nothing."""

    with HTTPServer(("127.0.0.1", 0), Handler) as http:
        thread = threading.Thread(target=http.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{http.server_port}/v1", asked
        http.shutdown()
        thread.join()


RUN = {
    "curl": ["sh"],
    "python": [sys.executable],
    "pytest": [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir=."],
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("form", RUN)
def test_a_program_makes_the_request_again(world: World, server: tuple[str, Asked], form: str, case: str) -> None:
    if form == "curl" and shutil.which("curl") is None:
        pytest.skip("no curl on this machine")
    endpoint, value = CASES[case]
    world.insert(
        Entry(record("a", endpoint=endpoint, alias=value["model"]), json.dumps(value, ensure_ascii=False).encode())
    )
    url, asked = server

    printed = world.run("show", identity("a"), "--as", form).stdout
    program = world.folder / "test_again.py"
    program.write_text(printed)
    done = run([*RUN[form], str(program)], world.folder, url)

    assert 0 == done.returncode, done.stdout + done.stderr
    ((path, authorization, body),) = asked
    assert (endpoint, "Bearer sk-test", value) == (path, authorization, json.loads(body))
    assert "sk-" not in printed


@pytest.mark.parametrize("body", [{"messages": []}, {"messages": [], "model": "anything"}])
@pytest.mark.parametrize("form", ["curl", "python", "pytest"])
def test_a_program_asks_for_the_model_that_the_path_named(world: World, form: str, body: dict[str, Any]) -> None:
    world.insert(Entry(record("a", alias="deployed"), json.dumps(body).encode()))

    program = world.run("show", identity("a"), "--as", form).stdout

    assert "deployed" in program
    assert "anything" not in program


def run(command: list[str], folder: Path, url: str) -> subprocess.CompletedProcess[str]:
    environ = {"PATH": os.environ["PATH"], "OPENAI_BASE_URL": url, "OPENAI_API_KEY": "sk-test", "PYTHONUTF8": "1"}
    return subprocess.run(command, cwd=folder, env=environ, capture_output=True, text=True, check=False, timeout=50)
