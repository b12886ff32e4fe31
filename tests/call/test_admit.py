"""Who is let in, and what of the bodies is kept then."""

from dataclasses import replace
from pathlib import Path

import pytest

from relay.call import Relay, admit
from relay.call.setup import Setup
from relay.counters import MemoryCounters
from relay.errors import BadRequest, Unauthorized
from relay.exchange import Header
from relay.journal import Journal
from relay.keys import Keyring, mint
from relay.record import Keep
from relay.routing import Routes
from tests.requests import account, begun

PEPPER = b"p" * 32
TEXT, KEY = mint("ci", PEPPER, 0)
OURS: Header = (b"authorization", b"Bearer " + TEXT.encode())


def relay(folder: Path, log: Keep | None = None, bodies: Keep = "full") -> Relay:
    keyring = Keyring.of(PEPPER, [replace(KEY, log=log)])
    return Relay(Setup(Routes({}), bodies=bodies), keyring, MemoryCounters(), Journal(folder))


def test_the_holder_of_a_key_is_let_in(tmp_path: Path) -> None:
    running = relay(tmp_path)
    noted = account(running.journal, begun(OURS), running.setup)

    for _ in range(2):
        admit(running, noted)

    assert KEY == noted.key


@pytest.mark.parametrize("headers", [(), ((b"api-key", b"sk-1"),)], ids=["none", "another"])
def test_nobody_else_is(tmp_path: Path, headers: tuple[Header, ...]) -> None:
    running = relay(tmp_path)

    with pytest.raises(Unauthorized):
        admit(running, account(running.journal, begun(*headers), running.setup))


def test_two_different_credentials_are_ambiguous(tmp_path: Path) -> None:
    running = relay(tmp_path)

    with pytest.raises(BadRequest, match="two different credentials") as refused:
        admit(running, account(running.journal, begun(OURS, (b"api-key", b"sk-1")), running.setup))

    assert "ambiguous_credentials" == refused.value.code
    assert "sk-" not in refused.value.message


WISHES: list[tuple[Keep, Keep | None, bytes | None, Keep]] = [
    ("full", None, None, "full"),
    ("redacted", None, None, "redacted"),
    ("none", "full", None, "full"),
    ("full", "none", None, "none"),
    ("full", None, b"redacted", "redacted"),
    ("full", "redacted", b"none", "none"),
    ("none", None, b"full", "none"),
    ("full", "none", b"redacted", "none"),
    ("none", "full", b"full", "full"),
]


@pytest.mark.parametrize(("bodies", "log", "wish", "expected"), WISHES)
def test_the_keys_wish_goes_before_the_configurations(
    tmp_path: Path, bodies: Keep, log: Keep | None, wish: bytes | None, expected: Keep
) -> None:
    running = relay(tmp_path, log, bodies)
    noted = account(running.journal, begun(OURS, *([] if wish is None else [(b"x-relay-log", wish)])), running.setup)

    admit(running, noted)

    assert expected == noted.keep
