"""Mending: what an upstream sent that is no proper event, made one; no client would read it otherwise. Pure."""

import json

from relay import sse, usage


def completed(rest: bytes) -> bytes:
    """The unfinished event at the end as a whole one if it says something whole; a torn one is dropped."""
    text = rest.strip()
    if not text:
        return rest
    said = sse.data(rest + b"\n\n") if not text.startswith(b"{") else text
    if said is None or not _is_whole(said):
        return b""
    return _framed(text) if said is text else rest.rstrip(b"\r\n") + b"\n\n"


def mended(event: bytes) -> bytes:
    """A JSON error that stands bare where an event should as one; any other event as it is."""
    text = event.strip()
    return _framed(text) if text.startswith(b"{") and usage.is_error(text) else event


def _framed(text: bytes) -> bytes:
    """JSON, which may have several lines, as an event."""
    return sse.event(b" ".join(text.splitlines()))


def _is_whole(said: bytes) -> bool:
    if said.strip() == sse.DONE:
        return True
    try:
        json.loads(said)
    except (ValueError, RecursionError):
        return False
    return True
