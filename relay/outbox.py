"""Outbox: what is written within one turn of the event loop goes out together at its end. Knows asyncio; no HTTP.

A write to a socket often wakes the process at its other end, which costs more than the write itself. Of many that
follow close on each other, most find that process awake already. So under load a turn's writes also wait for those of
the next ones, if these come at once; one that is alone does not. Nor does a piece of an answer of which more is to
come, as the next turn seldom brings more of those, nor a request that nobody is there to go out with: it goes right to
its transport.
"""

import asyncio
import fcntl
import logging
import select
import socket
import sys
import termios
from collections.abc import Callable, Iterable
from typing import Any

_TOGETHER = 32  # writes that wait, before they wait no longer: a turn may be long
_LARGE = 16 << 10  # bytes in one that do not wait: a slow client would be noticed too late
_MANY = 2  # writes at the end of a turn, from which on they wait for those of the next,
_TURNS = 3  # at most for so many in all
QUIET = 5  # singles, from which on it is quiet: what is alone then will find no company by waiting
log = logging.getLogger("relay")


class Outbox:
    """The writes of one turn, over all connections whose transports are `Outgoing` of this outbox.

    `before` is called before anything is sent.
    """

    __slots__ = ("_call_soon", "_seen", "_turns", "before", "called", "singles", "waiting")

    def __init__(self, before: Callable[[], None] | None = None) -> None:
        self.before = before
        self.waiting: list[tuple[asyncio.Transport, Callable[[Any], object], object]] = []  # each with its verb
        self._call_soon: Callable[[Callable[[], None]], object] | None = None  # the loop's
        self.called = False  # to the end of this turn: something is to be sent, or to be done before that
        self.singles = 0  # times in a row that one write went out by itself
        self._turns = 0  # that have ended since something waits,
        self._seen = 0  # and how many waited at the end of the last of them

    def soon(self) -> None:
        """Send at the end of this turn."""
        if not self.called:
            self.called = True
            if self._call_soon is None:  # kept, since to ask for the loop is to ask the system who we are
                self._call_soon = asyncio.get_running_loop().call_soon
            self._call_soon(self._end)

    def send(self) -> None:
        """Send what waits, over those connections that are still there."""
        waiting, self.waiting = self.waiting, []
        self.singles = self.singles + 1 if len(waiting) < _MANY else 0
        if self.before is not None:
            self.before()
        for transport, send, data in waiting:
            try:
                send(data)
            except RuntimeError:  # how it says that it is closed, or was told before that nothing more comes
                if not transport.is_closing():
                    log.exception("an answer could not be sent")
                    transport.abort()

    def _end(self) -> None:
        """The turn is over."""
        self.called = False
        if len(self.waiting) < _MANY or not self._waits():
            self.send()

    def _waits(self) -> bool:
        """Whether to wait for another turn, as this one has brought more; then that is seen to."""
        size = len(self.waiting)
        if size > self._seen and self._turns < _TURNS - 1:
            self._seen = size
            self._turns += 1
            self.soon()
            return True
        self._seen = self._turns = 0
        return False


class Outgoing(asyncio.Transport):
    """A transport whose writes wait for the end of the turn; whatever else is asked of it comes after them, as ever.

    `now` is the way past that, for who has sent something `at_once` and nothing by `write` since.
    """

    __slots__ = ("_outbox", "_transport", "full", "now")

    def __init__(self, transport: asyncio.Transport, outbox: Outbox) -> None:
        super().__init__()
        self._transport = transport
        self._outbox = outbox
        self.now: Callable[[bytes], object] = transport.write
        self.full = False  # who reads is slow, and what is written waits for it: as the protocol is told

    def write(self, data: bytes) -> None:  # type: ignore[override]  # narrower: bytes alone
        """Send `data` at the end of this turn, or of one of the next."""
        outbox = self._outbox
        waiting = outbox.waiting
        if not waiting:
            outbox.soon()
        waiting.append((self._transport, self.now, data))
        if len(waiting) >= _TOGETHER or len(data) > _LARGE:
            outbox.send()

    def at_once(self, data: bytes) -> None:
        """Send `data` now, and before it whatever waits in the outbox."""
        if self._outbox.waiting:
            self._outbox.send()
        try:
            self._transport.write(data)
        except RuntimeError:
            self.write(data)  # the outbox knows what to make of it

    def writelines(self, list_of_data: Iterable[bytes | memoryview]) -> None:  # type: ignore[override]  # as above
        """Send a text in pieces as `write` does, however long it is: requests are, and no upstream is slow by that."""
        outbox = self._outbox
        if not outbox.waiting:
            outbox.soon()
        outbox.waiting.append((self._transport, self._transport.writelines, tuple(list_of_data)))
        if len(outbox.waiting) >= _TOGETHER:
            outbox.send()

    # --- what comes after all that waits

    def write_eof(self) -> None:
        self._outbox.send()
        self._transport.write_eof()

    def close(self) -> None:
        self._outbox.send()
        self._transport.close()

    def abort(self) -> None:
        """Close at once, and drop what waits."""
        self._transport.abort()

    # --- what has nothing to do with it

    def can_write_eof(self) -> bool:
        return self._transport.can_write_eof()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self._transport.get_extra_info(name, default)

    def is_closing(self) -> bool:
        return self._transport.is_closing()

    def is_reading(self) -> bool:
        return self._transport.is_reading()

    def pause_reading(self) -> None:
        self._transport.pause_reading()

    def resume_reading(self) -> None:
        self._transport.resume_reading()

    def get_protocol(self) -> asyncio.BaseProtocol:
        return self._transport.get_protocol()

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._transport.set_protocol(protocol)

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self._transport.set_write_buffer_limits(high, low)

    def get_write_buffer_size(self) -> int:
        return self._transport.get_write_buffer_size()

    @property
    def untaken(self) -> int:
        """Bytes that the other side has not taken yet. 0 where what is left of them needs nobody here any more.

        They stand before the system as well as in it, which tells sooner that something was taken.
        """
        waiting = self._transport.get_write_buffer_size()
        return waiting + _in_system(self._transport.get_extra_info("socket")) if waiting else 0

    @property
    def left(self) -> bool:
        """Whether the other side has hung up: for who does not read just now, and is not told."""
        return _hung_up(self._transport.get_extra_info("socket"))


def _in_system(connection: socket.socket) -> int:
    """Bytes that were handed to the system and not acknowledged; 0 where it does not say (Linux does: tcp(7))."""
    try:
        told = fcntl.ioctl(connection.fileno(), termios.TIOCOUTQ, bytes(4))
    except OSError:
        return 0
    return int.from_bytes(told, sys.byteorder)


def _hung_up(connection: socket.socket) -> bool:
    """Whether the end has come, behind whatever lies there unread; as far as the system tells (Linux does: poll(2))."""
    look = select.poll()
    look.register(connection.fileno(), getattr(select, "POLLRDHUP", 0))
    return bool(look.poll(0))
