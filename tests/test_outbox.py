"""The outbox: writes wait for the end of the turn and go out in order, whatever else is asked of a connection."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.outbox import Outbox, Outgoing

Ask = Callable[[Outgoing], None]


class Line:
    """A connection whose transport is `outgoing`, and the socket at its other end."""

    def __init__(self, outgoing: Outgoing, transport: asyncio.Transport, peer: socket.socket) -> None:
        self.outgoing = outgoing
        self.transport = transport
        self.peer = peer

    def came(self) -> bytes | None:
        """What has come to the other end by now: None for nothing, no bytes for the end of the connection."""
        try:
            return self.peer.recv(1 << 20)
        except BlockingIOError:
            return None


class Lines:
    def __init__(self) -> None:
        self.outbox = Outbox()
        self._made: list[Line] = []

    async def line(self) -> Line:
        near, far = socket.socketpair()
        far.setblocking(False)
        transport, _ = await asyncio.get_running_loop().create_connection(asyncio.Protocol, sock=near)
        found = Line(Outgoing(transport, self.outbox), transport, far)
        self._made.append(found)
        return found

    def close(self) -> None:
        for line in self._made:
            line.transport.abort()
            line.peer.close()


@pytest.fixture
async def lines() -> AsyncIterator[Lines]:
    made = Lines()
    yield made
    made.close()
    await asyncio.sleep(0)


async def turns(count: int = 5) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def test_writes_go_out_at_the_end_of_the_turn_in_their_order(lines: Lines) -> None:
    first, second = await lines.line(), await lines.line()

    first.outgoing.write(b"a")
    second.outgoing.write(b"b")
    first.outgoing.write(b"c")
    assert (None, None) == (first.came(), second.came())
    await turns()

    assert (b"ac", b"b") == (first.came(), second.came())


@pytest.mark.parametrize(
    ("ask", "comes"),
    [
        pytest.param(lambda outgoing: outgoing.close(), [b"ab", b""], id="close"),
        pytest.param(lambda outgoing: outgoing.write_eof(), [b"ab", b""], id="write_eof"),
        pytest.param(lambda outgoing: outgoing.writelines([b"c", b"d"]), [b"abcd", None], id="writelines"),
        pytest.param(lambda outgoing: outgoing.abort(), [b""], id="abort"),
    ],
)
async def test_whatever_else_is_asked_comes_after_what_waits(ask: Ask, comes: list[bytes | None], lines: Lines) -> None:
    line = await lines.line()
    line.outgoing.write(b"a")
    line.outgoing.write(b"b")

    ask(line.outgoing)
    await turns()

    assert comes == [line.came() for _ in comes]


async def test_many_writes_do_not_wait_for_the_end_of_a_turn(lines: Lines) -> None:
    line = await lines.line()

    for _ in range(40):
        line.outgoing.write(b"a")

    assert 32 == len(line.came() or b"")
    await turns()
    assert 8 == len(line.came() or b"")


async def test_what_is_large_does_not_wait_either(lines: Lines) -> None:
    first, second = await lines.line(), await lines.line()

    first.outgoing.write(b"a")
    second.outgoing.write(bytes(20_000))

    assert (b"a", 20_000) == (first.came(), len(second.came() or b""))


async def test_a_text_in_pieces_waits_however_long_it_is(lines: Lines) -> None:
    line = await lines.line()

    line.outgoing.write(b"a")
    line.outgoing.writelines([b"b", memoryview(bytes(20_000))])
    line.outgoing.write(b"c")
    assert line.came() is None
    await turns()

    assert b"ab" + bytes(20_000) + b"c" == line.came()


async def test_one_that_is_alone_waits_for_no_other_turn(lines: Lines) -> None:
    line = await lines.line()

    line.outgoing.write(b"a")
    await turns(1)

    assert b"a" == line.came()


@pytest.mark.parametrize(
    ("writes", "sent"),
    [
        pytest.param([2, 0, 0, 0], [2], id="a turn that brings nothing more ends the wait"),
        pytest.param([2, 1, 0, 0], [3], id="and one that brings more does not"),
        pytest.param([2, 2, 2, 2, 0, 0], [6, 2], id="but they wait for three turns at most"),
        pytest.param([1, 1, 0], [1, 1], id="one alone is sent at once"),
    ],
)
async def test_writes_wait_while_turns_bring_more(writes: list[int], sent: list[int], lines: Lines) -> None:
    line, came = await lines.line(), []

    for count in writes:
        for _ in range(count):
            line.outgoing.write(b"a")
        await turns(1)
        came.append(len(line.came() or b""))

    assert sent == [size for size in came if size]


async def test_singles_are_counted_until_something_goes_out_in_company(lines: Lines) -> None:
    line, counted = await lines.line(), []

    for writes in (1, 1, 2, 1, 0, 3, 1):
        for _ in range(writes):
            line.outgoing.write(b"a")
        await turns()
        counted.append(lines.outbox.singles)

    assert [1, 2, 0, 1, 1, 0, 1] == counted


async def test_what_is_sent_at_once_goes_right_to_its_transport(lines: Lines) -> None:
    line = await lines.line()

    line.outgoing.at_once(b"a")

    assert (b"a", False) == (line.came(), lines.outbox.called)


async def test_what_is_sent_at_once_comes_after_what_waits(lines: Lines) -> None:
    line, other = await lines.line(), await lines.line()

    line.outgoing.write(b"a")
    other.outgoing.at_once(b"b")
    line.outgoing.at_once(b"c")

    assert (b"ac", b"b") == (line.came(), other.came())


async def test_what_waits_is_sent_before_it_as_ever(lines: Lines) -> None:
    line, seen = await lines.line(), []
    lines.outbox.before = lambda: seen.append(line.came())

    line.outgoing.write(b"a")
    line.outgoing.at_once(b"b")

    assert ([None], b"ab") == (seen, line.came())


STEPS = st.sampled_from(["write 0", "write 1", "at_once 0", "at_once 1", "turn", "note"])


@given(st.lists(STEPS, max_size=60))
def test_each_connection_gets_its_bytes_in_order_whichever_way_they_go(steps: list[str]) -> None:
    sent, came = asyncio.run(carried(steps))

    assert sent == came


async def carried(steps: list[str]) -> tuple[list[bytes], list[bytes]]:
    """What was written over two connections by these steps, and what came at their other ends."""
    made, sent = Lines(), [b"", b""]
    both = [await made.line(), await made.line()]
    for number, step in enumerate(steps):
        way, _, which = step.partition(" ")
        if way == "turn":
            await turns(1)
        elif way == "note":
            made.outbox.soon()
        else:
            getattr(both[int(which)].outgoing, way)(bytes([number]))
            sent[int(which)] += bytes([number])
    await turns()
    came = [line.came() or b"" for line in both]
    made.close()
    await asyncio.sleep(0)
    return sent, came


async def test_to_send_at_once_to_who_cannot_be_written_to_harms_nobody(lines: Lines) -> None:
    ended, there = await lines.line(), await lines.line()
    ended.transport.write_eof()

    ended.outgoing.at_once(b"a")
    there.outgoing.at_once(b"b")
    await turns()

    assert (b"", b"b", True) == (ended.came(), there.came(), ended.outgoing.is_closing())


async def test_who_cannot_be_written_to_keeps_nobody_back(lines: Lines) -> None:
    ended, there = await lines.line(), await lines.line()
    ended.transport.write_eof()

    ended.outgoing.write(b"a")
    there.outgoing.write(b"b")
    await turns()

    assert (b"", b"b") == (ended.came(), there.came())


def failing() -> None:
    raise RuntimeError


async def test_a_failure_before_the_sending_is_not_the_end_of_it(lines: Lines) -> None:
    told: list[str] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context["message"]))
    line = await lines.line()

    lines.outbox.before = failing
    line.outgoing.write(b"a")
    await turns()
    lines.outbox.before = None
    line.outgoing.write(b"b")
    await turns()

    assert (b"b", 1) == (line.came(), len(told))


async def test_a_connection_that_is_gone_keeps_nobody_back(lines: Lines) -> None:
    gone, there = await lines.line(), await lines.line()
    gone.outgoing.write(b"a")
    there.outgoing.write(b"b")
    gone.transport.abort()

    await turns()

    assert (b"", b"b") == (gone.came(), there.came())


async def test_the_rest_is_the_transport_s_own(lines: Lines) -> None:
    line = await lines.line()
    outgoing, transport = line.outgoing, line.transport

    assert outgoing.get_extra_info("socket") is transport.get_extra_info("socket")
    assert outgoing.get_protocol() is transport.get_protocol()
    outgoing.set_protocol(asyncio.Protocol())
    assert outgoing.get_protocol() is transport.get_protocol()
    outgoing.pause_reading()
    assert (False, False) == (outgoing.is_reading(), transport.is_reading())
    outgoing.resume_reading()
    outgoing.set_write_buffer_limits(high=4, low=2)
    assert (True, 0, False) == (outgoing.can_write_eof(), outgoing.get_write_buffer_size(), outgoing.is_closing())
    outgoing.close()
    assert (True, True) == (outgoing.is_closing(), transport.is_closing())


async def test_who_does_not_read_can_see_that_the_other_side_has_left(lines: Lines) -> None:
    line = await lines.line()
    line.outgoing.pause_reading()
    line.peer.send(b"unread")
    assert not line.outgoing.left

    line.peer.close()

    assert line.outgoing.left
