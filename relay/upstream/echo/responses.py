"""Responses: the wire shape of /responses around a turn. Echo keeps nothing: a previous response is not looked up."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from msgspec import Meta

from relay.errors import BadRequest
from relay.upstream.echo.body import ANY_OBJECT, Content, Served, event, fresh, read, words, write
from relay.upstream.echo.tokens import tokens
from relay.upstream.echo.turn import Answer, Line, Tool, Turn, answer

# What a response repeats of its request, and what it says where the request was silent.
_REPEATED: dict[str, Any] = {
    "background": False,
    "instructions": None,
    "max_output_tokens": None,
    "max_tool_calls": None,
    "metadata": {},
    "parallel_tool_calls": True,
    "previous_response_id": None,
    "prompt_cache_key": None,
    "reasoning": {"effort": None, "summary": None},
    "safety_identifier": None,
    "temperature": 1.0,
    "text": {"format": {"type": "text"}, "verbosity": "medium"},
    "tool_choice": "auto",
    "tools": [],
    "top_logprobs": 0,
    "top_p": 1.0,
    "truncation": "disabled",
    "user": None,
}


@dataclass(frozen=True, slots=True)
class _Item:
    type: str = "message"
    role: str | None = None
    content: Content = None
    arguments: str | None = None
    output: Content = None


@dataclass(frozen=True, slots=True)
class _Tool:
    type: str
    name: str | None = None
    parameters: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class _Choice:
    type: str
    name: str | None = None


@dataclass(frozen=True, slots=True)
class _Format:
    type: Literal["text", "json_object", "json_schema"]
    schema: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class _Text:
    format: _Format | None = None


@dataclass(frozen=True, slots=True)
class _Ask:
    model: str
    input: str | list[_Item] | None = None
    instructions: Content = None
    max_output_tokens: Annotated[int, Meta(ge=1)] | None = None
    tools: list[_Tool] | None = None
    tool_choice: Literal["none", "auto", "required"] | _Choice | None = None
    parallel_tool_calls: bool | None = None
    text: _Text | None = None
    stream: bool | None = None


def serve(body: bytes, now: int) -> Served:
    """The answer to one request; `now` is in seconds since 1970. Raises BadRequest."""
    ask = read(body, _Ask)
    said = answer(_turn(ask))
    asked = read(body, dict[str, Any])
    repeated = {name: value for name in _REPEATED if (value := asked.get(name)) is not None}
    opening = {"id": fresh("resp_"), "object": "response", "created_at": now, "status": "in_progress"}
    opening |= {"completed_at": None, "error": None, "incomplete_details": None, "model": ask.model, "output": []}
    opening |= _REPEATED | repeated | {"service_tier": "default", "usage": None}
    final = opening | _ending(said, now)
    return _stream(opening, final) if ask.stream else write(final)


def _turn(ask: _Ask) -> Turn:
    choice = ask.tool_choice or "auto"
    named = choice.name if isinstance(choice, _Choice) and choice.type == "function" else None
    items = ask.input if isinstance(ask.input, list) else [_Item(role="user", content=ask.input)]
    instructed = [Line("system", words(ask.instructions))] if ask.instructions else []
    functions = [tool for tool in ask.tools or [] if tool.type == "function" and tool.name]
    return Turn(
        lines=[*instructed, *(_line(item) for item in items)],
        tools=[Tool(tool.name or "", tool.parameters or {}) for tool in functions],
        choice=choice if isinstance(choice, str) else "auto",
        named=named,
        parallel=ask.parallel_tool_calls is not False,
        form=_form(ask.text.format if ask.text else None),
        limit=ask.max_output_tokens,
    )


def _line(item: _Item) -> Line:
    if item.type == "function_call_output":
        return Line("tool", words(item.output))
    return Line(item.role or "assistant", words(item.content) or item.arguments or "")


def _form(wanted: _Format | None) -> dict[str, Any] | None:
    if wanted is None or wanted.type == "text":
        return None
    if wanted.type == "json_object":
        return ANY_OBJECT
    if wanted.schema is None:
        raise BadRequest("Missing required parameter: 'text.format.schema'.", param="text.format.schema")
    return wanted.schema


def _ending(said: Answer, now: int) -> dict[str, Any]:
    """What the finished response says that the one in progress does not."""
    cut = said.finish == "length"
    usage = {
        "input_tokens": said.heard,
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens": said.spoken,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": said.heard + said.spoken,
    }
    return {
        "status": "incomplete" if cut else "completed",
        "completed_at": None if cut else now,
        "incomplete_details": {"reason": "max_output_tokens"} if cut else None,
        "output": _output(said),
        "usage": usage,
    }


def _output(said: Answer) -> list[dict[str, Any]]:
    if said.calls:
        return [
            {
                "id": fresh("fc_"),
                "type": "function_call",
                "status": "completed",
                "call_id": fresh("call_"),
                "name": call.name,
                "arguments": call.arguments,
            }
            for call in said.calls
        ]
    status = "incomplete" if said.finish == "length" else "completed"
    part = {"type": "output_text", "text": said.text, "annotations": [], "logprobs": []}
    return [{"id": fresh("msg_"), "type": "message", "status": status, "role": "assistant", "content": [part]}]


def _stream(opening: dict[str, Any], final: dict[str, Any]) -> Iterator[bytes]:
    for number, (name, told) in enumerate(_events(opening, final)):
        yield event({"type": name, "sequence_number": number} | told, name)


def _events(opening: dict[str, Any], final: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    yield "response.created", {"response": opening}
    yield "response.in_progress", {"response": opening}
    for index, item in enumerate(final["output"]):
        told = _call(item) if item["type"] == "function_call" else _message(item)
        bare: dict[str, Any] = {"arguments": ""} if item["type"] == "function_call" else {"content": []}
        place = {"output_index": index}
        yield "response.output_item.added", place | {"item": item | bare | {"status": "in_progress"}}
        for name, more in told:
            yield name, place | {"item_id": item["id"]} | more
        yield "response.output_item.done", place | {"item": item}
    yield f"response.{final['status']}", {"response": final}


def _message(item: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    place, part = {"content_index": 0}, item["content"][0]
    yield "response.content_part.added", place | {"part": part | {"text": ""}}
    for token in tokens(part["text"]):
        yield "response.output_text.delta", place | {"delta": token, "logprobs": []}
    yield "response.output_text.done", place | {"text": part["text"], "logprobs": []}
    yield "response.content_part.done", place | {"part": part}


def _call(item: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for token in tokens(item["arguments"]):
        yield "response.function_call_arguments.delta", {"delta": token}
    yield "response.function_call_arguments.done", {"arguments": item["arguments"]}
