"""Several processes on one port: they share the work and the keys, one that dies is replaced, and all end together."""

import os
import signal
from pathlib import Path

from tests.process import RelayProcess, Start
from tests.upstream import Upstream, response
from tests.waiting import until


def children(pid: int) -> set[int]:
    return {int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()}


def two_workers(start: Start) -> RelayProcess:
    return start(server={"workers": 2})


def test_a_worker_that_dies_is_replaced(start: Start) -> None:
    relay = two_workers(start)
    before = children(relay.pid)

    os.kill(min(before), signal.SIGKILL)

    assert 2 == len(before)
    assert until(lambda: len(children(relay.pid) - before) == 1, within=10)
    assert until(relay.answers, within=10)


def test_all_records_of_all_workers_are_in_one_log(start: Start, upstream: Upstream) -> None:
    upstream.play("shared-work", response({"choices": []}))
    relay = two_workers(start)

    answers = [relay.ask({"model": "shared-work", "messages": []}) for _ in range(20)]

    assert [200] * 20 == [answer.status for answer in answers]
    assert 20 == len(relay.records("shared-work", 20))


def test_one_signal_ends_them_all(start: Start) -> None:
    relay = two_workers(start)
    workers = children(relay.pid)

    code = relay.stop()

    assert 0 == code, relay.output
    assert not any(Path(f"/proc/{worker}").exists() for worker in workers)


def test_workers_end_when_their_parent_is_killed(start: Start) -> None:
    relay = two_workers(start)
    workers = children(relay.pid)

    relay.kill()

    assert until(lambda: not any(Path(f"/proc/{worker}").exists() for worker in workers), within=10)
