"""Legacy completions as echo answers them."""

from typing import Any

import pytest
from openai.types import Completion

from tests.echoed import exact, stream, tell


@pytest.mark.parametrize(
    ("extra", "texts", "finish", "usage"),
    [
        ({"prompt": "Once upon"}, ["Once upon"], "stop", (2, 2)),
        ({"prompt": ["a b", "c"], "n": 2}, ["a b", "a b", "c", "c"], "stop", (3, 6)),
        ({"prompt": [15, 16]}, ["15 16"], "stop", (2, 2)),
        ({"prompt": [[15, 16], [17]]}, ["15 16", "17"], "stop", (3, 3)),
        ({}, ["Hello"], "stop", (0, 1)),
        ({"prompt": "Once upon", "max_tokens": 1}, ["Once"], "length", (2, 1)),
        ({"prompt": "Once upon", "stop": " "}, ["Once"], "stop", (2, 1)),
    ],
)
async def test_completions(extra: dict[str, Any], texts: list[str], finish: str, usage: tuple[int, int]) -> None:
    said = await tell("/completions", **extra)
    assert [(index, text, finish) for index, text in enumerate(texts)] == [
        (choice["index"], choice["text"], choice["finish_reason"]) for choice in said["choices"]
    ]
    assert usage == (said["usage"]["prompt_tokens"], said["usage"]["completion_tokens"])
    *chunks, counted, done = await stream("/completions", stream_options={"include_usage": True}, **extra)
    streamed = [choice for _, data in chunks for choice in data["choices"]]
    assert texts == ["".join(c["text"] for c in streamed if c["index"] == index) for index in range(len(texts))]
    assert [finish] * len(texts) == [c["finish_reason"] for c in streamed if c["finish_reason"]]
    assert ([], said["usage"], "[DONE]") == (counted[1]["choices"], counted[1]["usage"], done[1])
    exact(Completion, counted[1])
    assert all("usage" not in data for _, data in (await stream("/completions", **extra))[:-1])
