"""echo as an engine: its paths, its refusals, and how it pushes."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from relay.errors import UpstreamError
from relay.exchange import Request
from relay.upstream.echo import EchoEngine
from tests.echoed import JSON, ask, never, user


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("/chat/completions", b"", None),
        ("/chat/completions", b"{", None),
        ("/chat/completions", b'{"model": "\xff"}', None),
        ("/chat/completions", b'{"tools": ' + b"[" * 100_000, "tools[0]"),
        ("/chat/completions", b"[]", None),
        ("/chat/completions", {"messages": [user("a")]}, None),
        ("/chat/completions", {"model": "echo"}, None),
        ("/chat/completions", {"model": "echo", "messages": []}, "messages"),
        ("/chat/completions", {"model": "echo", "messages": [{"role": "x"}]}, "messages[0].role"),
        ("/chat/completions", {"model": "echo", "messages": [user(3)]}, "messages[0].content"),
        ("/chat/completions", {"model": "echo", "messages": [user("a")], "n": 0}, "n"),
        ("/chat/completions", {"model": "echo", "messages": [user("a")], "max_tokens": "3"}, "max_tokens"),
        (
            "/chat/completions",
            {"model": "echo", "messages": [user("a")], "tool_choice": {"type": "function", "function": {"name": "a"}}},
            "tool_choice",
        ),
        (
            "/chat/completions",
            {"model": "echo", "messages": [user("a")], "response_format": {"type": "json_schema"}},
            "response_format",
        ),
        ("/completions", {"model": "echo", "prompt": [1, "a"]}, "input"),
        ("/embeddings", {"model": "echo", "input": []}, "input"),
        ("/embeddings", {"model": "echo", "input": "a", "dimensions": 0}, "dimensions"),
        ("/responses", {"model": "echo", "text": {"format": {"type": "json_schema"}}}, "text.format.schema"),
        ("/moderations", {}, None),
        ("/images/generations", {"n": 1}, None),
    ],
)
async def test_a_malformed_request_is_refused_as_openai_would(path: str, body: Any, param: str | None) -> None:
    status, headers, pieces = await ask(path, body)
    error = json.loads(b"".join(pieces))["error"]
    assert (status, headers[0]) == (400, JSON)
    assert {"type": "invalid_request_error", "param": param, "code": None} == {
        name: error[name] for name in error if name != "message"
    }
    assert error["message"]


@pytest.mark.parametrize(
    ("method", "target", "status", "code"),
    [
        (b"POST", "/v1/chat/completions?api-version=1", 200, None),
        (b"POST", "/openai/deployments/x/chat/completions?api-version=1", 200, None),
        (b"GET", "/v1/chat/completions", 405, "method_not_allowed"),
        (b"GET", "/v1/models", 404, "unknown_url"),
        (b"POST", "/v1/chat/completions/", 404, "unknown_url"),
        (b"POST", "/v1/files?x=/chat/completions", 404, "unknown_url"),
    ],
)
async def test_paths(method: bytes, target: str, status: int, code: str | None) -> None:
    got, headers, pieces = await ask(target, {"model": "echo", "messages": [user("a")]}, method)
    assert (status, JSON) == (got, headers[0])
    assert code == json.loads(b"".join(pieces)).get("error", {}).get("code")


async def test_a_body_may_come_in_pieces() -> None:
    async def parts() -> AsyncIterator[bytes]:
        yield b'{"model": "m", "inp'
        yield b'ut": "a"}'

    reply = await EchoEngine().open(Request(b"POST", b"/v1/moderations", ()), parts())
    assert reply.status == 200


async def test_a_stream_holds_on_until_it_is_drained() -> None:
    body = json.dumps({"model": "echo", "stream": True, "messages": [user("one two")]}).encode()
    reply = await EchoEngine().open(Request(b"POST", b"/chat/completions", ()), body)
    taken: list[bytes] = []
    held, go = asyncio.Event(), asyncio.Event()

    def take(piece: bytes, _: bool) -> bool:
        taken.append(piece)
        return True

    async def drained() -> None:
        held.set()
        await go.wait()
        go.clear()

    async with asyncio.TaskGroup() as group:
        group.create_task(reply.pump(take, drained))
        for pieces in range(1, 5):
            await held.wait()
            held.clear()
            assert pieces == len(taken)
            go.set()
    assert len(taken) == 5


async def test_an_aborted_stream_ends() -> None:
    body = json.dumps({"model": "echo", "stream": True, "messages": [user("one two")]}).encode()
    reply = await EchoEngine().open(Request(b"POST", b"/chat/completions", ()), body)
    taken: list[bytes] = []

    def take(piece: bytes, _: bool) -> bool:
        taken.append(piece)
        reply.abort()
        return False

    with pytest.raises(UpstreamError):
        await reply.pump(take, never)
    assert len(taken) == 1
