"""A client that sends and sees exact bytes: half requests, half answers, FIN and RST at will. It knows no SDK."""

import json
import socket
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self


@dataclass(frozen=True, slots=True)
class Answer:
    """One response; `complete` says whether its own framing was fulfilled."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes
    complete: bool

    def header(self, name: str) -> str | None:
        return next((value for found, value in self.headers if found == name), None)

    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> dict[str, Any]:
        error: dict[str, Any] = self.json()["error"]
        return error


def chat(model: str, **fields: Any) -> bytes:
    """A chat completion's body."""
    return json.dumps({"model": model, "messages": [{"role": "user", "content": "hi"}], **fields}).encode()


def request(
    body: bytes | Mapping[str, Any] = b"",
    *headers: str,
    path: str = "/v1/chat/completions",
    method: str = "POST",
    key: str | None = None,
) -> bytes:
    """A whole request as bytes; `headers` are further lines as they are to be sent."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = [f"{method} {path} HTTP/1.1", "host: relay", "content-type: application/json"]
    lines += [f"authorization: Bearer {key}"] if key else []
    lines += [f"content-length: {len(content)}"] if content or method == "POST" else []
    return "\r\n".join([*lines, *headers, "", ""]).encode("latin-1") + content


class Client:
    """One connection."""

    def __init__(self, port: int, timeout: float = 20.0) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout)
        self._held = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.socket.close()

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def leave(self) -> None:
        """Hang up with FIN."""
        self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()

    def reset(self) -> None:
        """Hang up with RST."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def read_to(self, mark: bytes) -> bytes:
        """Everything up to and including `mark`; ConnectionError when the other side ends before it."""
        start = 0
        while (at := self._held.find(mark, start)) < 0:
            start = max(0, len(self._held) - len(mark))
            self._held += self._more()
        found, self._held = self._held[: at + len(mark)], self._held[at + len(mark) :]
        return found

    def rest(self) -> bytes:
        """Everything up to the end of the connection, whether by FIN or by RST."""
        parts = [self._held]
        self._held = b""
        while data := self._receive():
            parts.append(data)
        return b"".join(parts)

    def answer(self) -> Answer:
        """The next response; a body that ends before its framing says so comes back as incomplete."""
        status_line, *lines = self.read_to(b"\r\n\r\n").decode("latin-1").rstrip().split("\r\n")
        pairs = tuple((name.lower(), value.strip()) for name, _, value in (line.partition(":") for line in lines))
        status = int(status_line.split(" ")[1])
        body, complete = (b"", True) if status in {204, 304} else self._body(dict(pairs))
        return Answer(status, pairs, body, complete)

    def _body(self, headers: dict[str, str]) -> tuple[bytes, bool]:
        if "chunked" in headers.get("transfer-encoding", ""):
            return self.chunked()
        if "content-length" not in headers:
            return self.rest(), False
        size = int(headers["content-length"])
        body = self._exactly(size)
        return body, len(body) == size

    def chunked(self) -> tuple[bytes, bool]:
        """A chunked body from its next chunk on, and whether its end came."""
        parts: list[bytes] = []
        try:
            while size := int(self.read_to(b"\r\n"), 16):
                parts.append(self._exactly(size))
                self.read_to(b"\r\n")
            self.read_to(b"\r\n")
        except ConnectionError:
            return b"".join(parts), False
        return b"".join(parts), True

    def _exactly(self, size: int) -> bytes:
        """`size` bytes, or fewer when the connection ends before."""
        parts, got = [self._held], len(self._held)
        while got < size and (data := self._receive()):
            parts.append(data)
            got += len(data)
        whole = b"".join(parts)
        self._held = whole[size:]
        return whole[:size]

    def _more(self) -> bytes:
        if data := self._receive():
            return data
        raise ConnectionError("the other side ended the connection")

    def _receive(self) -> bytes:
        try:
            return self.socket.recv(2**18)
        except ConnectionError:
            return b""
