"""upstreams: the `upstreams:` of the file, secrets looked up. One whose secret is missing is disabled, no fault."""

import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from relay.config.document import Place
from relay.config.reading import Reading
from relay.config.secret import Secret, Unresolved, is_reference
from relay.config.shapes import UpstreamShape
from relay.config.values import Upstream
from relay.exchange import Timeouts
from relay.keys import PREFIX

ECHO = "echo"
_NOT_YET = frozenset({"azure", "anthropic"})  # kinds that may stand in a file, and are not served yet
_OPENAI_HOST = "api.openai.com"
OPENAI_KEY = "OPENAI_API_KEY"
OPENAI = {"base_url": "https://api.openai.com/v1", "api_key": f"env:{OPENAI_KEY}"}


@dataclass(slots=True)
class Upstreams:
    """`names` are all that may be pointed at, in order: also those with faults, so that these are told once."""

    names: tuple[str, ...]
    usable: dict[str, Upstream] = field(default_factory=dict)
    disabled: dict[str, str] = field(default_factory=dict)


def read_upstreams(reading: Reading, data: Mapping[str, Any] | None) -> Upstreams:
    """No upstreams in the file is OpenAI where its key is in the environment. Echo is always there."""
    if not data:
        data = {"openai": OPENAI} if reading.environ.get(OPENAI_KEY) else {}
    data = data if ECHO in data else {**data, ECHO: {"kind": "echo"}}
    found = Upstreams(tuple(data))
    for name, entry in data.items():
        place: Place = ("upstreams", name)
        if not name or "/" in name:
            reading.fault(place, "an upstream's name is not empty and holds no slash; write another")
            continue
        shape = reading.shape(UpstreamShape, entry, place)
        if shape is not None and _is_sound(reading, shape, place):
            _add(reading, found, name, shape)
    return found


def _is_sound(reading: Reading, shape: UpstreamShape, place: Place) -> bool:
    """Whether the fields fit together."""
    before = len(reading.faults)
    if shape.kind == "openai" and not shape.base_url:
        reading.fault((*place, "base_url"), "is missing; write http(s)://host[:port][/path]")
    if shape.api_key is not None and shape.api_keys is not None:
        reading.fault((*place, "api_keys"), "stands beside api_key; keep one of the two")
    if shape.api_version is not None and shape.kind != "azure":
        reading.fault((*place, "api_version"), "is for upstreams of kind azure; leave it out")
    if shape.ca is not None and (reason := _unfit(shape.ca)) is not None:
        reading.fault((*place, "ca"), f"{reason}; write the path of a PEM file")
    if shape.proxy is not None and not is_reference(shape.proxy) and not _is_proxy(shape.proxy, shape.engine):
        reading.fault((*place, "proxy"), "is no proxy of this engine; write http://host:port")
    return len(reading.faults) == before


def _unfit(ca: str) -> str | None:
    """Why that file holds no certificates; None where it does."""
    if not Path(ca).is_file():
        return f"there is no file {ca}"
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cafile=ca)
    except OSError as fault:  # ssl.SSLError is one too
        return f"{ca} cannot be used as a CA file: {fault.strerror or fault}"
    return None


def _is_proxy(url: str, engine: str | None) -> bool:
    """The engine `wire` speaks to proxies over plain http only."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return False
    return parts.scheme in ({"http", "https"} if engine == "httpx" else {"http"}) and bool(parts.hostname and port)


def _add(reading: Reading, found: Upstreams, name: str, shape: UpstreamShape) -> None:
    place: Place = ("upstreams", name)
    if shape.kind in _NOT_YET:
        found.disabled[name] = f"kind {shape.kind} is not served by this version"
        reading.warn(place, f"disabled, since {found.disabled[name]}")
        return
    said = shape.headers or {}
    try:
        keys = _keys(reading, shape, place)
        headers = {header: reading.secret((*place, "headers", header), text).reveal() for header, text in said.items()}
        proxy = _proxy(reading, shape, place)
    except Unresolved as reason:
        found.disabled[name] = str(reason)
        reading.warn(place, f"disabled, since {reason}")
        return
    plain = {"kind", "base_url", "max_connections", "keep_alive", "engine"}
    given = shape.model_dump(include=plain, exclude_unset=True)
    found.usable[name] = Upstream(
        name,
        api_keys=keys,
        timeouts=Timeouts(**shape.timeouts.model_dump(exclude_unset=True)) if shape.timeouts else Timeouts(),
        proxy=proxy,
        ca=Path(shape.ca) if shape.ca else None,
        authority=Path(shape.ca).read_bytes() if shape.ca else b"",
        headers=headers,
        **given,
    )


def _proxy(reading: Reading, shape: UpstreamShape, place: Place) -> str | None:
    """The proxy's URL. Raises Unresolved, also when its reference leads to something else."""
    if shape.proxy is None:
        return None
    url = reading.secret((*place, "proxy"), shape.proxy).reveal()
    if not _is_proxy(url, shape.engine):
        raise Unresolved("proxy: its reference leads to no proxy of this engine, which is http://host:port")
    return url


def _keys(reading: Reading, shape: UpstreamShape, place: Place) -> tuple[Secret, ...]:
    """Every key that is there. Raises Unresolved, with all the reasons, when some are named and none is there."""
    if shape.api_keys is not None:
        named = {(*place, "api_keys", index): text for index, text in enumerate(shape.api_keys)}
    else:
        named = {(*place, "api_key"): shape.api_key} if shape.api_key is not None else {}
    found, missing = [], {}
    for here, text in named.items():
        warn_literal(reading, here, text)
        try:
            found.append(_foreign(reading.secret(here, text), shape, text))
        except Unresolved as reason:
            missing[here] = str(reason)
    if named and not found:
        raise Unresolved(" and ".join(missing.values()))
    for here, wrong in missing.items():
        reading.warn(here, f"{wrong}; the upstream's other keys are used")
    return tuple(found)


def _foreign(secret: Secret, shape: UpstreamShape, text: str) -> Secret:
    """The same secret. Raises Unresolved for a relay's key that would go to OpenAI.

    The line that the relay tells callers to paste puts it into the very variable where OpenAI's own is looked for.
    """
    if secret.reveal().startswith(PREFIX) and urlsplit(shape.base_url or "").hostname == _OPENAI_HOST:
        raise Unresolved(f"{text} holds a key of a relay, not of OpenAI")
    return secret


def warn_literal(reading: Reading, place: Place, text: str) -> None:
    """Say that a secret stands in the file itself."""
    if not is_reference(text):
        reading.warn(place, "a secret in the file itself; write env:NAME or file:/path instead")
