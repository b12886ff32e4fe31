"""Credentials: an upstream's keys, of which each request takes the next that can be used. Knows no network, no clock.

A key that was refused is out until the configuration is read again; one that is rate limited rests, for that model.
"""

from collections.abc import Collection, Sequence
from hashlib import sha256

import msgspec

from relay.exchange import Header

REFUSED = "all its keys were refused"  # what is told of an upstream with no key left
_REST = 1.0  # seconds that a rate limited key rests where the answer does not say how long


class Credential(msgspec.Struct, eq=False):
    """One key: all headers that go with it, and the fingerprint by which people may know it, None without a key.

    `refused` says why it is out; `rests` until when it is not used for a model, in seconds of a clock that never jumps.
    `secrets` are what nobody may read where an upstream repeats it.
    """

    headers: tuple[Header, ...]
    fingerprint: str | None = None
    secrets: tuple[bytes, ...] = ()
    refused: str | None = None
    rests: dict[str, float] = {}

    def can_serve(self, model: str, now: float, but: Collection[str | None] = ()) -> bool:
        """Whether it is neither out nor resting, nor one of those fingerprints."""
        return self.refused is None and self.rests.get(model, 0.0) <= now and self.fingerprint not in but

    def rest(self, model: str, now: float, wait: float | None) -> None:
        """It is rate limited for that model, for `wait` seconds where that is known."""
        self.rests = {name: until for name, until in self.rests.items() if until > now}
        self.rests[model] = now + (_REST if wait is None else wait)


class Credentials:
    """One or more; with one alone, it is always that one: there is no other to spare it for."""

    __slots__ = ("_all", "_turn", "secrets", "sole")

    def __init__(self, found: Sequence[Credential]) -> None:
        self._all = tuple(found)
        self._turn = 0
        self.sole = self._all[0] if len(self._all) == 1 else None
        self.secrets = tuple(sorted({each for one in found for each in one.secrets}, key=len, reverse=True))

    def pick(self, model: str, now: float, but: Collection[str | None] = ()) -> Credential | None:
        """The next in turn that can serve `model`, but those fingerprints; None where all others are out or resting."""
        if self.sole is not None:
            return self.sole
        for step in range(len(self._all)):
            found = self._all[(self._turn + step) % len(self._all)]
            if found.can_serve(model, now, but):
                self._turn += step + 1
                return found
        return None

    def spare(self, model: str, now: float, but: Collection[str | None] = ()) -> bool:
        """Whether one can serve `model` now, but those fingerprints."""
        return any(found.can_serve(model, now, but) for found in self._all)

    def named(self, fingerprint: str | None) -> Credential | None:
        """The one with that fingerprint; None where there is none by now."""
        return next((found for found in self._all if found.fingerprint == fingerprint), None)

    def refuse(self, credential: Credential, status: int) -> None:
        """The upstream refused this key: it is out, unless there is no other."""
        if self.sole is None:
            credential.refused = f"refused with HTTP {status}"

    def follow(self, before: "Credentials") -> None:
        """These take the place of `before`: keys that were there already rest on."""
        for credential in self._all:
            known = before.named(credential.fingerprint)
            if known is not None:
                credential.rests = known.rests

    def forgive(self) -> None:
        """Let the keys that were refused be tried again."""
        for credential in self._all:
            credential.refused = None

    @property
    def refused(self) -> bool:
        """Whether every key is out."""
        return all(credential.refused is not None for credential in self._all)

    @property
    def untroubled(self) -> bool:
        """Whether no key is out or was ever rate limited."""
        for credential in self._all:  # noqa: SIM110  # every request asks: of one alone, `any` takes thrice as long
            if credential.rests or credential.refused:
                return False
        return True

    def limited(self, model: str, now: float) -> float | None:
        """When the first can serve `model` again; None where one can now, or where every key is out."""
        return None if self.spare(model, now) else self.resting(model, now)

    def resting(self, model: str, now: float) -> float | None:
        """When the first of those that rest can serve `model` again; None where none rests."""
        untils = [credential.rests.get(model, 0.0) for credential in self._all if credential.refused is None]
        return min((until for until in untils if until > now), default=None)

    def states(self, now: float) -> dict[str, str]:
        """By fingerprint what is told of each key."""
        return {each.fingerprint: _state(each, now) for each in self._all if each.fingerprint is not None}


def _state(credential: Credential, now: float) -> str:
    if credential.refused is not None:
        return credential.refused
    resting = sorted(model for model, until in credential.rests.items() if until > now)
    return f"resting for {', '.join(resting)}" if resting else "in use"


def fingerprint(secret: str) -> str:
    """Eight hex digits that name a key without telling anything of it: of SHA-256 over a text that nobody guesses."""
    return sha256(secret.encode()).hexdigest()[:8]
