"""A proxy that spoils what passes through it, on loopback between a relay and an upstream. It knows TCP and no HTTP.

with FaultProxy(upstream.port) as proxy:
    proxy.inflict(Cut(after=200))
    ...
    proxy.inflict(HEALTHY)
    assert until(lambda: proxy.open == 0)

An exchange begins with bytes from the relay, and takes the fault of that moment to its end.
"""

import asyncio
import socket
import struct
import threading
from asyncio import StreamReader, StreamWriter
from collections.abc import Coroutine, Iterator
from concurrent.futures import Future
from contextlib import closing, suppress
from dataclasses import dataclass
from itertools import cycle
from types import TracebackType
from typing import Self


@dataclass(frozen=True, slots=True)
class Latency:
    """Each piece is late by so many seconds: `up` towards the upstream, `down` towards the relay; HEALTHY has none."""

    up: float = 0.0
    down: float = 0.0


@dataclass(frozen=True, slots=True)
class Trickle:
    """The answer comes byte by byte, with a pause of `every` seconds after each."""

    every: float


@dataclass(frozen=True, slots=True)
class Cut:
    """FIN when `after` bytes of the answer have passed. The request has reached the upstream."""

    after: int = 0


@dataclass(frozen=True, slots=True)
class Reset:
    """RST when `after` bytes of the answer have passed. The request has reached the upstream."""

    after: int = 0


@dataclass(frozen=True, slots=True)
class Timeout:
    """The request is swallowed, and nothing ever answers."""


@dataclass(frozen=True, slots=True)
class SlowClose:
    """When the upstream hangs up, the relay learns of it `seconds` later."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Refused:
    """Nobody is there: what runs is reset, who connects is refused. The port is kept for when somebody is again."""


Fault = Latency | Trickle | Cut | Reset | Timeout | SlowClose | Refused
HEALTHY = Latency()


class FaultProxy:
    """The proxy, in a thread of its own while the `with` lasts. Every method may be called from the test's thread."""

    def __init__(self, behind: int) -> None:
        """`behind`: the port of the upstream."""
        self.ever = 0  # connections accepted
        self.bytes_up = self.bytes_down = 0  # passed on to the upstream, and to the relay
        self._behind = behind
        self._faults: Iterator[Fault] = cycle([HEALTHY])
        self._links: set[asyncio.Task[None]] = set()
        self._holder = _bound(0)  # bound and never listening: what keeps the port while nobody is there
        self.port: int = self._holder.getsockname()[1]
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), name="fault proxy")
        self._started: Future[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = Future()

    def __enter__(self) -> Self:
        self._thread.start()
        self._started.result(timeout=5)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        loop, over = self._started.result()
        loop.call_soon_threadsafe(over.set)
        self._thread.join()
        self._holder.close()

    @property
    def open(self) -> int:
        """Connections from the relay that are open now."""
        return len(self._links)

    def inflict(self, *faults: Fault) -> None:
        """From now on each exchange takes the next of these, round and round. Refused stands alone and is for all."""
        asyncio.run_coroutine_threadsafe(self._inflict(faults), self._started.result()[0]).result(timeout=5)

    async def _inflict(self, faults: tuple[Fault, ...]) -> None:
        self._faults = cycle(faults)
        if Refused() in faults:
            await self._leave()
        elif self._listener.fileno() < 0:  # closed
            self._listen()

    async def _serve(self) -> None:
        over = asyncio.Event()
        self._listen()
        self._started.set_result((asyncio.get_running_loop(), over))
        await over.wait()
        await self._leave()

    def _listen(self) -> None:
        self._listener = _bound(self.port)
        self._listener.listen(1000)
        asyncio.get_running_loop().add_reader(self._listener, self._accept)

    def _accept(self) -> None:
        sock, _ = self._listener.accept()
        sock.setblocking(False)
        self.ever += 1
        link = asyncio.get_running_loop().create_task(self._carry(sock))
        self._links.add(link)
        link.add_done_callback(self._links.discard)
        link.add_done_callback(lambda _: sock.close())  # of one that was cancelled before it began

    async def _leave(self) -> None:
        if self._listener.fileno() >= 0:
            asyncio.get_running_loop().remove_reader(self._listener)
        self._listener.close()
        for link in self._links:
            link.cancel()
        await asyncio.gather(*self._links, return_exceptions=True)

    async def _carry(self, sock: socket.socket) -> None:
        """One connection, until either side ends it; cancelled, it is reset."""
        near, relay = await asyncio.open_connection(sock=sock)
        try:
            far, upstream = await asyncio.open_connection("127.0.0.1", self._behind)
            with closing(upstream):
                exchange = _Exchange()
                await _first_of(self._up(near, upstream, exchange), self._down(far, relay, exchange))
            relay.close()
            await relay.wait_closed()
        except (asyncio.CancelledError, OSError):
            _reset(relay)

    async def _up(self, near: StreamReader, upstream: StreamWriter, exchange: "_Exchange") -> None:
        while piece := await near.read(1 << 16):
            if exchange.answered:
                exchange.fault, exchange.passed, exchange.answered = next(self._faults), 0, False
            match exchange.fault:
                case Timeout():
                    continue
                case Latency(up=seconds):
                    await asyncio.sleep(seconds)
            self.bytes_up += len(piece)
            upstream.write(piece)
            await upstream.drain()

    async def _down(self, far: StreamReader, relay: StreamWriter, exchange: "_Exchange") -> None:
        while piece := await far.read(1 << 16):
            exchange.answered = True
            match exchange.fault:
                case Cut(after) | Reset(after) if exchange.passed + len(piece) > after:
                    await self._pass(piece[: after - exchange.passed], relay, exchange)
                    if isinstance(exchange.fault, Reset):
                        _reset(relay)
                    return
                case Latency(down=seconds):
                    await asyncio.sleep(seconds)
                    await self._pass(piece, relay, exchange)
                case Trickle(every):
                    for byte in piece:
                        await self._pass(bytes([byte]), relay, exchange)
                        await asyncio.sleep(every)
                case _:
                    await self._pass(piece, relay, exchange)
        if isinstance(exchange.fault, SlowClose):
            await asyncio.sleep(exchange.fault.seconds)

    async def _pass(self, piece: bytes, relay: StreamWriter, exchange: "_Exchange") -> None:
        exchange.passed += len(piece)
        self.bytes_down += len(piece)
        relay.write(piece)
        await relay.drain()


@dataclass(slots=True)
class _Exchange:
    """What goes on over one connection: its fault, and how far the answer has come."""

    fault: Fault = HEALTHY
    passed: int = 0  # bytes of the answer
    answered: bool = True  # the next bytes from the relay begin an exchange


async def _first_of(*ways: Coroutine[None, None, None]) -> None:
    """Until one has ended, in whatever way; the others end with it."""
    tasks = [asyncio.ensure_future(way) for way in ways]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
            task.add_done_callback(lambda done: done.cancelled() or done.exception())


def _bound(port: int) -> socket.socket:
    """A socket on that port of loopback, which others of ours may be on too."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    sock.bind(("127.0.0.1", port))
    return sock


def _reset(writer: StreamWriter) -> None:
    """RST. On loopback the other side's system has what was written to the socket by then."""
    with suppress(OSError):  # it is closed already
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
