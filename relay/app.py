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
from relay.config import Config
from relay.counters import MemoryCounters
from relay.health import Health
from relay.inbound import asgi
from relay.inbound.asgi import Receive, Scope, Send
from relay.inbound.watch import Watch
from relay.journal import Blotter, Journal, beside
from relay.keys import Key, Keyring
from relay.outbox import Outbox
from relay.pages import pages
from relay.reload import Amend, Reload, Version
from relay.store import Store, StoreFault
from relay.store.pepper import pepper
from relay.store.sqlite import SqliteStore
from relay.store.writer import Writer

_LOOK_PERIOD = 0.5  # seconds between two looks at keys and configuration: a revoked key is out within a second
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
    """The ASGI application of one configuration, and of what its file says later.

    `environ` is where secrets may stand. `amend` puts what wins over the file into what is read from it again.
    """

    def __init__(self, config: Config, environ: Mapping[str, str], amend: Amend = lambda config: config) -> None:
        self._config = config
        self._environ = environ
        self._watch = Watch()
        self._outbox = Outbox()
        self._reload = Reload(config, environ, amend)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._store: Store | None = None
        self._writer: Writer | None = None
        self._relay: Relay | None = None
        self._stored: list[Key] = []  # the store's keys, as they were at that version
        self._keys_version = -1
        self._look: asyncio.TimerHandle | None = None
        self._alarms: list[str] = []
        self._pages = pages(self._running, lambda: self._alarms, int(time.time()))

    # --- its life

    def open(self) -> None:
        """Open the store and build the relay. Raises SetupFault."""
        config = self._config
        self._store = SqliteStore(config.store)
        secret = pepper(config.store, self._environ, used=bool(self._store.keys()))
        journal = Journal(beside(config.store))
        self._writer = Writer(journal, lambda: SqliteStore(config.store), config.log.retention)
        setup, now = self._reload.open(), self._reload.version.config
        self._relay = Relay(
            setup=setup,
            keyring=Keyring(secret, {}),
            counters=MemoryCounters(),
            journal=journal,
            health=Health(now.health),
        )
        self._relay.counters.queue(now.queue.size, now.queue.wait)
        self._refresh_keys()

    async def start(self) -> dict[str, Any]:
        """Begin to work; return what the fast face needs of it. Raises SetupFault."""
        if self._relay is None:
            self.open()
        if self._writer is not None:
            self._writer.start()
        self._watch.start()
        self._loop = asyncio.get_running_loop()
        self._reload.start(self._take_over)
        self._look_around()
        blotter = Blotter(self._running().journal, self._outbox)
        return {"relay": self._running(), "watch": self._watch, "blotter": blotter, "outbox": self._outbox}

    def reload(self) -> None:
        """Read the configuration's file now, changed or not. A signal's handler may call it."""
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._reload.read)

    def drain(self) -> None:
        """Say by /readyz that no new requests are wanted."""
        self._running().draining = True

    @property
    def running(self) -> int:
        """How many requests run at the upstreams."""
        return sum(upstream.engine.running for upstream in self._running().setup.upstreams.values())

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
        self._reload.stop()
        for upstream in relay.setup.upstreams.values():
            await upstream.engine.close()
        self._outbox.send()  # with the records of what ended just now
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
        """Take over changed keys and a changed file, and tell what is wrong, once for each change."""
        self._reload.look()
        alarms = [alarm for alarm in (self._running().journal.alarm, self._writer and self._writer.alarm) if alarm]
        alarms += self._reload.faults
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
        """Take over the store's keys if they changed."""
        if self._store is None or (version := self._store.keys_version()) == self._keys_version:
            return
        self._stored = self._store.keys()
        self._running().keyring = self._keyring()
        self._keys_version = version

    def _take_over(self, version: Version) -> None:
        """All of a new configuration in one go: no request sees a part of it."""
        relay = self._running()
        after = version.setup.upstreams
        relay.health.mend({name for name, upstream in relay.setup.upstreams.items() if after.get(name) is not upstream})
        relay.setup = version.setup
        relay.health.policy = version.config.health
        relay.counters.queue(version.config.queue.size, version.config.queue.wait)
        relay.keyring = self._keyring()

    def _keyring(self) -> Keyring:
        """The store's keys, and those of the configuration."""
        secret = self._running().keyring.pepper
        return Keyring.of(secret, [*self._stored, *(key.key(secret) for key in self._reload.version.config.keys)])

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


def prepare(config: Config, environ: Mapping[str, str]) -> FirstStart | None:
    """Make the store where there is none, with an admin token and a first key: the one time that they can be shown.

    Only their digests are kept. Raises SetupFault.
    """
    with SqliteStore(config.store) as store:
        secret = pepper(config.store, environ, used=bool(store.keys()))
        if store.get_meta(_ADMIN_DIGEST) is not None:
            return None
        admin_token = _ADMIN_PREFIX + secrets.token_urlsafe(32)
        text, key = keys.mint("default", secret, int(time.time()))
        store.add_key(key)
        store.set_meta(_ADMIN_DIGEST, keys.digest(secret, admin_token.encode()).hex())
        return FirstStart(admin_token, text)
