"""Keys: made once, kept as digests, told apart without telling why."""

import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.errors import Unauthorized
from relay.keys import UNKNOWN, Key, Keyring, authenticate, digest, mint, tag

PEPPER = b"p" * 32
NOW = 1_800_000_000  # 2027-01-15 08:00 UTC


def test_a_minted_key_is_a_prefix_an_id_and_a_secret() -> None:
    plaintext, key = mint("ci", PEPPER, NOW, models=("fast",), rpm=60, tags=("eu",))

    assert re.fullmatch(r"sk-relay-[a-z2-7]{10}[A-Za-z0-9_-]{43}", plaintext)
    assert plaintext[9:19] == key.id
    kept = digest(PEPPER, plaintext.encode())
    assert Key(key.id, "ci", kept, models=("fast",), rpm=60, created_at=NOW, tags=("eu",)) == key


def test_no_two_keys_are_alike() -> None:
    made = [mint("same", PEPPER, NOW) for _ in range(100)]

    assert 100 == len({plaintext for plaintext, _ in made}) == len({key.id for _, key in made})


def test_neither_secret_nor_digest_nor_pepper_is_shown() -> None:
    plaintext, key = mint("ci", PEPPER, NOW)
    shown = repr(key) + repr(Keyring.of(PEPPER, [key]))

    assert plaintext not in shown
    assert repr(key.digest) not in shown
    assert repr(PEPPER) not in shown


def test_the_holder_is_let_in() -> None:
    plaintext, key = mint("ci", PEPPER, NOW, expires_at=NOW + 1)
    _, other = mint("other", PEPPER, NOW)

    assert key is authenticate(Keyring.of(PEPPER, [other, key]), plaintext.encode(), NOW + 0.5)


@pytest.mark.parametrize("credential", [b"", b"sk-1234", b"sk-relay-", b"\xff\x00", b"x" * 100_000])
def test_anything_else_is_refused_in_the_same_words(credential: bytes) -> None:
    _, key = mint("ci", PEPPER, NOW)
    with pytest.raises(Unauthorized) as refused:
        authenticate(Keyring.of(PEPPER, [key]), credential, NOW)

    assert UNKNOWN == refused.value.message


@given(st.data())
def test_a_key_changed_in_one_place_is_no_key(data: st.DataObject) -> None:
    plaintext, key = mint("ci", PEPPER, NOW)
    at = data.draw(st.integers(0, len(plaintext) - 1))
    changed = plaintext[:at] + ("a" if plaintext[at] != "a" else "b") + plaintext[at + 1 :]

    with pytest.raises(Unauthorized, match=re.escape(UNKNOWN)):
        authenticate(Keyring.of(PEPPER, [key]), changed.encode(), NOW)


def test_another_pepper_knows_no_key() -> None:
    plaintext, key = mint("ci", PEPPER, NOW)

    with pytest.raises(Unauthorized, match=re.escape(UNKNOWN)):
        authenticate(Keyring.of(b"q" * 32, [key]), plaintext.encode(), NOW)


@pytest.mark.parametrize(
    ("field", "expected"),
    [("expires_at", "expired on 2027-01-15 08:00 UTC"), ("revoked_at", "was revoked on 2027-01-15 08:00 UTC")],
)
def test_a_key_past_its_end_is_told_so(field: str, expected: str) -> None:
    plaintext, key = mint("ci", PEPPER, NOW)
    ended = Key(**{name: getattr(key, name) for name in key.__slots__} | {field: NOW})
    keyring = Keyring.of(PEPPER, [ended])

    assert ended is authenticate(keyring, plaintext.encode(), NOW - 1)
    with pytest.raises(Unauthorized) as refused:
        authenticate(keyring, plaintext.encode(), NOW)
    assert f"The key {key.id} {expected}; ask for a new one." == refused.value.message


def test_of_a_revoked_key_that_expired_too_the_revocation_is_told() -> None:
    plaintext, key = mint("ci", PEPPER, NOW, expires_at=NOW)

    with pytest.raises(Unauthorized, match="revoked"):
        authenticate(Keyring.of(PEPPER, [replace(key, revoked_at=NOW)]), plaintext.encode(), NOW)


@pytest.mark.parametrize("text", ["e", "EU-west_1.a:b", "7" * 64])
def test_a_tag_is_short_and_plain(text: str) -> None:
    assert text == tag(text)


@pytest.mark.parametrize("text", ["", "a b", "eu,us", "é", "a\n", "x" * 65])
def test_anything_else_is_no_tag(text: str) -> None:
    with pytest.raises(ValueError, match="is no tag: 1 to 64 letters of ASCII, digits and - _ "):
        tag(text)
