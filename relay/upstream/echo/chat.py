"""Chat completions: the wire shape of /chat/completions around a turn. Knows no engine."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from msgspec import Meta

from relay.errors import BadRequest
from relay.upstream.echo.body import (
    ANY_OBJECT,
    DONE,
    Content,
    Served,
    StreamOptions,
    completion_usage,
    event,
    fresh,
    read,
    words,
    write,
)
from relay.upstream.echo.tokens import tokens
from relay.upstream.echo.turn import Answer, Line, Tool, Turn, answer


@dataclass(frozen=True, slots=True)
class _Name:
    name: str


@dataclass(frozen=True, slots=True)
class _Function:
    name: str
    parameters: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class _Tool:
    type: str
    function: _Function | None = None


@dataclass(frozen=True, slots=True)
class _Choice:
    type: str
    function: _Name | None = None


@dataclass(frozen=True, slots=True)
class _Message:
    role: Literal["developer", "system", "user", "assistant", "tool", "function"]
    content: Content = None


@dataclass(frozen=True, slots=True)
class _JsonSchema:
    name: str
    schema: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class _Format:
    type: Literal["text", "json_object", "json_schema"]
    json_schema: _JsonSchema | None = None


@dataclass(frozen=True, slots=True)
class _Ask:
    model: str
    messages: Annotated[list[_Message], Meta(min_length=1)]
    n: Annotated[int, Meta(ge=1, le=128)] | None = None
    stop: str | Annotated[list[str], Meta(max_length=4)] | None = None
    max_tokens: Annotated[int, Meta(ge=1)] | None = None
    max_completion_tokens: Annotated[int, Meta(ge=1)] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None
    tools: list[_Tool] | None = None
    tool_choice: Literal["none", "auto", "required"] | _Choice | None = None
    parallel_tool_calls: bool | None = None
    response_format: _Format | None = None


def serve(body: bytes, now: int) -> Served:
    """The answer to one request; `now` is in seconds since 1970. Raises BadRequest."""
    ask = read(body, _Ask)
    said = answer(_turn(ask))
    head = {
        "id": fresh("chatcmpl-"),
        "object": "chat.completion",
        "created": now,
        "model": ask.model,
        "service_tier": "default",
        "system_fingerprint": "fp_echo",
    }
    if ask.stream:
        return _stream(ask, said, head | {"object": "chat.completion.chunk"})
    choices = [_choice(ask, said, index) for index in range(ask.n or 1)]
    return write(head | {"choices": choices, "usage": _usage(ask, said)})


def _turn(ask: _Ask) -> Turn:
    choice = ask.tool_choice or "auto"
    named = choice.function.name if isinstance(choice, _Choice) and choice.function else None
    functions = [tool.function for tool in ask.tools or [] if tool.function]
    return Turn(
        lines=[Line(message.role, words(message.content)) for message in ask.messages],
        tools=[Tool(function.name, function.parameters or {}) for function in functions],
        choice=choice if isinstance(choice, str) else "auto",
        named=named,
        parallel=ask.parallel_tool_calls is not False,
        form=_form(ask.response_format),
        stop=[ask.stop] if isinstance(ask.stop, str) else ask.stop or [],
        limit=ask.max_completion_tokens or ask.max_tokens,
    )


def _form(wanted: _Format | None) -> dict[str, Any] | None:
    if wanted is None or wanted.type == "text":
        return None
    if wanted.type == "json_object":
        return ANY_OBJECT
    if wanted.json_schema is None:
        raise BadRequest("Missing required parameter: 'response_format.json_schema'.", param="response_format")
    return wanted.json_schema.schema or {}


def _usage(ask: _Ask, said: Answer) -> dict[str, Any]:
    return completion_usage(said.heard, said.spoken * (ask.n or 1))


def _choice(ask: _Ask, said: Answer, index: int) -> dict[str, Any]:
    message: dict[str, Any] = {
        "role": "assistant",
        "content": None if said.calls else said.text,
        "refusal": None,
        "annotations": [],
    }
    if said.calls:
        message["tool_calls"] = [
            {"id": fresh("call_"), "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
            for call in said.calls
        ]
    logprobs = _logprobs(ask, *tokens(said.text))
    return {"index": index, "message": message, "logprobs": logprobs, "finish_reason": said.finish}


def _logprobs(ask: _Ask, *spoken: str) -> dict[str, Any] | None:
    """Echo is always certain: probability one for the token that it says, and no other candidate."""
    if not ask.logprobs:
        return None
    certain = [{"token": token, "logprob": 0.0, "bytes": list(token.encode())} for token in spoken]
    content = [item | {"top_logprobs": [item] if ask.top_logprobs else []} for item in certain]
    return {"content": content, "refusal": None}


def _stream(ask: _Ask, said: Answer, head: dict[str, Any]) -> Iterator[bytes]:
    counted = bool(ask.stream_options and ask.stream_options.include_usage)
    head |= {"usage": None} if counted else {}
    for index in range(ask.n or 1):
        for choice in _deltas(ask, said):
            yield event(head | {"choices": [{"index": index} | choice]})
    if counted:
        yield event(head | {"choices": [], "usage": _usage(ask, said)})
    yield DONE


def _deltas(ask: _Ask, said: Answer) -> Iterator[dict[str, Any]]:
    """The chunks of one choice: who speaks, then a token each or the calls in pieces, then why it ended."""
    going = {"logprobs": None, "finish_reason": None}
    opening = {"role": "assistant", "content": None if said.calls else "", "refusal": None}
    yield {"delta": opening} | going
    for token in tokens(said.text):
        yield {"delta": {"content": token}} | going | {"logprobs": _logprobs(ask, token)}
    for index, call in enumerate(said.calls):
        start = {"id": fresh("call_"), "type": "function", "function": {"name": call.name, "arguments": ""}}
        yield {"delta": {"tool_calls": [{"index": index} | start]}} | going
        for token in tokens(call.arguments):
            yield {"delta": {"tool_calls": [{"index": index, "function": {"arguments": token}}]}} | going
    yield {"delta": {}} | going | {"finish_reason": said.finish}
