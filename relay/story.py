"""Story: a coroutine that goes on within the very call that brings what it waited for. Knows asyncio; no HTTP.

A task would go on a turn of the loop later, for the price of a future, two handles and one more look for events. So the
fast path waits for a Bell, which a Story hears at once. Whatever else is awaited (a lock, a task) is waited for as a
task does, and to a task a Bell is a plain future. What needs a task around it, as `asyncio.timeout` does, has to run in
one of its own.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any

import msgspec

log = logging.getLogger("relay")


class Bell(asyncio.Future[Any]):
    """What one waits for who wants to hear of it at once. `bell` makes one."""

    __slots__ = ("heard",)

    heard: Callable[[], None] | None

    def ring(self, word: object = None) -> None:
        """Let who waits go on with `word`: a Story before this returns, a task at the loop's next turn. Rings once."""
        if not self.done():
            self.set_result(word)
            if self.heard is not None:
                self.heard()


def bell(loop: asyncio.AbstractEventLoop) -> Bell:
    """A Bell that nobody waits for yet: made here, since an `__init__` of its own would take three times as long."""
    made = Bell(loop=loop)
    made.heard = None
    return made


class Story(msgspec.Struct, eq=False):
    """Runs `coroutine` when told to `go_on`: up to its first wait, then by itself from wait to wait.

    `name` is what the log calls it if it fails; `ended` is told of its end.
    """

    name: str
    coroutine: Coroutine[Any, Any, None]
    loop: asyncio.AbstractEventLoop
    ended: Callable[[], None]
    over: bool = False
    _waited: asyncio.Future[Any] | None = None
    _cancelled: bool = False

    def go_on(self, _waited: object = None) -> None:
        """Run on to the next wait, or to the end."""
        self._waited = None  # it knows us: two that know each other are left to the garbage collector
        try:
            waited = self._throw() if self._cancelled else self.coroutine.send(None)
        except (StopIteration, asyncio.CancelledError):
            self.over = True
            self.ended()
        except Exception:
            log.exception("request %s failed", self.name)
            self.over = True
            self.ended()
        else:
            self._waited = waited
            if type(waited) is Bell:
                waited.heard = self.go_on
            else:
                self._wait(waited)

    def cancel(self) -> None:
        """Raise CancelledError where it waits: at once, save where what it waits for has an end of its own to come to.

        Not to be called from within the story.
        """
        waited = self._waited
        if self.over:
            return
        if isinstance(waited, Bell):
            waited.heard = None
            self._cancelled = True
            self.go_on()
        elif waited is None or not waited.cancel():
            self._cancelled = True  # it is just about to go on

    def _throw(self) -> Any:
        self._cancelled = False
        return self.coroutine.throw(asyncio.CancelledError())

    def _wait(self, waited: Any) -> None:
        """Wait as a task of asyncio does."""
        if waited is None:  # it only lets others go first
            self.loop.call_soon(self.go_on)
        else:
            waited._asyncio_future_blocking = False  # noqa: SLF001  # how tasks say that they have seen it
            waited.add_done_callback(self.go_on)
