"""Writer: the thread that brings what the journal holds into the store. It is handed no objects, it reads the files.

So a day like any other and the day after a crash are the same code: read on. The store keeps the place up to which each
segment was read, in one transaction with the records that were read, so each is kept once whoever dies at what moment.
A place is forgotten only after its file is gone, and no two files ever have the same name.
"""

import math
import threading
import time
from collections.abc import Callable
from os import close
from pathlib import Path

import msgspec

from relay.errors import SetupFault
from relay.journal import Journal, batches, claim, segments
from relay.store import Place, Store, StoreFault

_GATHER = 0.1  # seconds that a batch may gather: one more costs as much as a dozen rows
_MINUTE = 60.0
_PAUSES = (0.1, 30.0)  # seconds between two tries with a store that fails, first and longest


class _Unreadable(StoreFault):
    """A segment that cannot be read."""


def drain(store: Store, folder: Path, current: Path | None = None) -> int:
    """Bring into the store what is in `current` and in every segment that nobody writes to; return how many were new.

    The latter are then removed. Raises StoreFault, with nothing lost; a segment that cannot be read keeps back none.
    """
    count, unread = 0, ""
    for path in segments(folder):
        lock = claim(path)
        try:
            if lock is None and path != current:
                continue
            count += read_on(store, path)
            if lock is not None:
                path.unlink()
        except _Unreadable as fault:
            unread = str(fault)
        finally:
            if lock is not None:
                close(lock)
    if gone := [name for name in store.segments() if not (folder / name).exists()]:
        store.forget(gone)
    if unread:
        raise StoreFault(unread)
    return count


def read_on(store: Store, path: Path) -> int:
    """Bring into the store what one segment holds behind its place; return how many were new. Raises StoreFault.

    A segment that was let go of may have two readers for a moment, its writer's and whoever claims it. The store takes
    a batch of one of them, and the other asks again how far it is; so both end where the segment does.
    """
    count = 0
    while True:
        place = store.place(path.name)
        try:
            for batch in batches(path, place.offset):
                new = store.insert(batch, place)
                if new is None:
                    break
                count, place = count + new, Place(path.name, batch.end)
            else:
                return count
        except (OSError, msgspec.DecodeError) as fault:
            raise _Unreadable(f"journal {path}: {fault}") from fault


class Writer:
    """A thread that reads `journal`'s folder. `retention` (seconds, None for ever) may be changed while it runs."""

    def __init__(self, journal: Journal, connect: Callable[[], Store], retention: float | None = None) -> None:
        """`connect` opens the store, in the thread that will use it."""
        self._thread = threading.Thread(target=self._run, name="writer", daemon=True)
        self.retention = retention
        self._journal = journal
        self._connect = connect
        self._stopping = threading.Event()
        self._current: Path | None = None  # our own segment when all were last looked at
        self._looked = -math.inf
        self._fault: str | None = None
        self._drained = 0

    def start(self) -> None:
        """Begin with what an earlier process left behind."""
        self._thread.start()

    @property
    def alarm(self) -> str | None:
        """What keeps the log from being written just now; None when all is well."""
        died = self._thread.ident is not None and not self._thread.is_alive() and not self._stopping.is_set()
        return "the log's writer has ended by a fault of its own; restart the relay" if died else self._fault

    def stop(self) -> int:
        """Bring in all that was appended, end the thread and return how many records that were.

        A store that still fails gets one more try; what it does not take stays in the journal for the next start.
        """
        self._drained = 0
        self._stopping.set()
        self._journal.signal.set()
        if self._thread.ident is not None:
            self._thread.join()
        return self._drained

    def _run(self) -> None:
        pause, purged = _PAUSES[0], -math.inf
        store: Store | None = None
        while not self._stopping.is_set():
            try:
                store = store or self._connect()
                purged = self._round(store, purged)
                self._fault, pause = None, _PAUSES[0]
            except SetupFault as fault:
                self._fault = str(fault)
                self._stopping.wait(pause)
                pause = min(pause * 2, _PAUSES[1])
                continue
            if not self._stopping.is_set():  # asked after the round, which may have cleared the signal of stop()
                self._journal.signal.wait(_MINUTE)
                self._stopping.wait(_GATHER)
        self._finish(store)

    def _round(self, store: Store, purged: float) -> float:
        """Everything that is there now, and once a minute what is too old; returns when that was last done."""
        self._journal.signal.clear()
        self._drain(store)
        if self.retention is None or time.monotonic() - purged < _MINUTE:
            return purged
        while store.purge(time.time_ns() // 1000 - int(self.retention * 1e6)) and not self._stopping.is_set():
            self._drain(store)
        return time.monotonic()

    def _drain(self, store: Store) -> None:
        """What is new in our own segment: all, as a rule. Now and then look for segments that were left behind."""
        now, current = time.monotonic(), self._journal.current
        if current == self._current and now - self._looked < _MINUTE:
            self._drained += read_on(store, current)
            return
        self._drained += drain(store, self._journal.folder, current)
        self._current, self._looked = current, now

    def _finish(self, store: Store | None) -> None:
        try:
            store = store or self._connect()
            self._current = None
            self._drain(store)
            store.close()
            self._fault = None
        except SetupFault as fault:
            self._fault = str(fault)
