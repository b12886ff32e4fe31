"""dialogue: the bytes that clients and the upstream exchange, known to both sides. Knows no sockets."""

import json
import re
from dataclasses import dataclass

KEY, KEPT_KEY = "sk-bench-caller-7d41c09e52b8f613", "sk-bench-keeper-1f8a36d2c94e705b"
MODEL, TLS_MODEL = "bench", "bench-tls"
JSON_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
SSE_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
STAMP = re.compile(rb"@(\d{16})@")  # the monotonic clock in ns when a chunk was sent
PLAN = re.compile(rb'"plan":"(\d+),(\d+)"')  # how many chunks, and microseconds between two

_USAGE = {"prompt_tokens": 21, "completion_tokens": 150, "total_tokens": 171}
_SAID = "A relay stands between two sides and hands on what each of them says. " * 10


def _dense(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def _piece(choices: list[dict[str, object]], **more: object) -> bytes:
    """One server-sent event as one chunk of the transfer encoding."""
    shared = {"id": "chatcmpl-bench", "object": "chat.completion.chunk", "created": 1760000000, "model": "real-model"}
    event = b"data: %b\n\n" % _dense({**shared, "choices": choices, **more})
    return b"%x\r\n%b\r\n" % (len(event), event)


def _choice(delta: dict[str, str], finish: str | None = None) -> list[dict[str, object]]:
    return [{"index": 0, "delta": delta, "finish_reason": finish}]


_ANSWERED: dict[str, object] = {
    "id": "chatcmpl-bench",
    "object": "chat.completion",
    "created": 1760000000,
    "model": "real-model",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": _SAID}, "finish_reason": "stop"}],
    "usage": _USAGE,
}
ANSWER = _dense(_ANSWERED)  # 1 KB
FIRST = _piece(_choice({"role": "assistant", "content": ""}))
_STAMPED = _piece(_choice({"content": "@0000000000000000@ and on"}))
LAST = _piece(_choice({}, "stop")) + _piece([], usage=_USAGE) + b"e\r\ndata: [DONE]\n\n\r\n"
END = b"0\r\n\r\n"


def chunk(stamp: int) -> bytes:
    """One content chunk, which says when it was sent."""
    return _STAMPED.replace(b"0000000000000000", b"%016d" % stamp)


@dataclass(frozen=True, slots=True)
class Ask:
    """What a client asks for: an answer of 1 KB, or with `chunks` a stream with `pause` seconds between two of them."""

    chunks: int = 0
    pause: float = 0.0
    size: int = 0  # bytes of the request's body beyond the usual 0.4 KB
    model: str = MODEL
    key: str = KEY

    def request(self) -> bytes:
        """The whole request."""
        words = "You are a helpful assistant that writes short paragraphs, and never more than it was asked for. "
        messages = [
            {"role": "system", "content": words},
            {"role": "user", "content": "Please go on. " + "x" * self.size},
        ]
        stream = {"stream": True, "stream_options": {"include_usage": True}} if self.chunks else {}
        plan = {"plan": f"{self.chunks},{round(self.pause * 1e6)}"}
        body = _dense({"model": self.model, **stream, "metadata": plan, "temperature": 0.7, "messages": messages})
        head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {self.key}\r\n"
        return f"{head}Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body

    @property
    def end(self) -> bytes:
        """What the answer ends with, and nothing before its end does."""
        return END if self.chunks else ANSWER

    def is_right(self, answer: bytes) -> bool:
        """Whether this is the whole answer, each byte as the upstream sent it but for the framing."""
        if not answer.startswith(b"HTTP/1.1 200 "):
            return False
        body = answer.partition(b"\r\n\r\n")[2]
        if not self.chunks:
            return body == ANSWER
        expected = FIRST + _STAMPED * self.chunks + LAST + END
        return STAMP.sub(b"@0000000000000000@", joined(body)) == joined(expected)


def joined(body: bytes) -> bytes:
    """What a whole chunked body holds. Raises ValueError when it is not whole."""
    parts, at = list[bytes](), 0
    while True:
        line = body.index(b"\r\n", at)
        size = int(body[at:line], 16)
        if size == 0:
            return b"".join(parts)
        parts.append(body[line + 2 : line + 2 + size])
        at = line + 4 + size
