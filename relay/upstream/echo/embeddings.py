"""Embeddings: unit vectors made from a hash of each input. Like inputs give like vectors only when they are equal."""

import base64
import hashlib
import math
import struct
from dataclasses import dataclass
from typing import Annotated, Literal

from msgspec import Meta

from relay.errors import BadRequest
from relay.upstream.echo.body import Served, Tokens, read, texts, write
from relay.upstream.echo.tokens import count


@dataclass(frozen=True, slots=True)
class _Ask:
    model: str
    input: Tokens
    dimensions: Annotated[int, Meta(ge=1, le=4096)] | None = None
    encoding_format: Literal["float", "base64"] | None = None


def serve(body: bytes, _now: int) -> Served:
    """The answer to one request. Raises BadRequest."""
    ask = read(body, _Ask)
    inputs = texts(ask.input)
    if not inputs or len(inputs) > 2048:  # noqa: PLR2004 - OpenAI's own bound
        raise BadRequest("'input' must hold from 1 to 2048 texts.", param="input")
    vectors = [vector(text, ask.dimensions or 1536) for text in inputs]
    shown = [_base64(each) if ask.encoding_format == "base64" else each for each in vectors]
    data = [{"object": "embedding", "index": index, "embedding": each} for index, each in enumerate(shown)]
    heard = sum(count(text) for text in inputs)
    return write(
        {"object": "list", "data": data, "model": ask.model, "usage": {"prompt_tokens": heard, "total_tokens": heard}}
    )


def vector(text: str, dimensions: int) -> list[float]:
    """The unit vector of `text`: its SHAKE-256 digest read as numbers from -1 to 1, scaled to length 1."""
    digest = hashlib.shake_256(text.encode()).digest(2 * dimensions)
    raw = [(2 * number - 65535) / 65535 for number in struct.unpack(f"<{dimensions}H", digest)]  # odd, so never zero
    length = math.sqrt(math.fsum(value * value for value in raw))
    return [value / length for value in raw]


def _base64(values: list[float]) -> str:
    return base64.b64encode(struct.pack(f"<{len(values)}f", *values)).decode()
