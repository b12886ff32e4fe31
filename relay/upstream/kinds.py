"""Kinds of upstream: what each configured one becomes. Knows the configuration's values; opens no connection."""

from relay import config
from relay.config import Queue
from relay.config.secret import Secret
from relay.exchange import Engine
from relay.line import Line
from relay.upstream.credentials import Credential, Credentials, fingerprint
from relay.upstream.door import Upstream
from relay.upstream.echo import EchoEngine
from relay.wire import Origin, Wire

_SECRET = 16  # characters of a key or an added header's value, from which on it may be a secret: shorter are words


def build(spec: config.Upstream, queue: Queue) -> Upstream:
    """The upstream that `spec` describes. Raises SetupFault when its CA file or its proxy cannot be used.

    `queue` is of the requests that wait while all of its connections are busy.
    """
    if spec.kind == "echo":
        return Upstream(spec.name, EchoEngine())
    found = Credentials([_credential(spec, key) for key in spec.api_keys or (None,)])
    line = Line(queue.size, queue.wait)
    return Upstream(spec.name, _engine(spec, line), found, line=line)


def _engine(spec: config.Upstream, line: Line) -> Engine:
    if spec.engine == "httpx":
        # httpx costs 0.1 s and 10 MB to import, and most relays never use it.
        from relay.upstream.over_httpx import HttpxEngine  # noqa: PLC0415

        return HttpxEngine.of(spec, line)
    origin = Origin(spec.name, spec.base_url, spec.proxy, spec.ca)
    return Wire(origin, spec.timeouts, spec.max_connections, line, spec.keep_alive)


def _credential(spec: config.Upstream, key: Secret | None) -> Credential:
    """What goes with every request: the key, no compression, and what the configuration adds or replaces."""
    headers = {b"accept-encoding": b"identity"}  # compressed answers could not be read over, and a bomb could hide
    if key is not None:
        headers[b"authorization"] = b"Bearer " + key.reveal().encode()
    added = {name.encode(): value.encode() for name, value in spec.headers.items()}
    headers |= added
    text = "" if key is None else key.reveal()
    secrets = tuple(value for value in (text.encode(), *added.values()) if len(value) >= _SECRET)
    return Credential(tuple(headers.items()), fingerprint(text) if text else None, secrets)
