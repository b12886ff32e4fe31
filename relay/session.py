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
    role: str
    content: msgspec.Raw


class _Conversation(msgspec.Struct):
    id: str


def session_of(head: Head, ask: Ask) -> bytes:
    """A name that all requests of a conversation share, and no other's do; empty where nothing tells.

    What the agent itself calls it comes first, then `prompt_cache_key`, then the `conversation` that the upstream
    keeps, then what its turns begin with: everything up to the first words of the user, which stays as it grows.
    """
    if head.session:
        return _name(b"session", head.session)
    key = ask.fields.get("prompt_cache_key")
    if key is not None and bytes(key) != b"null":
        return _name(b"key", bytes(key))
    kept = ask.fields.get("conversation")
    if kept is not None and (conversation := _conversation(bytes(kept))):
        return _name(b"kept", conversation.encode(errors="replace"))
    turns = ask.fields.get("messages") or ask.fields.get("input")
    return b"" if turns is None else _name(b"begin", _begin(bytes(turns)))


def _name(kind: bytes, text: bytes) -> bytes:
    return blake2b(text, digest_size=_SIZE, person=kind).digest()


def _conversation(said: bytes) -> str | None:
    """The name of a conversation, which may stand there by itself, or in an object."""
    try:
        found = msgspec.json.decode(said, type=_Conversation | str)
    except msgspec.DecodeError:
        return None
    return found if isinstance(found, str) else found.id


def _begin(turns: bytes) -> bytes:
    """The turns up to the first of the user. A text alone is one of his; what is no list of turns is its own begin."""
    try:
        raw = msgspec.json.decode(turns, type=list[msgspec.Raw])
    except msgspec.DecodeError:
        return _said(_USER, turns) if turns.startswith(b'"') else turns
    begin: list[bytes] = []
    for turn in raw:
        known = _turn(turn)
        begin.append(_said(known.role, bytes(known.content)) if known else bytes(turn))
        if known and known.role == _USER:
            break
    return b"\n".join(begin)


def _said(role: str, content: bytes) -> bytes:
    return b"%b %b" % (role.encode(errors="replace"), content)


def _turn(turn: msgspec.Raw) -> _Turn | None:
    try:
        return msgspec.json.decode(turn, type=_Turn)
    except msgspec.DecodeError:
        return None
