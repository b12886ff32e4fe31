"""A request's head, body and account as they stand once they are read."""

from typing import Any

from relay.ask import Ask, Head, read, read_head
from relay.call.account import Account
from relay.call.setup import Setup
from relay.endpoints import ENDPOINTS, Endpoint
from relay.exchange import Header
from relay.journal import Blotter, Journal
from relay.pricing import Rate
from relay.routing import Routes, Target

CHAT, COMPLETIONS, RESPONSES, EMBEDDINGS = ENDPOINTS[:4]


def begun(*headers: Header, endpoint: Endpoint = CHAT, deployment: str | None = None) -> Head:
    return read_head(endpoint, deployment, b"", headers, "127.0.0.1")


def ask(body: bytes, endpoint: Endpoint = CHAT) -> Ask:
    return read(begun(endpoint=endpoint), body, 1 << 20)


def priced(target: Target, rate: Rate | None) -> Setup:
    """A setup in which `target` has that price."""
    return Setup(Routes({}), rates={} if rate is None else {target.name: rate})


def account(journal: Journal | Blotter, of: Head | None = None, setup: Setup | None = None, **noted: Any) -> Account:
    """An account in which some things are noted already."""
    found = Account(journal).open(of or begun(), setup or Setup(Routes({})))
    for name, value in noted.items():
        setattr(found, name, value)
    return found
