"""Other people's programs as child processes: upstreams on a free port, and clients that run to their end."""

import json
import os
import socket
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.waiting import until


def needed(name: str) -> str | None:
    """What names a program that only some machines have. Read while tests are collected: later, settings are gone."""
    return os.environ.get(name)


@contextmanager
def serving(command: Sequence[str | Path], port: int, folder: Path, **environ: str) -> Iterator[None]:
    """Run an upstream until the `with` ends; it is there once `port` takes connections."""
    said = folder / "upstream.txt"
    with said.open("ab") as output:
        process = subprocess.Popen(
            command, cwd=folder, env=_environment(folder, environ), stdout=output, stderr=subprocess.STDOUT
        )
    try:
        assert until(lambda: process.poll() is not None or _listens(port), within=30), said.read_text()
        assert process.poll() is None, said.read_text()
        yield
    finally:
        process.terminate()
        process.wait(10)


def told(command: Sequence[str | Path], folder: Path, **environ: str) -> Any:
    """Run a client to its end; the JSON that it printed."""
    done = subprocess.run(
        command, cwd=folder, env=_environment(folder, environ), capture_output=True, text=True, timeout=50, check=False
    )
    assert 0 == done.returncode, done.stderr
    return json.loads(done.stdout)


def _environment(folder: Path, environ: dict[str, str]) -> dict[str, str]:
    return {"PATH": os.environ["PATH"], "HOME": str(folder), **environ}


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
