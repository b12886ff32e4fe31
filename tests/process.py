"""A real relay process on a free port with a folder of its own, asked through its sockets and its command line only.

Its files are looked at for one thing: whether what it has noted is in its store, so that the log can be asked for it.
"""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, chdir, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest
from click.testing import CliRunner

from relay.cli import relay
from relay.journal import beside, segments
from relay.store.sqlite import SqliteStore
from tests.client import Answer, Client, request
from tests.waiting import until

KEY = "sk-test-caller-8f2c61d09b7e4a35"  # what callers show to the relay
UPSTREAM_KEY = "sk-test-upstream-51e07ad3c94f4b86"  # what the relay shows to the scripted upstream

Start = Callable[..., "RelayProcess"]
Face = Literal["fast", "asgi"]


@contextmanager
def starting(
    factory: pytest.TempPathFactory, configure: Callable[..., dict[str, Any]], face: Face = "fast"
) -> Iterator[Start]:
    """What starts relays, each with the configuration that `configure` makes of some sections, and ends them all."""
    with ExitStack() as running:

        def started(environ: dict[str, str] | None = None, **sections: Any) -> RelayProcess:
            relay = RelayProcess(factory.mktemp("relay"), configure(**sections), environ or {}, face=face)
            running.callback(relay.end)
            relay.start()
            return relay

        yield started


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def configuration(upstream_port: int, **sections: Any) -> dict[str, Any]:
    """A configuration with the scripted upstream behind every model; `sections` extend or replace its own."""
    config: dict[str, Any] = {
        "server": {"host": "127.0.0.1", "port": free_port()},
        "store": "sqlite:///relay.db",
        "upstreams": {
            "script": {"base_url": f"http://127.0.0.1:{upstream_port}/v1", "api_key": "env:SCRIPT_KEY"},
        },
        "models": {"*": "script/*"},
        "keys": [{"name": "tests", "key": "env:CALLER_KEY"}],
    }
    for name, section in sections.items():
        config[name] = {**config[name], **section} if name in {"server", "upstreams"} else section
    return config


@dataclass
class RelayProcess:
    """The relay as a child process: `relay serve`, or plain ASGI behind stock uvicorn.

    JSON is YAML, so the configuration is written as JSON.
    """

    folder: Path
    config: Mapping[str, Any]
    environ: Mapping[str, str] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None
    face: Face = "fast"

    @property
    def port(self) -> int:
        port: int = self.config["server"]["port"]
        return port

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    @property
    def config_file(self) -> Path:
        return self.folder / "config.yaml"

    @property
    def output(self) -> str:
        """Everything written to stdout and stderr so far, by every start."""
        return (self.folder / "output.txt").read_text(errors="replace")

    def launch(self, *flags: str) -> None:
        """Start without waiting."""
        self.config_file.write_text(json.dumps(self.config, indent=1))
        plain = [sys.executable, "-m", "tests.plain"]
        command = self._command("serve", *flags) if self.face == "fast" else plain
        with (self.folder / "output.txt").open("ab") as output:
            self.process = subprocess.Popen(  # the interpreter that runs the tests runs the relay
                command, cwd=self.folder, env=self._environment(), stdout=output, stderr=output
            )

    def start(self) -> None:
        """Start, and wait until it answers."""
        self.launch()
        assert until(self.answers, within=10), f"the relay did not become ready:\n{self.output}"

    def answers(self) -> bool:
        """Whether /healthz answers 200. A process that has ended fails at once."""
        assert self.process is not None
        assert self.process.poll() is None, f"the relay ended with {self.process.returncode}:\n{self.output}"
        try:
            return self.ask(method="GET", path="/healthz").status == 200
        except OSError:
            return False

    def stop(self) -> int:
        """SIGTERM, then its exit code; killed when it does not end within ten seconds."""
        self.signal(signal.SIGTERM)
        return self.wait(10)

    def wait(self, within: float) -> int:
        assert self.process is not None
        try:
            return self.process.wait(within)
        except subprocess.TimeoutExpired:
            self.kill()
            raise

    def kill(self) -> None:
        """SIGKILL, and the body is collected."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def end(self) -> None:
        """Kill it if it still runs."""
        if self.process is not None and self.process.poll() is None:
            self.kill()

    def signal(self, number: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def connect(self, timeout: float = 20.0) -> Client:
        return Client(self.port, timeout)

    def ask(self, body: bytes | Mapping[str, Any] = b"", *headers: str, key: str | None = KEY, **parts: str) -> Answer:
        """One request on a connection of its own; see `tests.client.request`."""
        with self.connect() as client:
            client.send(request(body, *headers, key=key, **parts))
            return client.answer()

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """One command of the command line, with this relay's configuration."""
        return subprocess.run(
            self._command(*arguments),
            cwd=self.folder,
            env=self._environment(),
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
        )

    def log(self, most: int = 10_000) -> list[dict[str, Any]]:
        """Every record, by `relay log --json`: in this process, as a new one takes five times as long to start."""
        asked = ["log", "--json", "-n", str(most), "--config", str(self.config_file)]
        until(self._has_written)
        with chdir(self.folder):
            done = CliRunner(env=self._environment()).invoke(relay, asked)
        assert (0, "") == (done.exit_code, done.stderr)
        return [json.loads(line) for line in done.stdout.splitlines()]

    def records(self, model: str, number: int = 1, within: float = 5.0) -> list[dict[str, Any]]:
        """The records of one model once there are `number` of them; what there is when they do not come."""

        def enough() -> list[dict[str, Any]]:
            rows = [row for row in self.log() if row["model"] == model]
            return rows if len(rows) >= number else []

        rows = until(enough, within, every=0.05)
        assert number == len(rows), self.output
        return rows

    def record(self, answer: Answer, within: float = 5.0) -> dict[str, Any]:
        """The record of one answered request, by its x-relay-id."""
        identity = answer.header("x-relay-id")
        assert identity is not None, answer

        def found() -> list[dict[str, Any]]:
            return [row for row in self.log() if row["id"] == identity]

        rows = until(found, within, every=0.05)
        assert [identity] == [row["id"] for row in rows], self.output
        return rows[0]

    def _has_written(self) -> bool:
        """Whether all that it has noted is in its store; one that has ended leaves that to the command."""
        if self.process is None or self.process.poll() is not None:
            return True
        path = self.folder / "relay.db"
        with suppress(FileNotFoundError), SqliteStore(path, readonly=True) as store:  # a segment that was read may go
            sizes = {each.name: each.stat().st_size for each in segments(beside(path))}
            return sizes.keys() <= set(store.segments()) and sizes == {name: store.place(name).offset for name in sizes}
        return False

    def memory(self) -> int:
        """Resident bytes of the process."""
        return self._status("VmRSS")

    def peak(self) -> int:
        """The most bytes that were ever resident, or were since `forget_peak`."""
        return self._status("VmHWM")

    def forget_peak(self) -> None:
        """Let the peak begin anew, at what is resident now."""
        Path(f"/proc/{self.pid}/clear_refs").write_text("5")

    def cpu(self) -> float:
        """Seconds of processor time that it has used, all threads together."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def files(self) -> int:
        """How many files, sockets and pipes it holds open."""
        return len(list(Path(f"/proc/{self.pid}/fd").iterdir()))

    def sockets(self) -> int:
        """How many of these are sockets: the others come as the store and the journal are first written to."""
        found = 0
        for file in Path(f"/proc/{self.pid}/fd").iterdir():
            with suppress(FileNotFoundError):  # closed just now
                found += str(file.readlink()).startswith("socket:")
        return found

    def threads(self) -> int:
        """How many there are, the loop's own included."""
        return len(list(Path(f"/proc/{self.pid}/task").iterdir()))

    def _status(self, name: str) -> int:
        lines = Path(f"/proc/{self.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name))

    def _command(self, *arguments: str) -> list[str]:
        name, *rest = arguments
        return [sys.executable, "-m", "relay", name, *rest, "--config", str(self.config_file)]

    def _environment(self) -> dict[str, str]:
        own = {"PATH": os.environ["PATH"], "HOME": str(self.folder), "PYTHONPATH": str(Path(__file__).parent.parent)}
        return {**own, "SCRIPT_KEY": UPSTREAM_KEY, "CALLER_KEY": KEY, **self.environ}
