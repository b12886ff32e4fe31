"""Watch: one coarse look, every second, at all clients' connections for what is late, instead of timers for each."""

import asyncio
from typing import Protocol

PERIOD = 1.0  # seconds


class Watched(Protocol):
    def tick(self, now: float) -> None:
        """Look whether something is late; `now` in seconds on the loop's clock."""

    def cut(self) -> None:
        """The relay shuts down: end what is under way."""


class Watch:
    def __init__(self) -> None:
        self.connections: set[Watched] = set()
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Begin to look; call it on the loop."""
        self._timer = asyncio.get_running_loop().call_later(PERIOD, self._look)

    def _look(self) -> None:
        self.start()
        now = asyncio.get_running_loop().time()
        for connection in list(self.connections):
            connection.tick(now)

    def stop(self) -> None:
        """Look no more, and end every request that is still under way."""
        if self._timer is not None:
            self._timer.cancel()
        for connection in list(self.connections):
            connection.cut()
