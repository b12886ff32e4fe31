"""Both engines: TLS with a certificate of our own."""

import ssl
from pathlib import Path

import pytest
import trustme

from relay.errors import SetupFault, UpstreamError
from tests.engines.asking import fetched, post
from tests.engines.conftest import Build
from tests.engines.peer import CHUNKED, Talk, chunk, once, peer, playing, whole


async def test_a_configured_authority_is_trusted(build: Build, tls: ssl.SSLContext, ca: Path) -> None:
    async with peer(playing(whole(b"secret")), tls=tls) as server:
        engine = build(server.url, ca=ca)
        for _ in range(2):
            assert (200, b"secret") == await fetched(engine)
        assert [2] == [len(talk.requests) for talk in server.talks]


async def test_a_body_in_pieces(build: Build, tls: ssl.SSLContext, ca: Path) -> None:
    body = b"x" * 3_000_000
    async with peer(playing(whole(b"")), tls=tls) as server:
        await fetched(build(server.url, ca=ca), post((b"{", memoryview(body), b"}")))
        assert b"{%b}" % body == server.requests[0].body


async def test_an_unknown_authority_is_not(build: Build, tls: ssl.SSLContext) -> None:
    async with peer(playing(whole(b"secret")), tls=tls) as server:
        with pytest.raises(UpstreamError, match=r"^The certificate of upstream 'up' is not trusted: .+\.$"):
            await build(server.url).open(*post())
        assert not server.requests


async def test_a_certificate_for_somebody_else_is_not(build: Build, authority: trustme.CA, ca: Path) -> None:
    other = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("elsewhere.example").configure_cert(other)
    async with peer(playing(whole(b"secret")), tls=other) as server:
        with pytest.raises(UpstreamError, match=r"^The certificate of upstream 'up' is not trusted: .*127.0.0.1"):
            await build(server.url, ca=ca).open(*post())


async def test_a_server_that_speaks_no_tls(build: Build) -> None:
    async def script(talk: Talk) -> None:
        await talk.reader.readexactly(5)
        await talk.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    async with peer(script) as server:
        with pytest.raises(UpstreamError, match=r"^Upstream 'up' could not be connected to"):
            await build(server.url.replace("http:", "https:")).open(*post())


async def test_a_body_that_ends_with_its_connection(build: Build, tls: ssl.SSLContext, ca: Path) -> None:
    async with peer(once(b"HTTP/1.1 200 OK\r\n\r\n", b"until", b" the end"), tls=tls) as server:
        assert (200, b"until the end") == await fetched(build(server.url, ca=ca))


async def test_a_body_that_is_cut(build: Build, tls: ssl.SSLContext, ca: Path) -> None:
    async with peer(once(CHUNKED, chunk(b"so far")), tls=tls) as server:
        with pytest.raises(UpstreamError, match=r"in the middle of its answer"):
            await fetched(build(server.url, ca=ca))


@pytest.mark.parametrize("text", [None, "not a certificate"])
async def test_a_file_that_is_no_authority(build: Build, tmp_path: Path, text: str | None) -> None:
    path = tmp_path / "ca.pem"
    if text is not None:
        path.write_text(text)
    with pytest.raises(SetupFault, match=r"ca.pem: cannot be used as a CA file"):
        build("https://127.0.0.1:1", ca=path)
