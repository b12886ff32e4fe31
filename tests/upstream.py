"""A scripted upstream: raw bytes, pauses and hang-ups, chosen by the model that a request names. It knows no relay.

with Upstream() as upstream:
    upstream.play("slow", *stream(event({"n": 1}), Pause(2), DONE))
    ...
    assert upstream.requests("slow")[0].json()["stream"]
"""

import asyncio
import json
import socket
import struct
import threading
import time
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from itertools import count
from types import TracebackType
from typing import Any, Self

from typing_extensions import override  # typing has it from 3.12

DONE = b"data: [DONE]\n\n"
END = b"0\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Pause:
    """Nothing is sent for that many seconds."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Close:
    """The connection ends as by `close(2)`: everything sent arrives, then FIN."""


@dataclass(frozen=True, slots=True)
class Reset:
    """The connection ends with RST."""


@dataclass(frozen=True, slots=True)
class Never:
    """Nothing more happens until the other side leaves."""


Step = bytes | Pause | Close | Reset | Never


@dataclass(frozen=True, slots=True)
class Seen:
    """One request as it arrived: raw head and decoded body, on which connection, and when (`time.monotonic`)."""

    head: bytes
    body: bytes
    connection: int
    at: float

    @property
    def target(self) -> str:
        return self.head.split(b" ", 2)[1].decode()

    @property
    def headers(self) -> list[tuple[str, str]]:
        lines = self.head.decode("latin-1").split("\r\n")[1:]
        return [(name.lower(), value.strip()) for name, _, value in (line.partition(":") for line in lines) if name]

    def header(self, name: str) -> str | None:
        return next((value for found, value in self.headers if found == name), None)

    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def model(self) -> str:
        try:
            return str(self.json()["model"])
        except (ValueError, KeyError, TypeError):
            return ""


def response(body: bytes | Mapping[str, Any], *headers: str, status: str = "200 OK") -> bytes:
    """A whole answer with its content-length; a mapping is sent as JSON."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    kind = (
        () if any(line.lower().startswith("content-type") for line in headers) else ("content-type: application/json",)
    )
    lines = [f"HTTP/1.1 {status}", *kind, f"content-length: {len(content)}", *headers, "", ""]
    return "\r\n".join(lines).encode("latin-1") + content


def opening(*headers: str, status: str = "200 OK", framing: str = "transfer-encoding: chunked") -> bytes:
    """The head of an event stream."""
    return "\r\n".join([f"HTTP/1.1 {status}", "content-type: text/event-stream", framing, *headers, "", ""]).encode()


def piece(data: bytes) -> bytes:
    """One chunk of a chunked body."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def event(data: bytes | Mapping[str, Any]) -> bytes:
    """One server-sent event."""
    text = data if isinstance(data, bytes) else json.dumps(data, separators=(",", ":")).encode()
    return b"data: " + text + b"\n\n"


def stream(*parts: bytes | Pause) -> tuple[Step, ...]:
    """A whole chunked event stream; each part is one chunk and one write."""
    return (opening(), *(piece(part) if isinstance(part, bytes) else part for part in parts), END)


def drip(data: bytes, every: float, times: int) -> tuple[Step, ...]:
    """The same chunk again and again, with a pause of `every` seconds after each."""
    return (piece(data), Pause(every)) * times


class _Ear(asyncio.StreamReader):
    """A reader that tells at once when there is no more to come, without reading."""

    def __init__(self) -> None:
        super().__init__(limit=2**20)
        self.over = asyncio.Event()

    @override
    def feed_eof(self) -> None:
        super().feed_eof()
        self.over.set()

    @override
    def set_exception(self, exc: Exception) -> None:
        super().set_exception(exc)
        self.over.set()


class Upstream:
    """The server, in a thread of its own while the `with` lasts. Every method may be called from the test's thread.

    `patience` is asked after each answer for how many seconds the next request is waited for, before it hangs up.
    """

    def __init__(self, patience: Callable[[], float | None] = lambda: None) -> None:
        self.port = 0
        self._patience = patience
        self.left: dict[int, float] = {}  # connection number -> when its read side saw EOF or RST
        self._seen: defaultdict[str, list[Seen]] = defaultdict(list)  # by model: thousands, asked for again and again
        self._scripts: dict[str, deque[Sequence[Step]]] = {}
        self._numbers = count(1)
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), name="scripted upstream")
        self._started: Future[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = Future()

    def __enter__(self) -> Self:
        self._thread.start()
        self._started.result(timeout=5)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        loop, over = self._started.result()
        loop.call_soon_threadsafe(over.set)
        self._thread.join()

    def play(self, model: str, *steps: Step) -> None:
        """Every request for `model` is answered by these steps."""
        self._scripts[model] = deque([steps])

    def then(self, model: str, *steps: Step) -> None:
        """One more turn: each request for `model` plays the next script, and the last one repeats."""
        self._scripts[model].append(steps)

    def requests(self, model: str) -> list[Seen]:
        return list(self._seen.get(model, ()))

    async def _serve(self) -> None:
        over = asyncio.Event()
        loop = asyncio.get_running_loop()
        server = await loop.create_server(self._conversation, "127.0.0.1", 0, backlog=1000)
        self.port = server.sockets[0].getsockname()[1]
        self._started.set_result((loop, over))
        await over.wait()
        server.close()

    def _conversation(self) -> asyncio.StreamReaderProtocol:
        ear = _Ear()
        return asyncio.StreamReaderProtocol(ear, lambda _, writer: self._converse(ear, writer))

    async def _converse(self, ear: _Ear, writer: asyncio.StreamWriter) -> None:
        number, patience = next(self._numbers), None
        try:
            while not writer.is_closing():
                seen = Seen(*await asyncio.wait_for(_read(ear), patience), number, time.monotonic())
                model = seen.model
                self._seen[model].append(seen)
                await self._perform(self._script(model), ear, writer)
                patience = self._patience()
        except TimeoutError:
            pass
        except (ConnectionError, asyncio.IncompleteReadError):
            self.left[number] = time.monotonic()
        finally:
            writer.close()

    def _script(self, model: str) -> Sequence[Step]:
        turns = self._scripts.get(model)
        if turns is None:
            return (response({"error": {"message": f"no script for {model!r}"}}, status="500 No Script"),)
        return turns.popleft() if len(turns) > 1 else turns[0]

    async def _perform(self, steps: Sequence[Step], ear: _Ear, writer: asyncio.StreamWriter) -> None:
        """Play until the script ends or the other side leaves (ConnectionError)."""
        playing = asyncio.create_task(_play(steps, writer))
        leaving = asyncio.create_task(ear.over.wait())
        await asyncio.wait({playing, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if leaving.done() and not playing.done():
            playing.cancel()
            raise ConnectionResetError
        leaving.cancel()
        await playing


async def _play(steps: Sequence[Step], writer: asyncio.StreamWriter) -> None:
    for step in steps:
        match step:
            case bytes():
                writer.write(step)
                await writer.drain()
                await asyncio.sleep(0)  # drain gives no turn to the other connections while the buffer has room
            case Pause():
                await asyncio.sleep(step.seconds)
            case Never():
                await asyncio.Event().wait()
            case Close():
                writer.close()
            case Reset():
                linger = struct.pack("ii", 1, 0)
                writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                writer.transport.abort()


async def _read(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    """One request: its head as it came and its body without framing."""
    head = await reader.readuntil(b"\r\n\r\n")
    fields = dict(_fields(head))
    if b"chunked" in fields.get(b"transfer-encoding", b""):
        return head, b"".join([part async for part in _chunks(reader)])
    return head, await reader.readexactly(int(fields.get(b"content-length", b"0")))


def _fields(head: bytes) -> Iterator[tuple[bytes, bytes]]:
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        yield name.lower(), value.strip()


async def _chunks(reader: asyncio.StreamReader) -> AsyncIterator[bytes]:
    while size := int(await reader.readuntil(b"\r\n"), 16):
        yield await reader.readexactly(size)
        await reader.readexactly(2)
    await reader.readuntil(b"\r\n")
