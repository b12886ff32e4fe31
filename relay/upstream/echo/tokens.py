"""Tokens as echo counts them: a word or a run of punctuation, with the white space before it. Pure; knows no API.

Counts are deterministic and need no vocabulary. The tokens of a text, joined, are the text; a stream sends one a piece.
"""

import itertools
import re
from collections.abc import Iterator, Sequence
from typing import Literal

_TOKEN = re.compile(r"\s*(?:\w+|[^\w\s]+)(?:\s++\Z)?|\s+")


def tokens(text: str) -> Iterator[str]:
    """The tokens of `text`, in order."""
    return (found.group() for found in _TOKEN.finditer(text))


def count(text: str) -> int:
    """How many tokens `text` has."""
    return len(_TOKEN.findall(text))


def cut(text: str, stop: Sequence[str], limit: int | None) -> tuple[str, Literal["stop", "length"]]:
    """`text` up to the first of the `stop` sequences and to at most `limit` tokens, and why it ends there."""
    end = min((at for mark in stop if mark and (at := text.find(mark)) >= 0), default=len(text))
    if limit is None:
        return text[:end], "stop"
    kept = "".join(itertools.islice(tokens(text[:end]), limit))
    return kept, "stop" if len(kept) == end else "length"
