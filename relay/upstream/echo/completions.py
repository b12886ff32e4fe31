"""Legacy completions: the wire shape of /completions around one turn for each prompt. Knows no engine."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from msgspec import Meta

from relay.upstream.echo.body import (
    DONE,
    Served,
    StreamOptions,
    Tokens,
    completion_usage,
    event,
    fresh,
    read,
    texts,
    write,
)
from relay.upstream.echo.tokens import tokens
from relay.upstream.echo.turn import Answer, Line, Turn, answer


@dataclass(frozen=True, slots=True)
class _Ask:
    model: str
    prompt: Tokens | None = None
    n: Annotated[int, Meta(ge=1, le=128)] | None = None
    stop: str | Annotated[list[str], Meta(max_length=4)] | None = None
    max_tokens: Annotated[int, Meta(ge=0)] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None


def serve(body: bytes, now: int) -> Served:
    """The answer to one request; `now` is in seconds since 1970. Raises BadRequest."""
    ask = read(body, _Ask)
    stop = [ask.stop] if isinstance(ask.stop, str) else ask.stop or []
    said = [answer(Turn([Line("user", text)], stop=stop, limit=ask.max_tokens)) for text in texts(ask.prompt)]
    choices = [each for each in said for _ in range(ask.n or 1)]
    heard, spoken = sum(each.heard for each in said), sum(each.spoken for each in choices)
    usage = completion_usage(heard, spoken)
    head = {"id": fresh("cmpl-"), "object": "text_completion", "created": now, "model": ask.model}
    if ask.stream:
        counted = bool(ask.stream_options and ask.stream_options.include_usage)
        return _stream(head, choices, usage if counted else None)
    whole = [_choice(index, each.text, each.finish) for index, each in enumerate(choices)]
    return write(head | {"choices": whole, "usage": usage})


def _choice(index: int, text: str, finish: str | None) -> dict[str, Any]:
    return {"index": index, "text": text, "logprobs": None, "finish_reason": finish}


def _stream(head: dict[str, Any], choices: Sequence[Answer], usage: dict[str, Any] | None) -> Iterator[bytes]:
    head |= {"usage": None} if usage else {}
    for index, said in enumerate(choices):
        for token in tokens(said.text):
            yield event(head | {"choices": [_choice(index, token, None)]})
        yield event(head | {"choices": [_choice(index, "", said.finish)]})
    if usage:
        yield event(head | {"choices": [], "usage": usage})
    yield DONE
