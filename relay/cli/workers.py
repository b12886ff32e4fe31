"""workers: several processes that serve one place, each a whole relay of its own. Knows processes, and no relay.

Each has sockets of its own on the same port, among which the kernel deals out connections. One that dies is replaced;
its sockets stay, and with them the connections that nobody had taken yet.
"""

import logging
import os
import signal
import time
from collections.abc import Callable
from types import FrameType

log = logging.getLogger("relay")
_RESTART_PAUSE = 1.0  # seconds, so that one that cannot start does not spin


class Workers:
    """`serve` is run in each child, told its number and whether it takes the place of one that died.

    Its result is the child's exit code. `stop` is called here, once they are all to end.
    """

    def __init__(self, count: int, serve: Callable[[int, bool], int], stop: Callable[[], None]) -> None:
        self._count = count
        self._serve = serve
        self._stop = stop
        self._pids: dict[int, int] = {}  # by process, its number
        self._stopping = False
        self._failed = False

    def run(self) -> int:
        """Start them all, keep them running until a signal, and return the exit code: 1 if any ended badly."""
        for number in range(self._count):
            self._fork(number)
        for heard in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(heard, self._pass_on)
        while self._pids:
            pid, status = os.wait()
            number = self._pids.pop(pid)
            if self._stopping:
                # One that was told to end before it could hear is ended by the signal itself, and had nothing to drain.
                self._failed |= os.waitstatus_to_exitcode(status) not in {0, -signal.SIGTERM, -signal.SIGINT}
            else:
                log.warning("worker %d %s; another takes its place", number, _ended(status))
                time.sleep(_RESTART_PAUSE)
                self._fork(number, again=True)
        return 1 if self._failed else 0

    def _fork(self, number: int, *, again: bool = False) -> None:
        if self._stopping:
            return
        pid = os.fork()
        if pid == 0:
            os.setpgid(0, 0)  # a terminal's Ctrl-C reaches the parent alone, which passes it on
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            signal.signal(signal.SIGHUP, signal.SIG_IGN)  # until it hears it: it reads what is new anyway
            os._exit(self._serve(number, again))
        self._pids[pid] = number

    def _pass_on(self, heard: int, _frame: FrameType | None) -> None:
        if heard != signal.SIGHUP and not self._stopping:
            self._stopping = True
            self._stop()
        for pid in self._pids:
            os.kill(pid, heard)


def _ended(status: int) -> str:
    """How a process ended, by what `wait` says of it."""
    code = os.waitstatus_to_exitcode(status)
    return f"was ended by signal {-code}" if code < 0 else f"ended with exit code {code}"
