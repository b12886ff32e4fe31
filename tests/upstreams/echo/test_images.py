"""Images: a PNG that is one."""

import base64
import struct
import zlib
from typing import Any

import pytest

from tests.echoed import NOW, tell


@pytest.mark.parametrize(("extra", "many"), [({}, 1), ({"n": 2}, 2), ({"response_format": "url"}, 1)])
async def test_images_are_a_valid_png(extra: dict[str, Any], many: int) -> None:
    said = await tell("/images/generations", prompt="a cat", **extra)
    drawn = [image.get("b64_json") or image["url"].removeprefix("data:image/png;base64,") for image in said["data"]]
    assert many == len(drawn)
    png = base64.b64decode(drawn[0])
    assert (png[:8], struct.unpack(">I4sII", png[8:24])) == (b"\x89PNG\r\n\x1a\n", (13, b"IHDR", 1, 1))
    assert zlib.crc32(png[12:29]).to_bytes(4, "big") == png[29:33]
    assert [(NOW, 2, "url" in extra.values())] == [
        (said["created"], said["usage"]["input_tokens"], "url" in said["data"][0])
    ]
