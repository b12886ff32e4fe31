"""upstream: the side behind the contenders, one thread over epoll: answers of 1 KB, and streams as they are asked for.

python -m tests.bench.upstream CERTIFICATE prints its two ports, plain and TLS, and serves until it is ended.
"""

import re
import select
import socket
import ssl
import sys
import time
from collections import deque
from heapq import heappop, heappush
from random import Random

from tests.bench.dialogue import ANSWER, END, FIRST, JSON_HEAD, LAST, PLAN, SSE_HEAD, chunk

_LENGTH = re.compile(rb"(?i)\r\ncontent-length: *(\d+)")
_LATER = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)
_JSON = JSON_HEAD % len(ANSWER) + ANSWER
_PIECE = 1 << 18
_FRONT = 400  # bytes of a body that hold the plan


class _Line:
    """One connection, and the stream that it plays."""

    __slots__ = ("due", "held", "left", "open", "pause", "plays", "sock", "unsent")

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.held = self.unsent = b""
        self.left = self.pause = self.due = 0  # chunks; nanoseconds
        self.open, self.plays = True, False


class Upstream:
    """`listeners` by whether they speak TLS."""

    def __init__(self, plain: socket.socket, secure: socket.socket, context: ssl.SSLContext) -> None:
        self._listeners = {plain.fileno(): plain, secure.fileno(): secure}
        self._secure, self._context = secure, context
        self._lines: dict[int, _Line] = {}
        self._paced: list[tuple[int, int, _Line]] = []
        self._ready: deque[_Line] = deque()
        self._asked: list[_Line] = []
        self._poll = select.epoll()
        self._random = Random(1)  # noqa: S311 - phases, so that streams do not tick together
        for number in self._listeners:
            self._poll.register(number, select.EPOLLIN)

    def run(self) -> None:
        """Serve for ever."""
        while True:
            for number, events in self._poll.poll(self._wait()):
                if number in self._listeners:
                    self._accept(self._listeners[number])
                    continue
                line = self._lines[number]
                if events & select.EPOLLOUT:
                    self._flush(line)
                if events & ~select.EPOLLOUT:
                    self._read(line)
            for line in self._asked:  # all at once, which keeps a fast contender busy
                self._send(line, _JSON)
            self._asked.clear()
            self._play()

    def _wait(self) -> float | None:
        """Seconds until something is due; None for ever."""
        if self._ready:
            return 0
        return max(0.0, (self._paced[0][0] - time.monotonic_ns()) / 1e9) if self._paced else None

    def _accept(self, listener: socket.socket) -> None:
        sock, _ = listener.accept()
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if listener is self._secure:
            sock.settimeout(5)
            try:
                sock = self._context.wrap_socket(sock, server_side=True)
            except OSError:
                sock.close()
                return
        sock.setblocking(False)
        self._lines[sock.fileno()] = _Line(sock)
        self._poll.register(sock.fileno(), select.EPOLLIN)

    def _read(self, line: _Line) -> None:
        while line.open:
            try:
                data = line.sock.recv(_PIECE)
            except _LATER:
                return
            except OSError:
                data = b""
            if not data:
                line.open = False
                self._poll.unregister(line.sock)
                del self._lines[line.sock.fileno()]
                line.sock.close()
                return
            line.held = line.held + data if line.held else data
            self._answer(line)
            if not isinstance(line.sock, ssl.SSLSocket):
                return

    def _answer(self, line: _Line) -> None:
        end = line.held.find(b"\r\n\r\n")
        found = _LENGTH.search(line.held, 0, end) if end > 0 else None
        if found is None or len(line.held) < end + 4 + int(found[1]):
            return
        front, line.held = line.held[end : end + _FRONT], b""
        if b'"stream":true' not in front:
            self._asked.append(line)
            return
        plan = PLAN.search(front)
        assert plan, front
        line.plays, line.left, line.pause = True, int(plan[1]), int(plan[2]) * 1000
        line.due = time.monotonic_ns() + (self._random.randrange(line.pause) if line.pause else 0)
        self._send(line, SSE_HEAD + FIRST)
        self._next(line)

    def _next(self, line: _Line) -> None:
        """Have the stream's next chunk played when it is due, unless the socket takes no more just now."""
        if line.unsent or not line.open:
            return
        if line.pause:
            heappush(self._paced, (line.due, id(line), line))
        else:
            self._ready.append(line)

    def _play(self) -> None:
        """One chunk of each stream that is due."""
        due, now = len(self._ready), time.monotonic_ns()
        for _ in range(due):
            self._step(self._ready.popleft())
        while self._paced and self._paced[0][0] <= now:
            self._step(heappop(self._paced)[2])

    def _step(self, line: _Line) -> None:
        if line.left == 0:
            line.plays = False
            self._send(line, LAST + END)
            return
        line.left -= 1
        line.due = max(line.due + line.pause, time.monotonic_ns())
        self._send(line, chunk(time.monotonic_ns()))
        self._next(line)

    def _send(self, line: _Line, data: bytes) -> None:
        if not line.open:
            return
        try:
            sent = line.sock.send(data)
        except _LATER:
            sent = 0
        except OSError:
            return  # the read side tells that it is over
        if sent < len(data):
            line.unsent = data[sent:]
            self._poll.modify(line.sock, select.EPOLLIN | select.EPOLLOUT)

    def _flush(self, line: _Line) -> None:
        data, line.unsent = line.unsent, b""
        self._send(line, data)
        if not line.unsent:
            self._poll.modify(line.sock, select.EPOLLIN)
            if line.plays:
                self._next(line)


def main(certificate: str) -> None:
    """Serve on two free ports."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    plain, secure = (socket.create_server(("127.0.0.1", 0), backlog=4096) for _ in range(2))
    sys.stdout.write(f"{plain.getsockname()[1]} {secure.getsockname()[1]}\n")
    sys.stdout.flush()
    Upstream(plain, secure, context).run()


if __name__ == "__main__":
    main(sys.argv[1])
