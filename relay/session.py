"""session: which conversation a request belongs to, so that it can go where the last turn went. Pure.

Providers keep the begin of a prompt in a cache for a while, where it was served: the same conversation at the same
target is faster and cheaper.
"""

from hashlib import blake2b

import msgspec

from relay.ask import Ask, Head

_SIZE = 16  # bytes of a name
_USER = "user"


class _Turn(msgspec.Struct):
    role: str | None = None


def session_of(head: Head, ask: Ask) -> bytes:
    """A name that all requests of a conversation share, and no other's do; empty where nothing tells.

    What the agent itself calls it comes first, then `prompt_cache_key`, then what its turns begin with: everything up
    to the first words of the user, which stays as the conversation grows.
    """
    if head.session:
        return _name(b"session", head.session)
    key = ask.fields.get("prompt_cache_key")
    if key is not None and bytes(key) != b"null":
        return _name(b"key", bytes(key))
    turns = ask.fields.get("messages") or ask.fields.get("input")
    return b"" if turns is None else _name(b"begin", _begin(bytes(turns)))


def _name(kind: bytes, text: bytes) -> bytes:
    return blake2b(text, digest_size=_SIZE, person=kind).digest()


def _begin(turns: bytes) -> bytes:
    """The raw turns up to the first of the user; all of what is no list of turns."""
    try:
        raw = msgspec.json.decode(turns, type=list[msgspec.Raw])
    except msgspec.DecodeError:
        return turns
    begin: list[bytes] = []
    for turn in raw:
        begin.append(bytes(turn))
        if _role(turn) == _USER:
            break
    return b"\n".join(begin)


def _role(turn: msgspec.Raw) -> str | None:
    try:
        return msgspec.json.decode(turn, type=_Turn).role
    except msgspec.DecodeError:
        return None
