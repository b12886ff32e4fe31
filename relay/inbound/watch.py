"""Watch: coarse looks at all clients' connections, for what is late and what is silent, instead of timers for each."""

import asyncio
from typing import Protocol

PERIOD = 1.0  # seconds


class Watched(Protocol):
    def tick(self, now: float) -> None:
        """Look whether something is late; `now` in seconds on the loop's clock."""

    def cut(self) -> None:
        """The relay shuts down: end what is under way."""


class Heard(Protocol):
    def look(self, period: float) -> bool:
        """See whether it has fallen silent; False when there is no need to look again after `period` seconds."""


class Watch:
    def __init__(self) -> None:
        self.connections: set[Watched] = set()
        self._heard: dict[float, set[Heard]] = {}  # by the seconds between two looks
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Begin to look; call it on the loop."""
        self._timer = asyncio.get_running_loop().call_later(PERIOD, self._look)

    def _look(self) -> None:
        self.start()
        now = asyncio.get_running_loop().time()
        for connection in list(self.connections):
            connection.tick(now)

    def hear(self, stream: Heard, period: float) -> None:
        """Look at this one too, every `period` seconds, until it says that there is no need to."""
        heard = self._heard.get(period)
        if heard is None:
            heard = self._heard[period] = set()
            asyncio.get_running_loop().call_later(period, self._listen, period)
        heard.add(stream)

    def _listen(self, period: float) -> None:
        heard = self._heard[period]
        heard.difference_update([stream for stream in heard if not stream.look(period)])
        if heard:
            asyncio.get_running_loop().call_later(period, self._listen, period)
        else:
            del self._heard[period]

    def stop(self) -> None:
        """Look no more, and end every request that is still under way."""
        if self._timer is not None:
            self._timer.cancel()
        for connection in list(self.connections):
            connection.cut()
