"""No more files may be opened: the relay waits without spinning, and goes on as before once there are some again."""

import resource
import time
from contextlib import ExitStack

import pytest

from tests.client import Client, chat, request
from tests.faults import FaultProxy
from tests.process import KEY, Start
from tests.upstream import Upstream, response
from tests.waiting import until

FILES, CLIENTS = 256, 400
IDLE_CPU, WATCHED = 0.05, 2.0  # of one processor, over so many seconds
FINE = response({"choices": []})


@pytest.mark.usefixtures("proxy")
def test_more_clients_than_files(start: Start, upstream: Upstream, between: FaultProxy, model: str) -> None:
    relay = start()
    upstream.play(model, FINE)
    assert 200 == relay.ask(chat(model)).status
    before = relay.files()
    resource.prlimit(relay.pid, resource.RLIMIT_NOFILE, (FILES, FILES))
    with ExitStack() as stack:
        clients = [stack.enter_context(Client(relay.port)) for _ in range(CLIENTS)]
        assert until(lambda: relay.files() >= FILES - 5, within=5)
        spent = relay.cpu()
        time.sleep(WATCHED)
        spent = relay.cpu() - spent

        assert spent < IDLE_CPU * WATCHED
        statuses = [status for client in clients[:20] for status in asked(client, model)]
        assert statuses
        assert {200, 502, 503} >= set(statuses)
    assert until(lambda: relay.files() <= before + 5, within=5), relay.files()

    assert [200] * 20 == [relay.ask(chat(model)).status for _ in range(20)]
    expected = 1 + len(statuses) + 20
    assert expected == len(relay.records(model, expected))
    assert between.open <= 2


def asked(client: Client, model: str) -> list[int]:
    """The status of an answer; none from a connection that the relay had no file for, which is closed."""
    try:
        client.send(request(chat(model), key=KEY))
        return [client.answer().status]
    except ConnectionError:
        return []
