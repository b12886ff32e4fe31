"""How a request is read: its head, its encoding, its few fields."""

import gzip
import json
import zlib
from collections.abc import Callable

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from relay.ask import decoded, less, named, new_id, read
from relay.errors import BadRequest, BodyTooLarge, UnsupportedMedia
from relay.exchange import Header
from relay.record import Keep
from tests.requests import begun

CREDENTIALS: dict[str, tuple[list[Header], bytes]] = {
    "none": ([], b""),
    "bearer": ([(b"authorization", b"Bearer sk-1")], b"sk-1"),
    "any case, any blanks": ([(b"authorization", b"  bEARER   sk-1 ")], b"sk-1"),
    "api-key": ([(b"api-key", b" sk-1 ")], b"sk-1"),
    "x-api-key": ([(b"x-api-key", b"sk-1")], b"sk-1"),
    "the same thrice": ([(b"authorization", b"Bearer sk-1"), (b"api-key", b"sk-1"), (b"x-api-key", b"sk-1")], b"sk-1"),
    "another scheme": ([(b"authorization", b"Basic c2stMQ==")], b""),
    "no scheme": ([(b"authorization", b"sk-1")], b""),
    "empty": ([(b"authorization", b"Bearer ")], b""),
    "other headers": ([(b"cookie", b"sk-1"), (b"x-authorization", b"Bearer sk-1")], b""),
}


@pytest.mark.parametrize("case", CREDENTIALS)
def test_credential(case: str) -> None:
    headers, expected = CREDENTIALS[case]

    assert expected == begun(*headers).credential


@pytest.mark.parametrize(
    "second", [(b"authorization", b"Bearer sk-2"), (b"api-key", b"sk-2"), (b"x-api-key", b"SK-1")], ids=str
)
def test_two_different_credentials_are_none(second: Header) -> None:
    assert begun((b"authorization", b"Bearer sk-1"), second).credential is None


def test_what_goes_on_is_on_the_list() -> None:
    on: list[Header] = [(b"accept", b"*/*"), (b"content-type", b"application/json"), (b"user-agent", b"me"),
                        (b"idempotency-key", b"1"), (b"openai-beta", b"x"), (b"traceparent", b"00-1")]  # fmt: skip
    off: list[Header] = [(b"authorization", b"Bearer sk-1"), (b"api-key", b"sk-1"), (b"cookie", b"a"), (b"host", b"h"),
                         (b"openai-organization", b"o"), (b"openai-project", b"p"), (b"accept-encoding", b"gzip"),
                         (b"content-length", b"2"), (b"connection", b"close"), (b"x-relay-tags", b"a")]  # fmt: skip

    assert tuple(on) == begun(*off, *on).forwarded


def test_what_is_said_in_the_head() -> None:
    said = begun(
        *((b"content-encoding", b" GZIP "), (b"content-length", b"12"), (b"expect", b"100-Continue")),
        *((b"user-agent", b"a\xe9" + b"x" * 500), (b"x-relay-tags", b"a, b ,,c"), (b"x-relay-log", b" None ")),
        *((b"host", b"a"), (b"host", b"b")),
    )

    assert (b"gzip", 12, True, 2) == (said.encoding, said.length, said.expects, said.hosts)
    assert ("127.0.0.1 aé" + "x" * 198, ("a", "b", "c"), "none") == (said.client, said.tags, said.log)


def test_what_is_not_said() -> None:
    said = begun()

    assert (b"", None, False, 0, "127.0.0.1", (), None) == (
        *(said.encoding, said.length, said.expects, said.hosts, said.client, said.tags, said.log),
    )


@pytest.mark.parametrize("length", [b"", b"-1", b"+1", b"1.0", b"0x1", b"1_0", b"\xef\xbc\x91", b"9" * 5000])
def test_a_length_that_is_none_is_not_known(length: bytes) -> None:
    assert begun((b"content-length", length)).length is None


@pytest.mark.parametrize(
    ("keep", "wish", "expected"),
    [
        ("full", "full", "full"),
        ("full", "redacted", "redacted"),
        ("full", "none", "none"),
        ("redacted", "full", "redacted"),
        ("redacted", "none", "none"),
        ("none", "full", "none"),
    ],
)
def test_a_request_can_only_ask_for_less(keep: Keep, wish: str, expected: Keep) -> None:
    assert expected == less(keep, wish)


@pytest.mark.parametrize("wish", ["", "off", "fulll"])
def test_an_unknown_wish_is_refused(wish: str) -> None:
    with pytest.raises(BadRequest, match="full, redacted or none"):
        less("full", wish)


@given(st.integers(2**48, 2**52 - 2))
def test_ids_sort_by_their_time(at: int) -> None:
    first, second = new_id(at), new_id(at + 1)

    assert first < second
    assert len("req_") + 22 == len(first) == len(second)


def test_ids_of_one_moment_differ() -> None:
    assert 1000 == len({new_id(2**50) for _ in range(1000)})


def test_a_head_names_its_client() -> None:
    assert "127.0.0.1 curl/8" == begun((b"user-agent", b"curl/8")).client
    assert "127.0.0.1" == begun().client


def raw_deflate(body: bytes) -> bytes:
    stream = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return stream.compress(body) + stream.flush()


ENCODERS: dict[bytes, Callable[[bytes], bytes]] = {
    b"gzip": gzip.compress,
    b"x-gzip": gzip.compress,
    b"deflate": zlib.compress,
    b"deflate raw": raw_deflate,
    b"zstd": zstandard.ZstdCompressor(write_checksum=True).compress,
}
BODY = json.dumps({"model": "a", "messages": [{"role": "user", "content": "你好" * 99}]}).encode()
LIMIT = 1 << 20


def name(encoder: bytes) -> bytes:
    return encoder.partition(b" ")[0]


@given(st.sampled_from(sorted(ENCODERS)), st.binary(max_size=300), st.integers(1, 400))
def test_what_was_encoded_is_decoded(encoder: bytes, body: bytes, times: int) -> None:
    assert body * times == decoded(ENCODERS[encoder](body * times), name(encoder), LIMIT)


@pytest.mark.parametrize("encoder", ENCODERS)
def test_a_cut_body_is_refused_or_lacks_nothing(encoder: bytes) -> None:
    encoded = ENCODERS[encoder](BODY)
    asked = begun((b"content-encoding", name(encoder)))
    for at in range(len(encoded)):
        try:
            assert BODY == read(asked, encoded[:at], LIMIT).body
        except BadRequest:
            continue


@pytest.mark.parametrize("encoder", ENCODERS)
@pytest.mark.parametrize("junk", [b"", b"\x00", b"{}", b"junk" * 99], ids=["empty", "NUL", "JSON", "junk"])
def test_what_is_not_so_encoded_is_refused(encoder: bytes, junk: bytes) -> None:
    with pytest.raises(BadRequest):
        read(begun((b"content-encoding", name(encoder))), junk, LIMIT)


@pytest.mark.parametrize("encoder", ENCODERS)
def test_a_bomb_ends_at_the_limit(encoder: bytes) -> None:
    bomb = ENCODERS[encoder](bytes(64 << 20))

    with pytest.raises(BodyTooLarge, match=f"larger than {LIMIT} bytes"):
        decoded(bomb, name(encoder), LIMIT)
    assert bytes(LIMIT) == decoded(ENCODERS[encoder](bytes(LIMIT)), name(encoder), LIMIT)


def test_a_zstd_frame_may_not_ask_for_any_memory() -> None:
    asking = zstandard.ZstdCompressor(compression_params=zstandard.ZstdCompressionParameters(window_log=30))
    frame = asking.compressobj()

    with pytest.raises(BadRequest):
        decoded(frame.compress(BODY) + frame.flush(), b"zstd", LIMIT)


def test_a_large_body_is_decoded_in_linear_time() -> None:
    body = bytes(range(256)) * (32 << 12)

    assert body == decoded(zlib.compress(body, 0), b"deflate", len(body))


@pytest.mark.parametrize("encoding", [b"br", b"compress", b"gzip, gzip", b"gzip,zstd", b"utf-8", b"\xff"])
def test_unknown_encodings_are_told(encoding: bytes) -> None:
    with pytest.raises(UnsupportedMedia, match="send gzip, deflate, zstd or none"):
        read(begun((b"content-encoding", encoding)), BODY, LIMIT)


@pytest.mark.parametrize("encoding", [b"", b"identity", b"Identity"])
def test_a_plain_body_is_itself(encoding: bytes) -> None:
    assert BODY is read(begun((b"content-encoding", encoding)), BODY, LIMIT).body


READ = {
    "both": (b'{"model":"a","stream":true}', None, "a", True),
    "no stream": (b'{"model":"a"}', None, "a", False),
    "no model": (b"{}", None, None, False),
    "Azure's path": (b"{}", "path", "path", False),
    "the path before the body": (b'{"model":"a"}', "path", "path", False),
}


@pytest.mark.parametrize("case", READ)
def test_read(case: str) -> None:
    body, deployment, asked, stream = READ[case]

    ask = read(begun(deployment=deployment), body, LIMIT)

    assert (body, asked, stream) == (ask.body, ask.model, ask.stream)


@pytest.mark.parametrize(
    "body", [b'{"model":null}', b'{"model":1}', b'{"model":"a","stream":1}', b'{"Model":"a"}', b"[]"]
)
def test_read_refuses(body: bytes) -> None:
    with pytest.raises(BadRequest):
        read(begun(), body, LIMIT)


def test_a_model_there_must_be() -> None:
    assert "first" == named(read(begun(), b'{"model":"first"}', LIMIT))
    for nothing in (b"{}", b'{"model":""}'):
        with pytest.raises(BadRequest, match="model parameter"):
            named(read(begun(), nothing, LIMIT))


def test_a_models_name_is_short() -> None:
    """It stands in records, headers and the health of targets, which a caller could fill with it."""
    assert 512 == len(read(begun(), b'{"model":"%b"}' % (b"m" * 512), LIMIT).model or "")
    for head, body in ((begun(), b'{"model":"%b"}' % (b"m" * 513)), (begun(deployment="m" * 513), b"{}")):
        with pytest.raises(BadRequest, match="512 characters at most"):
            read(head, body, LIMIT)
