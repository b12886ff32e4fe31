"""How a whole chunk begins, for every size that it can have and for those that it cannot."""

from relay.wire.chunk import BEGINNINGS, SIZED
from tests.upstream import piece


def test_each_size_tells_how_its_chunk_begins_and_no_chunk_is_of_any_other() -> None:
    chunks = [piece(bytes(held)) for held in range(1, SIZED)]
    begins = {len(chunk): chunk[: chunk.index(b"\r\n") + 2] for chunk in chunks}

    assert len(chunks) == len(begins)
    for size, line in enumerate(BEGINNINGS):
        assert line == begins.get(size, line)
        assert (size in begins) == (len(line) <= size)
