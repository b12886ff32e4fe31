"""keys: who may call. A key is kept as a digest only; making one is the single place that draws random bytes.

The text that a caller holds is `sk-relay-` + id + secret with nothing between them: the id is 10 characters of a-z2-7,
the secret 43 of base64url (32 random bytes). The id is public and names the key in logs; the whole text is what counts.
"""

import hmac
import re
import secrets
from base64 import b32encode
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from relay.errors import Unauthorized
from relay.record import Keep

PREFIX = "sk-relay-"
ID_LENGTH = 10
_TAG = re.compile(r"[A-Za-z0-9_.:-]{1,64}")
UNKNOWN = "The API key is missing or not known here; send a key of this relay as `Authorization: Bearer sk-relay-…`."


@dataclass(frozen=True, slots=True)
class Key:
    """Times are whole seconds since 1970; None is no limit, no end, no wish. `models` are names and patterns.

    `tags` say which targets serve its holder, beside those that serve everyone.
    """

    id: str
    name: str
    digest: bytes = field(repr=False)
    models: tuple[str, ...] | None = None
    rpm: int | None = None
    tpm: int | None = None
    concurrency: int | None = None
    budget: str | None = None
    expires_at: int | None = None
    revoked_at: int | None = None
    log: Keep | None = None
    created_at: int = 0
    tags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Keyring:
    """Every key that could be let in, by digest: an immutable snapshot, swapped whole."""

    pepper: bytes = field(repr=False)
    by_digest: Mapping[bytes, Key] = field(repr=False)
    # Texts that were found to be right, so that each is digested once. It lives and dies with the snapshot.
    known: dict[bytes, Key] = field(default_factory=dict, repr=False, compare=False)

    def find(self, credential: bytes) -> Key | None:
        """The key that `credential` is the text of, whether it is in force or not."""
        presented = digest(self.pepper, credential)
        key = self.by_digest.get(presented)
        # The look-up already compared, but not in constant time; this is the comparison that decides.
        if key is None or not hmac.compare_digest(key.digest, presented):
            return None
        self.known[credential] = key
        return key

    @classmethod
    def of(cls, pepper: bytes, keys: Iterable[Key]) -> "Keyring":
        return cls(pepper, {key.digest: key for key in keys})


def digest(pepper: bytes, credential: bytes) -> bytes:
    """HMAC-SHA256, 32 bytes. Fast on purpose: the secrets are 256 random bits, which no slow hash makes safer."""
    return hmac.digest(pepper, credential, "sha256")


def tag(text: str) -> str:
    """The text itself, when a key or a target can have it as a tag. Raises ValueError."""
    if _TAG.fullmatch(text) is None:
        raise ValueError(f"{text!r} is no tag: 1 to 64 letters of ASCII, digits and - _ . :")
    return text


def mint(
    name: str,
    pepper: bytes,
    created_at: int,
    *,
    models: tuple[str, ...] | None = None,
    rpm: int | None = None,
    tpm: int | None = None,
    concurrency: int | None = None,
    budget: str | None = None,
    expires_at: int | None = None,
    log: Keep | None = None,
    tags: tuple[str, ...] = (),
) -> tuple[str, Key]:
    """A new key: the text to hand out once, and what to keep."""
    key_id = b32encode(secrets.token_bytes(10)).decode().lower()[:ID_LENGTH]
    plaintext = f"{PREFIX}{key_id}{secrets.token_urlsafe(32)}"
    key = Key(
        id=key_id,
        name=name,
        digest=digest(pepper, plaintext.encode()),
        models=models,
        rpm=rpm,
        tpm=tpm,
        concurrency=concurrency,
        budget=budget,
        expires_at=expires_at,
        log=log,
        created_at=created_at,
        tags=tags,
    )
    return plaintext, key


def authenticate(keyring: Keyring, credential: bytes, now: float) -> Key:
    """The key that `credential` is the text of. Raises Unauthorized, with the reason only for who holds the secret."""
    key = keyring.known.get(credential) or keyring.find(credential)
    if key is None:
        raise Unauthorized(UNKNOWN)
    if (key.revoked_at is not None or key.expires_at is not None) and (end := ended(key, now)) is not None:
        raise Unauthorized(f"The key {key.id} {end}; ask for a new one.")
    return key


def ended(key: Key, now: float) -> str | None:
    """How the key ceased to be in force, by `now` in seconds since 1970; None while it is."""
    if key.revoked_at is not None and key.revoked_at <= now:
        return f"was revoked on {_date(key.revoked_at)}"
    if key.expires_at is not None and key.expires_at <= now:
        return f"expired on {_date(key.expires_at)}"
    return None


def _date(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M UTC")
