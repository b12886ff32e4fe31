"""Chunk: how one whole chunk of a chunked body (RFC 9112, 7.1) begins, which its size alone tells."""

SIZED = 4096  # bytes in all, below which it is told


def _beginning(size: int) -> bytes:
    """The line before what the chunk holds. No chunk is of some sizes: for these it is longer than that."""
    for digits in (1, 2, 3):
        held = size - digits - 4  # both line ends
        if held > 0 and len(b"%x" % held) == digits:
            return b"%x\r\n" % held
    return bytes(size + 1)


BEGINNINGS = tuple(map(_beginning, range(SIZED)))  # by the chunk's size
