"""contender: what is measured, as processes: the relay, configured as a user would, and nginx as a plain proxy.

Each has the cores that are for contenders, and is stopped (SIGSTOP) while another one is measured.
"""

import json
import os
import pwd
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import trustme

from tests.bench import clock
from tests.bench.dialogue import KEPT_KEY, KEY, MODEL, TLS_MODEL
from tests.bench.machine import nginx_command
from tests.process import free_port
from tests.waiting import until

ROOT = Path(__file__).parents[2]
_READY = re.compile(r" on http://127\.0\.0\.1:(\d+)")
_SPARE = 1000  # connections beyond those of the clients and to the upstream
_SECRETS = {"BENCH_KEY": KEY, "BENCH_KEPT_KEY": KEPT_KEY, "BENCH_UPSTREAM_KEY": "sk-upstream"}
_NGINX = """daemon off; master_process off; pid nginx.pid; error_log error.log; {user}
events {{ worker_connections {connections}; }}
http {{
  access_log access.log; client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi;
  uwsgi_temp_path uwsgi; scgi_temp_path scgi; client_body_buffer_size 256k; keepalive_requests 100000000;
  map $http_authorization $known {{ default 0; "Bearer {key}" 1; }}
  upstream plain {{ server 127.0.0.1:{plain}; keepalive 1024; keepalive_requests 100000000; }}
  upstream secure {{ server 127.0.0.1:{secure}; keepalive 1024; keepalive_requests 100000000; }}
  proxy_http_version 1.1; proxy_set_header Connection ""; proxy_set_header Authorization "Bearer sk-upstream";
  proxy_buffering off; proxy_read_timeout 600s; proxy_ssl_trusted_certificate ca.pem; proxy_ssl_verify on;
  proxy_ssl_name upstream.example;
  server {{ listen 127.0.0.1:{port} backlog=4096; if ($known = 0) {{ return 401; }}
    location / {{ proxy_pass http://plain; }} }}
  server {{ listen 127.0.0.1:{tls_port} backlog=4096; if ($known = 0) {{ return 401; }}
    location / {{ proxy_pass https://secure; }} }}
}}
"""


@dataclass(frozen=True, slots=True)
class Cores:
    """The cores that this process had when it began, dealt out: the same one twice where there are too few."""

    own: tuple[int, ...]

    def contenders(self, count: int = 1) -> frozenset[int]:
        """For the one that is measured."""
        return frozenset(self.own[:count])

    @property
    def upstream(self) -> frozenset[int]:
        return frozenset(self.own[-1:])

    @property
    def load(self) -> frozenset[int]:
        return frozenset(self.own[1:2] if len(self.own) == 2 else self.own[-2:-1] or self.own)


@dataclass(frozen=True, slots=True)
class Contender:
    """It answers on `port`; on `tls_port` it asks the upstream over TLS. `pid` is None for the upstream itself."""

    name: str
    port: int
    tls_port: int
    pid: int | None = None
    ready: float = 0.0  # seconds from its start until it took connections

    @property
    def pids(self) -> list[int]:
        """Its processes."""
        return [] if self.pid is None else clock.tree(self.pid)

    @property
    def workers(self) -> list[int]:
        """Those of its processes that serve: the children of the first one, or that one alone."""
        found = self.pids
        return found[1:] or found

    def stop(self) -> None:
        """Let others be measured."""
        self.signal(signal.SIGSTOP)

    @contextmanager
    def awake(self) -> Iterator[None]:
        """Let it run meanwhile."""
        self.signal(signal.SIGCONT)
        try:
            yield
        finally:
            self.stop()

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to all of its processes."""
        for pid in self.pids:
            with suppress(ProcessLookupError):
                os.kill(pid, number)


@dataclass(frozen=True, slots=True)
class Stage:
    """Where they are set up: a folder, the cores, how the relay is called, and the upstream's two ports."""

    folder: Path
    cores: Cores
    command: Sequence[str]
    plain: int
    secure: int
    clients: int = 0  # the most that come at a time
    environ: Mapping[str, str] = field(default_factory=dict)  # beside what is always set

    @contextmanager
    def relay(self, name: str = "relay", workers: int = 1, cores: int | None = None) -> Iterator[Contender]:
        """The relay, with its store in a folder of that name, and as many cores, or one for each worker."""
        began = time.perf_counter()
        with self.started(name, workers, cores) as (process, port):
            yield Contender(name, port, port, process.pid, time.perf_counter() - began)

    @contextmanager
    def started(
        self, name: str, workers: int = 1, cores: int | None = None
    ) -> Iterator[tuple[subprocess.Popen[str], int]]:
        """The relay's process, and its port once it is ready."""
        folder = self.folder / name
        folder.mkdir()
        (folder / "config.yaml").write_text(json.dumps(self.configuration(), indent=1))
        command = [*self.command, "serve", "--workers", str(workers)]
        with self._running(command, folder, workers if cores is None else cores) as process:
            yield process, announced(process, folder / "errors.txt")

    @contextmanager
    def nginx(self) -> Iterator[Contender]:
        """nginx as a plain reverse proxy that knows one key and keeps an access log."""
        folder = self.folder / "nginx"
        folder.mkdir()
        port, tls_port = free_port(), free_port()
        user = f"user {pwd.getpwuid(0).pw_name} root;" if os.geteuid() == 0 else ""
        ports = {"port": port, "tls_port": tls_port, "plain": self.plain, "secure": self.secure}
        (folder / "nginx.conf").write_text(
            _NGINX.format(user=user, key=KEY, connections=3 * self.clients + _SPARE, **ports)
        )
        (folder / "ca.pem").write_bytes((self.folder / "ca.pem").read_bytes())
        command = [nginx_command() or "nginx", "-p", f"{folder}/", "-e", "error.log", "-c", "nginx.conf"]
        with self._running(command, folder) as process:
            assert until(lambda: _answers(port), within=10), (folder / "errors.txt").read_text()
            yield Contender("nginx", port, tls_port, process.pid)

    def configuration(self) -> dict[str, Any]:
        """As a user's: an alias, a key with a limit and a budget, a price, and the log. JSON is YAML."""
        key = {"models": [MODEL, TLS_MODEL], "rpm": 100_000_000, "budget": "1000000/month"}
        secret = {"api_key": "env:BENCH_UPSTREAM_KEY", "max_connections": self.clients + _SPARE}
        secure = {**secret, "base_url": f"https://127.0.0.1:{self.secure}/v1", "ca": str(self.folder / "ca.pem")}
        return {
            "server": {"host": "127.0.0.1", "port": 0},
            "store": "sqlite:///relay.db",
            "log": {"bodies": "none"},
            "upstreams": {"plain": {**secret, "base_url": f"http://127.0.0.1:{self.plain}/v1"}, "secure": secure},
            "models": {MODEL: "plain/real-model", TLS_MODEL: "secure/real-model"},
            "prices": {"plain/real-model": {"input": 0.15, "output": 0.6}},
            "keys": [
                {"name": "bench", "key": "env:BENCH_KEY", **key},
                {"name": "kept", "key": "env:BENCH_KEPT_KEY", **key, "log": "full"},
            ],
        }

    @contextmanager
    def _running(self, command: Sequence[str], folder: Path, count: int = 1) -> Iterator[subprocess.Popen[str]]:
        environ = {**_SECRETS, "PATH": os.environ["PATH"], "HOME": str(folder), **self.environ}
        own = os.sched_getaffinity(0)
        os.sched_setaffinity(0, self.cores.contenders(count))  # a child inherits it, and each of its threads
        with (folder / "errors.txt").open("w") as errors:
            try:
                process = subprocess.Popen(
                    command,
                    cwd=folder,
                    env=environ,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=errors,
                    text=True,
                )
            finally:
                os.sched_setaffinity(0, own)
        with ended(process):
            yield process


def announced(process: subprocess.Popen[str], errors: Path) -> int:
    """The port that a relay says it is on, once it is."""
    assert process.stdout is not None
    for line in process.stdout:
        if found := _READY.search(line):
            return int(found[1])
    raise RuntimeError(f"the relay did not start: {errors.read_text()}")


@contextmanager
def ended(process: subprocess.Popen[str]) -> Iterator[None]:
    """End it afterwards: by SIGTERM, and when that takes too long by SIGKILL."""
    try:
        yield
    finally:
        for pid in clock.tree(process.pid):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
        process.terminate()
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()


def certify(folder: Path) -> None:
    """Make an authority, ca.pem, and what the upstream shows of itself, upstream.pem."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(folder / "ca.pem")
    authority.issue_cert("127.0.0.1", "upstream.example").private_key_and_cert_chain_pem.write_to_path(
        folder / "upstream.pem"
    )


@contextmanager
def upstream(folder: Path, where: Cores) -> Iterator[tuple[int, int]]:
    """The upstream as a process of its own, and its two ports."""
    certify(folder)
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.bench.upstream", str(folder / "upstream.pem")],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    with ended(process):
        os.sched_setaffinity(process.pid, where.upstream)
        assert process.stdout is not None
        plain, secure = map(int, process.stdout.readline().split())
        yield plain, secure


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
