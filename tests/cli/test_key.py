"""`relay key`."""

import time
from datetime import UTC, datetime

import pytest

from relay.keys import PREFIX, Keyring, authenticate
from relay.store.pepper import pepper
from relay.store.sqlite import SqliteStore
from tests.cli.world import World, complaint


def test_a_key_is_printed_once_and_opens_the_relay(world: World) -> None:
    done = world.run(
        "key",
        "create",
        "ci",
        "--models",
        "fast, gpt-*",
        "--rpm",
        "5",
        "--budget",
        "20/month",
        "--log",
        "none",
        "--tags",
        "eu, fast",
    )
    text = done.stdout.strip()

    with SqliteStore(world.store) as store:
        (key,) = store.keys()
    ring = Keyring.of(pepper(world.store, {}, used=True), [key])

    assert text.startswith(PREFIX)
    assert key == authenticate(ring, text.encode(), time.time())
    assert ("ci", ("fast", "gpt-*"), 5, "20/month", "none") == (key.name, key.models, key.rpm, key.budget, key.log)
    assert ("eu", "fast") == key.tags
    secret = text.removeprefix(PREFIX + key.id).encode()
    assert not any(secret in path.read_bytes() for path in world.folder.rglob("*") if path.is_file())


def test_keys_are_listed_and_shown(world: World) -> None:
    (made,) = world.json("key", "create", "a", "--expires", "30d", "--tags", "eu,fast")
    world.json("key", "create", "b")

    rows = world.json("key", "list")

    assert ["a", "b"] == [row["name"] for row in rows]
    assert rows[0] == {name: value for name, value in made.items() if name != "key"}
    assert [rows[0]] == world.json("key", "show", "a") == world.json("key", "show", rows[0]["id"])
    assert [["eu", "fast"], []] == [row["tags"] for row in rows]
    left = datetime.fromisoformat(rows[0]["expires_at"]) - datetime.now(UTC)
    assert 29 == left.days
    assert "active" in world.run("key", "list").stdout
    assert rows[0]["id"] in world.run("key", "show", "a").stdout
    assert [["tags", "eu,fast"], ["tags", "-"]] == [
        line.split() for name in "ab" for line in world.run("key", "show", name).stdout.splitlines() if "tags" in line
    ]


def test_a_revoked_key(world: World) -> None:
    world.run("key", "create", "a")

    assert "a: revoked\n" == world.run("key", "revoke", "a").stdout

    assert ["revoked"] == [row["status"] for row in world.json("key", "list")]
    again = world.run("key", "revoke", "a")
    assert (1, "relay: a: no such key in force") == (again.exit_code, complaint(again))
    world.run("key", "create", "a")
    assert ["active"] == [row["status"] for row in world.json("key", "show", "a")]


@pytest.mark.parametrize("key", ["sk-of-the-file-itself", "env:NOT_IN_THIS_SHELL"])
@pytest.mark.parametrize("command", ["revoke", "show"])
def test_a_key_of_the_configuration(world: World, command: str, key: str) -> None:
    world.config.write_text(world.config.read_text() + f"\nkeys: [{{name: fixed, key: {key}}}]\n")
    world.run("key", "create", "a")

    done = world.run("key", command, "fixed")

    assert f"relay: fixed: stands in {world.config}, and not in the store; change it there" == complaint(done)
    assert 1 == done.exit_code


def test_what_is_not_there(world: World) -> None:
    world.run("key", "create", "a")

    done = world.run("key", "show", "b")

    assert (1, "relay: b: no such key") == (done.exit_code, complaint(done))


def test_a_name_that_is_taken(world: World) -> None:
    world.run("key", "create", "a")
    world.config.write_text(world.config.read_text() + "keys: [{name: static, key: env:NOT_IN_THIS_SHELL}]\n")

    done = [world.run("key", "create", name) for name in ("a", "static")]

    assert [2, 2] == [each.exit_code for each in done]
    assert ["one of that name" in complaint(each) for each in done] == [True, True]


def test_a_tag_that_is_none(world: World) -> None:
    done = world.run("key", "create", "a", "--tags", "eu,not so")

    assert 2 == done.exit_code
    assert "'not so' is no tag: 1 to 64 letters of ASCII, digits and - _ . :" in done.output


@pytest.mark.parametrize("lifetime", ["0s", "0d", "999ms"])
def test_a_key_that_would_be_over_at_once_is_not_made(world: World, lifetime: str) -> None:
    done = world.run("key", "create", "a", "--expires", lifetime)

    assert (2, True) == (done.exit_code, f"{lifetime!r} is over at once" in done.output)
    assert not world.store.exists()
