"""README.md as a newcomer follows it: every snippet is run, against a relay that the README's own command started.

bash      runs as it stands, in the folder of the tour
console   its commands run, and what is shown must be what is printed, but for ids, times and numbers
python    runs as it stands; a comment behind a print says what must be printed
js        the same under node, where RELAY_NODE_MODULES names a node_modules folder with OpenAI's client
yaml      is written to the file that its first line names, and loads without a fault

What installs and what checks the project is run by .ci/run instead, which takes it from the README too.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
import trustme

from tests.process import free_port
from tests.waiting import until

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
NODE_MODULES = os.environ.get("RELAY_NODE_MODULES")
RUN = "python3 -m venv .venv && .venv/bin/pip install . && .venv/bin/relay serve"
TEST = ".venv/bin/pip install -e '.[dev]' && .venv/bin/pytest"
CHECKS = [".venv/bin/ruff format --check .", ".venv/bin/ruff check .", ".venv/bin/mypy", ".venv/bin/pytest"]
OUTSIDE = (RUN, TEST, "\n".join(CHECKS))
SECRETS = {"KEY_1": "sk-test-one-5b1f0c93ad7e4826", "CI_RELAY_KEY": "sk-test-ci-0d94c7e1b28f4a63"}


@dataclass(frozen=True)
class Snippet:
    line: int
    language: str
    text: str

    @property
    def file(self) -> str | None:
        """The file's name in the first line, if it has one."""
        named = re.match(r"(?:#|//) (\S+\.\w+)\n", self.text)
        return named[1] if named else None

    def __str__(self) -> str:
        return f"line {self.line}, {self.language}"


def snippets(text: str) -> Iterator[Snippet]:
    for found in re.finditer(r"^```(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        yield Snippet(text.count("\n", 0, found.start()) + 1, found[1], found[2].removesuffix("\n"))


SNIPPETS = [each for each in snippets(README) if each.text not in OUTSIDE]


@dataclass(frozen=True)
class Tour:
    """A folder with the relay in it, and the environment of a person who pasted the printed line."""

    folder: Path
    environ: Mapping[str, str]
    banner: str

    def run(self, *command: str, environ: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        environ = {**self.environ, **(environ or {})}
        return subprocess.run(
            command, cwd=self.folder, env=environ, capture_output=True, text=True, timeout=50, check=False
        )

    def shell(self, script: str) -> subprocess.CompletedProcess[str]:
        return self.run("bash", "-euo", "pipefail", "-c", script)

    def post(self, url: str, **fields: object) -> httpx.Response:
        key = self.environ["OPENAI_API_KEY"]
        body = {"model": "echo", "messages": [{"role": "user", "content": "Hello"}], **fields}
        return httpx.post(url, headers={"authorization": f"Bearer {key}"}, json=body, trust_env=False)

    def ask(self) -> str:
        """The id of a request that was made just now, and is in the log."""
        answer = self.post(self.environ["OPENAI_BASE_URL"] + "/chat/completions")
        name = answer.headers["x-relay-id"]
        assert until(lambda: self.run("relay", "show", name).returncode == 0)
        return name


@pytest.fixture(scope="module")
def tour(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tour]:
    """What the newcomer has after the first command, in a copy of the checkout's files that matter to it."""
    folder = tmp_path_factory.mktemp("tour")
    (folder / ".venv").symlink_to(sys.prefix)
    config = (ROOT / "config.yaml").read_text()
    (folder / "config.yaml").write_text(config.replace("port: 8000", f"port: {free_port()}"))
    trustme.CA().cert_pem.write_to_path(str(folder / "private-ca.pem"))
    environ = {"HOME": str(folder), "PATH": f"{folder}/.venv/bin:{os.environ['PATH']}"}
    command = RUN.rpartition("&& ")[2].split()
    with (
        (folder / "errors.txt").open("w") as errors,
        subprocess.Popen(command, cwd=folder, env=environ, stdout=subprocess.PIPE, stderr=errors, text=True) as process,
    ):
        banner = "".join(read_to(process, "export "))
        printed = re.search(r"export (OPENAI_BASE_URL)=(\S+) (OPENAI_API_KEY)=(\S+)\n", banner)
        assert printed, (folder / "errors.txt").read_text()
        yield Tour(folder, {**environ, printed[1]: printed[2], printed[3]: printed[4]}, banner)
        process.terminate()
        assert 0 == process.wait(20)


def read_to(process: subprocess.Popen[str], mark: str) -> Iterator[str]:
    """The lines that a process prints, up to the one that holds `mark`."""
    assert process.stdout is not None
    for line in process.stdout:
        yield line
        if mark in line:
            return


def run_bash(tour: Tour, snippet: Snippet) -> None:
    done = tour.shell(snippet.text)

    assert (0, "") == (done.returncode, done.stderr)
    assert '"error"' not in done.stdout
    assert done.stdout or "curl" not in snippet.text


def run_python(tour: Tour, snippet: Snippet) -> None:
    if snippet.file is not None:
        run_mounted(tour, snippet)
        return
    (tour.folder / "hello.py").write_text(snippet.text)

    said(snippet, tour.run(sys.executable, "hello.py"))


def run_js(tour: Tour, snippet: Snippet) -> None:
    if NODE_MODULES is None or shutil.which("node") is None:
        pytest.skip("needs node, and RELAY_NODE_MODULES to name a node_modules folder with the package openai")
    (tour.folder / "hello.mjs").write_text(snippet.text)
    (tour.folder / "node_modules").symlink_to(NODE_MODULES)

    said(snippet, tour.run("node", "hello.mjs"))


def said(snippet: Snippet, done: subprocess.CompletedProcess[str]) -> None:
    """What the comments behind prints promise was printed."""
    promised = re.findall(r"^(?:print|console\.log)\(.*\);? +(?:#|//) (.+)$", snippet.text, re.MULTILINE)
    assert promised, f"{snippet} shows nothing"
    assert (0, "") == (done.returncode, done.stderr)
    assert promised == [line for line in done.stdout.splitlines() if line in promised][: len(promised)]


def run_mounted(tour: Tour, snippet: Snippet) -> None:
    """By the command that the text below it names."""
    assert snippet.file is not None
    (tour.folder / snippet.file).write_text(snippet.text)
    command = re.search(r"`uvicorn (\S+:\S+)`", README)
    assert command
    port = free_port()
    environ = {name: tour.environ[name] for name in ("HOME", "PATH")}
    with subprocess.Popen(
        [".venv/bin/uvicorn", command[1], "--port", str(port), "--log-level", "error"], cwd=tour.folder, env=environ
    ) as process:
        try:
            assert until(lambda: is_alive(f"http://127.0.0.1:{port}/llm/healthz"), within=20, every=0.05)
            answer = tour.post(f"http://127.0.0.1:{port}/llm/v1/chat/completions")
            listed = httpx.get(f"http://127.0.0.1:{port}/llm/v1/models", trust_env=False)
        finally:
            process.terminate()

    assert "Hello" == answer.json()["choices"][0]["message"]["content"]
    assert 401 == listed.status_code


def is_alive(url: str) -> bool:
    try:
        return httpx.get(url, trust_env=False).status_code == 200
    except httpx.TransportError:
        return False


def run_yaml(tour: Tour, snippet: Snippet) -> None:
    name = snippet.file or "snippet.yaml"
    (tour.folder / name).write_text(snippet.text + "\n")
    done = tour.run("relay", "check", name, environ=SECRETS)

    assert (1 if name == "broken.yaml" else 0) == done.returncode, done.stdout


def run_console(tour: Tour, snippet: Snippet) -> None:
    name = tour.ask()
    for part in re.split(r"^\$ ", snippet.text, flags=re.MULTILINE)[1:]:
        command, _, shown = re.sub(r"req_[0-9a-f]{22}", name, part).partition("\n")
        printed = output(tour, command)
        missing = [line for line in masked(shown) if line not in [*masked(printed), "..."]]
        assert not missing, f"$ {command}\n{printed}"


def output(tour: Tour, command: str) -> str:
    if command == RUN.rpartition("&& ")[2]:
        return tour.banner
    if command == "relay tail":
        return tailed(tour)
    done = tour.shell(command)
    assert (1 if "broken.yaml" in command else 0, "") == (done.returncode, done.stderr)
    return done.stdout


def tailed(tour: Tour) -> str:
    """What `relay tail` prints of requests that are made while it runs, until Ctrl-C."""
    path = tour.folder / "tail.txt"
    with (
        path.open("w") as printed,
        subprocess.Popen([".venv/bin/relay", "tail"], cwd=tour.folder, env=tour.environ, stdout=printed) as process,
    ):
        try:
            assert until(lambda: tour.ask() in path.read_text(), within=20)
        finally:
            process.send_signal(signal.SIGINT)
        assert 0 == process.wait(10)
    return path.read_text()


def masked(text: str) -> Sequence[str]:
    """The lines without what differs from run to run."""
    text = re.sub(r"sk-relay-[\w…-]+", "KEY", text)
    text = re.sub(r"^(id +)\S+", r"\1ID", text, flags=re.MULTILINE)
    text = re.sub(r"req_[0-9a-f]{22}", "ID", text)
    text = re.sub(r"\d+", "N", text)
    return [re.sub(r" +", " ", line).strip() for line in text.splitlines()]


RUNNERS: Mapping[str, Callable[[Tour, Snippet], None]] = {
    "bash": run_bash,
    "console": run_console,
    "python": run_python,
    "js": run_js,
    "yaml": run_yaml,
    "text": lambda _tour, _snippet: None,  # a picture
}


def test_the_commands_that_install_and_check() -> None:
    """Their words are a promise; .ci/run takes them from here and runs them."""
    assert list(OUTSIDE) == [each.text for each in snippets(README) if each.text in OUTSIDE]


@pytest.mark.parametrize("snippet", SNIPPETS, ids=str)
def test_snippet(snippet: Snippet, tour: Tour) -> None:
    RUNNERS[snippet.language](tour, snippet)
