"""`relay check`."""

import json

from relay.config import AT_START
from tests.cli.world import World


def test_a_sound_file(world: World) -> None:
    done = world.run("check")

    expected = (
        f"{world.config}: ok\n"
        "applied on save, except: server.host, server.port, server.workers, server.keep_alive, server.drain_timeout, "
        "store, counters, log.retention (these take a restart)\n"
    )
    assert (0, expected, "") == (done.exit_code, done.stdout, done.stderr)


def test_every_fault_is_told(world: World) -> None:
    world.config.write_text("server: {port: many}\nlog: {bodies: some}\n")

    done = world.run("check", str(world.config))

    assert 1 == done.exit_code
    assert [f"{world.config}:{line}: " in told for line, told in enumerate(done.stdout.splitlines(), 1)] == [True, True]


def test_a_sound_file_as_json(world: World) -> None:
    world.config.write_text(world.config.read_text() + "keys: [{name: ci, key: env:NOT_IN_THIS_SHELL}]\n")

    (told,) = world.json("check")

    assert (str(world.config), True, []) == (told["file"], told["ok"], told["faults"])
    assert ["the key 'ci' is disabled" in each for each in told["warnings"]] == [True]
    assert list(AT_START) == told["restart"]


def test_every_fault_as_json(world: World) -> None:
    world.config.write_text("server: {port: many}\nmodels: {a: b}\n")

    done = world.run("check", "--json")
    told = json.loads(done.stdout)

    assert (1, "") == (done.exit_code, done.stderr)
    assert (False, [(1, "server.port"), (2, "models.a")]) == (
        told["ok"],
        [(each["line"], each["field"]) for each in told["faults"]],
    )
    assert "'b' names no upstream and model; write UPSTREAM/MODEL" == told["faults"][1]["message"]


def test_a_file_that_cannot_be_read_as_json(world: World) -> None:
    world.config.write_bytes(b"\xff")

    (fault,) = json.loads(world.run("check", "--json").stdout)["faults"]

    assert {"line": 1, "field": None, "message": "is not UTF-8; save it as that"} == fault


def test_a_file_that_is_not_there(world: World) -> None:
    assert 2 == world.run("check", "missing.yaml").exit_code
