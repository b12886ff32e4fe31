"""An answer whose head is in. Knows its connection by two verbs."""

from typing import Protocol

import msgspec

from relay.exchange import Chunk, Drained, Header, Take


class Pumped(Protocol):
    """Where the body of an answer comes from."""

    async def pump(self, take: Take, drained: Drained, chunk: Chunk | None = None) -> None:
        """See relay.exchange.Reply."""

    def begun(self) -> None:
        """See relay.exchange.Reply."""

    def abort(self) -> None:
        """See relay.exchange.Reply."""


class Answer(msgspec.Struct):
    """The Reply of one exchange. It lets go of its connection at the end, so that it can never touch the next one's.

    Of one that came whole, in a single read, the connection has been given back already.
    """

    connection: Pumped | None
    status: int
    headers: tuple[Header, ...]
    reused: bool
    connect_ms: float | None
    whole: bytes | None = None

    async def pump(self, take: Take, drained: Drained, chunk: Chunk | None = None) -> None:
        """See relay.exchange.Reply."""
        if self.connection is not None:
            try:
                await self.connection.pump(take, drained, chunk)
            finally:
                self.connection = None
        elif self.whole is not None:
            take(self.whole, True)

    def begun(self) -> None:
        """See relay.exchange.Reply."""
        if self.connection is not None:
            self.connection.begun()

    def abort(self) -> None:
        """See relay.exchange.Reply."""
        connection, self.connection = self.connection, None
        if connection is not None:
            connection.abort()
