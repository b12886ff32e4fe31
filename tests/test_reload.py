"""What of a new configuration is built anew, what is told of it, and when the file is read; the rest is tried live."""

import asyncio
import logging
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trustme

from relay.app import App
from relay.config import Config, load
from relay.errors import Overloaded
from relay.keys import mint
from relay.reload import Reload, Version, cautions, retired, version

LONG_KEY = "sk-test-one-5b1f0c93ad7e4826"


def config(folder: Path, text: str) -> Config:
    (folder / "config.yaml").write_text(text)
    return load(folder / "config.yaml", {"KEY": LONG_KEY})


def upstreams(**urls: str) -> str:
    """A configuration with these upstreams."""
    entries = ", ".join(f"{name}: {{base_url: '{url}', api_key: env:KEY}}" for name, url in urls.items())
    return f"upstreams: {{{entries}}}\nmodels: {{m: a/m}}"


@pytest.mark.parametrize(
    ("later", "kept", "gone"),
    [
        ({"a": "http://one", "b": "http://two"}, {"a", "b", "echo"}, set()),
        ({"a": "http://one", "b": "http://three"}, {"a", "echo"}, {"b"}),
        ({"a": "http://one"}, {"a", "echo"}, {"b"}),
        ({"a": "http://two", "b": "http://one"}, {"echo"}, {"a", "b"}),
        ({"a": "http://one", "b": "http://two", "c": "http://three"}, {"a", "b", "echo"}, set()),
    ],
)
def test_upstreams_that_stay_as_they_were_live_on(
    tmp_path: Path, later: dict[str, str], kept: set[str], gone: set[str]
) -> None:
    before = version(config(tmp_path, upstreams(a="http://one", b="http://two")))
    after = version(config(tmp_path, upstreams(**later)), before)

    old, new = before.setup.upstreams, after.setup.upstreams
    assert kept == {name for name in new if new[name] is old.get(name)}
    assert gone == {upstream.name for upstream in retired(before, after)}
    assert {*later, "echo"} == set(new)


@pytest.mark.parametrize("another", [True, False])
def test_an_upstream_is_built_anew_for_another_certificate(tmp_path: Path, another: bool) -> None:
    authority = tmp_path / "ca.pem"
    trustme.CA().cert_pem.write_to_path(str(authority))
    text = f"upstreams: {{a: {{base_url: 'https://one', ca: '{authority}'}}}}"
    before = version(config(tmp_path, text))
    if another:
        trustme.CA().cert_pem.write_to_path(str(authority))

    after = version(config(tmp_path, text), before)

    assert ["a"] * another == [upstream.name for upstream in retired(before, after)]


async def test_what_is_known_goes_on_where_it_still_holds(tmp_path: Path) -> None:
    """Another queue is no other upstream; and of one that is built anew the keys rest on, at the same place."""
    text = (
        "upstreams: {{a: {{base_url: 'http://one', api_keys: [env:KEY]}},"
        " b: {{base_url: 'http://one', api_key: env:KEY, max_connections: {}}},"
        " c: {{base_url: 'http://{}', api_key: env:KEY}}}}\nqueue: {{size: {}}}"
    )
    reload = Reload(config(tmp_path, text.format(1, "one", 5)), {"KEY": LONG_KEY}, lambda config: config)
    reload.open()
    reload.start(lambda _: None)
    before = reload.version.setup.upstreams
    for name in "abc":
        key = before[name].credentials.sole
        assert key is not None
        key.rest("m", 100.0, 300.0)
    config(tmp_path, text.format(2, "two", 0))
    reload.read()
    assert reload.reading is not None
    await asyncio.wait([reload.reading])

    after = reload.version.setup.upstreams
    assert [True, False, False] == [after[name] is before[name] for name in "abc"]
    assert [400.0, 400.0, None] == [after[name].credentials.resting("m", 100.0) for name in "abc"]
    assert [True] * 3 == [after[name].line.is_full for name in "abc"]
    reload.stop()


def test_cautions_name_what_needs_a_restart(tmp_path: Path) -> None:
    begun = config(tmp_path, "server: {port: 1}\nlog: {retention: 1d}")
    later = config(
        tmp_path,
        "server: {port: 2, heartbeat: 1s}\nlog: {retention: 2d, bodies: none}\nkeys: [{name: a, key: env:NO}]",
    )

    late = "changed, and stays as it was until the relay is started again"
    assert () == cautions(begun, begun)
    assert (
        "keys.0: the key 'a' is disabled, since env:NO is not set, or empty",
        f"server.port: {late}",
        f"log.retention: {late}",
    ) == cautions(begun, later)


class World:
    """A file, the Reload that watches it, and every version that it handed over."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "config.yaml"
        self.taken: list[Version] = []
        self.reload = Reload(config(folder, "server: {max_body: 1}"), {}, lambda config: config)
        self.reload.open()
        self.reload.start(self.taken.append)

    @property
    def sizes(self) -> list[int]:
        """The `max_body` of what was handed over."""
        return [each.setup.max_body for each in self.taken]

    async def settled(self) -> None:
        """Look as often as it takes to read what lies there."""
        for _ in range(3):
            self.reload.look()
            await self.idle()

    async def idle(self) -> None:
        """Wait until nothing is being read."""
        async with asyncio.timeout(5):
            while self.reload.reading:
                await asyncio.wait([self.reload.reading])


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    found = World(tmp_path)
    yield found
    found.reload.stop()


async def test_a_file_that_stays_as_it_is_is_not_read(world: World) -> None:
    await world.settled()

    assert [] == world.taken


async def test_a_save_is_taken_over_once(world: World) -> None:
    world.file.write_text("server: {max_body: 200}")
    await world.settled()
    await world.settled()

    assert [200] == world.sizes
    assert world.reload.version is world.taken[0]


async def test_half_a_file_is_not_read(world: World) -> None:
    """Looked at while it is being written, it is left alone until it lies still."""
    world.reload.look()
    world.file.write_text("server: {max_")
    world.reload.look()
    world.file.write_text("server: {max_body: ")
    world.reload.look()
    world.file.write_text("server: {max_body: 200}")
    world.reload.look()
    await world.idle()
    assert ([], ()) == (world.sizes, world.reload.faults)
    world.reload.look()
    await world.idle()

    assert ([200], ()) == (world.sizes, world.reload.faults)


async def test_a_file_is_gone_for_a_moment_only(world: World) -> None:
    world.file.unlink()
    world.reload.look()
    world.file.write_text("server: {max_body: 200}")
    await world.settled()

    assert ([200], ()) == (world.sizes, world.reload.faults)


@pytest.mark.parametrize(
    ("text", "faults"),
    [
        ("\nserver: {port: x}\nstor: 1", ["2: server.port: is not a whole number", "3: stor: unknown field"]),
        ("a: [", ["1: not YAML: "]),
        (None, [" cannot be read: No such file or directory"]),
    ],
)
async def test_a_bad_file_changes_nothing(world: World, text: str | None, faults: list[str]) -> None:
    before = world.reload.version
    if text is None:
        world.file.unlink()
    else:
        world.file.write_text(text)
    await world.settled()

    assert len(faults) == len(world.reload.faults)
    for fault, told in zip(faults, world.reload.faults, strict=True):
        assert told.startswith(f"{world.file}:{fault}")
        assert told.endswith("; the last good configuration stays in force")
    assert (world.taken, before) == ([], world.reload.version)
    world.file.write_text("server: {max_body: 200}")
    await world.settled()
    assert ([200], ()) == (world.sizes, world.reload.faults)


async def test_a_wish_while_it_is_read_is_granted_afterwards(world: World) -> None:
    world.file.write_text("server: {max_body: 200}")
    world.reload.read()
    world.reload.read()
    world.reload.read()
    await world.idle()

    assert [200, 200] == world.sizes


async def test_who_takes_the_place_of_another_begins_with_the_file_as_it_is(tmp_path: Path) -> None:
    reload = Reload(config(tmp_path, "server: {max_body: 1}"), {}, lambda config: config)
    config(tmp_path, "server: {max_body: 200}")

    assert 200 == reload.open().max_body


@pytest.mark.parametrize("engine", ["wire", "httpx"])
def test_an_upstream_that_has_changed_before_anything_runs(tmp_path: Path, engine: str) -> None:
    """There is no loop yet on which its engine could close anything."""
    text = f"upstreams: {{a: {{base_url: 'http://%s', engine: {engine}}}}}\nmodels: {{m: a/m}}"
    reload = Reload(config(tmp_path, text % "one"), {}, lambda config: config)
    config(tmp_path, text % "three")

    reload.open()

    assert "http://three" == reload.version.config.upstreams["a"].base_url


async def test_of_a_file_that_has_changed_before_anything_runs_all_is_in_force(tmp_path: Path) -> None:
    text = f"store: 'sqlite:///{tmp_path}/relay.db'\nhealth: {{failures: %d}}\nqueue: {{size: %d}}"
    app = App(config(tmp_path, text % (3, 1)), {})
    one_at_a_time = mint("tests", b"", 0, concurrency=1)[1]
    later = config(tmp_path, text % (7, 0))

    relay = (await app.start())["relay"]
    try:
        assert later.health == relay.health.policy
        relay.counters.admit(one_at_a_time, 0.0)
        with pytest.raises(Overloaded):
            relay.counters.admit(one_at_a_time, 0.0)
    finally:
        await app.stop()


async def test_a_bad_file_keeps_nobody_from_taking_the_place_of_another(tmp_path: Path) -> None:
    reload = Reload(config(tmp_path, "server: {max_body: 1}"), {}, lambda config: config)
    (tmp_path / "config.yaml").write_text("server: {max_body: 2")

    assert 1 == reload.open().max_body
    assert 1 == len(reload.faults)


async def test_without_a_file_there_is_nothing_to_read() -> None:
    taken: list[Version] = []
    reload = Reload(load(None, {}), {}, lambda config: config)
    reload.open()
    reload.start(taken.append)

    for _ in range(3):
        reload.look()
        reload.read()

    assert (None, [], ()) == (reload.reading, taken, reload.faults)


async def test_what_is_new_is_told(world: World, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "relay")
    for port in (2, 2, 8000):
        world.file.write_text(f"server: {{port: {port}}}")
        world.reload.read()
        await world.idle()

    told = "server.port: changed, and stays as it was until the relay is started again"
    name = f"configuration {world.file}:"
    assert [
        ("INFO", f"{name} applied"),
        ("WARNING", f"{name} {told}"),
        ("INFO", f"{name} applied"),
        ("INFO", f"{name} applied"),
        ("INFO", f"{name} no longer so: {told}"),
    ] == [(record.levelname, record.getMessage()) for record in caplog.records]
