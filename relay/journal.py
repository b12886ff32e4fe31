"""Journal: what finished requests leave behind, in append-only files, before their last byte goes out. Knows no store.

It is the only hand-off from the request path to the store: whoever writes the store reads these files, after a crash as
on any other day. Every write is one write(2), and survives the death of the process, though not of the machine.

    frame    crc32 · three lengths · records (JSON) · request body · response body; with bodies there is one record
    segment  NAME.journal, at most a little over SEGMENT bytes; the process that writes to it holds an flock on it
"""

import fcntl
import os
import struct
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol
from zlib import crc32

from relay.errors import SetupFault
from relay.outbox import Outbox
from relay.record import BODY_KEPT, Batch, Entry, Record, kept, read, written

SEGMENT = 16 << 20  # bytes, after which the next segment is begun

_PIECE = 256 << 10  # bytes read at a time
_CRC = struct.Struct("<I")  # of the lengths and the record
_LENGTHS = struct.Struct("<III")  # of record, request and response
_HEAD = struct.Struct("<II8s")  # the last two lengths are looked at as one, since most frames have no bodies
_BODIES = struct.Struct("<II")
_NONE = 0xFFFFFFFF  # the length of a body that is not kept
_NO_BODIES = _BODIES.pack(_NONE, _NONE)
_TOGETHER = 32  # records that wait for the end of a turn, at most

Kept = tuple[Record, bytes | None, bytes | None]  # an Entry, as a plain tuple


class Noted(Protocol):
    def record(self) -> Record:
        """What is to be written down of it."""


class Journal:
    """The segment that this process writes to. Writing is for one thread; `lost`, `alarm` and `signal` are for all."""

    def __init__(self, folder: Path) -> None:
        """Begin a segment in `folder`, which is made when missing. Raises SetupFault."""
        self.folder = folder
        self.signal = threading.Event()  # set when there is something new to read
        self.lost = 0  # records that could not be written, ever
        self.alarm: str | None = None  # what is wrong now
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.current, self._file = _begin(folder)
        except OSError as fault:
            raise SetupFault(f"journal {folder}: {fault.strerror}; the relay needs a folder it can write to") from fault
        self._size = 0

    def append(self, record: Record, request: bytes | None = None, response: bytes | None = None) -> None:
        """Write one entry. Never raises: what cannot be written is counted in `lost`, and `alarm` says why."""
        self.write([(record, request, response)])

    def note(self, noted: Noted, request: bytes | None = None, response: bytes | None = None) -> None:
        """Write one entry, as `append` does."""
        self.append(noted.record(), request, response)

    def write(self, together: Sequence[Kept]) -> None:
        """Write entries, all of them at once; where that fails, each by itself: no more than must be is lost."""
        fault = self._write(framed(together))
        if fault is None:
            return
        if len(together) > 1:
            for entry in together:
                self.write([entry])
        else:
            self.lost += 1
            self.alarm = f"journal {self.folder}: {fault}; {self.lost} records lost so far"

    def close(self) -> None:
        """Let go of the segment, so that any reader may finish and remove it. Nothing happens the second time."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _write(self, parts: Sequence[bytes]) -> str | None:
        """What went wrong, None when all was written: the segment is then as it was before."""
        size = sum(map(len, parts))
        try:
            fault = None if os.writev(self._file, parts) == size else "the disk is full"
        except OSError as error:
            fault = error.strerror or "it cannot be written"
        if fault is not None:
            self._undo()
            return fault
        self._size += size
        if self._size >= SEGMENT:
            self._rotate()
        elif self.alarm is not None:
            self.alarm = None
        if not self.signal.is_set():
            self.signal.set()
        return None

    def _undo(self) -> None:
        """Take half written frames back, since nothing behind them could be read."""
        if self._file < 0:
            return  # closed: there is nothing
        try:
            os.ftruncate(self._file, self._size)
        except OSError:
            self._rotate()

    def _rotate(self) -> None:
        try:
            current, file = _begin(self.folder)
        except OSError as fault:
            self.alarm = f"journal {self.folder}: no new segment: {fault.strerror}; the last one grows on"
            return
        self.close()
        self.current, self._file, self._size = current, file, 0


class Blotter:
    """Takes down what ends, to be written to the journal at once, at the latest before the outbox sends anything.

    So nothing is delivered that is not in the journal. The records are made then too: one after the other they take
    two thirds of the time, as their code is there for all but the first.
    """

    def __init__(self, journal: Journal, outbox: Outbox) -> None:
        """`outbox` is what is sent over."""
        self._journal = journal
        self._taken: list[tuple[Noted, bytes | None, bytes | None]] = []
        self._outbox = outbox
        outbox.before = self.write

    def note(self, noted: Noted, request: bytes | None = None, response: bytes | None = None) -> None:
        """Take it down, to be written when the outbox sends, which it then does soon. Never raises."""
        taken = self._taken
        if not taken:
            self._outbox.soon()
        taken.append((noted, request, response))
        if len(taken) == _TOGETHER:
            self.write()

    def write(self) -> None:
        """Write what was taken down."""
        if self._taken:
            taken, self._taken = self._taken, []
            self._journal.write([(noted.record(), request, response) for noted, request, response in taken])


def framed(together: Sequence[Kept]) -> list[bytes]:
    """Entries as they are written, in parts: as one frame where none has bodies, else each as its own."""
    bare = [record for record, request, response in together if request is None and response is None]
    if len(bare) == len(together):
        return [_checked(bare, _NONE, _NONE)]
    return [part for entry in together for part in _frame(*entry)]


def _frame(record: Record, request: bytes | None, response: bytes | None) -> tuple[bytes, bytes, bytes]:
    sent, got = _begin_of(request, BODY_KEPT), _begin_of(response, kept(record.status))
    lengths = _NONE if request is None else len(sent), _NONE if response is None else len(got)
    return _checked([record], *lengths), sent, got


def _checked(records: Sequence[Record], request: int, response: int) -> bytes:
    """A frame but for its bodies, which have those lengths."""
    line = written(records)
    checked = _LENGTHS.pack(len(line), request, response) + line
    return _CRC.pack(crc32(checked)) + checked


def batches(path: Path, offset: int = 0) -> Iterator[Batch]:
    """The whole frames of a segment from `offset` on, as many at a time as one read brings; ends at a torn one.

    No batch is empty. Every read hands the interpreter's lock to the thread that serves requests. Raises OSError.
    """
    with path.open("rb", buffering=0) as file:
        size = os.fstat(file.fileno()).st_size  # what comes from now on is for the next time: few rows cost the most
        wanted = _PIECE
        while size - offset >= _HEAD.size:
            piece = os.pread(file.fileno(), min(wanted, size - offset), offset)
            batch = _batch(piece, offset)
            if batch.lines:
                yield batch
                offset, wanted = batch.end, _PIECE
                continue
            asked, wanted = wanted, _whole(piece)
            if wanted <= asked or wanted > size - offset:
                return  # not what was written, or torn, or not yet whole


def _whole(piece: bytes) -> int:
    """The size of the frame that `piece` begins with; 0 where not even its head is there."""
    if len(piece) < _HEAD.size:
        return 0
    return _HEAD.size + sum(0 if length == _NONE else length for length in _LENGTHS.unpack_from(piece, _CRC.size))


def _batch(piece: bytes, offset: int) -> Batch:
    """The frames that `piece`, which lies at `offset`, begins with: those that are whole, and what was written."""
    records: list[bytes] = []
    bodies: dict[int, tuple[bytes | None, bytes | None]] = {}
    at, size = 0, len(piece)
    while at + _HEAD.size <= size:
        crc, record, lengths = _HEAD.unpack_from(piece, at)
        end = sent = at + _HEAD.size + record
        kept = None
        if lengths != _NO_BODIES:
            kept, end = _bodies(piece, sent, lengths)
        checked = piece[at + _CRC.size : sent]
        if end > size or crc != crc32(checked):
            break
        if kept is not None:
            bodies[len(records)] = kept
        records.append(checked[_LENGTHS.size :])
        at = end
    return Batch(records, bodies, offset + at)


def _bodies(piece: bytes, at: int, lengths: bytes) -> tuple[tuple[bytes | None, bytes | None], int]:
    """Request and response, which begin at `at`, and where they end."""
    request, response = _BODIES.unpack(lengths)
    got = at if request == _NONE else at + request
    end = got if response == _NONE else got + response
    return (None if request == _NONE else piece[at:got], None if response == _NONE else piece[got:end]), end


def frames(path: Path, offset: int = 0) -> Iterator[tuple[int, Entry]]:
    """What is in the whole frames of a segment from `offset` on, one by one, each with the offset behind its frame.

    Raises OSError, and msgspec.DecodeError for a record that this version does not understand.
    """
    for batch in batches(path, offset):
        for index, record in enumerate(batch.lines):
            request, response = batch.bodies.get(index, (None, None))
            offset += _HEAD.size + len(record) + len(request or b"") + len(response or b"")
            for each in read(record):
                yield offset, Entry(each, request, response)


def beside(store: Path) -> Path:
    """The folder of the journal that belongs to the store at that path."""
    return store.with_suffix(".journal")


def segments(folder: Path) -> list[Path]:
    """All segments in `folder`, oldest first."""
    return sorted(folder.glob("*.journal"))


def claim(path: Path) -> int | None:
    """A locked descriptor of a segment that no process writes to any more, for the caller to close; else None."""
    try:
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(file)
        return None
    if os.fstat(file).st_nlink == 0:  # another reader has just finished with it
        os.close(file)
        return None
    return file


def _begin(folder: Path) -> tuple[Path, int]:
    """A new segment, locked before it gets the name under which readers look for it."""
    path = folder / f"{time.time_ns()}-{os.getpid()}.journal"
    hidden = path.with_suffix(".new")
    file = os.open(hidden, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o600)
    fcntl.flock(file, fcntl.LOCK_EX)
    hidden.rename(path)
    return path, file


def _begin_of(body: bytes | None, most: int) -> bytes:
    """What goes into the frame: of a body that is too long one byte more than is kept, which tells the store so."""
    if body is None:
        return b""
    return body if len(body) <= most else body[: most + 1]
