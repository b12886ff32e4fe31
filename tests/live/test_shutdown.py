"""How it starts, how it refuses to start, and how it goes."""

import asyncio
import json
import signal
import socket
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from relay.app import App
from relay.config import load
from relay.record import Record
from tests.client import Client, chat, request
from tests.process import KEY, RelayProcess, Start, configuration
from tests.records import Noted, record
from tests.upstream import DONE, END, Never, Pause, Upstream, event, opening, piece, response
from tests.waiting import until

EVENT = event({"choices": [{"index": 0, "delta": {"content": "x"}}]})
FINISH = event({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})


def test_a_running_stream_completes(start: Start, upstream: Upstream, model: str) -> None:
    relay = start()
    upstream.play(model, opening(), piece(EVENT), Pause(1), piece(FINISH + DONE), END)

    with relay.connect() as client:
        client.send(request(chat(model, stream=True), key=KEY))
        assert until(lambda: upstream.requests(model))
        relay.signal(signal.SIGTERM)
        answer = client.answer()
    code = relay.wait(5)

    assert (EVENT + FINISH + DONE, True) == (answer.body, answer.complete)
    assert 0 == code
    assert ["ok"] == [row["outcome"] for row in relay.log()]
    assert "Traceback" not in relay.output


async def test_what_ends_in_the_very_last_turns_is_in_the_log(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(f"store: sqlite:///{tmp_path / 'relay.db'}")
    app = App(load(tmp_path / "config.yaml", {}), {})
    blotter = (await app.start())["blotter"]
    ended: list[Record] = []

    def end_one() -> None:
        if not stopping.done():
            ended.append(record(str(len(ended)), started_at=time.time_ns() // 1000))
            blotter.note(Noted(ended[-1]))
            asyncio.get_running_loop().call_soon(end_one)

    asyncio.get_running_loop().call_soon(end_one)
    stopping = asyncio.create_task(app.stop())
    await stopping

    assert ended
    with closing(sqlite3.connect(tmp_path / "relay.db")) as db:
        assert [(len(ended),)] == db.execute("SELECT count(*) FROM log").fetchall()
    assert [] == list((tmp_path / "relay.journal").iterdir())


def test_nobody_new_is_let_in_while_it_goes(start: Start, upstream: Upstream, model: str) -> None:
    relay = start()
    upstream.play(model, opening(), piece(EVENT), Pause(1), piece(FINISH + DONE), END)

    with relay.connect() as client:
        client.send(request(chat(model, stream=True), key=KEY))
        client.read_to(EVENT)
        relay.signal(signal.SIGTERM)

        assert until(lambda: turned_away(relay), within=0.5)
        client.read_to(DONE)
    assert 0 == relay.wait(5)


def turned_away(relay: RelayProcess) -> bool:
    """New connections are refused, or told that it is not ready."""
    try:
        return relay.ask(method="GET", path="/readyz").status == 503
    except ConnectionError:
        return True


def test_a_kept_connection_does_not_hold_it_up(start: Start, upstream: Upstream, model: str) -> None:
    relay = start()
    upstream.play(model, response({"choices": []}))

    with relay.connect() as client:
        client.send(request(chat(model), key=KEY))
        client.answer()
        began = time.monotonic()

        assert 0 == relay.stop()
    assert time.monotonic() - began < 2


def test_what_outlasts_the_drain_ends_in_an_error_event(start: Start, upstream: Upstream, model: str) -> None:
    relay = start(server={"drain_timeout": "1s"})
    upstream.play(model, opening(), piece(EVENT), Never())

    with relay.connect() as client:
        client.send(request(chat(model, stream=True), key=KEY))
        assert until(lambda: upstream.requests(model))
        began = time.monotonic()
        relay.signal(signal.SIGTERM)
        answer = client.answer()
        code = relay.wait(5)

    assert "relay: stopping when what runs is done (1 now), or at a second signal\n" in relay.output
    assert 0.8 < time.monotonic() - began < 3
    assert 0 == code
    assert (200, True) == (answer.status, answer.complete)
    assert {"message", "type", "param", "code"} == json.loads(answer.body.removeprefix(EVENT + b"data: "))[
        "error"
    ].keys()
    row = relay.log()[0]
    assert row["outcome"] not in {"ok", "client_disconnect"}


def test_a_second_signal_ends_it_at_once(start: Start, upstream: Upstream, model: str) -> None:
    relay = start()
    upstream.play(model, opening(), piece(EVENT), Never())

    with relay.connect() as client:
        client.send(request(chat(model, stream=True), key=KEY))
        client.read_to(EVENT)
        relay.signal(signal.SIGTERM)
        assert until(lambda: turned_away(relay), within=2)
        began = time.monotonic()
        relay.signal(signal.SIGTERM)
        relay.wait(5)

    assert time.monotonic() - began < 1
    assert "Traceback" not in relay.output
    assert 1 == len(relay.log())


def test_a_request_that_is_just_being_connected_has_its_record_too(start: Start, model: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:  # it never answers the greeting of TLS
        place = f"https://127.0.0.1:{mute.getsockname()[1]}/v1"
        relay = start(
            upstreams={"mute": {"base_url": place, "timeouts": {"connect": "30s"}}},
            models={model: "mute/m"},
            server={"drain_timeout": "1s"},
        )
        with relay.connect() as client:
            client.send(request(chat(model), key=KEY))
            taken, _ = mute.accept()
            with taken:
                taken.recv(1)
                relay.signal(signal.SIGTERM)
                answer = client.answer()
                code = relay.wait(5)

    assert (503, 0) == (answer.status, code)
    assert [503] == [row["status"] for row in relay.log()]


def test_an_interrupt_is_a_sigterm(start: Start) -> None:
    relay = start()

    relay.signal(signal.SIGINT)

    assert 0 == relay.wait(5)
    assert "Traceback" not in relay.output


def test_it_starts_again_where_it_was(start: Start, upstream: Upstream, model: str) -> None:
    relay = start()
    upstream.play(model, response({"choices": []}))
    relay.ask(chat(model))
    first = relay.output
    relay.stop()
    began = time.monotonic()
    relay.start()
    took = time.monotonic() - began
    relay.ask(chat(model))

    assert 2 == len(relay.records(model, 2))
    assert took < 3  # a second on an idle machine
    assert "sk-relay-" in first
    assert "sk-relay-" not in relay.output.removeprefix(first)  # keys are shown once


@pytest.fixture
def unstarted(upstream: Upstream, tmp_path: Path) -> Iterator[RelayProcess]:
    relay = RelayProcess(tmp_path, configuration(upstream.port))
    yield relay
    relay.end()


def refusal(relay: RelayProcess) -> str:
    """The one line with which it refuses to start."""
    relay.launch()
    assert 2 == relay.wait(10), relay.output
    (line,) = relay.output.strip().splitlines()
    assert "Traceback" not in line
    return line


def test_a_port_in_use(unstarted: RelayProcess) -> None:
    with socket.create_server(("127.0.0.1", unstarted.port)):
        assert str(unstarted.port) in refusal(unstarted)


def test_a_store_that_cannot_be_written(unstarted: RelayProcess) -> None:
    (unstarted.folder / "file").touch()
    unstarted.config = {**unstarted.config, "store": "sqlite:///file/relay.db"}

    assert "file/relay." in refusal(unstarted)


def test_a_store_that_is_no_store(unstarted: RelayProcess) -> None:
    (unstarted.folder / "relay.db").write_bytes(b"this is no database" * 1000)

    assert "relay.db" in refusal(unstarted)


def test_a_store_of_a_newer_version(start: Start, unstarted: RelayProcess) -> None:
    older = start()
    older.stop()
    with closing(sqlite3.connect(older.folder / "relay.db")) as database:
        database.execute("PRAGMA user_version = 9999")
        database.commit()
    unstarted.config = {**unstarted.config, "store": f"sqlite:///{older.folder}/relay.db"}

    assert "newer" in refusal(unstarted)


def test_a_secret_that_cannot_be_read_disables_its_upstream_only(unstarted: RelayProcess, upstream: Upstream) -> None:
    upstreams = {
        **unstarted.config["upstreams"],
        "gone": {"base_url": "http://127.0.0.1:9/v1", "api_key": "env:NOT_SET"},
    }
    unstarted.config = {**unstarted.config, "upstreams": upstreams}
    upstream.play("m-here", response({"choices": []}))

    unstarted.start()

    assert 200 == unstarted.ask(chat("m-here")).status
    assert "gone" in unstarted.output
    assert "NOT_SET" in unstarted.output
    assert 0 == unstarted.stop()


BAD_CONFIGS = {
    "unknown field": ("server: {prot: 8000}\n", "prot"),
    "wrong type": ("server: {port: many}\n", "port"),
    "no YAML": ("server: {port: 8000\n", "config.yaml"),
    "unknown upstream": ("models: {fast: nowhere/gpt}\n", "nowhere"),
    "bad duration": ("upstreams: {a: {base_url: 'http://x/v1', timeouts: {idle: soon}}}\n", "idle"),
}


@pytest.mark.parametrize("case", BAD_CONFIGS)
def test_a_bad_configuration(unstarted: RelayProcess, case: str) -> None:
    text, named = BAD_CONFIGS[case]
    unstarted.config_file.write_text(text)

    done = unstarted.run("serve")

    assert 2 == done.returncode
    assert named in done.stderr
    assert "Traceback" not in done.stderr + done.stdout
    assert 1 == len(done.stderr.strip().splitlines())


def test_a_missing_configuration(unstarted: RelayProcess) -> None:
    done = unstarted.run("serve")

    assert 2 == done.returncode
    assert "config.yaml" in done.stderr
    assert 1 == len(done.stderr.strip().splitlines())


def test_flags_win_over_the_file(upstream: Upstream, unstarted: RelayProcess) -> None:
    other = configuration(upstream.port)["server"]["port"]
    unstarted.launch("--port", str(other))
    try:
        assert until(lambda: f":{other}" in unstarted.output, within=10)
        with Client(other) as client:
            client.send(request(method="GET", path="/healthz"))

            assert 200 == client.answer().status
    finally:
        assert 0 == unstarted.stop()
