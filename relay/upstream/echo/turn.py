"""A turn of a conversation, and what echo says to it: a text, or calls of tools. Pure; knows no API's shape.

Echo repeats the last thing that it was told: what the user said, or, when tools have answered, what they answered.
It calls a tool when it must, and when the user seems to ask for one: by the tool's name, by a word of that name, or by
the word "tool".
"""

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import msgspec

from relay.errors import BadRequest
from relay.upstream.echo.schema import instance
from relay.upstream.echo.tokens import count, cut

_ASKS = re.compile(r"\b(?:use|using|call|calling)\s+(?:(?:the|a|an|any|your|my|this)\s+)?tools?\b", re.IGNORECASE)
_WORDS = re.compile(r"[A-Z][a-z]{3,}|[a-z]{4,}|[A-Z]{4,}")  # of snake_case or camelCase; shorter ones say little


@dataclass(frozen=True, slots=True)
class Line:
    """One message: `role` is "user", "tool" for what a tool answered, or any other."""

    role: str
    text: str


@dataclass(frozen=True, slots=True)
class Tool:
    """A function that may be called; `parameters` is a JSON schema."""

    name: str
    parameters: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Turn:
    """What the model was told, and how it is to answer."""

    lines: Sequence[Line]
    tools: Sequence[Tool] = ()
    choice: str = "auto"  # or "none", or "required"
    named: str | None = None  # the tool that must be called, whatever `choice` says
    parallel: bool = True
    form: dict[str, Any] | None = None  # the JSON schema of the answer; None for plain text
    stop: Sequence[str] = ()
    limit: int | None = None  # tokens


@dataclass(frozen=True, slots=True)
class Call:
    """A call of a tool; `arguments` is JSON."""

    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class Answer:
    """`text` is empty when there are calls. Counts are in tokens."""

    text: str
    calls: Sequence[Call]
    finish: Literal["stop", "length", "tool_calls"]
    heard: int
    spoken: int


def answer(turn: Turn) -> Answer:
    """What echo says. Raises BadRequest when the named tool is none of the tools, or a schema asks for too much."""
    heard = sum(count(line.text) for line in turn.lines)
    said = next((line.text for line in reversed(turn.lines) if line.role == "user"), "")
    results = list(itertools.takewhile(lambda line: line.role == "tool", reversed(turn.lines)))
    told = "\n".join(line.text for line in reversed(results)) or said or "Hello"
    if chosen := _chosen(turn, said, answered=bool(results)):
        calls = [Call(tool.name, json_text(instance(tool.parameters | {"type": "object"}, told))) for tool in chosen]
        return Answer("", calls, "tool_calls", heard, sum(count(call.name) + count(call.arguments) for call in calls))
    full = told if turn.form is None else json_text(instance(turn.form, told))
    text, finish = cut(full, turn.stop, turn.limit)
    return Answer(text, (), finish, heard, count(text))


def json_text(value: Any) -> str:
    """`value` as compact JSON that keeps every script as it is written."""
    return msgspec.json.encode(value).decode()


def _chosen(turn: Turn, said: str, *, answered: bool) -> Sequence[Tool]:
    """The tools to call. Only a named one is called again once tools have answered: a loop would not end otherwise."""
    if turn.named is not None:
        return [_find(turn.tools, turn.named)]
    if answered or turn.choice == "none":
        return ()
    mentioned = [tool for tool in turn.tools if _mentions(said, tool.name)]
    if mentioned:
        return mentioned if turn.parallel else mentioned[:1]
    words = {word.casefold() for word in _WORDS.findall(said)}
    hinted = [tool for tool in turn.tools if words.intersection(map(str.casefold, _WORDS.findall(tool.name)))]
    wanted = turn.choice == "required" or _ASKS.search(said)
    return hinted[:1] or (turn.tools[:1] if wanted else ())


def _find(tools: Sequence[Tool], name: str) -> Tool:
    for tool in tools:
        if tool.name == name:
            return tool
    raise BadRequest(f"Tool choice '{name}' not found in 'tools' parameter.", param="tool_choice")


def _mentions(said: str, name: str) -> bool:
    return re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", said, re.IGNORECASE) is not None
