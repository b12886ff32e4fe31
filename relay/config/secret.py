"""secret: values that are never shown, and the references (`env:NAME`, `file:/path`, `${NAME}`) that name them."""

import hmac
import re
from collections.abc import Mapping
from pathlib import Path
from typing import NoReturn

_REFERENCE = re.compile(
    r"env:(?P<env>[A-Za-z_][A-Za-z0-9_]*)|\$\{(?P<braced>[A-Za-z_][A-Za-z0-9_]*)\}|file:(?P<file>.+)"
)


class Secret:
    """A text that shows itself only when asked to, and cannot be pickled or copied into something that would."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        return self._text

    def __repr__(self) -> str:
        return "***"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and hmac.compare_digest(self._text.encode(), other._text.encode())

    def __hash__(self) -> int:
        return hash(self._text)

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Secret is not written down")


class Unresolved(Exception):
    """Why a reference leads to no usable secret; names the reference and nothing of the value."""


class Unreadable(Unresolved):
    """The secret is there and cannot be read: a mistake to mend."""


def is_reference(text: str) -> bool:
    return _REFERENCE.fullmatch(text) is not None


def spelled(text: str) -> str:
    """The text itself; ValueError where it looks like a reference that would not be read as one."""
    if not is_reference(text) and ("${" in text or text.startswith(("env:", "file:"))):
        raise ValueError("is not a whole reference")
    return text


def resolve(text: str, environ: Mapping[str, str]) -> Secret:
    """The secret that `text` names, or `text` itself where it is no reference.

    Raises Unresolved.
    """
    found = _REFERENCE.fullmatch(text)
    if found is None:
        value, source = text, "the value"
    elif found["file"]:
        value, source = _read(found["file"]), text
    else:
        value, source = environ.get(found["env"] or found["braced"], ""), text
        if not value:
            raise Unresolved(f"{source} is not set, or empty")
    if not value.strip():
        raise Unresolved(f"{source} is empty")
    if not (value.isascii() and value.isprintable()):
        raise Unresolved(f"{source} holds characters that cannot stand in a header")
    return Secret(value)


def _read(path: str) -> str:
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError) as error:
        raise Unresolved(f"file:{path} cannot be read ({error.strerror})") from error
    except OSError as error:
        raise Unreadable(f"file:{path} cannot be read: {error.strerror}; let this user read it") from error
    except ValueError as error:
        raise Unresolved(f"file:{path} is not text") from error
    return text.removesuffix("\n").removesuffix("\r")
