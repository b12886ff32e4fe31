"""A configuration that changes under a running relay: taken over whole or not at all, and no request notices."""

import json
import os
import re
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.client import Answer, chat, request
from tests.process import KEY, RelayProcess, Start, configuration, free_port
from tests.upstream import DONE, END, Pause, Upstream, event, opening, piece, response, stream
from tests.waiting import until

WHOLE = b'{"choices": []}'
FINE = response(WHOLE)
FIRST = event({"choices": [{"index": 0, "delta": {"content": "a"}}]})
FINISH = event({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
OTHER_KEY = "sk-test-other-7d03b8e2f1a94c65"
SAVED_WITHIN = 2.0  # seconds until a save is in force
STAYS = "the last good configuration stays in force"


def numbered(upstream: Upstream, number: int) -> dict[str, Any]:
    """Sections by which the upstream can tell which version asked it: by a header, and by a field of the body."""
    headers = {"x-version": f"v{number}"}
    url = f"http://127.0.0.1:{upstream.port}/v1"
    return {
        "upstreams": {"script": {"base_url": url, "api_key": "env:SCRIPT_KEY", "headers": headers}},
        "models": {"m-*": {"targets": ["script/*"], "set": {"user": f"v{number}"}}},
    }


def in_place(file: Path, text: str) -> None:
    file.write_text(text)


def by_rename(file: Path, text: str) -> None:
    other = file.with_suffix(".new")
    other.write_text(text)
    other.replace(file)


def save(relay: RelayProcess, write: Callable[[Path, str], None] = by_rename, **sections: Any) -> None:
    """Change these sections of the configuration that the relay was started with."""
    write(relay.config_file, json.dumps({**relay.config, **sections}, indent=1))


def applied(relay: RelayProcess) -> int:
    """How often the relay has said that a new configuration is in force."""
    return relay.output.count(f"configuration {relay.config_file}: applied\n")


def reload(relay: RelayProcess) -> None:
    """Reload by signal, and wait until that is done."""
    before = applied(relay)
    relay.signal(signal.SIGHUP)
    assert until(lambda: applied(relay) > before), relay.output


def alarms(relay: RelayProcess) -> list[str]:
    answer = relay.ask(method="GET", path="/readyz")
    assert 200 == answer.status
    found: list[str] = answer.json()["alarms"]
    return found


def asks(relay: RelayProcess, upstream: Upstream, model: str) -> str | None:
    """The version that a request is served by now."""
    assert 200 == relay.ask(chat(model)).status
    seen = upstream.requests(model)[-1]
    assert seen.header("x-version") == seen.json().get("user")
    return seen.header("x-version")


@pytest.fixture
def fresh(start: Start, upstream: Upstream) -> RelayProcess:
    """A relay of its own for a test, at version 1."""
    return start(**numbered(upstream, 1))


# --- a save


@pytest.mark.faces("fast", "asgi")
@pytest.mark.parametrize("write", [in_place, by_rename])
def test_a_save_is_in_force_without_a_restart(
    start: Start, upstream: Upstream, model: str, write: Callable[[Path, str], None]
) -> None:
    relay = start(**numbered(upstream, 1))
    upstream.play(model, FINE)
    assert "v1" == asks(relay, upstream, model)

    save(relay, write, **numbered(upstream, 2))

    assert until(lambda: asks(relay, upstream, model) == "v2", within=SAVED_WITHIN)
    save(relay, write, **numbered(upstream, 3))
    assert until(lambda: asks(relay, upstream, model) == "v3", within=SAVED_WITHIN)


def test_a_save_is_told_once(fresh: RelayProcess, upstream: Upstream) -> None:
    save(fresh, **numbered(upstream, 2), keys=[*fresh.config["keys"], {"name": "absent", "key": "env:NOT_THERE"}])

    assert until(lambda: applied(fresh), within=SAVED_WITHIN)
    reload(fresh)
    assert 2 == applied(fresh)
    warning = f"relay: configuration {fresh.config_file}: keys.1: the key 'absent' is disabled"
    assert 1 == fresh.output.count(warning)


def test_what_needs_a_restart_is_named_and_not_taken_over(fresh: RelayProcess, upstream: Upstream, model: str) -> None:
    upstream.play(model, FINE)

    save(
        fresh,
        **numbered(upstream, 2),
        server={**fresh.config["server"], "port": free_port(), "workers": 2},
        store="sqlite:///other.db",
    )

    assert until(lambda: asks(fresh, upstream, model) == "v2", within=SAVED_WITHIN)
    late = re.findall(r"config\.yaml: (\S+): changed, and stays as it was until the relay is started", fresh.output)
    assert ["server.port", "server.workers", "store"] == late
    assert [] == alarms(fresh)
    assert not (fresh.folder / "other.db").exists()


def test_what_the_command_line_says_wins_over_a_save_too(tmp_path: Path, upstream: Upstream, model: str) -> None:
    upstream.play(model, FINE)
    relay = RelayProcess(tmp_path, configuration(upstream.port, **numbered(upstream, 1)))
    relay.launch("--port", str(relay.port), "--host", "127.0.0.1")
    try:
        assert until(relay.answers, within=10)
        save(relay, **numbered(upstream, 2), server={"host": "localhost", "port": free_port()})
        assert until(lambda: asks(relay, upstream, model) == "v2", within=SAVED_WITHIN)
    finally:
        relay.end()

    assert "started again" not in relay.output


# --- a file that cannot be used


def test_a_bad_file_changes_nothing_and_is_told(fresh: RelayProcess, upstream: Upstream, model: str) -> None:
    upstream.play(model, FINE)
    fault = f"{fresh.config_file}:1: models.m: there is no upstream 'nowhere'; known here: echo; {STAYS}"
    wrong = f"{fresh.config_file}:1: stor: unknown field; did you mean store?; {STAYS}"

    fresh.config_file.write_text('{"models": {"m": "nowhere/m"}, "stor": 1}')

    assert until(lambda: alarms(fresh) == [wrong, fault], within=SAVED_WITHIN), alarms(fresh)
    assert "v1" == asks(fresh, upstream, model)
    assert [1, 1] == [fresh.output.count(f"relay: {each}\n") for each in (wrong, fault)]
    save(fresh, **numbered(upstream, 2))
    assert until(lambda: alarms(fresh) == [], within=SAVED_WITHIN)
    assert "v2" == asks(fresh, upstream, model)
    assert [1, 1] == [fresh.output.count(each) for each in (wrong, fault)]


def test_a_file_that_is_gone_changes_nothing_and_is_told(fresh: RelayProcess, upstream: Upstream, model: str) -> None:
    upstream.play(model, FINE)
    kept = fresh.config_file.rename(fresh.folder / "kept.yaml")

    assert until(lambda: alarms(fresh), within=SAVED_WITHIN)
    assert [f"{fresh.config_file}: cannot be read: No such file or directory; {STAYS}"] == alarms(fresh)
    assert "v1" == asks(fresh, upstream, model)
    kept.rename(fresh.config_file)
    assert until(lambda: alarms(fresh) == [], within=SAVED_WITHIN)


def test_an_upstream_that_cannot_be_built_changes_nothing(fresh: RelayProcess, upstream: Upstream, model: str) -> None:
    upstream.play(model, FINE)
    authority = fresh.folder / "ca.pem"
    authority.write_text("no certificate")
    sections = numbered(upstream, 2)
    sections["upstreams"]["other"] = {"base_url": "https://127.0.0.1:1", "ca": str(authority)}

    save(fresh, **sections)

    assert until(lambda: alarms(fresh), within=SAVED_WITHIN)
    assert f"upstreams.other.ca: {authority} cannot be used as a CA file" in alarms(fresh)[0]
    assert "v1" == asks(fresh, upstream, model)


# --- SIGHUP


def test_a_secret_that_a_file_holds_is_read_again_on_sighup(start: Start, upstream: Upstream, model: str) -> None:
    upstream.play(model, FINE)
    relay = start(environ={"SCRIPT_KEY": ""})
    secret = relay.folder / "secret"
    secret.write_text("first-secret\n")
    url = f"http://127.0.0.1:{upstream.port}/v1"
    save(relay, upstreams={"script": {"base_url": url, "api_key": f"file:{secret}"}})
    reload(relay)
    assert 200 == relay.ask(chat(model)).status

    secret.write_text("second-secret\n")
    reload(relay)
    assert 200 == relay.ask(chat(model)).status

    shown = [seen.header("authorization") for seen in upstream.requests(model)]
    assert ["Bearer first-secret", "Bearer second-secret"] == shown
    assert "-secret" not in relay.output


def test_a_target_whose_key_was_refused_is_asked_again_once_the_configuration_was_read(
    fresh: RelayProcess, upstream: Upstream, model: str
) -> None:
    upstream.play(model, response({"error": {"message": "no"}}, status="401 No"))
    save(fresh, models={"m-*": ["script/*", "echo/*"]})
    reload(fresh)
    assert ["echo"] * 2 == [fresh.ask(chat(model)).header("x-relay-upstream") for _ in range(2)]
    assert 1 == len(upstream.requests(model))

    upstream.play(model, FINE)
    reload(fresh)

    assert "script" == fresh.ask(chat(model)).header("x-relay-upstream")


def test_keys_of_the_file_come_and_go(start: Start, upstream: Upstream, model: str) -> None:
    upstream.play(model, FINE)
    relay = start(environ={"OTHER_KEY": OTHER_KEY}, **numbered(upstream, 1))
    made = re.findall(r"sk-relay-[\w.-]+", relay.run("key", "create", "made").stdout)[0]
    assert until(lambda: relay.ask(chat(model), key=made).status == 200)

    def statuses() -> list[int]:
        return [relay.ask(chat(model), key=key).status for key in (KEY, OTHER_KEY, made)]

    assert [200, 401, 200] == statuses()
    save(relay, keys=[{"name": "tests", "key": "env:OTHER_KEY"}])
    reload(relay)
    assert [401, 200, 200] == statuses()
    save(relay, keys=[{"name": "tests", "key": "env:OTHER_KEY", "models": ["nothing"]}])
    reload(relay)
    assert [401, 403, 200] == statuses()


def test_a_connection_that_stays_open_meets_each_version(fresh: RelayProcess, upstream: Upstream, model: str) -> None:
    upstream.play(model, FINE)

    with fresh.connect() as client:
        for number in (1, 2, 3):
            save(fresh, **numbered(upstream, number))
            reload(fresh)
            client.send(request(chat(model), key=KEY))
            assert 200 == client.answer().status

    assert ["v1", "v2", "v3"] == [seen.header("x-version") for seen in upstream.requests(model)]


def test_an_upstream_that_stays_as_it_was_keeps_its_connections(
    fresh: RelayProcess, upstream: Upstream, model: str
) -> None:
    upstream.play(model, FINE)
    assert 200 == fresh.ask(chat(model)).status
    sections = numbered(upstream, 1)
    sections["models"]["another"] = "script/another"
    save(fresh, **sections)
    reload(fresh)
    assert 200 == fresh.ask(chat(model)).status

    assert 1 == len({seen.connection for seen in upstream.requests(model)})


# --- what runs meanwhile


def test_a_stream_goes_on_over_a_change_of_its_upstream(fresh: RelayProcess, upstream: Upstream, model: str) -> None:
    upstream.play(model, opening(), piece(FIRST), Pause(2), piece(FINISH), piece(DONE), END)

    with Upstream() as other, fresh.connect() as client:
        other.play(model, FINE)
        client.send(request(chat(model, stream=True), key=KEY))
        client.read_to(FIRST)
        save(fresh, **numbered(other, 2))
        reload(fresh)
        assert "v2" == asks(fresh, other, model)
        rest = client.read_to(END)
        assert piece(FINISH) + piece(DONE) in rest or piece(FINISH + DONE) in rest  # as two reads or one brought them
        assert 1 == len(upstream.requests(model))
        assert ["ok", "ok"] == [row["outcome"] for row in fresh.records(model, 2)]


def test_a_request_whose_body_is_still_coming_keeps_its_version(
    fresh: RelayProcess, upstream: Upstream, model: str
) -> None:
    upstream.play(model, FINE)
    whole = request(chat(model), key=KEY)

    with fresh.connect() as client:
        client.send(whole[:-10])
        assert until(lambda: fresh.ask(method="GET", path="/healthz").status == 200)  # the head was read before
        save(fresh, **numbered(upstream, 2))
        reload(fresh)
        client.send(whole[-10:])
        assert 200 == client.answer().status

    seen = upstream.requests(model)[0]
    assert ("v1", "v1") == (seen.header("x-version"), seen.json()["user"])


@contextmanager
def load(relay: RelayProcess, models: list[str]) -> Iterator[list[Answer]]:
    """Requests without a pause while this lasts, on one kept connection for each model; the list fills up."""
    answers: list[Answer] = []
    over = threading.Event()

    def work(model: str) -> None:
        body = chat(model, stream=True) if model.startswith("m-stream") else chat(model)
        with relay.connect() as client:
            while not over.is_set():
                client.send(request(body, key=KEY))
                answers.append(client.answer())

    workers = [threading.Thread(target=work, args=(model,)) for model in models]
    for worker in workers:
        worker.start()
    try:
        yield answers
    finally:
        over.set()
        for worker in workers:
            worker.join()


def goes_on(answers: list[Answer]) -> None:
    """Wait for one more answer."""
    before = len(answers)
    assert until(lambda: len(answers) > before)


def descriptors(relay: RelayProcess) -> int:
    return len(list(Path(f"/proc/{relay.pid}/fd").iterdir()))


def test_a_hundred_reloads_under_load_fail_no_request(fresh: RelayProcess, upstream: Upstream, model: str) -> None:
    models = [f"m-{kind}-{model}-{number}" for kind in ("whole", "stream") for number in range(3)]
    for name in models:
        whole = name.startswith("m-whole")
        upstream.play(name, *((FINE,) if whole else stream(FIRST, Pause(0.01), FINISH, DONE)))
    with load(fresh, models) as answers:
        assert until(lambda: len(answers) > 50)
    before = descriptors(fresh)

    with load(fresh, models) as answers:
        for number in range(100):
            save(fresh, **numbered(upstream, number))
            reload(fresh)
            goes_on(answers)

    assert {(200, True)} == {(answer.status, answer.complete) for answer in answers}
    assert {WHOLE, FIRST + FINISH + DONE} == {answer.body for answer in answers}
    assert {"ok"} == {row["outcome"] for row in fresh.log()}
    seen = [each for name in models for each in upstream.requests(name)]
    assert [] == [each for each in seen if each.header("x-version") != each.json()["user"]]
    assert {f"v{number}" for number in range(100)} <= {each.header("x-version") for each in seen}
    assert until(lambda: descriptors(fresh) <= before + 5, within=10), (before, descriptors(fresh))


# --- several processes


def test_every_worker_takes_it_over(start: Start, upstream: Upstream, model: str) -> None:
    relay = start(server={"workers": 2}, **numbered(upstream, 1))
    upstream.play(model, FINE)

    def served() -> set[str | None]:
        return {asks(relay, upstream, model) for _ in range(12)}

    save(relay, **numbered(upstream, 2))
    assert until(lambda: served() == {"v2"}, within=SAVED_WITHIN)
    save(relay, **numbered(upstream, 3))
    told = applied(relay)
    relay.signal(signal.SIGHUP)
    assert until(lambda: applied(relay) == told + 2)
    assert {"v3"} == served()


def test_a_worker_that_takes_anothers_place_begins_with_what_is_in_force(
    start: Start, upstream: Upstream, model: str
) -> None:
    relay = start(server={"workers": 2}, **numbered(upstream, 1))
    upstream.play(model, FINE)
    save(relay, **numbered(upstream, 2))
    assert until(lambda: applied(relay) == 2)
    children = Path(f"/proc/{relay.pid}/task/{relay.pid}/children")
    before = set(children.read_text().split())

    os.kill(int(min(before)), signal.SIGKILL)

    assert until(lambda: len(set(children.read_text().split()) - before) == 1)
    assert until(relay.answers)
    assert {"v2"} == {asks(relay, upstream, model) for _ in range(24)}
    assert 0 == relay.stop()
