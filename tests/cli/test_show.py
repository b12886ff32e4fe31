"""`relay show`."""

import json

import pytest

from relay.record import BODY_KEPT, PUBLIC, Entry
from relay.redaction import redact
from tests.cli.world import World, complaint
from tests.records import identity, record

REQUEST = '{"model": "fast", "messages": [{"role": "user", "content": "grüße"}]}'.encode()


def test_the_record_and_its_bodies(world: World) -> None:
    world.insert(Entry(record("a"), REQUEST, b"data: words\n\n"))

    (shown,) = world.json("show", identity("a"))

    assert list(PUBLIC) == list(shown)[: len(PUBLIC)]
    assert json.loads(REQUEST) == shown["request"]
    assert "data: words\n\n" == shown["response"]
    assert [] == shown["truncated"]
    assert [shown] == [json.loads(world.run("show", "req", "--as", "json").stdout)]


def test_for_people(world: World) -> None:
    world.insert(Entry(record("a"), REQUEST, bytes(BODY_KEPT + 1)))

    shown = world.run("show", identity("a")).stdout

    assert "started_at       2026-01-01T12:00:00.000Z\n" in shown
    assert '"content": "grüße"' in shown
    assert "response (truncated)\n" in shown


def test_nothing_that_a_terminal_would_obey(world: World) -> None:
    odd = "m\x1b[2J\r\n\u202e\x9b31m"
    world.insert(Entry(record("a", alias=odd), odd.encode(), b"line\n\ttab"))

    told = world.run("show", identity("a")).stdout

    assert not set("\x1b\r\u202e\x9b") & set(told)
    assert "alias            m�[2J����31m" in told
    assert "line\n\ttab" in told


def test_bodies_that_were_not_kept(world: World) -> None:
    world.insert(Entry(record("a")))

    assert "\nrequest\n(not kept)\n\nresponse\n(not kept)\n" in world.run("show", identity("a")).stdout
    assert [(None, None)] == [(each["request"], each["response"]) for each in world.json("show", identity("a"))]


def test_a_request_that_is_not_there(world: World) -> None:
    world.insert(Entry(record("a")), Entry(record("b")))

    done = [world.run("show", name) for name in ("nothing", "req_")]

    assert [(1, "relay: nothing: no such request")] == [(each.exit_code, complaint(each)) for each in done[:1]]
    assert 2 == done[1].exit_code
    assert "more than one request begins with this" in complaint(done[1])


def test_what_is_nested_too_deep_is_text(world: World) -> None:
    deep = b'{"x":' + b"[" * 5000 + b"]" * 5000 + b"}"
    world.insert(Entry(record("a"), deep, deep))

    (told,) = world.json("show", identity("a"))

    assert deep.decode() == told["request"] == told["response"]
    assert deep.decode() in world.run("show", identity("a")).stdout


@pytest.mark.parametrize("body", [None, b"words", b"[1]", b"[" * 5000, bytes(BODY_KEPT + 1)])
def test_a_request_that_cannot_be_made_again(world: World, body: bytes | None) -> None:
    world.insert(Entry(record("a"), body, None))

    done = world.run("show", identity("a"), "--as", "curl")

    assert 2 == done.exit_code
    assert f"{identity('a')}: its request" in complaint(done)


@pytest.mark.parametrize(("body", "noted"), [(REQUEST, False), (redact(REQUEST, None), True)])
def test_a_program_says_so_where_it_lacks_the_texts(world: World, body: bytes, noted: bool) -> None:
    world.insert(Entry(record("a"), body, None))

    done = world.run("show", identity("a"), "--as", "python")

    assert 0 == done.exit_code
    assert noted == ("which were not kept" in done.stderr)
    assert "which were not kept" not in done.stdout
