"""load: clients in a closed loop over epoll. Each keeps its connection and asks again once its answer is whole.

While it runs it only notes what came and when; whether that was right, and how long it took, is looked at afterwards.
"""

import gc
import select
import socket
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import accumulate
from math import inf
from types import TracebackType
from typing import Self

from tests.bench.dialogue import STAMP, Ask

_PIECE = 1 << 18
_STALL = 30.0  # seconds in which nothing comes, after which it is given up
_WATCHED = 0.25  # seconds between two looks of who watches


class Broken(Exception):
    """An answer was not what the upstream sent."""


@dataclass(slots=True)
class Exchange:
    """One request and its answer; times of the monotonic clock in nanoseconds."""

    began: int
    reads: list[tuple[int, bytes]] = field(default_factory=list)

    @property
    def answer(self) -> bytes:
        """All that came."""
        return b"".join([data for _, data in self.reads])

    @property
    def first_byte(self) -> float:
        """Microseconds from asking to the first byte of the answer."""
        return (self.reads[0][0] - self.began) / 1e3

    def delays(self) -> Iterator[float]:
        """Microseconds that each chunk was on its way, to its last byte."""
        ends = list(accumulate(len(data) for _, data in self.reads))
        at, answer = 0, self.answer
        for found in STAMP.finditer(answer):
            end = answer.index(b"\n\n", found.end()) + 2
            while ends[at] < end:
                at += 1
            yield (self.reads[at][0] - int(found[1])) / 1e3


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one run brought, all of it checked."""

    count: int
    seconds: float
    exchanges: list[Exchange]  # of streams only


class Load:
    """`clients` connections to one port, used while the `with` lasts."""

    def __init__(self, port: int, clients: int) -> None:
        self._sockets = {}
        self._poll = select.epoll()
        for _ in range(clients):
            sock = socket.create_connection(("127.0.0.1", port), 10)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._sockets[sock.fileno()] = sock
            self._poll.register(sock.fileno(), select.EPOLLIN)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._poll.close()
        for sock in self._sockets.values():
            sock.close()

    def run(
        self,
        ask: Ask,
        *,
        seconds: float = inf,
        total: float = inf,
        think: float = 0.0,
        watch: Callable[[], None] | None = None,
    ) -> Outcome:
        """Ask until `seconds` are over or `total` requests were made; `think` seconds before each, of a lone client.

        Raises Broken for an answer that is wrong, or does not come.
        """
        with _quiet():
            began = time.perf_counter()
            done = self._loop(ask, began + seconds, total, think, watch)
            taken = time.perf_counter() - began
        wrong = next((each for each in done if not ask.is_right(each.answer)), None)
        if wrong is not None:
            raise Broken(f"not what was sent: {wrong.answer[:500]!r}")
        return Outcome(len(done), taken, done if ask.chunks else [])

    def _loop(
        self, ask: Ask, over: float, total: float, think: float, watch: Callable[[], None] | None
    ) -> list[Exchange]:
        running, done, heard, seen = dict[int, Exchange](), list[Exchange](), time.perf_counter(), 0.0
        request, end, again, begun = ask.request(), ask.end, list(self._sockets), len(self._sockets)
        while True:
            self._ask(request, again, running)  # all at once, which keeps a fast contender busy
            if not running:
                return done
            events = self._poll.poll(_WATCHED)
            now = time.perf_counter()
            heard = now if events else heard
            if now - heard > _STALL:
                raise Broken(f"{len(running)} answers do not come; the first so far: {next(iter(running.values()))}")
            if watch is not None and now - seen > _WATCHED:
                watch()
                seen = now
            again = []
            for number, _ in events:
                if self._hear(number, running[number], end):
                    done.append(running.pop(number))
                    if begun < total and now < over:
                        begun += 1
                        again.append(number)
            if again and think:
                time.sleep(think)

    def _ask(self, request: bytes, again: list[int], running: dict[int, Exchange]) -> None:
        for number in again:
            running[number] = Exchange(time.monotonic_ns())
            self._sockets[number].sendall(request)

    def _hear(self, number: int, exchange: Exchange, end: bytes) -> bool:
        """Note what came, and tell whether it was the last of an answer. Raises Broken where waiting is in vain."""
        data = self._sockets[number].recv(_PIECE)
        exchange.reads.append((time.monotonic_ns(), data))
        if data.endswith(end) or (end.endswith(data[-len(end) :]) and exchange.answer.endswith(end)):
            return True
        if not data or (len(exchange.reads) == 1 and not data.startswith(b"HTTP/1.1 200 ")):
            raise Broken(f"refused or cut: {exchange.answer[:500]!r}")
        return False


def most_open(exchanges: Iterable[Exchange]) -> int:
    """How many were under way at a time, from the first byte of an answer to its last."""
    steps = sorted(step for each in exchanges for step in ((each.reads[0][0], 1), (each.reads[-1][0], -1)))
    return max(accumulate(step for _, step in steps), default=0)


@contextmanager
def _quiet() -> Iterator[None]:
    """No garbage collection meanwhile."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
