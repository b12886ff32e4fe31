"""Chunk: how one whole chunk of a chunked body (RFC 9112, 7.1) begins, which its size alone tells."""

from relay.exchange import unframed

SIZED = 4096  # bytes in all, below which it is told


def _beginning(size: int) -> bytes:
    """The line before what the chunk holds. No chunk is of some sizes: for these it is longer than that."""
    for digits in (1, 2, 3):
        held = size - digits - 4  # both line ends
        if held > 0 and len(b"%x" % held) == digits:
            return b"%x\r\n" % held
    return bytes(size + 1)


BEGINNINGS = tuple(map(_beginning, range(SIZED)))  # by the chunk's size


def piece_in(framed: bytes) -> bytes | None:
    """What `framed` holds, if it is one whole chunk and nothing more; None of anything else, and of a large one."""
    size = len(framed)
    if size >= SIZED:
        return None
    line = BEGINNINGS[size]
    return unframed(framed, len(line)) if framed.startswith(line) and framed.endswith(b"\r\n") else None
