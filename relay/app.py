"""App: the composition root. It builds everything that lives as long as the process, and is the ASGI application.

What can fail for a reason that a person can mend (the store, the pepper, a CA file) is done in `open`, before any
server runs; what needs a running loop is done at the lifespan's start-up.
"""

import asyncio
import logging
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from relay import keys
from relay.call import Relay
from relay.call.setup import Setup
from relay.config import Config
from relay.counters import MemoryCounters
from relay.inbound import asgi
from relay.inbound.asgi import Receive, Scope, Send
from relay.inbound.watch import Watch
from relay.journal import Journal, beside
from relay.keys import Keyring
from relay.pages import pages
from relay.store import Store, StoreFault
from relay.store.pepper import pepper
from relay.store.sqlite import SqliteStore
from relay.store.writer import Writer
from relay.upstream.kinds import build

_LOOK_PERIOD = 0.5  # seconds between two looks at whether a key changed: a revoked one is out within a second
_LAST_TURNS = 10  # of the loop, of which a request that is just being connected needs a few to hear that it is cut
_ADMIN_PREFIX = "sk-relay-admin-"
_ADMIN_DIGEST = "admin_digest"
log = logging.getLogger("relay")


@dataclass(frozen=True, slots=True)
class FirstStart:
    """What the first start made; each is shown this once."""

    admin_token: str = field(repr=False)
    key: str = field(repr=False)


class App:
    """The ASGI application of one configuration. `environ` is where RELAY_PEPPER may stand."""

    def __init__(self, config: Config, environ: Mapping[str, str]) -> None:
        self._config = config
        self._environ = environ
        self._watch = Watch()
        self._store: Store | None = None
        self._writer: Writer | None = None
        self._relay: Relay | None = None
        self._keys_version = -1
        self._look: asyncio.TimerHandle | None = None
        self._alarms: list[str] = []
        self._pages = pages(self._running, lambda: self._alarms, int(time.time()))

    # --- its life

    def open(self) -> None:
        """Open the store and build the relay. Raises SetupFault."""
        config = self._config
        secret = pepper(config.store, self._environ)
        self._store = SqliteStore(config.store)
        journal = Journal(beside(config.store))
        self._writer = Writer(journal, lambda: SqliteStore(config.store), config.log.retention)
        self._relay = Relay(
            setup=_setup(config),
            keyring=Keyring(secret, {}),
            counters=MemoryCounters(),
            journal=journal,
        )
        self._refresh_keys()

    async def start(self) -> dict[str, Any]:
        """Begin to work; return what the fast face needs of it. Raises SetupFault."""
        if self._relay is None:
            self.open()
        if self._writer is not None:
            self._writer.start()
        self._watch.start()
        self._look_around()
        return {"relay": self._running(), "watch": self._watch}

    def drain(self) -> None:
        """Say by /readyz that no new requests are wanted."""
        self._running().draining = True

    def cut(self) -> None:
        """End every request that is still under way; each gets its error and its record."""
        self._watch.stop()

    async def stop(self) -> None:
        """End what still runs, bring the journal into the store, and let go of everything."""
        relay = self._running()
        relay.draining = True
        self.cut()
        for _ in range(_LAST_TURNS):  # the requests that were cut write their last words
            await asyncio.sleep(0)
        if self._look is not None:
            self._look.cancel()
        for upstream in relay.setup.upstreams.values():
            await upstream.engine.close()
        relay.journal.close()  # first, so that the writer may finish with its last segment and remove it
        if self._writer is not None:
            self._writer.stop()
        if self._store is not None:
            self._store.close()

    def _running(self) -> Relay:
        if self._relay is None:
            raise RuntimeError("the application was not started: its server sends no lifespan events")
        return self._relay

    # --- what changes while it runs

    def _look_around(self) -> None:
        """Take over changed keys, and tell what keeps the log from being written, once for each change."""
        alarms = [alarm for alarm in (self._running().journal.alarm, self._writer and self._writer.alarm) if alarm]
        try:
            self._refresh_keys()
        except StoreFault as fault:  # the keys known so far stay in force
            alarms.append(str(fault))
        for alarm in alarms:
            if alarm not in self._alarms:
                log.warning("%s", alarm)
        self._alarms = alarms
        self._look = asyncio.get_running_loop().call_later(_LOOK_PERIOD, self._look_around)

    def _refresh_keys(self) -> None:
        """Take over the store's keys if they changed, beside those of the configuration."""
        if self._store is None or (version := self._store.keys_version()) == self._keys_version:
            return
        secret = self._running().keyring.pepper
        fixed = [key.key(secret) for key in self._config.keys]
        self._running().keyring = Keyring.of(secret, [*self._store.keys(), *fixed])
        self._keys_version = version

    # --- ASGI

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Relayed requests to their face, all others to the pages."""
        if scope["type"] == "lifespan":
            await self._lifespan(scope, receive, send)
        elif (found := asgi.relayed(scope)) is not None:
            await asgi.serve(self._running(), found, scope, receive, send)
        else:
            await self._pages(scope, receive, send)

    async def _lifespan(self, scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        scope.setdefault("state", {}).update(await self.start())
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await self.stop()
        await send({"type": "lifespan.shutdown.complete"})


def _setup(config: Config) -> Setup:
    """What requests need of `config`. Raises SetupFault when an upstream's CA file or proxy cannot be used."""
    return Setup(
        routes=config.routes,
        upstreams={name: build(spec) for name, spec in config.upstreams.items()},
        rates=config.prices,
        bodies=config.log.bodies,
        max_body=config.server.max_body,
        heartbeat=config.server.heartbeat,
    )


def prepare(config: Config, environ: Mapping[str, str]) -> FirstStart | None:
    """Make the store where there is none, with an admin token and a first key: the one time that they can be shown.

    Only their digests are kept. Raises SetupFault.
    """
    secret = pepper(config.store, environ)
    with SqliteStore(config.store) as store:
        if store.get_meta(_ADMIN_DIGEST) is not None:
            return None
        admin_token = _ADMIN_PREFIX + secrets.token_urlsafe(32)
        text, key = keys.mint("default", secret, int(time.time()))
        store.add_key(key)
        store.set_meta(_ADMIN_DIGEST, keys.digest(secret, admin_token.encode()).hex())
        return FirstStart(admin_token, text)
