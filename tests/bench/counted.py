"""counted: how many bytecodes and calls one request takes, and one chunk, by layer. The same on every machine.

The relay runs in a process of its own under the tracer. This side is the client and the upstream in one, step by step:
so nothing is measured but what one request or chunk makes the relay do. What its timers do falls into few of the steps,
and the median step is told.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from socket import create_connection, create_server, socket

from tests.bench.contender import ROOT, Cores, Stage, certify
from tests.bench.dialogue import ANSWER, FIRST, JSON_HEAD, SSE_HEAD, Ask, chunk
from tests.bench.layers import ORDER, layer
from tests.bench.tracer import MARK

BOUNDS = Path(__file__).with_name("bounds.json")
VERSION = f"{sys.version_info.major}.{sys.version_info.minor}"
_WARM, _STEPS = 12, 21
_CALM = 0.2  # seconds in which the writer's thread comes to rest: it gathers for a tenth
_STILL = 0.004  # seconds without a count, after which a step is over
_TRIES = 200
_GROWTH, _SHRINKAGE = 1.05, 0.85  # of the bound, within which a count may be
Counts = dict[str, int]  # bytecodes and calls together, by layer


@dataclass(frozen=True, slots=True)
class Traced:
    """A relay under the tracer, and both of its sides."""

    process: subprocess.Popen[str]
    client: socket
    server: socket

    def counts(self) -> dict[str, Counts]:
        """Of one non-streamed request, and of one plain chunk of a stream."""
        self.client.sendall(Ask().request())
        upstream, _ = self.server.accept()
        with upstream:
            self._answer(upstream)
            request = self._median(lambda: self._request(upstream), _CALM)
            self._begin(upstream)
            return {"request": request, "chunk": self._median(lambda: self._chunk(upstream), 0)}

    def _request(self, upstream: socket) -> None:
        self.client.sendall(Ask().request())
        self._answer(upstream)

    def _answer(self, upstream: socket) -> None:
        _hear(upstream, b"}]}")
        upstream.sendall(JSON_HEAD % len(ANSWER) + ANSWER)
        _hear(self.client, ANSWER)

    def _begin(self, upstream: socket) -> None:
        self.client.sendall(Ask(chunks=1).request())
        _hear(upstream, b"}]}")
        upstream.sendall(SSE_HEAD + FIRST)
        _hear(self.client, FIRST)

    def _chunk(self, upstream: socket) -> None:
        upstream.sendall(chunk(0))
        _hear(self.client, chunk(0))

    def _median(self, step: Callable[[], None], calm: float) -> Counts:
        """The counts of the step that is in the middle of all of them."""
        found = []
        for number in range(_WARM + _STEPS):
            time.sleep(calm)
            before = self._still()
            step()
            if number >= _WARM:
                found.append(_less(self._still(), before))
        return sorted(found, key=lambda counts: sum(counts.values()))[_STEPS // 2]

    def _still(self) -> Counts:
        """The counts so far, once they do not grow."""
        before = self._read()
        for _ in range(_TRIES):
            time.sleep(_STILL)
            now = self._read()
            if now == before:
                break
            before = now
        return before

    def _read(self) -> Counts:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        line = next(line for line in self.process.stdout if line.startswith(MARK))
        counts = dict.fromkeys(ORDER, 0)
        for file, (bytecodes, calls) in json.loads(line.removeprefix(MARK)).items():
            counts[layer(file)] += bytecodes + calls
        return counts


@contextmanager
def traced(folder: Path) -> Iterator[Traced]:
    """Start one, with its store in a folder of its own."""
    cores = Cores(tuple(sorted(os.sched_getaffinity(0))))
    # The order of sets and the like depends on a seed, and with it the way through them.
    environ = {"PYTHONPATH": str(ROOT), "PYTHONHASHSEED": "0"}
    folder.mkdir(exist_ok=True)
    certify(folder)
    with create_server(("127.0.0.1", 0)) as server:
        server.settimeout(20)
        command = [sys.executable, "-m", "tests.bench.tracer"]
        port = server.getsockname()[1]
        stage = Stage(folder, cores, command, port, port, environ=environ)
        with stage.started("traced") as (process, at), create_connection(("127.0.0.1", at), 20) as client:
            yield Traced(process, client, server)


def verdict(name: str, bound: Mapping[str, int], counts: Mapping[str, int]) -> str | None:
    """What is wrong with these counts, in one line that names the layers; None when they are within the bound."""
    before, now = sum(bound.values()), sum(counts.values())
    if now <= before * _GROWTH and now >= before * _SHRINKAGE:
        return None
    changed = {each: counts.get(each, 0) - bound.get(each, 0) for each in {**bound, **counts}}
    where = ", ".join(f"{each} {by:+}" for each, by in sorted(changed.items(), key=lambda pair: -abs(pair[1])) if by)
    told = f"one {name} takes {now:,} bytecodes and calls, bound {before:,} ({now / before - 1:+.1%}): {where}"
    return f"{told}; {'make it cheaper, or' if now > before else 'lower it:'} `python -m tests.bench --bounds`"


def write_bounds(counts: Mapping[str, Counts]) -> None:
    """Have these be the bounds from now on."""
    BOUNDS.write_text(json.dumps({"python": VERSION, **counts}, indent=2) + "\n")


def _less(now: Counts, before: Counts) -> Counts:
    return {name: count - before[name] for name, count in now.items()}


def _hear(sock: socket, end: bytes) -> None:
    """Read until what came ends so."""
    came = b""
    while not came.endswith(end):
        data = sock.recv(1 << 16)
        assert data, came
        came += data
