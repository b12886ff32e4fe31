"""Server-sent events as bytes: the splitter that gives out whole events, and what an event says. No JSON, no HTTP.

Bytes in, the same bytes out, only never half an event: an event ends with its blank line, whatever the line ends
(LF, CR LF, CR) and wherever the network cut them. Nothing is decoded, so no character is ever torn. Whoever feeds the
splitter sees to it that an event without end is let go, and goes on as it comes.
"""

import re

import msgspec

BOM = b"\xef\xbb\xbf"
DONE = b"[DONE]"
LARGE = 1 << 20  # bytes kept of an event, from which on it is let go
_EOL = rb"(?:\r\n?+|\n)"
_LINE = re.compile(_EOL)
_END = re.compile(_EOL + _EOL)  # written out: {2} costs six times as much


class EventSplitter(msgspec.Struct, eq=False):
    """Feed it what arrives; it returns the bytes up to the end of the last whole event, and keeps the rest.

    Linear in size: what was searched is not searched again, and the pieces of a large event are joined once.
    """

    _kept: list[bytes] = []
    _size: int = 0  # of these
    _seam: bytes = b""  # the last three bytes kept: a blank line may lie across a cut
    _began: bool = False

    def feed(self, data: bytes) -> bytes:
        """All whole events that `data` completes, as one piece; empty when there is none yet."""
        if not self._kept and data.endswith((b"\n\n", b"\r\n\r\n")):  # usually the network cuts where events end
            if self._began:
                return data
            if data.startswith(b"data:"):
                self._began = True
                return data
        if not self._began:
            data = self._opening(data)
        window = self._seam + data
        end = _last_end(window) - len(self._seam)
        if end < 0 or (end == 0 and not self._kept):
            self._keep(data, window)
            return b""
        whole = b"".join([*self._kept, data[:end]])
        self._forget()
        if end < len(data):
            self._keep(data[end:], data[end:])
        return whole

    @property
    def is_empty(self) -> bool:
        """No event is under way that is not whole yet."""
        return not self._kept

    @property
    def is_large(self) -> bool:
        """The event under way is too large to be kept."""
        return self._size > LARGE

    def let_go(self) -> bytes:
        """What is kept of the event under way; from now on ask for its `end` until it has come.

        In its place stands the blank line that ends it, should the rest never come.
        """
        kept = b"".join(self._kept)
        self._kept, self._size = [b"\n\n"], 0
        return kept

    def end(self, data: bytes) -> int | None:
        """Where in `data` the event ends that was let go, behind which `feed` goes on; None when it does not."""
        seam, window = len(self._seam), self._seam + data
        end = _first_end(window)
        if not end:
            self._seam = window[-3:]
            return None
        self._forget()
        return end - seam

    def rest(self) -> bytes:
        """What is left when the stream has ended: an event without its blank line, or nothing."""
        left = b"".join(self._kept)
        self._forget()
        return left

    def _keep(self, data: bytes, window: bytes) -> None:
        if data:
            self._kept.append(data)
            self._size += len(data)
            self._seam = window[-3:]

    def _forget(self) -> None:
        self._kept, self._size, self._seam = [], 0, b""

    def _opening(self, data: bytes) -> bytes:
        """The start of the stream without its byte order mark, which clients do not expect."""
        start = self.rest() + data
        if len(start) < len(BOM) and BOM.startswith(start):
            return start
        self._began = True
        return start.removeprefix(BOM)


def _last_end(window: bytes) -> int:
    """Where the last event in `window` ends; 0 when none does."""
    if window.find(b"\r") < 0:
        end = window.rfind(b"\n\n")
        return end + 2 if end >= 0 else 0
    end = 0
    for match in _END.finditer(window, 0, _stop(window)):
        end = match.end()
    return end


def _first_end(window: bytes) -> int:
    """Where the first event in `window` ends; 0 when none does."""
    if window.find(b"\r") < 0:
        end = window.find(b"\n\n")
        return end + 2 if end >= 0 else 0
    match = _END.search(window, 0, _stop(window))
    return match.end() if match else 0


def _stop(window: bytes) -> int:
    """Where to stop: a final CR that does not repeat is probably half of a CR LF, whose other half has to come."""
    return len(window) - 1 if window.endswith(b"\r") and not window.endswith(b"\r\r") else len(window)


def events(whole: bytes) -> list[bytes]:
    """The events in what `feed` returned, each with its blank line; joined, they are `whole` again."""
    if whole.find(b"\r") < 0:  # nearly all: a split takes a quarter of the time
        *ended, rest = whole.split(b"\n\n")
        found = [event + b"\n\n" for event in ended]
        return [*found, rest] if rest else found
    found, done = [], 0
    for match in _END.finditer(whole):
        found.append(whole[done : match.end()])
        done = match.end()
    if done < len(whole):
        found.append(whole[done:])
    return found


def data(event: bytes) -> bytes | None:
    """The event's data, its lines joined by LF; None for an event that has none (a comment, a blank)."""
    if (
        event.startswith(b"data:")
        and (end := event.find(b"\n")) >= 0
        and event[end:] == b"\n\n"
        and event.find(b"\r") < 0
    ):
        return event[6:end] if event[5:6] == b" " else event[5:end]  # the usual case: one line
    lines = [line[5:].removeprefix(b" ") for line in _LINE.split(event) if line.startswith(b"data:")]
    return b"\n".join(lines) if lines else None


def event(data: bytes) -> bytes:
    """One event with this single-line data."""
    return b"data: %s\n\n" % data
