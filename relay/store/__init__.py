"""Store: where finished requests and keys stay. The verbs that every kind of store has; knows no SQL and no journal.

A store is used by the thread that opened it. Every failure is a StoreFault; one at opening is a plain SetupFault.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple, Protocol, Self

from relay.errors import SetupFault
from relay.keys import Key
from relay.record import BODY_KEPT, Batch, Record, kept
from relay.routing import matches


class StoreFault(SetupFault):
    """The store cannot do it now: locked, full, gone. The same call may well succeed later."""


@dataclass(frozen=True, slots=True)
class Filter:
    """Which requests, newest first. None asks for all; a key's name matches whole.

    `model` may be a pattern, and stands for the model that served, for `UPSTREAM/MODEL`, and for the alias.
    """

    since: int | None = None  # microseconds since 1970, that moment included
    key: str | None = None
    model: str | None = None
    status: tuple[int, int] | None = None  # first and last
    text: str | None = None  # somewhere in the record or in its bodies, in any case
    before: tuple[int, str] | None = None  # started_at and id of the last one of the page before
    limit: int = 50

    def admits(self, record: Record) -> bool:
        """Whether the record has that key, model and status."""
        first, last = self.status or (record.status, record.status)
        return (
            self.key in (None, record.key)
            and (self.model is None or any(matches(self.model, name) for name in _names(record)))
            and first <= record.status <= last
        )


def _names(record: Record) -> list[str]:
    """What its model is called; nothing where none was asked for, or served."""
    served = f"{record.upstream}/{record.model}" if record.upstream and record.model else None
    return [name for name in (record.alias, record.model, served) if name]


class Bodies(NamedTuple):
    """What is kept of a request's bodies, None where nothing is; `truncated` names those that were longer."""

    request: bytes | None
    response: bytes | None
    truncated: tuple[str, ...] = ()

    @classmethod
    def cut(cls, request: bytes | None, response: bytes | None, status: int) -> Self:
        """As much of them as is kept, where the answer had that status."""
        most = kept(status)
        sizes = ("request", request, BODY_KEPT), ("response", response, most)
        longer = tuple(name for name, body, size in sizes if body is not None and len(body) > size)
        return cls(request and request[:BODY_KEPT], response and response[:most], longer)


class Place(NamedTuple):
    """How far a segment of the journal was read, in bytes."""

    segment: str
    offset: int


class Store(Protocol):
    """Times are microseconds since 1970 UTC, those of keys seconds."""

    def insert(self, batch: Batch, read_from: Place | None = None) -> int | None:
        """Keep them all, and with them the place behind the last one, or none; return how many are new.

        None, and nothing is kept, when the segment's place is another than they were read from: another reader was
        faster. Raises msgspec.DecodeError for a record that is none.
        """

    def place(self, segment: str) -> Place:
        """How far a segment was read. Of one that is new this is noted as well, or its first batch is not taken."""

    def segments(self) -> list[str]:
        """All that have a place."""

    def forget(self, segments: Iterable[str]) -> None:
        """Their places. Only those of files that are gone may be forgotten, or they would be read once more."""

    def requests(self, wanted: Filter) -> list[Record]:
        """At most `wanted.limit` records, newest first."""

    def request(self, name: str) -> Record | None:
        """The one record whose id is or begins with `name`; None when there is none. Raises SetupFault for several."""

    def bodies(self, request_id: str) -> Bodies | None:
        """What is kept of one request's bodies, byte for byte; None for an unknown id."""

    def arrivals(self, place: int | None, wanted: Filter) -> tuple[int, list[Record]]:
        """What was inserted after `place`, oldest first, and the place to go on from; None for the place is now."""

    def add_key(self, key: Key) -> None:
        """Raises SetupFault when a key that is not revoked has its name."""

    def keys(self) -> list[Key]:
        """Every key, oldest first, the revoked ones too."""

    def revoke_key(self, name_or_id: str, when: int) -> bool:
        """True when such a key was there and not yet revoked."""

    def keys_version(self) -> int:
        """A number that changes whenever a key does. Cheap enough to ask every second."""

    def purge(self, before: int) -> int:
        """Remove some of what started before that moment; 0 says that nothing is left to remove.

        What came into the store together goes together, when the last of it is that old.
        """

    def get_meta(self, name: str) -> str | None: ...

    def set_meta(self, name: str, value: str) -> None: ...

    def close(self) -> None: ...

    def __enter__(self) -> Self: ...

    def __exit__(self, *raised: object) -> None: ...
