"""The proxy that spoils: each fault does what it says, and nothing else."""

import time
from collections.abc import Iterator

import pytest

from tests.client import Client, chat, request
from tests.faults import HEALTHY, Cut, Fault, FaultProxy, Latency, Refused, Reset, SlowClose, Timeout, Trickle
from tests.upstream import Close, Pause, Upstream, response
from tests.waiting import until

FINE = response({"choices": []})
ASK = request(chat("m"))


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    with Upstream() as running:
        running.play("m", FINE)
        yield running


@pytest.fixture
def proxy(upstream: Upstream) -> Iterator[FaultProxy]:
    with FaultProxy(upstream.port) as running:
        yield running


def asked(proxy: FaultProxy) -> Client:
    client = Client(proxy.port, timeout=5)
    client.send(ASK)
    return client


def test_what_is_healthy_passes_whole_again_and_again(proxy: FaultProxy) -> None:
    with asked(proxy) as client:
        first = client.answer()
        client.send(ASK)

        assert (200, True, first) == (first.status, first.complete, client.answer())
        assert (1, 1) == (proxy.open, proxy.ever)
    assert until(lambda: proxy.open == 0)
    assert (1, 2 * len(ASK), 2 * len(FINE)) == (proxy.ever, proxy.bytes_up, proxy.bytes_down)


@pytest.mark.parametrize("after", [0, 1, 50, len(FINE) - 1])
def test_cut_and_reset(proxy: FaultProxy, upstream: Upstream, after: int) -> None:
    proxy.inflict(Cut(after))
    with asked(proxy) as client:
        parts = []
        while data := client.socket.recv(1000):
            parts.append(data)
        assert FINE[:after] == b"".join(parts)

    proxy.inflict(Reset(after))
    with asked(proxy) as client:
        parts = []
        with pytest.raises(ConnectionResetError):  # noqa: PT012  # the bytes before it count as well
            while data := client.socket.recv(1000):
                parts.append(data)
        assert FINE[:after] == b"".join(parts)
    assert 2 == len(upstream.requests("m"))
    assert until(lambda: proxy.open == 0)


def test_faults_come_one_after_the_other_also_on_a_kept_connection(proxy: FaultProxy) -> None:
    proxy.inflict(HEALTHY, Cut(20))
    with asked(proxy) as client:
        assert 200 == client.answer().status
        client.send(ASK)

        assert FINE[:20] == client.rest()
    with asked(proxy) as client:
        assert 200 == client.answer().status


@pytest.mark.parametrize("fault", [Latency(up=0.2), Latency(down=0.2), Trickle(0.2 / len(FINE))])
def test_what_is_late_is_whole(proxy: FaultProxy, fault: Fault) -> None:
    proxy.inflict(fault)
    began = time.monotonic()

    with asked(proxy) as client:
        answer = client.answer()

    assert (200, True) == (answer.status, answer.complete)
    assert time.monotonic() - began >= 0.19


def test_a_trickle_comes_byte_by_byte(proxy: FaultProxy) -> None:
    proxy.inflict(Trickle(0.002))

    with asked(proxy) as client:
        assert {1} == {len(client.socket.recv(1000)) for _ in range(20)}


def test_a_timeout_is_never_answered_and_never_seen(proxy: FaultProxy, upstream: Upstream) -> None:
    proxy.inflict(Timeout())
    with asked(proxy) as client:
        client.socket.settimeout(0.2)
        with pytest.raises(TimeoutError):
            client.socket.recv(1)
    assert [] == upstream.requests("m")
    assert until(lambda: proxy.open == 0)


def test_a_slow_close(proxy: FaultProxy, upstream: Upstream) -> None:
    upstream.play("m", FINE, Close())
    proxy.inflict(SlowClose(0.3))
    with asked(proxy) as client:
        client.answer()
        began = time.monotonic()

        assert b"" == client.rest()
    assert 0.2 < time.monotonic() - began


def test_refused_and_there_again(proxy: FaultProxy, upstream: Upstream) -> None:
    upstream.play("m", Pause(5), FINE)
    with asked(proxy) as client:
        assert until(lambda: upstream.requests("m"))
        proxy.inflict(Refused())

        with pytest.raises(ConnectionResetError):
            client.socket.recv(1)
    with pytest.raises(ConnectionRefusedError):
        asked(proxy)

    proxy.inflict(HEALTHY)
    upstream.play("m", FINE)
    with asked(proxy) as client:
        assert 200 == client.answer().status


def test_who_leaves_leaves_the_upstream_too(proxy: FaultProxy, upstream: Upstream) -> None:
    upstream.play("m", Pause(20), FINE)
    with asked(proxy):
        assert until(lambda: upstream.requests("m"))

    assert until(lambda: upstream.requests("m")[0].connection in upstream.left)
    assert until(lambda: proxy.open == 0)
