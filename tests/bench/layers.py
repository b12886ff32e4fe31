"""layers: which part of the relay a module belongs to. LAYERS is the one table; the longest name that fits counts."""

import re
from collections.abc import Mapping

LAYERS: Mapping[str, str] = {
    "relay.inbound": "inbound",
    "relay.endpoints": "inbound",
    "relay.ask": "inbound",
    "relay.repeat": "inbound",  # and of the wire, which is alike
    "relay.pages": "inbound",
    "uvicorn.protocols": "inbound",
    "httptools": "inbound",
    "relay.splice": "splice",
    "relay.edits": "splice",
    "relay.keys": "keys",
    "relay.routing": "routing",
    "relay.health": "routing",
    "relay.course": "routing",
    "relay.verdict": "routing",
    "relay.session": "routing",
    "relay.call.choice": "routing",
    "relay.call.tries": "routing",
    "relay.limits": "limits",
    "relay.counters": "limits",
    "relay.line": "limits",
    "relay.call": "call",
    "relay.story": "call",
    "relay.outbox": "loop",
    "relay.call.delivery": "answer",
    "relay.call.mending": "answer",
    "relay.call.refrain": "answer",
    "relay.call.sink": "answer",
    "relay.sse": "answer",
    "relay.estimate": "answer",
    "relay.usage": "answer",
    "relay.call.account": "record",
    "relay.record": "record",
    "relay.pricing": "record",
    "relay.redaction": "record",
    "relay.journal": "journal",
    "threading": "journal",  # its event, by which the writer is told
    "relay.store": "store",  # in the writer's thread, but for keys
    "relay.wire": "wire",
    "relay.exchange": "wire",
    "relay.upstream": "wire",
    "httpx": "wire",
    "asyncio": "loop",
    "uvloop": "loop",
    "uvicorn": "loop",
    "weakref": "loop",  # of all tasks there are, asyncio keeps a weak set
    "_weakrefset": "loop",
    "relay": "rest",
    "relay.app": "rest",
    "relay.cli": "rest",
    "relay.config": "rest",
    "relay.errors": "rest",
    "relay.reload": "rest",
    "relay.__main__": "rest",
}
ORDER = tuple(dict.fromkeys([*LAYERS.values(), "rest"]))
_ROOT = re.compile(r"^.*/(?:site-packages|python3\.\d+)/|^.*/(?=relay/)")


def module(path: str) -> str:
    """The module in a file: by its place behind site-packages, the standard library, or the relay's own checkout."""
    inner = _ROOT.sub("", path).removesuffix(".py").removesuffix("/__init__")
    return inner.strip("/").replace("/", ".")


def known(name: str) -> str | None:
    """The entry that a module falls under; None when there is none."""
    parts = name.split(".")
    return next((head for size in range(len(parts), 0, -1) if (head := ".".join(parts[:size])) in LAYERS), None)


def layer(path: str) -> str:
    """The layer of a file."""
    found = known(module(path))
    return "rest" if found is None else LAYERS[found]
