"""Kinds of upstream: what each configured one becomes. Knows the configuration's values; opens no connection."""

from relay import config
from relay.exchange import Engine, Header
from relay.upstream.door import Upstream
from relay.upstream.echo import EchoEngine
from relay.wire import Origin, Wire


def build(spec: config.Upstream) -> Upstream:
    """The upstream that `spec` describes. Raises SetupFault when its CA file or its proxy cannot be used."""
    if spec.kind == "echo":
        return Upstream(spec.name, EchoEngine())
    return Upstream(spec.name, _engine(spec), _headers(spec))


def _engine(spec: config.Upstream) -> Engine:
    if spec.engine == "httpx":
        # httpx costs 0.1 s and 10 MB to import, and most relays never use it.
        from relay.upstream.over_httpx import HttpxEngine  # noqa: PLC0415

        return HttpxEngine.of(spec)
    return Wire(Origin(spec.name, spec.base_url, spec.proxy, spec.ca), spec.timeouts, spec.max_connections)


def _headers(spec: config.Upstream) -> tuple[Header, ...]:
    """What goes with every request: the credential, no compression, and what the configuration adds or replaces."""
    headers = {b"accept-encoding": b"identity"}  # compressed answers could not be read over, and a bomb could hide
    if spec.api_keys:
        headers[b"authorization"] = b"Bearer " + spec.api_keys[0].reveal().encode()
    headers |= {name.encode(): value.encode() for name, value in spec.headers.items()}
    return tuple(headers.items())
