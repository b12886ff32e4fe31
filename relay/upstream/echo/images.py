"""Images: whatever is asked for, echo draws the same one grey pixel. Knows no engine."""

import base64
import struct
import zlib
from dataclasses import dataclass
from typing import Annotated, Literal

from msgspec import Meta

from relay.upstream.echo.body import Served, read, write
from relay.upstream.echo.tokens import count


@dataclass(frozen=True, slots=True)
class _Ask:
    prompt: str
    n: Annotated[int, Meta(ge=1, le=10)] | None = None
    response_format: Literal["url", "b64_json"] | None = None


def serve(body: bytes, now: int) -> Served:
    """The answer to one request; `now` is in seconds since 1970. Raises BadRequest."""
    ask = read(body, _Ask)
    drawn = base64.b64encode(pixel()).decode()
    as_url = ask.response_format == "url"
    image = {"url": f"data:image/png;base64,{drawn}"} if as_url else {"b64_json": drawn}
    heard, images = count(ask.prompt), ask.n or 1
    usage = {
        "input_tokens": heard,
        "input_tokens_details": {"text_tokens": heard, "image_tokens": 0},
        "output_tokens": images,
        "total_tokens": heard + images,
    }
    return write({"created": now, "data": [image] * images, "output_format": "png", "usage": usage})


def pixel() -> bytes:
    """A PNG of one grey pixel."""
    header = struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 0)  # width, height, bits; grey, and the usual three
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(b"\0\x80")), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(name, data) for name, data in chunks)


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
