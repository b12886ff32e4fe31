"""A connection that was given back with its whole answer is the next request's, whoever is cancelled then."""

import asyncio

from relay.outbox import Outbox
from relay.wire.answer import Answer
from relay.wire.connection import Connection

ANSWER = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"


class Line(asyncio.Transport):
    """Where a connection writes to; it only remembers that it was closed."""

    closed = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Nobody reads it."""

    def is_closing(self) -> bool:
        return self.closed

    def abort(self) -> None:
        self.closed = True


class Waiting:
    """Who is next in line: asks over a connection as soon as that is given back."""

    asking: asyncio.Task[Answer] | None = None
    is_there = False
    given_up = False

    def released(self, connection: Connection, reusable: bool) -> None:
        self.given_up = not reusable
        if self.is_there and reusable:
            self.asking = asyncio.create_task(connection.exchange(b"", b""))


async def learnt(line: Line, waiting: Waiting) -> Connection:
    """A connection that has seen the head of ANSWER once, and is idle."""
    connection = Connection("up", Outbox(), waiting.released)
    connection.connection_made(line)
    asking = asyncio.create_task(connection.exchange(b"", b""))
    await asyncio.sleep(0)
    connection.data_received(ANSWER)
    await (await asking).pump(lambda _piece, _last: False, lambda: asyncio.sleep(0))
    waiting.is_there = True
    return connection


async def test_one_that_is_told_something_unasked_is_given_up_in_the_same_moment() -> None:
    """Else it is promised to somebody until its socket is closed, and its place is given away twice."""
    line, waiting = Line(), Waiting()
    connection = await learnt(line, waiting)

    connection.data_received(ANSWER)

    assert (True, True) == (line.closed, waiting.given_up)


async def test_who_is_cancelled_with_its_answer_leaves_the_connection_to_the_next() -> None:
    line, waiting = Line(), Waiting()
    connection = await learnt(line, waiting)
    first = asyncio.create_task(connection.exchange(b"", b""))
    await asyncio.sleep(0)
    connection.data_received(ANSWER)
    first.cancel()
    waiting.is_there = False
    await asyncio.gather(first, return_exceptions=True)
    connection.data_received(ANSWER)
    assert waiting.asking is not None
    second = await waiting.asking

    assert (b"ok", True, False) == (second.whole, first.cancelled(), line.closed)


async def test_the_answer_of_who_is_being_cancelled_gives_no_connection_back() -> None:
    line, waiting = Line(), Waiting()
    connection = await learnt(line, waiting)
    first = asyncio.create_task(connection.exchange(b"", b""))
    await asyncio.sleep(0)
    first.cancel()
    connection.data_received(ANSWER)
    await asyncio.gather(first, return_exceptions=True)

    assert (None, True, True) == (waiting.asking, first.cancelled(), line.closed)
