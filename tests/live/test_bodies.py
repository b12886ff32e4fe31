"""Compressed requests are unpacked, with a limit, and go on plain."""

import gzip
import time
import zlib
from collections.abc import Callable

import pytest
import zstandard

from tests.client import chat, request
from tests.process import KEY, RelayProcess, Start
from tests.upstream import Upstream, response

pytestmark = pytest.mark.faces("fast", "asgi")

LIMIT = 2_000_000


@pytest.fixture(scope="module")
def relay(start: Start) -> RelayProcess:
    return start(server={"max_body": LIMIT})


def raw_deflate(data: bytes) -> bytes:
    """Deflate without zlib's frame, as some clients send it under the same name."""
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(data) + packer.flush()


def zstd_streamed(data: bytes) -> bytes:
    """Zstandard without the content's size in its frame."""
    packer = zstandard.ZstdCompressor().compressobj()
    return packer.compress(data) + packer.flush()


PACKERS: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
    "gzip": ("gzip", gzip.compress),
    "x-gzip": ("x-gzip", gzip.compress),
    "gzip in two members": ("gzip", lambda data: gzip.compress(data[:20]) + gzip.compress(data[20:])),
    "deflate": ("deflate", zlib.compress),
    "raw deflate": ("deflate", raw_deflate),
    "zstd": ("zstd", zstandard.compress),
    "zstd streamed": ("zstd", zstd_streamed),
    "upper case": ("GZIP", gzip.compress),
    "identity": ("identity", bytes),
}


@pytest.mark.parametrize("case", PACKERS)
def test_a_packed_body_goes_on_plain(relay: RelayProcess, upstream: Upstream, model: str, case: str) -> None:
    name, pack = PACKERS[case]
    upstream.play(model, response({"choices": []}))

    answer = relay.ask(pack(chat(model, padding="é" * 1000)), f"content-encoding: {name}")

    assert 200 == answer.status, answer
    seen = upstream.requests(model)[0]
    assert chat(model, padding="é" * 1000) == seen.body
    assert seen.header("content-encoding") in {None, "identity"}


@pytest.mark.parametrize("case", ["gzip", "deflate", "raw deflate", "zstd", "zstd streamed"])
def test_a_bomb_is_a_413(relay: RelayProcess, upstream: Upstream, model: str, case: str) -> None:
    name, pack = PACKERS[case]
    before = relay.memory()

    answer = relay.ask(pack(chat(model, padding="x" * 100_000_000)), f"content-encoding: {name}")

    assert (413, "request_too_large") == (answer.status, answer.error["code"])
    assert relay.memory() - before < 40_000_000
    assert [] == upstream.requests(model)


@pytest.mark.parametrize("name", ["br", "compress", "gzip, gzip", "gzip, br", "made-up"])
def test_other_encodings_are_a_415(relay: RelayProcess, name: str) -> None:
    answer = relay.ask(gzip.compress(chat("x")), f"content-encoding: {name}")

    assert (415, "unsupported_media_type") == (answer.status, answer.error["code"])


BROKEN = {
    "no gzip": ("gzip", chat("x")),
    "half": ("gzip", gzip.compress(chat("x"))[:-10]),
    "half zstd": ("zstd", zstandard.compress(chat("x"))[:-4]),
    "empty": ("gzip", b""),
    "no zstd": ("zstd", b"{}"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_what_cannot_be_unpacked_is_a_400(relay: RelayProcess, case: str) -> None:
    name, body = BROKEN[case]

    answer = relay.ask(body, f"content-encoding: {name}")

    assert (400, "invalid_request_error") == (answer.status, answer.error["type"])


def test_a_body_just_under_the_limit_passes(relay: RelayProcess, upstream: Upstream, model: str) -> None:
    upstream.play(model, response({"choices": []}))
    room = LIMIT - len(chat(model, padding=""))

    assert 200 == relay.ask(chat(model, padding="x" * room)).status
    assert 413 == relay.ask(chat(model, padding="x" * (room + 1))).status


@pytest.mark.parametrize("apart", [False, True], ids=["whole", "head and body apart"])
def test_a_known_head_lets_no_long_body_in(start: Start, upstream: Upstream, model: str, apart: bool) -> None:
    relay = start(server={"max_body": 5_000})
    upstream.play(model, response({"choices": []}))

    with relay.connect() as client:
        answers = []
        for padding in (100, 5_000, 100):
            head, end, body = request(chat(model, padding="x" * padding), key=KEY).partition(b"\r\n\r\n")
            client.send(head + end + (b"" if apart else body))
            time.sleep(0.005)
            client.send(body if apart else b"")
            answers.append(client.answer().status)

    assert [200, 413, 200] == answers
