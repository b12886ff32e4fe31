"""The other side of an engine: a raw server in the test's own loop. A script is a coroutine that plays one connection.

async with peer(playing(whole(b"hello"))) as server:
    ...
    assert server.talks[0].gone.is_set()
"""

import asyncio
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

from typing_extensions import override  # typing has it from 3.12

CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"


def whole(body: bytes, *headers: bytes, status: bytes = b"200 OK") -> bytes:
    """An answer of known length."""
    lines = [b"HTTP/1.1 " + status, b"content-length: %d" % len(body), *headers]
    return b"\r\n".join([*lines, b"", body])


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


@dataclass(frozen=True, slots=True)
class Got:
    """One request as it came."""

    head: bytes
    body: bytes

    @property
    def lines(self) -> list[bytes]:
        return self.head.rstrip(b"\r\n").split(b"\r\n")

    def values(self, name: bytes) -> list[bytes]:
        fields = (line.partition(b":") for line in self.lines[1:])
        return [value.strip() for found, _, value in fields if found.lower() == name]


class _Ear(asyncio.StreamReader):
    """A reader that tells at once when there is no more to come, without reading."""

    def __init__(self) -> None:
        super().__init__(limit=2**24)
        self.gone = asyncio.Event()

    @override
    def feed_eof(self) -> None:
        super().feed_eof()
        self.gone.set()

    @override
    def set_exception(self, exc: Exception) -> None:
        super().set_exception(exc)
        self.gone.set()


@dataclass(slots=True)
class Talk:
    """One connection. `gone`: the engine has closed it; `sent`: bytes handed to the kernel or waiting for it."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    gone: asyncio.Event
    requests: list[Got] = field(default_factory=list)
    sent: int = 0

    async def request(self) -> Got:
        """The next request, body and all; IncompleteReadError when there is none."""
        head = await self.reader.readuntil(b"\r\n\r\n")
        got = Got(head, b"")
        if got.values(b"transfer-encoding") == [b"chunked"]:
            body = b"".join([part async for part in self._chunks()])
        else:
            body = await self.reader.readexactly(int((got.values(b"content-length") or [b"0"])[0]))
        self.requests.append(Got(head, body))
        return self.requests[-1]

    async def _chunks(self) -> AsyncIterator[bytes]:
        while size := int(await self.reader.readuntil(b"\r\n"), 16):
            yield await self.reader.readexactly(size)
            await self.reader.readexactly(2)
        await self.reader.readuntil(b"\r\n")

    async def send(self, *pieces: bytes) -> None:
        """Each piece with a turn of the loop of its own."""
        for piece in pieces:
            self.writer.write(piece)
            self.sent += len(piece)
            await self.writer.drain()
            await asyncio.sleep(0)

    def reset(self) -> None:
        """End with RST."""
        raw = self.writer.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


Script = Callable[[Talk], Awaitable[None]]


@dataclass(slots=True)
class Peer:
    """The server. `talks` are its connections in the order in which they came."""

    url: str = ""
    port: int = 0
    talks: list[Talk] = field(default_factory=list)

    @property
    def requests(self) -> list[Got]:
        return [got for talk in self.talks for got in talk.requests]

    @property
    def open(self) -> int:
        """Connections that the engine has not closed."""
        return sum(not talk.gone.is_set() for talk in self.talks)


@asynccontextmanager
async def peer(
    script: Script, *, host: str = "127.0.0.1", port: int = 0, tls: ssl.SSLContext | None = None
) -> AsyncIterator[Peer]:
    """A server that plays `script` to every connection and closes it when the script ends."""
    server = Peer()
    playing_now: set[asyncio.Task[None]] = set()

    async def play(talk: Talk) -> None:
        server.talks.append(talk)
        try:
            with suppress(ConnectionError, asyncio.IncompleteReadError, ssl.SSLError):
                await script(talk)
        finally:
            talk.writer.close()

    def protocol() -> asyncio.StreamReaderProtocol:
        ear = _Ear()

        def begin(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.create_task(play(Talk(ear, writer, ear.gone)))
            playing_now.add(task)
            task.add_done_callback(playing_now.discard)

        return asyncio.StreamReaderProtocol(ear, begin)

    listening = await asyncio.get_running_loop().create_server(protocol, host, port, ssl=tls, backlog=1000)
    server.port = listening.sockets[0].getsockname()[1]
    literal = f"[{host}]" if ":" in host else host
    server.url = f"{'https' if tls else 'http'}://{literal}:{server.port}"
    try:
        yield server
    finally:
        listening.close()
        for task in playing_now:
            task.cancel()
        await asyncio.gather(*playing_now, return_exceptions=True)


def playing(*answers: bytes) -> Script:
    """Each request gets the next answer, whatever connection it came on; the last one repeats."""
    left = list(answers)

    async def script(talk: Talk) -> None:
        while True:
            await talk.request()
            await talk.send(left.pop(0) if len(left) > 1 else left[0])

    return script


def once(*pieces: bytes) -> Script:
    """The first request of a connection gets these pieces, one by one; then the connection is closed."""

    async def script(talk: Talk) -> None:
        await talk.request()
        await talk.send(*pieces)

    return script


def silent_after(answer: bytes) -> Script:
    """The first request of a connection is answered; at the second nothing happens until the other side leaves."""

    async def script(talk: Talk) -> None:
        await talk.request()
        await talk.send(answer)
        await talk.request()
        await talk.gone.wait()

    return script


def stuck(*pieces: bytes) -> Script:
    """As `once`, but then nothing happens any more."""

    async def script(talk: Talk) -> None:
        await talk.request()
        await talk.send(*pieces)
        await asyncio.Event().wait()

    return script
