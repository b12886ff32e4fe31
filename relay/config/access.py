"""access: the `keys:` of the file. One whose secret is not there is left out with a warning, no fault."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from relay.config.document import Place
from relay.config.reading import Reading
from relay.config.secret import Secret, Unresolved
from relay.config.shapes import KeyShape
from relay.config.upstreams import warn_literal
from relay.config.values import StaticKey

SHORTEST = 16  # characters of a key that nobody guesses


class FileKeys(NamedTuple):
    """`usable` are those whose secrets are there; `names` are of all."""

    usable: tuple[StaticKey, ...]
    names: frozenset[str]


def read_keys(reading: Reading, data: Sequence[Any]) -> FileKeys:
    """The keys of the file, as far as they can be read."""
    found: list[StaticKey] = []
    names: set[str] = set()
    unenforced: list[str] = []
    for index, entry in enumerate(data):
        place: Place = ("keys", index)
        shape = reading.shape(KeyShape, entry, place)
        name = reading.sound(KeyShape, entry).get("name")
        if name in names:
            reading.fault((*place, "name"), f"a second key {name!r}; write another name")
        if name is not None:
            names.add(name)
        if shape is None:
            continue
        unenforced += [f"keys.{index}.{name}" for name in ("budget", "tpm") if getattr(shape, name) is not None]
        secret = _secret(reading, shape, place, found)
        if secret is not None:
            found.append(_static(shape, secret))
    if unenforced:
        reading.warnings.append(f"{', '.join(unenforced)}: kept, but not enforced by this version")
    return FileKeys(tuple(found), frozenset(names))


def _secret(reading: Reading, shape: KeyShape, place: Place, others: Sequence[StaticKey]) -> Secret | None:
    warn_literal(reading, (*place, "key"), shape.key)
    try:
        secret = _own(reading.secret((*place, "key"), shape.key), others)
    except Unresolved as reason:
        reading.warn(place, f"the key {shape.name!r} is disabled, since {reason}")
        return None
    if len(secret.reveal()) < SHORTEST:
        reading.warn((*place, "key"), f"shorter than {SHORTEST} characters and easily guessed; use a longer one")
    return secret


def _own(secret: Secret, others: Sequence[StaticKey]) -> Secret:
    """The secret itself. Raises Unresolved when another key has it: whose limits would hold?"""
    same = next((other.name for other in others if other.secret == secret), None)
    if same is not None:
        raise Unresolved(f"its text is that of the key {same!r}")
    return secret


def _static(shape: KeyShape, secret: Secret) -> StaticKey:
    return StaticKey(
        name=shape.name,
        secret=secret,
        models=tuple(shape.models) if shape.models else None,
        rpm=shape.rpm,
        tpm=shape.tpm,
        concurrency=shape.concurrency,
        budget=shape.budget,
        log=shape.log,
        tags=tuple(shape.tags or ()),
    )
