"""The ASGI face when its server gives up: what no client can bring about, and a server without uvicorn's manners."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from relay import call
from relay.call.setup import Setup
from relay.counters import MemoryCounters
from relay.inbound.asgi import Message, Scope, relayed, serve
from relay.inbound.guard import BODY_SECONDS
from relay.journal import Journal, frames
from relay.keys import Keyring, mint
from relay.routing import Alias, Routes, Target
from relay.upstream.door import Upstream
from relay.upstream.echo import EchoEngine

SHOWN, KEY = mint("tests", b"", 0)
SCOPE: Scope = {
    "type": "http",
    "method": "POST",
    "path": "/v1/chat/completions",
    "http_version": "1.1",
    "headers": [(b"host", b"relay"), (b"authorization", b"Bearer " + SHOWN.encode())],
}
BODY = json.dumps({"model": "m", "messages": [{"role": "user", "content": "hi " * 50}], "stream": True}).encode()


ROUTES = Routes.of([Alias("m", ((Target("echo", "m"),),))])


class Server:
    """An ASGI server. It brings one piece of a body, and holds on, or raises OSError, at the first body to send.

    Not where it has `room`.
    """

    def __init__(self, folder: Path, piece: bytes, *, breaks: bool = False, room: bool = False) -> None:
        self.sent: list[Message] = []
        self.waits = asyncio.Event()  # for the body or for room
        self._brings = [piece]
        self._piece = b""
        self._breaks = breaks
        self._held = room
        self.relay = call.Relay(
            setup=Setup(ROUTES, {"echo": Upstream("echo", EchoEngine())}, bodies="none", max_body=10_000),
            keyring=Keyring.of(b"", [KEY]),
            counters=MemoryCounters(),
            journal=Journal(folder),
        )

    async def receive(self) -> Message:
        if self._brings:
            self._piece = self._brings.pop()
            return {"type": "http.request", "body": self._piece, "more_body": self._piece != BODY}
        if self._piece != BODY:
            self.waits.set()
        await asyncio.Event().wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        if "body" in message and self._breaks:
            raise OSError
        if "body" in message and not self._held:
            self._held = True
            self.waits.set()
            await asyncio.Event().wait()
        self.sent.append(message)

    def serving(self) -> asyncio.Task[None]:
        found = relayed(SCOPE)
        assert found is not None
        return asyncio.ensure_future(serve(self.relay, found, SCOPE, self.receive, self.send))

    def outcomes(self) -> list[str]:
        return [entry.record.outcome for _, entry in frames(self.relay.journal.current)]

    async def cancel(self) -> None:
        """Begin to serve, and give up once that waits."""
        serving = self.serving()
        await self.waits.wait()
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)

    @property
    def body(self) -> bytes:
        return b"".join(message.get("body", b"") for message in self.sent)


AZURE = "/openai/deployments/"
PATHS: dict[str, tuple[dict[str, Any], str | None]] = {
    "as it was sent": ({"path": "org/m é", "raw_path": b"org%2Fm%20%C3%A9"}, "org/m é"),
    "decoded alone": ({"path": "m é%"}, "m é%"),
    "decoded alone, with a slash": ({"path": "org/m"}, None),
    "without an escape": ({"path": "m:a", "raw_path": b"m:a"}, "m:a"),
    "mounted": ({"path": "m:a", "raw_path": b"m%3Aa", "root_path": "/llm x"}, "m:a"),
    "no name": ({"path": "\ufffd", "raw_path": b"%FF"}, None),
}


@pytest.mark.parametrize("case", PATHS)
def test_the_alias_in_a_path_of_azures(case: str) -> None:
    """By the path as it was sent; where the server does not tell it, as far as the decoded one says it."""
    told, alias = PATHS[case]
    root = told.get("root_path", "")
    paths = {"path": f"{root}{AZURE}{told['path']}/chat/completions"}
    if "raw_path" in told:
        raw = (root.replace(" ", "%20") + AZURE).encode() + told["raw_path"] + b"/chat/completions"
        paths |= {"raw_path": raw}

    found = relayed({**SCOPE, **told, **paths})

    assert alias == (found and found[1])


async def test_a_request_that_is_cancelled_before_it_is_whole_has_its_record(tmp_path: Path) -> None:
    server = Server(tmp_path, BODY[:10])

    await server.cancel()

    assert (["client_disconnect"], []) == (server.outcomes(), server.sent)


class Ahead(asyncio.SelectorEventLoop):
    """A loop whose clock can be put forward."""

    by = 0.0  # seconds

    def time(self) -> float:
        return super().time() + self.by


def test_a_body_that_never_becomes_whole_is_given_up(tmp_path: Path) -> None:
    """As under uvicorn's own server, also where the request was pipelined, or is for `/chat/stream`."""
    server = Server(tmp_path, BODY[:10], room=True)

    async def waiting() -> None:
        serving = server.serving()
        await server.waits.wait()
        loop = asyncio.get_running_loop()
        assert isinstance(loop, Ahead)
        loop.by = BODY_SECONDS - 1
        await asyncio.sleep(0.01)
        assert not serving.done()
        loop.by = BODY_SECONDS + 1
        await serving

    with asyncio.Runner(loop_factory=Ahead) as runner:
        runner.run(asyncio.wait_for(waiting(), 60))

    assert 408 == server.sent[0]["status"]
    assert (b"connection", b"close") in server.sent[0]["headers"]
    assert "10 bytes in 31 seconds" in json.loads(server.body)["error"]["message"]
    assert ["refused"] == server.outcomes()


async def test_a_stream_that_is_cancelled_says_so(tmp_path: Path) -> None:
    server = Server(tmp_path, BODY)

    await server.cancel()

    first, *_, last = server.body.split(b"\n\n")[:-1]
    assert "chat.completion.chunk" == json.loads(first.removeprefix(b"data: "))["object"]
    assert "overloaded" == json.loads(last.removeprefix(b"data: "))["error"]["code"]
    assert ("http.response.start", False) == (server.sent[0]["type"], server.sent[-1]["more_body"])
    assert ["refused"] == server.outcomes()


async def test_a_server_that_cannot_send_ends_nothing_but_the_answer(tmp_path: Path) -> None:
    server = Server(tmp_path, BODY, breaks=True)

    await server.serving()

    assert (["ok"], b"") == (server.outcomes(), server.body)
