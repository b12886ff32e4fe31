"""Asks the echo upstream directly. Answers must be what the OpenAI SDK's own models accept with nothing left over."""

import json
from typing import Any, TypeVar

from openai.types import Completion, CreateEmbeddingResponse, ImagesResponse, ModerationCreateResponse
from openai.types.chat import ChatCompletion
from openai.types.responses import Response
from pydantic import BaseModel, TypeAdapter

from relay.exchange import Header, Request
from relay.upstream.echo import EchoEngine

NOW = 1_700_000_000
JSON = (b"content-type", b"application/json")
EVENTS = (b"content-type", b"text/event-stream; charset=utf-8")
MODELS: dict[str, type[BaseModel]] = {
    "/chat/completions": ChatCompletion,
    "/completions": Completion,
    "/embeddings": CreateEmbeddingResponse,
    "/responses": Response,
    "/moderations": ModerationCreateResponse,
    "/images/generations": ImagesResponse,
}
Shape = TypeVar("Shape")


async def ask(path: str, body: Any, method: bytes = b"POST") -> tuple[int, list[Header], list[bytes]]:
    """Status, headers and pieces of one exchange; the last piece came as the last."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    reply = await EchoEngine(clock=lambda: NOW + 0.5).open(Request(method, path.encode(), ()), raw)
    pieces: list[bytes] = []
    ends: list[bool] = []

    def take(piece: bytes, last: bool) -> bool:
        pieces.append(piece)
        ends.append(last)
        return False

    await reply.pump(take, never)
    assert [False] * (len(ends) - 1) + [True] == ends
    return reply.status, list(reply.headers), pieces


async def never() -> None:
    raise AssertionError("nobody said to hold on")


async def tell(path: str, **body: Any) -> Any:
    """The whole JSON answer, once the SDK's model has accepted it."""
    status, headers, pieces = await ask("/v1" + path, {"model": "echo"} | body)
    whole = b"".join(pieces)
    assert (200, JSON, (b"content-length", b"%d" % len(whole))) == (status, *headers[:2])
    exact(MODELS[path], json.loads(whole))
    return json.loads(whole)


async def stream(path: str, **body: Any) -> list[tuple[str | None, Any]]:
    """The name and data of every event, one a piece; [DONE] is a string."""
    status, headers, pieces = await ask("/v1" + path, {"model": "echo", "stream": True} | body)
    assert (status, headers[0]) == (200, EVENTS)
    return [event(piece) for piece in pieces]


def event(piece: bytes) -> tuple[str | None, Any]:
    assert piece.endswith(b"\n\n")
    *named, data = piece.decode().removesuffix("\n\n").split("\n")
    text = data.removeprefix("data: ")
    return named[0].removeprefix("event: ") if named else None, text if text == "[DONE]" else json.loads(text)


def exact(shape: Any, data: Any) -> None:
    """`data` is a `shape`: every type right, and no field that it does not know."""
    unknown(TypeAdapter(shape).validate_json(json.dumps(data), strict=True))


def unknown(value: Any) -> None:
    if isinstance(value, BaseModel):
        assert not value.model_extra, (type(value), value.model_extra)
        for name in type(value).model_fields:
            unknown(getattr(value, name))
    for item in value if isinstance(value, list) else []:
        unknown(item)


def user(content: Any) -> dict[str, Any]:
    return {"role": "user", "content": content}


def function(name: str, **properties: Any) -> dict[str, Any]:
    parameters = {"type": "object", "properties": properties, "required": list(properties)}
    return {"type": "function", "function": {"name": name, "description": "", "parameters": parameters}}
