"""Origin: where a pool connects to, through which proxy, trusting whom; and the connecting itself. No HTTP bodies."""

import asyncio
import base64
import os
import re
import socket
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, unquote, urlsplit

from aiohappyeyeballs import start_connection

from relay.errors import SetupFault, UpstreamError

_CONNECT_ANSWER_MAX = 16_384  # bytes of head that a proxy may answer a CONNECT with
_HEAD_END = b"\r\n\r\n"
_EYEBALLS_DELAY = 0.25  # seconds (RFC 8305)
_HANG_UP_WITHIN = 1.0  # seconds that a connection nobody waits for any more may take to come about
_CONNECT_STATUS = re.compile(rb"HTTP/1\.[01] ([0-9]{3})[ \r]")


@dataclass(frozen=True, slots=True)
class Origin:
    """`base_url` is http(s)://host[:port][/path]; `proxy` is http://[user:password@]host:port, spoken to by CONNECT.

    `name` is what faults call it; `ca` is a PEM file trusted beside the operating system's store.
    """

    name: str
    base_url: str
    proxy: str | None = None
    ca: Path | None = None

    @property
    def parts(self) -> SplitResult:
        return urlsplit(self.base_url)

    @property
    def host(self) -> str:
        return self.parts.hostname or ""

    @property
    def port(self) -> int:
        return self.parts.port or (443 if self.secure else 80)

    @property
    def secure(self) -> bool:
        return self.parts.scheme == "https"

    @property
    def authority(self) -> bytes:
        """The Host header: the port only where it is not the scheme's own, IPv6 literals in brackets."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        default = 443 if self.secure else 80
        return (host if self.port == default else f"{host}:{self.port}").encode(
            "idna" if not host.isascii() else "ascii"
        )

    @property
    def path(self) -> bytes:
        """The base's path without a trailing slash, to which targets are appended."""
        return self.parts.path.rstrip("/").encode()


def trust(origin: Origin) -> ssl.SSLContext | None:
    """The TLS settings for an https origin: the operating system's store and the configured CA. None for http.

    Raises SetupFault when the CA file cannot be used.
    """
    if not origin.secure:
        return None
    context = ssl.create_default_context()
    context.set_alpn_protocols(["http/1.1"])
    if origin.ca is not None:
        try:
            context.load_verify_locations(cafile=origin.ca)
        except OSError as fault:  # ssl.SSLError is one too
            raise SetupFault(f"{origin.ca}: cannot be used as a CA file for {origin.base_url}: {fault}") from fault
    return context


class Addresses:
    """Of the place that connections to `origin` go to: the proxy where there is one.

    They are looked up once for all who ask meanwhile. The loop has only a few threads for that, and a name server that
    keeps silent must not hold up the other upstreams.
    """

    def __init__(self, origin: Origin) -> None:
        self._host, self._port = _place(origin)
        self._known = _numeric(self._host, self._port)
        self._asking: asyncio.Task[list[Any]] | None = None

    async def found(self) -> list[Any]:
        """As getaddrinfo gives them. Raises OSError. Who is cancelled leaves the others waiting."""
        if self._known:
            return self._known
        if self._asking is None:
            loop = asyncio.get_running_loop()
            self._asking = loop.create_task(_looked_up(loop, self._host, self._port))
            self._asking.add_done_callback(self._answered)
        return await asyncio.shield(self._asking)

    def _answered(self, asking: asyncio.Task[list[Any]]) -> None:
        self._asking = None
        if not asking.cancelled():
            asking.exception()  # perhaps nobody waits for it any more


def _place(origin: Origin) -> tuple[str, int]:
    """Host and port of the proxy where there is one, else of the origin."""
    proxy = urlsplit(origin.proxy) if origin.proxy else None
    return (origin.host, origin.port) if proxy is None else (proxy.hostname or "", proxy.port or 8080)


def _numeric(host: str, port: int) -> list[Any]:
    """What is known of a host that is an address already, without asking anybody; nothing of a name."""
    try:
        return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
    except (socket.gaierror, UnicodeError):
        return []


async def _looked_up(loop: asyncio.AbstractEventLoop, host: str, port: int) -> list[Any]:
    return await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)


def unreached(fault: OSError) -> str:
    """Why there is no connection, in the system's words; the loop's own have an address in them that nobody asked for.

    Errors of TLS and of names are told in their own: their numbers are not the system's.
    """
    if isinstance(fault, ssl.SSLError | socket.gaierror) or not fault.errno:
        return fault.strerror or type(fault).__name__
    return os.strerror(fault.errno)


async def connect(
    origin: Origin, addresses: Addresses, context: ssl.SSLContext | None, protocol: asyncio.Protocol
) -> asyncio.WriteTransport:
    """Connect `protocol`, by TLS where there is a `context`, through the proxy where there is one.

    Returns the transport that leads to the network: beneath TLS, of which the other one knows nothing.

    Raises OSError (refused, unknown name, a bad certificate), UpstreamError (the proxy refused).
    """
    loop = asyncio.get_running_loop()
    proxy = urlsplit(origin.proxy) if origin.proxy else None
    beneath, answer = await _dialled(loop, addresses)
    transport = beneath
    try:
        if proxy is not None:  # to http origins too: one way for both
            transport.write(_connect_request(origin, proxy))
            await answer.over
            _check(bytes(answer.head), proxy)
            del answer.head[: answer.head.find(_HEAD_END) + len(_HEAD_END)]
        _ensure_open(transport, origin)
        if context is not None:
            _ensure_silent(answer, origin)
            transport = await _encrypted(loop, transport, protocol, context, origin)
    except BaseException:
        transport.abort()
        raise
    transport.set_protocol(protocol)
    protocol.connection_made(transport)
    if answer.head:
        protocol.data_received(bytes(answer.head))
    return beneath


def _ensure_open(transport: asyncio.Transport, origin: Origin) -> None:
    if transport.is_closing():
        raise UpstreamError(f"Upstream {origin.name!r} closed the connection before it answered.")


def _ensure_silent(answer: "_ConnectAnswer", origin: Origin) -> None:
    if answer.head:  # the server's part of TLS is not the first
        raise UpstreamError(f"Upstream {origin.name!r} sent something that is not TLS.")


async def _dialled(loop: asyncio.AbstractEventLoop, addresses: Addresses) -> "tuple[asyncio.Transport, _ConnectAnswer]":
    """A connection, not yet talked on. All addresses of a name are tried, the next 250 ms after the last (RFC 8305).

    Cancelled, it leaves the dialling a moment to be closed in order: a race that is cancelled just when a socket has
    won can lose it. One address has nobody to race, and the loop itself dials it without one of its few threads.
    """
    places = await addresses.found()
    host, port, *scope = places[0][4]
    if len(places) == 1 and not any(scope):  # as in fe80::1%eth0, which a host and a port do not tell
        return await loop.create_connection(lambda: _ConnectAnswer(loop), host, port)
    dialling = loop.create_task(_raced(loop, places))
    try:
        return await asyncio.shield(dialling)
    except asyncio.CancelledError:
        dialling.add_done_callback(_hang_up)
        loop.call_later(_HANG_UP_WITHIN, dialling.cancel)
        raise


async def _raced(loop: asyncio.AbstractEventLoop, places: list[Any]) -> "tuple[asyncio.Transport, _ConnectAnswer]":
    won = await start_connection(places, happy_eyeballs_delay=_EYEBALLS_DELAY, interleave=1, loop=loop)
    try:
        return await loop.create_connection(lambda: _ConnectAnswer(loop), sock=won)
    except BaseException:
        won.close()
        raise


def _hang_up(dialling: "asyncio.Task[tuple[asyncio.Transport, _ConnectAnswer]]") -> None:
    if not dialling.cancelled() and dialling.exception() is None:
        dialling.result()[0].abort()


class _ConnectAnswer(asyncio.Protocol):
    """What a proxy says to CONNECT: `over` is done when its head is whole, too large, or cut off.

    What else comes before the upstream is asked for anything follows in `head`, or is all of that.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.head = bytearray()
        self.over: asyncio.Future[None] = loop.create_future()

    def data_received(self, data: bytes) -> None:
        self.head += data
        if _HEAD_END in self.head or len(self.head) > _CONNECT_ANSWER_MAX:
            self.connection_lost(None)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  # asyncio's signature
        if not self.over.done():
            self.over.set_result(None)


async def _encrypted(
    loop: asyncio.AbstractEventLoop,
    transport: asyncio.Transport,
    protocol: asyncio.Protocol,
    context: ssl.SSLContext,
    origin: Origin,
) -> asyncio.Transport:
    upgraded = await loop.start_tls(transport, protocol, context, server_hostname=origin.host)
    if upgraded is None:
        raise UpstreamError(f"The proxy of upstream {origin.name!r} closed the connection before TLS began.")
    return upgraded


def _connect_request(origin: Origin, proxy: SplitResult) -> bytes:
    host = f"[{origin.host}]" if ":" in origin.host else origin.host
    target = f"{host}:{origin.port}"
    lines = [f"CONNECT {target} HTTP/1.1", f"Host: {target}"]
    if proxy.username:
        credential = f"{unquote(proxy.username)}:{unquote(proxy.password or '')}"
        lines.append(f"Proxy-Authorization: Basic {base64.b64encode(credential.encode()).decode()}")
    return "\r\n".join([*lines, "", ""]).encode()


def _check(answer: bytes, proxy: SplitResult) -> None:
    """Raises UpstreamError unless the proxy agreed."""
    place = f"{proxy.hostname}:{proxy.port}"
    status = _CONNECT_STATUS.match(answer)
    if status is None or _HEAD_END not in answer:
        raise UpstreamError(f"The proxy {place} gave no answer to CONNECT.")
    if not status[1].startswith(b"2"):
        raise UpstreamError(f"The proxy {place} refused CONNECT with status {status[1].decode()}.")
