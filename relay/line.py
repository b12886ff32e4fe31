"""Line: who waits for a free place, first come first served. Knows nothing of what the place is.

Who finds every place taken waits; who frees one calls `next`. A place that somebody was let go for is spoken for until
he goes on, and counted in `called`: who comes meanwhile may take a place only where more are free than that.
"""

import asyncio
from collections import deque


class NoTurn(Exception):
    """Why nobody's turn came, as the end of a sentence: the line is full, or it took too long."""


class Line:
    """At most `size` wait at a time, each at most `patience` seconds."""

    def __init__(self, size: int, patience: float) -> None:
        self.waiting: deque[asyncio.Future[None]] = deque()  # the longest waiting first; to be looked at only
        self._size = size
        self._patience = patience
        self._called: set[asyncio.Future[None]] = set()

    def change(self, size: int, patience: float) -> None:
        """For whoever comes from now on."""
        self._size, self._patience = size, patience

    @property
    def is_full(self) -> bool:
        """Whether nobody more may wait."""
        return len(self.waiting) >= self._size

    @property
    def called(self) -> int:
        """How many were let go and have not gone on yet."""
        return len(self._called)

    async def wait(self, within: float | None = None) -> None:
        """Wait for one's turn, as long as the line's patience. Raises NoTurn: at once when the line is full.

        `within` is how many seconds there are for everything: half of them are left for what comes after the wait.
        Who is cancelled when his turn had just come passes it on.
        """
        if self.is_full:
            raise NoTurn(f"{self._size} wait already")
        loop = asyncio.get_running_loop()
        seconds = self._patience if within is None else min(self._patience, within / 2)
        turn = loop.create_future()
        self.waiting.append(turn)
        late = loop.call_later(seconds, self._give_up, turn)
        try:
            await turn
        except BaseException:
            if self._leave(turn):
                self.next()
            raise
        finally:
            late.cancel()
        if not self._leave(turn):
            raise NoTurn(f"none came free within {seconds:.3g} seconds")

    def next(self) -> None:
        """Let go who has waited longest; nothing happens when nobody waits."""
        while self.waiting:
            turn = self.waiting.popleft()
            if not turn.done():  # else he was cancelled just now
                self._called.add(turn)
                turn.set_result(None)
                return

    def _give_up(self, turn: asyncio.Future[None]) -> None:
        if not turn.done():
            self.waiting.remove(turn)
            turn.set_result(None)

    def _leave(self, turn: asyncio.Future[None]) -> bool:
        """Be out of the line. Whether one's turn had come."""
        if turn in self._called:
            self._called.remove(turn)
            return True
        if turn in self.waiting:
            self.waiting.remove(turn)
        return False
