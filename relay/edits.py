"""The declared edits: all that the relay ever changes in a body, and nothing else. Pure.

In the request: the model's name, the alias's forced and default parameters, and `stream_options.include_usage` where
the caller did not ask for usage. In the answer: the extra usage chunk taken out again, and the model's name where the
alias says `response_model: alias`.
"""

from collections.abc import Mapping

import msgspec

from relay import splice, sse
from relay.ask import Ask
from relay.endpoints import Endpoint
from relay.errors import BadRequest
from relay.exchange import Body
from relay.routing import Alias, Target

_USAGE = b'{"include_usage":true}'
_ASKING = frozenset({_USAGE, b'{"include_usage": true}'})  # as nearly all clients write it who ask for it themselves
_MODEL = ("model",)
_options = msgspec.json.Decoder(dict[str, msgspec.Raw])


class Edited(msgspec.Struct, frozen=True, gc=False):  # gc: values alone are in no circle
    """`body` as the upstream gets it, a long one in pieces; `names` of what was changed.

    `asks_usage`: usage is asked for on our behalf. `patch` is the changes as a JSON Patch (RFC 6902), where there are
    more than the model's name.
    """

    body: Body
    names: tuple[str, ...]
    asks_usage: bool
    patch: bytes = b""


def edit(ask: Ask, endpoint: Endpoint, alias: Alias, target: Target, may_ask_usage: bool) -> Edited:
    """The body for `target`. Raises BadRequest when `stream_options` is not an object."""
    body, fields = ask.body, ask.fields
    changes: dict[str, bytes] = {}
    asks_usage = False
    if not alias.is_plain:
        changes |= {name: value for name, value in alias.default.items() if name not in fields}
        changes.update(alias.set)
    if "stream" in fields:
        if not splice.is_plain(body, fields, "stream"):
            changes["stream"] = bytes(fields["stream"])  # it stands there twice: from now on once
        if ask.stream and endpoint.usage_option and may_ask_usage:
            options = _usage_options(changes.get("stream_options") or fields.get("stream_options"))
            if options is not None:
                changes["stream_options"] = options
                asks_usage = True
    if not changes and "model" in fields:  # nearly all
        named = splice.replaced(body, fields, "model", target.written)
        return Edited(body, (), False) if named == body else Edited(named, _MODEL, False)
    if bytes(fields.get("model", b"")) != target.written or not splice.is_plain(body, fields, "model"):
        changes = {"model": target.written} | changes
    patch = _patch(fields, changes) if len(changes) > 1 or "model" not in changes else b""
    return Edited(splice.patches(body, fields, changes), tuple(changes), asks_usage, patch)


def _patch(fields: splice.Fields, changes: Mapping[str, bytes]) -> bytes:
    operations = [
        b'{"op":"%b","path":"/%b","value":%b}'
        % (b"replace" if name in fields else b"add", name.replace("~", "~0").replace("/", "~1").encode(), value)
        for name, value in changes.items()
    ]
    return b"[%b]" % b",".join(operations)


def _usage_options(raw: bytes | msgspec.Raw | None) -> bytes | None:
    """These `stream_options` with usage asked for; None where they ask for it already."""
    said = b"null" if raw is None else bytes(raw)
    if said == b"null":
        return _USAGE
    if said in _ASKING:
        return None
    try:
        options = _options.decode(said)
    except msgspec.DecodeError as fault:
        raise BadRequest("'stream_options' must be an object.", param="stream_options") from fault
    if splice.flag(options, "include_usage"):
        return None
    return splice.patch(said, options, {"include_usage": b"true"})


def renamed(body: bytes, name: str) -> bytes:
    """A JSON answer whose model is called `name`; as it was, when it names none."""
    fields = _fields(body)
    change = {"model": msgspec.json.encode(name)}
    if "model" in fields:
        return splice.patch(body, fields, change)
    if "response" not in fields:
        return body
    inner = bytes(fields["response"])  # an event of the responses API wraps the whole answer
    inner_fields = _fields(inner)
    if "model" not in inner_fields:
        return body
    return splice.patch(body, fields, {"response": splice.patch(inner, inner_fields, change)})


def _fields(body: bytes) -> splice.Fields:
    try:
        return splice.read(body)
    except BadRequest:
        return {}


def renamed_event(event: bytes, name: str) -> bytes:
    """One event whose data is a JSON answer under another model name; any other event as it was."""
    data = sse.data(event)
    if data is None or b'"model"' not in data or data not in event:
        return event
    return event.replace(data, renamed(data, name), 1)
