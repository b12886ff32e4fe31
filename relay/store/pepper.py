"""Pepper: the secret that key digests are made with. It lies beside the store, which alone opens nothing."""

import os
import secrets
from collections.abc import Mapping
from pathlib import Path

from relay.errors import SetupFault

_LEAST = 16  # bytes


def pepper(store: Path, environ: Mapping[str, str], *, used: bool) -> bytes:
    """RELAY_PEPPER, or else the content of the store's .pepper file. Raises SetupFault.

    The file is made where there is none, but not where one was `used`: no key would be known any more.
    """
    if given := environ.get("RELAY_PEPPER"):
        return given.encode()
    path = store.with_suffix(".pepper")
    try:
        if not path.exists():
            if used:
                raise SetupFault(f"pepper {path}: it is gone; bring back the file that the keys were made with")
            _make(path)
        found = bytes.fromhex(path.read_text("ascii").strip())
    except OSError as fault:
        raise SetupFault(f"pepper {path}: {fault.strerror}; without it no key can be checked") from fault
    except ValueError as fault:
        raise SetupFault(f"pepper {path}: not hexadecimal; bring back the file that the keys were made with") from fault
    if len(found) < _LEAST:
        raise SetupFault(f"pepper {path}: too short; bring back the file that the keys were made with")
    return found


def _make(path: Path) -> None:
    """Whole or not at all, and only one of two that try at once."""
    draft = path.with_suffix(f".pepper-{os.getpid()}")
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="ascii") as file:
        file.write(secrets.token_hex(32))
        file.flush()
        os.fsync(file.fileno())
    try:
        path.hardlink_to(draft)
    except FileExistsError:
        return  # the other one's is as good
    finally:
        draft.unlink()
