"""Embeddings: unit vectors, the same for the same input, in both encodings."""

import base64
import json
import math
import struct
from typing import Any

import pytest

from tests.echoed import ask, tell


@pytest.mark.parametrize(
    ("given", "many", "tokens"),
    [("a b", 1, 2), (["a", "b c"], 2, 3), ([1, 2, 3], 1, 3), ([[1, 2], [3]], 2, 3), ("", 1, 0)],
)
async def test_embeddings(given: Any, many: int, tokens: int) -> None:
    said = await tell("/embeddings", input=given, dimensions=8)
    assert {"prompt_tokens": tokens, "total_tokens": tokens} == said["usage"]
    assert list(range(many)) == [item["index"] for item in said["data"]]
    assert [pytest.approx(1.0)] * many == [math.hypot(*item["embedding"]) for item in said["data"]]
    assert said == await tell("/embeddings", input=given, dimensions=8)


async def test_embeddings_in_base64_are_the_same_vectors() -> None:
    plain = (await tell("/embeddings", input=["a", "b"]))["data"]
    _, _, [body] = await ask("/embeddings", {"model": "e", "input": ["a", "b"], "encoding_format": "base64"})
    packed = [base64.b64decode(item["embedding"]) for item in json.loads(body)["data"]]
    assert [pytest.approx(item["embedding"], abs=1e-6) for item in plain] == [
        list(struct.unpack("<1536f", item)) for item in packed
    ]
    assert plain[0]["embedding"] != plain[1]["embedding"]
