"""The exact table of what is relayed: rows of data, served by one handler. Knows paths; nothing of what is behind them.

A path that is not in the table is not relayed: no prefix, no pattern, no decoding of escapes but in Azure's alias.
"""

import re
from dataclasses import dataclass
from urllib.parse import unquote_to_bytes


@dataclass(frozen=True, slots=True)
class Endpoint:
    """`name` is the path as OpenAI's documentation writes it, `path` what follows the upstream's base_url.

    `usage_option`: takes `stream_options.include_usage`. `finishes`: its stream is whole only when it ends with
    `[DONE]`, or after a finish_reason or (responses) after the event that ends it.
    """

    name: str
    path: bytes
    usage_option: bool = False
    finishes: bool = False


ENDPOINTS = (
    Endpoint("/v1/chat/completions", b"/chat/completions", usage_option=True, finishes=True),
    Endpoint("/v1/completions", b"/completions", usage_option=True, finishes=True),
    Endpoint("/v1/responses", b"/responses", finishes=True),
    Endpoint("/v1/embeddings", b"/embeddings"),
    Endpoint("/v1/moderations", b"/moderations"),
    Endpoint("/v1/images/generations", b"/images/generations"),
)
# The tutorial's route: a chat whose answer goes out as bare text.
TEXT = Endpoint("/chat/stream", b"/chat/completions", usage_option=True, finishes=True)

_PREFIXES = (b"/v1", b"", b"/openai/v1")
_EXACT = {prefix + endpoint.path: endpoint for prefix in _PREFIXES for endpoint in ENDPOINTS}
_AZURE = b"/openai/deployments/"
_ALIAS = re.compile(rb"(?:[^%\\\x80-\xff]|%[0-9A-Fa-f]{2})+")  # as it may stand in a path
_DOTS = {".", ".."}
_BY_PATH = {endpoint.path: endpoint for endpoint in ENDPOINTS}


def match(path: bytes) -> tuple[Endpoint, str | None] | None:
    """The endpoint of a raw request path, and the alias where the path names one (Azure's); None: not relayed."""
    if (endpoint := _EXACT.get(path)) is not None:
        return endpoint, None
    if not path.startswith(_AZURE):
        return None
    alias, slash, rest = path[len(_AZURE) :].partition(b"/")
    found = _BY_PATH.get(slash + rest)
    name = _decoded(alias) if found is not None else None
    return None if found is None or name is None else (found, name)


def _decoded(alias: bytes) -> str | None:
    """The name that Azure's clients percent-encode, slashes and all; None where no name is encoded so."""
    if _ALIAS.fullmatch(alias) is None:
        return None
    try:
        name = unquote_to_bytes(alias).decode()
    except UnicodeDecodeError:
        return None
    return None if _DOTS.intersection(name.split("/")) else name
