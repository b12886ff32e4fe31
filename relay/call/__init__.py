"""The story of one request: who are you, what do you want, who can serve it, may you spend it, here it is, the bill.

It is plain async and knows no server: it writes to a Sink. Every line is a module. A refusal is an exception, raised
where it is discovered and answered here.
"""

import asyncio
import time
from dataclasses import dataclass

from relay import ask as asking
from relay.call.account import Account
from relay.call.delivery import Delivery, deliver, outcome_of
from relay.call.setup import Setup
from relay.call.sink import Sink
from relay.counters import Counters
from relay.errors import InternalError, Overloaded, RelayError
from relay.exchange import lines
from relay.journal import Journal
from relay.keys import Keyring, authenticate
from relay.upstream.door import open_first


@dataclass(slots=True)
class Relay:
    """What all requests share. `setup` and `keyring` are immutable and swapped whole."""

    setup: Setup
    keyring: Keyring
    counters: Counters
    journal: Journal
    draining: bool = False


def admit(relay: Relay, account: Account) -> None:
    """Who are you? Asked when the head is in, before a byte of the body is read.

    Raises Unauthorized, or BadRequest for two credentials that differ or an unknown wish.
    """
    head = account.head
    if head.credential is None:
        raise asking.ambiguous()
    account.key = key = authenticate(relay.keyring, head.credential, account.at / 1e6)
    account.keep = key.log or account.setup.bodies
    if head.log is not None:
        account.keep = asking.less(account.keep, head.log)


async def serve(relay: Relay, account: Account, body: bytes, sink: Sink) -> None:
    """All that happens to a request whose body is here. It ends with its answer sent and its record written.

    Cancel it when the client leaves: the upstream's connection closes at once, and the record says so.
    """
    delivery: Delivery | None = None
    setup = account.setup
    try:
        # what do you want?
        account.ask = ask = asking.read(account.head, body, setup.max_body)
        model = ask.model or asking.default(setup.routes.default_model)
        # who can serve it, and may you ask for it?
        key = account.key
        plan = setup.routes.plan(model, key.models if key else None)
        account.target = target = plan.targets[0]
        if setup.rates:
            account.rate = setup.rates.get(target.name)
        # may you spend it?
        if key is not None:
            account.lease = relay.counters.admit(key, account.at / 1e6)
        # here it is
        account.asked_at = time.perf_counter_ns()
        opened = await open_first(plan, account.head, ask, setup.upstreams, account.tries)
        account.edits = opened.edited.names
        named = model if plan.alias.response_model == "alias" else None
        delivery = deliver(account, opened, sink, named, setup.heartbeat)
        if opened.reply.whole is None:
            await opened.reply.pump(delivery.take, delivery.drained)
        else:
            delivery.take(opened.reply.whole, True)
        if delivery.fault is not None:
            await delivery.drained()  # raises it
    except RelayError as fault:
        end(account, delivery, fault, sink)
    except asyncio.CancelledError:
        if sink.gone:
            account.settle("client_disconnect", "the client left")
        else:
            end(account, delivery, Overloaded("The relay is shutting down; send the request again."), sink)
        raise
    except Exception:
        # A fault of ours that nobody foresaw: the client gets a proper error, the face logs the rest.
        end(account, delivery, InternalError("The relay failed to handle this request; its log has the details."), sink)
        raise


def end(account: Account, delivery: Delivery | None, fault: RelayError, sink: Sink) -> None:
    """End a request by a fault: inside the answer that has begun, else with an error of its own."""
    if delivery is None or not delivery.fail(fault):
        refuse(account, fault, sink)


def refuse(account: Account, fault: RelayError, sink: Sink) -> None:
    """Answer with an error of the relay's own, and record it first."""
    body = fault.body(account.id)
    account.status = fault.status
    account.content_type = "application/json"
    account.sends(body)
    account.settle(outcome_of(fault), fault.message)
    told = account.marks() + lines([(b"content-type", b"application/json"), *fault.headers()])
    sink.answer(fault.status, told, body)
