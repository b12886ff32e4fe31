"""server: what `relay serve` does. It alone reads the environment, binds the sockets and hears the signals."""

import asyncio
import ctypes
import gc
import logging
import os
import signal
import socket
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from itertools import chain
from math import ceil
from pathlib import Path
from types import FrameType
from typing import Any

import click
import uvicorn

from relay import __version__
from relay.app import App, FirstStart, prepare
from relay.cli.access import settings
from relay.cli.output import OutputFault
from relay.cli.workers import Workers
from relay.config import Config
from relay.errors import SetupFault
from relay.inbound.protocol import RelayProtocol, usable
from relay.reload import Amend

_BACKLOG = 4096
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # as mallopt(3) calls them, less their M
_TICK = 10  # of uvicorn's ticks in one second: with every tenth it makes the date of its answers anew
# libuv, which looks names up for uvloop, gives half of its threads to that: by default two, so that as many name
# servers that keep silent would hold up every upstream (https://docs.libuv.org/en/v1.x/threadpool.html).
_THREADS, _LOOK_UPS = "UV_THREADPOOL_SIZE", 32
log = logging.getLogger("relay")


def serve(config_file: Path | None, flags: Mapping[str, Any]) -> int:
    """Run the relay as the file says, and before it the flags that are no None; return the exit code."""
    logging.basicConfig(format="relay: %(message)s", level=logging.WARNING)
    log.setLevel(logging.INFO)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # until the server hears it
    amend = partial(_amended, {name: value for name, value in flags.items() if value is not None})
    config = amend(settings(config_file))
    for warning in config.warnings:
        click.echo(f"relay: warning: {warning}", err=True)
    count = config.server.workers
    bound = listen(config.server.host, config.server.port)
    said = banner(config, bound[0].getsockname()[1], prepare(config, os.environ))
    if count == 1:
        return run(config, amend, bound, said)
    sockets, parent = share(bound, count), os.getpid()

    def work(number: int, again: bool) -> int:
        # Whoever else holds a listening socket keeps it open, and with it who connects while its owner drains.
        release(each for other, each in enumerate(sockets) if other != number)
        return run(config, amend, sockets[number], "" if number or again else said, parent)

    return Workers(count, work, lambda: release(sockets)).run()


def _amended(flags: Mapping[str, Any], config: Config) -> Config:
    """`config` with the flags, which win over the file, whenever that is read."""
    return replace(config, server=replace(config.server, **flags))


def run(config: Config, amend: Amend, sockets: list[socket.socket], banner: str, parent: int | None = None) -> int:
    """Serve in this process until a signal, or until the process `parent` is gone; return the exit code."""
    keep_freed()
    os.environ.setdefault(_THREADS, str(2 * _LOOK_UPS))
    app = App(config, os.environ, amend)
    app.open()
    server = Server(app, config, banner, parent)
    server.run(sockets)
    return 1 if server.force_exit else 0


def keep_freed() -> None:
    """Have glibc keep up to 4 MB of what is freed, for what comes next; other C libraries have no such function.

    A body of 100 KB would else go back to the system with each request, and come from it anew page by page, which takes
    as long as all else that is done with it. What is larger than 384 KB comes from the system and goes back, always:
    glibc's own rule, by which it learns from what is freed, left up to 100 MB behind after large bodies.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_TRIM_THRESHOLD, 4 << 20)
        mallopt(_MMAP_THRESHOLD, 384 << 10)


def listen(host: str, port: int) -> list[socket.socket]:
    """Sockets bound to every address of `host`, both families, on one port. Raises SetupFault."""
    sockets: list[socket.socket] = []
    try:
        places = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        for family, _, _, _, address in dict.fromkeys(places):
            chosen = sockets[0].getsockname()[1] if sockets else port
            sockets.append(_bound((str(address[0]), chosen), family))
    except OSError as fault:
        # An error number above 0 is the system's; getaddrinfo's own are below, and have words of their own.
        number = fault.errno or 0
        reason = os.strerror(number) if number > 0 else fault.strerror
        raise SetupFault(f"cannot listen on {host}:{port}: {reason}; choose another place by --host, --port") from fault
    return sockets


def share(found: list[socket.socket], count: int) -> list[list[socket.socket]]:
    """The same places for `count` processes. They were bound once for one alone, which tells that they were free."""
    places = [(each.family, each.getsockname()[:2]) for each in found]
    for each in found:
        each.close()
    return [[_bound(place, family, shared=True) for family, place in places] for _ in range(count)]


def release(shared: Iterable[list[socket.socket]]) -> None:
    """Hold these no more."""
    for each in chain.from_iterable(shared):
        each.close()


def _bound(place: tuple[str, int], family: int, *, shared: bool = False) -> socket.socket:
    bound = socket.create_server(place, family=family, backlog=_BACKLOG, reuse_port=shared)
    # Accepted connections inherit it; asyncio sets it only where a socket's protocol is named, which it is not here.
    bound.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return bound


def banner(config: Config, port: int, first: FirstStart | None) -> str:
    """What a person sees once the relay can be used."""
    host = f"[{config.server.host}]" if ":" in config.server.host else config.server.host
    base = f"http://{host}:{port}"
    lines = [f"relay {__version__} on {base}, store {config.store}, configuration {config.path or 'built in'}"]
    if first is not None:
        lines += [
            f"First start. The store {config.store} was made, with these, which are shown only now:",
            f"  admin token  {first.admin_token}",
            f"  first key    {first.key}",
            "Paste this where your program runs:",
            f"  export OPENAI_BASE_URL={base}/v1 OPENAI_API_KEY={first.key}",
        ]
    return "\n".join(lines)


class Server(uvicorn.Server):
    """uvicorn's, with the relay's own manners: what it prints, which signals it hears, how it exits."""

    def __init__(self, app: App, config: Config, banner: str, parent: int | None) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                http=RelayProtocol if usable() else "httptools",
                loop="uvloop",
                ws="none",
                lifespan="on",
                interface="asgi3",
                log_config=None,
                access_log=False,
                proxy_headers=False,
                server_header=False,
                timeout_keep_alive=ceil(config.server.keep_alive),
                timeout_graceful_shutdown=max(1, ceil(config.server.drain_timeout)),
                backlog=_BACKLOG,
            )
        )
        self._app = app
        self._banner = banner
        self._parent = parent
        self._ending = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, and say so once connections are taken."""
        await super().startup(sockets)
        gc.freeze()  # what is there now stays: the collector need not look at it again and again
        if self._banner:
            try:
                click.echo(self._banner)
            except OutputFault as fault:  # who only wants it to run may have closed its output
                log.warning("%s", fault.message)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Drain, and let the application end properly also when a second signal cut that short."""
        if running := self._app.running:
            log.info("stopping when what runs is done (%d now), or at a second signal", running)
        await super().shutdown(sockets)
        if self.force_exit:
            await self.lifespan.shutdown()

    async def main_loop(self) -> None:
        """Look once a second, and at once when it is to end; uvicorn's own wakes a resting relay ten times as often."""
        counter = 0
        while not await self.on_tick(counter):
            counter += _TICK
            with suppress(TimeoutError):
                async with asyncio.timeout(1):
                    await self._ending.wait()

    async def on_tick(self, counter: int) -> bool:
        """A worker whose parent died ends too: nobody else could tell it to."""
        if self._parent is not None and os.getppid() != self._parent:
            self.should_exit = True
        return await super().on_tick(counter)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Hear SIGHUP, SIGTERM and SIGINT; unlike uvicorn's, these are not raised again at the end, so it exits 0."""
        before = {number: signal.signal(number, self.handle_exit) for number in (signal.SIGTERM, signal.SIGINT)}
        before[signal.SIGHUP] = signal.signal(signal.SIGHUP, lambda *_: self._app.reload())
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002  # signal's own signature
        """The first signal drains, the second ends at once: what runs is cut, with its record."""
        if self.should_exit:
            self.force_exit = True
            self._app.cut()
        self.should_exit = True
        self._ending.set()
        self._app.drain()
