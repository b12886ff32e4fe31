"""Connections that live shorter than the pauses between requests: whoever hangs up first, no caller learns of it."""

import asyncio
import random
from collections.abc import Iterator

import pytest

from tests.client import chat, request
from tests.faults import FaultProxy, SlowClose
from tests.process import KEY, Start
from tests.upstream import Pause, Upstream, response

CALLERS, TIMES = 150, 20
PATIENCE = 0.0, 0.3  # seconds that the upstream waits for the next request,
UNHEARD = 0.05  # and for which the relay goes without knowing that it has
PAUSE = 0.1, 0.3  # seconds between an answer and the next request
TAKES = 0.01
FINE = (Pause(TAKES), response({"choices": []}))
PLACE = {"keep_alive": "250ms", "timeouts": {"idle": "1s"}}  # which is looked at twenty times a second


@pytest.fixture
def luck() -> random.Random:
    seed = random.randrange(2**32)  # noqa: S311 - a schedule, no secret
    print(f"the seed of the churn is {seed}")  # noqa: T201  # shown when the test fails
    return random.Random(seed)  # noqa: S311


@pytest.fixture
def hasty(luck: random.Random) -> Iterator[Upstream]:
    with Upstream(lambda: luck.uniform(*PATIENCE)) as running:
        yield running


async def asked(port: int, what: bytes, luck: random.Random) -> list[int]:
    """The statuses of callers who come together and pause together, so that each needs a connection of its own."""
    links = [await asyncio.open_connection("127.0.0.1", port) for _ in range(CALLERS)]
    statuses = []
    for _ in range(TIMES):
        statuses += await asyncio.gather(*(once(reader, writer, what) for reader, writer in links))
        await asyncio.sleep(luck.uniform(*PAUSE))
    for _, writer in links:
        writer.close()
    return statuses


async def once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, what: bytes) -> int:
    writer.write(what)
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    await reader.readexactly(int(head.partition(b"content-length: ")[2].split(b"\r\n")[0]))
    return int(head.split()[1])


def test_churn(start: Start, hasty: Upstream, luck: random.Random, model: str) -> None:
    """With wire, that is: where a kept connection was found closed, it asks once more, and httpx does not."""
    hasty.play(model, *FINE)
    with FaultProxy(hasty.port) as proxy:
        proxy.inflict(SlowClose(UNHEARD))
        relay = start(upstreams={"script": {"base_url": f"http://127.0.0.1:{proxy.port}/v1", **PLACE}})

        statuses = asyncio.run(asked(relay.port, request(chat(model), key=KEY), luck))

        heard = [len(seen.head + seen.body) for seen in hasty.requests(model)]
        unheard = (proxy.bytes_up - sum(heard)) // heard[0]
        print(f"{unheard} requests went unheard, over {proxy.ever} connections")  # noqa: T201
    assert [200] * CALLERS * TIMES == statuses
    assert len(statuses) == len(heard)  # nobody was asked twice
    assert unheard > 20  # else the test has shown nothing; about 200 as a rule
    assert {"ok"} == {row["outcome"] for row in relay.records(model, len(statuses))}
