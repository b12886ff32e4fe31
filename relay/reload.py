"""Reload: config.yaml taken over while the relay runs, whole or not at all. Knows no requests, servers or signals.

A Version is one configuration and what requests need of it. The file is looked at now and then; what lies still in it
is read beside the loop, and handed over on the loop in one go. A file that cannot be used changes nothing.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from relay.call.setup import Setup
from relay.config import Config, ConfigFault, load, restarts, stamp
from relay.errors import SetupFault
from relay.upstream.door import Upstream
from relay.upstream.kinds import build

Amend = Callable[[Config], Config]
log = logging.getLogger("relay")


@dataclass(frozen=True, slots=True)
class Version:
    """`setup` is what requests read of `config`."""

    config: Config
    setup: Setup


def version(config: Config, before: Version | None = None) -> Version:
    """The version of `config`, with the upstreams of `before` that stayed as they were, so that connections live on.

    Raises SetupFault when an upstream's CA file or proxy cannot be used.
    """
    kept = _kept(before, config) if before else {}
    setup = Setup(
        routes=config.routes,
        upstreams={name: kept.get(name) or build(spec, config.queue) for name, spec in config.upstreams.items()},
        rates=config.prices,
        bodies=config.log.bodies,
        max_body=config.server.max_body,
        heartbeat=config.server.heartbeat,
        retries=config.retry.per_target,
        deadline=config.retry.deadline,
    )
    return Version(config, setup)


def _kept(before: Version, config: Config) -> dict[str, Upstream]:
    """The upstreams that need not be built anew."""
    old = before.config.upstreams
    return {name: before.setup.upstreams[name] for name, spec in config.upstreams.items() if old.get(name) == spec}


def retired(before: Version, after: Version) -> list[Upstream]:
    """The upstreams of `before` that `after` has no use for."""
    going_on = set(after.setup.upstreams.values())
    return [upstream for upstream in before.setup.upstreams.values() if upstream not in going_on]


def _go_on(before: Version, after: Version) -> None:
    """Have each upstream of `after` begin with what is known from `before`, and holds still."""
    queue, places = after.config.queue, before.config.upstreams
    for name, upstream in after.setup.upstreams.items():
        upstream.line.change(queue.size, queue.wait)
        if name in places and places[name].base_url == after.config.upstreams[name].base_url:
            upstream.credentials.follow(before.setup.upstreams[name].credentials)
        upstream.credentials.forgive()  # somebody may have mended a key where it was made


def cautions(begun: Config, config: Config) -> tuple[str, ...]:
    """What is to be told of `config` in a process that began with `begun`."""
    late = "changed, and stays as it was until the relay is started again"
    return (*config.warnings, *(f"{field}: {late}" for field in restarts(begun, config)))


def _lines(fault: SetupFault) -> tuple[str, ...]:
    """Each thing that is wrong with the file, as one line."""
    found = fault.faults if isinstance(fault, ConfigFault) else (fault,)
    return tuple(f"{each}; the last good configuration stays in force" for each in found)


class Reload:
    """The version in force, and the file that the next one comes from.

    `amend` puts what wins over the file into what the file says. `faults` are what keeps the file, as it was last read,
    from being used; each is one line. `reading` is there while it is being read.
    """

    def __init__(self, begun: Config, environ: Mapping[str, str], amend: Amend) -> None:
        self.faults: tuple[str, ...] = ()
        self.reading: asyncio.Future[Version] | None = None
        self._begun = begun
        self._environ = environ
        self._amend = amend
        self._version: Version | None = None
        self._take: Callable[[Version], None] | None = None
        self._seen = self._read = begun.stamp  # the file's at the last look, and when it was last read
        self._again = False  # it is to be read once more, after the reading that is under way
        self._cautions = begun.warnings

    @property
    def version(self) -> Version:
        """The one in force."""
        if self._version is None:
            raise RuntimeError("no version is in force before `open`")
        return self._version

    def open(self) -> Setup:
        """Put the configuration that the process began with in force, or the file's, if that has changed since.

        It has where a process takes the place of one that died. Raises SetupFault.
        """
        self._version = version(self._begun)
        path = self._begun.path
        if path is not None and stamp(path) != self._read:
            self._read = stamp(path)
            self._put(self._next)
        return self._version.setup

    def start(self, take: Callable[[Version], None]) -> None:
        """From now on `take` is called, on the loop, with each new version."""
        self._take = take

    def stop(self) -> None:
        """Read no more."""
        self._take = None
        if self.reading is not None:
            self.reading.cancel()

    def look(self) -> None:
        """Read the file if it has changed, and lain still since the last look: else half of it may be written."""
        path = self._begun.path
        if path is not None:
            before, self._seen = self._seen, stamp(path)
            if before == self._seen != self._read:
                self.read()

    def read(self) -> None:
        """Read the file, in a thread: it takes longer than requests should wait. Call it on the loop."""
        path = self._begun.path
        if path is None or self._take is None:
            return
        self._again = self.reading is not None
        if self.reading is None:
            self._read = stamp(path)
            self.reading = asyncio.get_running_loop().run_in_executor(None, self._next)
            self.reading.add_done_callback(self._finish)

    def _next(self) -> Version:
        """What the file says now. Raises SetupFault."""
        return version(self._amend(load(self._begun.path, self._environ)), self._version)

    def _finish(self, reading: asyncio.Future[Version]) -> None:
        self.reading = None
        if self._take is None:
            return
        try:
            self._put(reading.result)
        finally:
            if self._again:
                self.read()

    def _put(self, read: Callable[[], Version]) -> None:
        """Put what `read` returns in force; what it raises leaves all as it is."""
        try:
            after = read()
        except SetupFault as fault:
            self.faults = _lines(fault)
            return
        self.faults = ()
        before, self._version = self.version, after
        if self._take is not None:  # else nothing has run yet, and no engine holds anything
            self._take(after)
            for upstream in retired(before, after):
                upstream.engine.retire()
        _go_on(before, after)
        self._tell(after.config)

    def _tell(self, config: Config) -> None:
        """Say that it is in force, and what of its cautions is new, or gone."""
        told, self._cautions = self._cautions, cautions(self._begun, config)
        log.info("configuration %s: applied", config.path)
        for caution in self._cautions:
            if caution not in told:
                log.warning("configuration %s: %s", config.path, caution)
        for caution in told:
            if caution not in self._cautions:
                log.info("configuration %s: no longer so: %s", config.path, caution)
