"""What makes requests one call: who asks, and what is said."""

from pathlib import Path

import pytest

from relay.call.account import Account
from relay.call.calls import KEPT, Calls
from relay.exchange import Header
from relay.journal import Journal
from relay.keys import Key
from tests.requests import CHAT, EMBEDDINGS, account, ask, begun

BODY = b'{"model":"m"}'


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(tmp_path)


def noted(journal: Journal, body: bytes = BODY, key: str = "one", *headers: Header, endpoint: object = CHAT) -> Account:
    head = begun(*headers, endpoint=EMBEDDINGS if endpoint is EMBEDDINGS else CHAT)
    return account(journal, head, ask=ask(body), key=Key(id=key, name=key, digest=b""))


def test_another_try_is_of_the_call_that_failed(journal: Journal) -> None:
    calls = Calls()
    first, second, third = noted(journal), noted(journal), noted(journal)

    calls.failed(first)
    second.call = calls.first(second)
    calls.failed(second)

    assert [first.id, first.id] == [second.call, calls.first(third)]


def test_what_did_not_fail_is_not_made_again(journal: Journal) -> None:
    assert Calls().first(noted(journal)) is None


def test_somebody_elses_or_something_else_is_another_call(journal: Journal) -> None:
    calls = Calls()
    calls.failed(noted(journal))

    others = [
        noted(journal, b'{"model":"n"}'),
        noted(journal, BODY, "two"),
        noted(journal, BODY, "one", (b"user-agent", b"another")),
        noted(journal, endpoint=EMBEDDINGS),
    ]

    assert [None] * 4 == [calls.first(each) for each in others]


def test_only_so_many_are_remembered_the_latest(journal: Journal) -> None:
    calls = Calls()
    bodies = [b'{"model":"m","n":%d}' % number for number in range(KEPT + 1)]
    for body in bodies:
        calls.failed(noted(journal, body))

    assert KEPT == len(calls)
    assert calls.first(noted(journal, bodies[0])) is None
    assert calls.first(noted(journal, bodies[-1])) is not None
