"""A connection's turn: when its stream is silent, and when that is nothing to it any more."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.server import ServerState

from relay import call
from relay.call.setup import Setup
from relay.call.sink import LOOKS, PING
from relay.counters import MemoryCounters
from relay.exchange import BODILESS
from relay.inbound.turn import Turn
from relay.inbound.watch import Watch
from relay.journal import Blotter, Journal
from relay.keys import Keyring
from relay.outbox import Outbox, Outgoing
from relay.routing import Routes
from tests.requests import begun

PERIOD = 3600.0


@asynccontextmanager
async def turn(folder: Path) -> AsyncIterator[tuple[Turn, socket.socket, Outbox]]:
    """A turn on a connection of its own, the client's end of that, and what sends to it."""
    loop, outbox = asyncio.get_running_loop(), Outbox()
    ours, client = socket.socketpair()
    client.setblocking(False)
    transport = Outgoing((await loop.create_connection(asyncio.Protocol, sock=ours))[0], outbox)
    relay = call.Relay(Setup(Routes.of([]), {}), Keyring.of(b"", []), MemoryCounters(), Journal(folder))
    with client:
        yield (
            Turn(
                relay,
                Blotter(relay.journal, outbox),
                transport,
                loop=loop,
                watch=Watch(),
                flow=FlowControl(transport),
                state=ServerState(),
                on_response=lambda: None,
            ),
            client,
            outbox,
        )
    transport.abort()
    relay.journal.close()


async def test_a_silent_stream_says_so_after_each_whole_period(tmp_path: Path) -> None:
    async with turn(tmp_path) as (stream, client, outbox):
        stream.begin(begun(), False, True)
        stream.start(200, b"", None)
        stream.write(b"data: 1\n\n")
        stream.beat(PERIOD)
        outbox.send()
        assert (await asyncio.get_running_loop().sock_recv(client, 65536)).endswith(b"data: 1\n\n")

        said = []
        for _ in range(7):  # looks, the first of which may come at once
            assert stream.look(PERIOD / LOOKS)
            outbox.send()
            said.append(received(client))

    assert [b"", b"", PING, b"", PING, b"", PING] == said


async def test_nothing_is_said_within_an_event_that_comes_in_parts(tmp_path: Path) -> None:
    async with turn(tmp_path) as (stream, client, outbox):
        stream.begin(begun(), False, True)
        stream.start(200, b"", None)
        stream.beat(PERIOD)
        stream.part(b"data: 1", False)
        for _ in range(LOOKS + 2):
            assert stream.look(PERIOD / LOOKS)
        stream.part(b"\n\n", True)
        assert stream.look(PERIOD / LOOKS)
        outbox.send()

        assert received(client).endswith(b"\r\n\r\ndata: 1\n\n" + PING)


@pytest.mark.parametrize(("chunks", "expected"), [(True, b"3\r\none\r\n3\r\ntwo\r\n"), (False, b"onetwo")])
async def test_a_chunk_goes_out_as_it_came_behind_the_head_where_the_client_takes_chunks(
    tmp_path: Path, chunks: bool, expected: bytes
) -> None:
    async with turn(tmp_path) as (stream, client, _):
        stream.begin(begun(), chunks, True)
        stream.start(200, b"", None)
        assert stream.passage() is None
        stream.write(b"one")

        passage = stream.passage()
        assert chunks == (passage is not None)
        if passage is None:
            stream.write(b"two")
        else:
            passage.now(b"3\r\ntwo\r\n")

        head, _, body = received(client).partition(b"\r\n\r\n")
        assert (expected, chunks) == (body, b"transfer-encoding: chunked" in head)


async def test_a_stream_begins_behind_the_answer_before_it(tmp_path: Path) -> None:
    async with turn(tmp_path) as (stream, client, _):
        stream.begin(begun(), True, True)
        stream.answer(200, b"", b"one")
        stream.begin(begun(), True, True)
        stream.start(200, b"", None)
        stream.write(b"two")

        first, _, second = received(client).partition(b"one")
        assert first.startswith(b"HTTP/1.1 200")
        assert second.startswith(b"HTTP/1.1 200")
        assert second.endswith(b"\r\n\r\n3\r\ntwo\r\n")


@pytest.mark.parametrize("status", sorted(BODILESS))
@pytest.mark.parametrize("keep_alive", [True, False])
async def test_no_body_goes_out_behind_a_head_that_has_none(tmp_path: Path, status: int, keep_alive: bool) -> None:
    async with turn(tmp_path) as (stream, client, outbox):
        for _ in range(2):
            stream.begin(begun(), True, keep_alive)
            stream.answer(status, b"", b"evil")
            stream.begin(begun(), True, keep_alive)
            stream.start(status, b"", None)
            stream.write(b"evil")
            stream.end(b"evil")
        stream.begin(begun(), True, keep_alive)
        stream.answer(200, b"", b"ok")
        outbox.send()
        *bodiless, last, body = received(client).split(b"\r\n\r\n")

        assert [b"HTTP/1.1 %d" % status] * 4 == [head[:12] for head in bodiless]
        assert (b"HTTP/1.1 200", b"ok") == (last[:12], body)


async def test_a_stream_that_is_over_is_not_looked_at(tmp_path: Path) -> None:
    async with turn(tmp_path) as (stream, _, _):
        stream.begin(begun(), False, True)
        stream.start(200, b"", None)
        stream.beat(PERIOD)

        assert not stream.look(PERIOD)  # another's
        stream.end(b"data: 1\n\n")
        assert not stream.look(PERIOD / LOOKS)


def received(client: socket.socket) -> bytes:
    try:
        return client.recv(65536)
    except BlockingIOError:
        return b""
