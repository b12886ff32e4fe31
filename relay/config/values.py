"""values: the configuration as the rest of the relay uses it. Frozen, complete, checked; a secret shows as ***."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from relay.config.secret import Secret
from relay.exchange import Timeouts
from relay.health import Policy
from relay.keys import Key, digest
from relay.pricing import Rate
from relay.record import Keep
from relay.routing import Routes

Stamp = tuple[int, int, int]  # when a file was written (nanoseconds), how long it is, and which it is (its inode)
Kind = Literal["openai", "azure", "anthropic", "echo"]
EngineName = Literal["wire", "httpx"]

DAY = 86400.0


@dataclass(frozen=True, slots=True)
class Server:
    """Times in seconds, `max_body` in bytes. Port 0 is any free one; a heartbeat of None is none."""

    host: str = "127.0.0.1"
    port: int = 8000
    workers: int = 1
    drain_timeout: float = 600.0
    max_body: int = 64 * 2**20
    heartbeat: float | None = 15.0
    keep_alive: float = 75.0


@dataclass(frozen=True, slots=True)
class Log:
    """Which bodies are kept, and for how many seconds records are; None is for ever."""

    bodies: Keep = "full"
    retention: float | None = 30 * DAY


@dataclass(frozen=True, slots=True)
class Retry:
    """How often more each target is tried once all were, and how many seconds all the tries of a request may take."""

    per_target: int = 1
    deadline: float = 600.0


@dataclass(frozen=True, slots=True)
class Queue:
    """How many requests may wait for each upstream or key that is full, and for how many seconds."""

    size: int = 1000
    wait: float = 5.0


@dataclass(frozen=True, slots=True)
class Upstream:
    """One upstream that can be used. `base_url` has no slash at its end; header names are in lower case.

    `keep_alive` is for how many seconds a connection is kept unused; many servers close theirs after 5. `authority` is
    what the file `ca` held when it was read: another certificate makes it another upstream.
    """

    name: str
    kind: Kind = "openai"
    base_url: str = ""
    api_keys: tuple[Secret, ...] = ()
    timeouts: Timeouts = field(default_factory=Timeouts)
    max_connections: int = 1000
    keep_alive: float = 3.5
    proxy: str | None = field(default=None, repr=False)  # may hold a password
    ca: Path | None = None
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)  # may hold keys
    engine: EngineName = "wire"
    authority: bytes = field(default=b"", repr=False)


@dataclass(frozen=True, slots=True)
class StaticKey:
    """A key that the file holds, beside those of the store."""

    name: str
    secret: Secret
    models: tuple[str, ...] | None = None
    rpm: int | None = None
    tpm: int | None = None
    concurrency: int | None = None
    budget: str | None = None
    log: Keep | None = None
    tags: tuple[str, ...] = ()

    def key(self, pepper: bytes) -> Key:
        """The Key that admits its holder; its id is `config-` and its name."""
        return Key(
            id=f"config-{self.name}",
            name=self.name,
            digest=digest(pepper, self.secret.reveal().encode()),
            models=self.models,
            rpm=self.rpm,
            tpm=self.tpm,
            concurrency=self.concurrency,
            budget=self.budget,
            log=self.log,
            tags=self.tags,
        )


@dataclass(frozen=True, slots=True)
class Config:
    """`upstreams` can be used; `disabled` ones exist too, and their value is the reason. `store` is SQLite's file.

    `stamp` is the file's as it was just before it was read.
    """

    path: Path | None
    server: Server
    store: Path
    counters: Literal["memory"]
    log: Log
    retry: Retry
    queue: Queue
    health: Policy
    upstreams: Mapping[str, Upstream]
    disabled: Mapping[str, str]
    routes: Routes
    prices: Mapping[str, Rate]
    keys: tuple[StaticKey, ...]
    key_names: frozenset[str]  # of all keys in the file, also of those whose secrets are not there
    warnings: tuple[str, ...] = ()
    stamp: Stamp | None = field(default=None, compare=False)
