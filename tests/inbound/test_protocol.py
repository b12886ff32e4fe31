"""The fast face's connections, looked at over hours that do not pass: what they are told of is the only clock."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from uvicorn import Config
from uvicorn.server import ServerState

from relay import call
from relay.call.setup import Setup
from relay.counters import MemoryCounters
from relay.inbound.asgi import Receive, Scope, Send
from relay.inbound.guard import BODY_SECONDS, TAKING_SECONDS
from relay.inbound.protocol import RelayProtocol
from relay.inbound.watch import Watch
from relay.journal import Blotter, Journal, frames, segments
from relay.keys import Keyring, mint
from relay.outbox import Outbox
from relay.record import Record
from relay.routing import Alias, Routes, Target
from relay.upstream.door import Upstream
from relay.upstream.echo import EchoEngine
from tests.client import chat, request
from tests.waiting import until

SHOWN, KEY = mint("tests", b"", 0)
ROUTES = Routes.of([Alias("m", ((Target("echo", "m"),),))])
TEXT = " ".join(["x" * 100_000] * 70)  # more than the buffers of both sides hold


async def pages(scope: Scope, receive: Receive, send: Send) -> None:
    """All else that a relay serves, which nobody asks for here."""
    raise NotImplementedError


@asynccontextmanager
async def connected(folder: Path) -> AsyncIterator[tuple[RelayProtocol, socket.socket]]:
    """A client's connection as the relay has it, and as the client does."""
    outbox, watch, loop = Outbox(), Watch(), asyncio.get_running_loop()
    relay = call.Relay(
        setup=Setup(ROUTES, {"echo": Upstream("echo", EchoEngine())}, bodies="none"),
        keyring=Keyring.of(b"", [KEY]),
        counters=MemoryCounters(),
        journal=Journal(folder),
    )
    shared = {"relay": relay, "watch": watch, "blotter": Blotter(relay.journal, outbox), "outbox": outbox}
    config = Config(pages, lifespan="off", timeout_keep_alive=75, log_config=None)
    config.load()
    async with await loop.create_server(lambda: RelayProtocol(config, ServerState(), shared), "127.0.0.1", 0) as server:
        with socket.socket() as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
            client.setblocking(False)
            await loop.sock_connect(client, server.sockets[0].getsockname())
            assert await asyncio.to_thread(until, lambda: watch.connections)
            (connection,) = watch.connections
            assert isinstance(connection, RelayProtocol)
            yield connection, client
            assert await asyncio.to_thread(until, lambda: not watch.connections)
            outbox.send()
    relay.journal.close()


@pytest.mark.parametrize("stream", [False, True])
async def test_a_client_that_takes_nothing_is_disconnected(tmp_path: Path, stream: bool) -> None:
    loop = asyncio.get_running_loop()
    async with connected(tmp_path) as (connection, client):
        question = chat("m", stream=stream, messages=[{"role": "user", "content": TEXT}])
        await loop.sock_sendall(client, request(question, key=SHOWN))
        assert await asyncio.to_thread(until, lambda: connection.transport.untaken)
        await asyncio.sleep(0.3)  # until nothing moves any more
        now = loop.time()

        connection.tick(now)
        connection.tick(now + TAKING_SECONDS - 1)
        assert not connection.transport.is_closing()

        before = connection.transport.untaken
        while connection.transport.untaken == before:
            await loop.sock_recv(client, 65536)
        connection.tick(now + TAKING_SECONDS)
        connection.tick(now + 2 * TAKING_SECONDS - 1)
        assert not connection.transport.is_closing()

        connection.tick(now + 2 * TAKING_SECONDS)
        assert connection.transport.is_closing()
    records = await asyncio.to_thread(recorded, tmp_path)

    assert ["client_disconnect" if stream else "ok"] == [record.outcome for record in records]


async def test_a_body_that_does_not_come_behind_a_known_head(tmp_path: Path) -> None:
    loop = asyncio.get_running_loop()
    async with connected(tmp_path) as (connection, client):
        head, end, _ = request(chat("m"), key=SHOWN).partition(b"\r\n\r\n")
        statuses = []
        for sent in (request(chat("m"), key=SHOWN), head + end):
            await loop.sock_sendall(client, sent)
            await asyncio.sleep(0.1)
            connection.tick(loop.time() + BODY_SECONDS)
            statuses.append((await loop.sock_recv(client, 65536))[:12])
    records = await asyncio.to_thread(recorded, tmp_path)

    assert [b"HTTP/1.1 200", b"HTTP/1.1 408"] == statuses
    assert ["ok", "refused"] == [record.outcome for record in records]


def recorded(folder: Path) -> list[Record]:
    return [entry.record for segment in segments(folder) for _, entry in frames(segment)]
