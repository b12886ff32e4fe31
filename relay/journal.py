"""Journal: what finished requests leave behind, in append-only files, before their last byte goes out. Knows no store.

It is the only hand-off from the request path to the store: whoever writes the store reads these files, after a crash as
on any other day. One frame is one write(2) and survives the death of the process, though not of the machine.

    frame    crc32 · three lengths · record (msgpack) · request body · response body
    segment  NAME.journal, at most a little over SEGMENT bytes; the process that writes to it holds an flock on it
"""

import fcntl
import os
import struct
import threading
import time
import zlib
from collections.abc import Iterator
from pathlib import Path

import msgspec

from relay.errors import SetupFault
from relay.record import BODY_KEPT, Entry, Record, storable

SEGMENT = 16 << 20  # bytes, after which the next segment is begun

_PIECE = 256 << 10  # bytes read at a time
_CRC = struct.Struct("<I")
_LENGTHS = struct.Struct("<III")  # of record, request and response
_HEAD = _CRC.size + _LENGTHS.size
_NONE = 0xFFFFFFFF  # the length of a body that is not kept
_decode = msgspec.msgpack.Decoder(Record).decode


class Journal:
    """The segment that this process writes to. `append` is for one thread; `lost`, `alarm` and `signal` are for all."""

    def __init__(self, folder: Path) -> None:
        """Begin a segment in `folder`, which is made when missing. Raises SetupFault."""
        self.folder = folder
        self.signal = threading.Event()  # set when there is something new to read
        self.lost = 0  # records that could not be written, ever
        self.alarm: str | None = None  # what is wrong now
        self._encode = msgspec.msgpack.Encoder().encode
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.current, self._file = _begin(folder)
        except OSError as fault:
            raise SetupFault(f"journal {folder}: {fault.strerror}; the relay needs a folder it can write to") from fault
        self._size = 0

    def append(self, record: Record, request: bytes | None = None, response: bytes | None = None) -> None:
        """Write one frame. Never raises: what cannot be written is counted in `lost`, and `alarm` says why."""
        parts = self._frame(record, request, response)
        size = sum(map(len, parts))
        try:
            written = os.writev(self._file, parts)
        except OSError as fault:
            self._failed(fault.strerror)
            return
        if written != size:
            self._failed("the disk is full")
            return
        self._size += size
        if self._size >= SEGMENT:
            self._rotate()
        elif self.alarm is not None:
            self.alarm = None
        if not self.signal.is_set():
            self.signal.set()

    def close(self) -> None:
        """Let go of the segment, so that any reader may finish and remove it. Nothing happens the second time."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _frame(self, record: Record, request: bytes | None, response: bytes | None) -> tuple[bytes, ...]:
        try:
            encoded = self._encode(record)
        except (ValueError, OverflowError):
            encoded = self._encode(storable(record))
        sent, got = _kept(request), _kept(response)
        lengths = _LENGTHS.pack(
            len(encoded), _NONE if request is None else len(sent), _NONE if response is None else len(got)
        )
        return _CRC.pack(zlib.crc32(encoded, zlib.crc32(lengths))), lengths, encoded, sent, got

    def _failed(self, reason: str | None) -> None:
        """Take a half written frame back, since nothing behind it could be read; the next append tries again."""
        self.lost += 1
        self.alarm = f"journal {self.folder}: {reason}; {self.lost} records lost so far"
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


def frames(path: Path, offset: int = 0) -> Iterator[tuple[int, Entry]]:
    """The whole frames of a segment from `offset` on, each with the offset behind it; ends at a torn or unfinished one.

    It reads many frames at a time: every read hands the interpreter's lock to the thread that serves requests.
    Raises OSError, and msgspec.ValidationError for a record that this version does not understand.
    """
    with path.open("rb", buffering=0) as file:
        wanted = _PIECE
        while len(piece := os.pread(file.fileno(), wanted, offset)) >= _HEAD:
            at, wanted = 0, _PIECE
            while (entry := _frame_at(piece, at)) is not None:
                at += entry[0]
                yield offset + at, entry[1]
            if at == 0:
                wanted = _HEAD + sum(_sizes(piece))
                if wanted <= len(piece):
                    return  # whole, and not what was written
                if len(piece) < _PIECE or wanted > os.fstat(file.fileno()).st_size - offset:
                    return  # torn, or not yet whole
            offset += at


def _sizes(piece: bytes, at: int = 0) -> tuple[int, ...]:
    """The lengths of record, request and response of the frame at `at`."""
    return tuple(0 if length == _NONE else length for length in _LENGTHS.unpack_from(piece, at + _CRC.size))


def _frame_at(piece: bytes, at: int) -> tuple[int, Entry] | None:
    """The size of the frame at `at` and what it holds; None when it is not whole, or not what was written."""
    begin = at + _HEAD
    if begin > len(piece):
        return None
    record, request, response = _LENGTHS.unpack_from(piece, at + _CRC.size)
    sent = begin + record
    got = sent if request == _NONE else sent + request
    end = got if response == _NONE else got + response
    if end > len(piece):
        return None
    encoded = piece[begin:sent]
    if _CRC.unpack_from(piece, at)[0] != zlib.crc32(encoded, zlib.crc32(piece[at + _CRC.size : begin])):
        return None
    entry = Entry(
        _decode(encoded), None if request == _NONE else piece[sent:got], None if response == _NONE else piece[got:end]
    )
    return end - at, entry


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


def _kept(body: bytes | None) -> bytes:
    """What goes into the frame: of a body that is too long one byte more than is kept, which tells the store so."""
    if body is None:
        return b""
    return body if len(body) <= BODY_KEPT else body[: BODY_KEPT + 1]
