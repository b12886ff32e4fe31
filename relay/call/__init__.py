"""The story of one request: who are you, what do you want, who can serve it, may you spend it, here it is, the bill.

It is plain async and knows no server: it writes to a Sink. Every line is a module. A refusal is an exception, raised
where it is discovered and answered here.
"""

import asyncio
import time
from dataclasses import dataclass, field

from relay import ask as asking
from relay.call.account import Account, outcome_of
from relay.call.calls import Calls
from relay.call.choice import choose
from relay.call.delivery import Delivery, deliver
from relay.call.setup import Setup
from relay.call.sink import Sink
from relay.call.tries import Tries
from relay.counters import Counters, Free
from relay.errors import InternalError, Overloaded, RelayError
from relay.exchange import lines
from relay.health import Health, Policy
from relay.journal import Journal
from relay.keys import Keyring, authenticate


@dataclass(slots=True)
class Relay:
    """What all requests share. `setup` and `keyring` are immutable and swapped whole."""

    setup: Setup
    keyring: Keyring
    counters: Counters
    journal: Journal
    health: Health = field(default_factory=lambda: Health(Policy()))
    calls: Calls = field(default_factory=Calls)
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


async def serve(  # noqa: C901, PLR0912  # the whole story, in the order in which it happens
    relay: Relay, account: Account, body: bytes, sink: Sink
) -> None:
    """All that happens to a request whose body is here. It ends with its answer sent and its record written.

    Cancel it when the client leaves: the upstream's connection closes at once, and the record says so.
    """
    tries: Tries | None = None
    delivery: Delivery | None = None
    try:
        tries = begin(relay, account, body)
        if account.lease.waits:
            await tries.enter()
        while True:
            try:
                # here it is
                opened = await tries.ask()
                step = tries.answered(opened)
                if step is None:
                    delivery = deliver(account, opened, sink)
                    if delivery is None and not tries.doubted:
                        return
                    if delivery is not None and opened.reply.whole is None:
                        await opened.reply.pump(delivery.take, delivery.drained, delivery.chunk)
                    tries.ended()
                    if delivery is None or delivery.fault is None:
                        return
                    raise delivery.fault
            except RelayError as fault:
                step = tries.failed(fault, delivery is not None and delivery.begun)
                if step is None:
                    raise
                _let_go(fault)
                delivery = None
            await tries.turn_to(step)
    except RelayError as fault:
        end(account, delivery, fault, sink)
    except asyncio.CancelledError:
        leave(account, tries, delivery, sink)
        raise
    except Exception:
        # A fault of ours that nobody foresaw: the client gets a proper error, the face logs the rest.
        end(account, delivery, InternalError("The relay failed to handle this request; its log has the details."), sink)
        raise
    finally:
        if account.outcome != "ok":
            conclude(relay, account, tries)


def begin(relay: Relay, account: Account, body: bytes) -> Tries:
    """All that is decided before an upstream is asked. Raises every refusal that is the caller's fault."""
    head, setup = account.head, account.setup
    # what do you want?
    account.ask = ask = asking.read(head, body, setup.max_body)
    if head.retry:
        account.call = relay.calls.first(account)
    # who can serve it, and may you ask for it?
    account.plan = plan = choose(account, ask, relay.health)
    # may you spend it?
    if account.key is not None:
        account.lease = relay.counters.admit(account.key, account.at / 1e6)
    account.asked_at = now = time.perf_counter_ns()
    patience = head.patience if head.patience < setup.deadline else setup.deadline  # noqa: FURB136  # min() takes longer
    return Tries(account, ask, relay.health, plan.targets[0], now, now / 1e9 + patience)


def leave(account: Account, tries: Tries | None, delivery: Delivery | None, sink: Sink) -> None:
    """End a request that was cancelled: its client has left, or the relay shuts down."""
    if tries is not None:
        tries.ended()
    if sink.gone:
        account.settle("client_disconnect", "the client left")
    else:
        end(account, delivery, Overloaded("The relay is shutting down; send the request again."), sink)


def end(account: Account, delivery: Delivery | None, fault: RelayError, sink: Sink) -> None:
    """End a request by a fault: inside the answer that has begun, else with an error of its own."""
    _let_go(fault)
    if delivery is None or not delivery.fail(fault):
        refuse(account, fault, sink)


def conclude(relay: Relay, account: Account, tries: Tries | None) -> None:
    """What is to be done after a request that was not answered as it should be."""
    relay.calls.failed(account)
    if tries is not None:
        tries.over()


def refuse(account: Account, fault: RelayError, sink: Sink) -> None:
    """Answer with an error of the relay's own, and record it first."""
    account.hint = fault.should_retry, fault.retry_after
    body = fault.body(account.id)
    if fault.read:
        account.lease = Free(fault.read)
    account.status = fault.status
    account.content_type = "application/json"
    account.sends(body)
    account.settle(outcome_of(fault), fault.message)
    told = account.marks() + lines([(b"content-type", b"application/json"), *fault.headers()])
    sink.answer(fault.status, told, body)


def _let_go(fault: RelayError) -> None:
    """Forget the calls that the fault came through, where it is known as well.

    Two that know each other, and with them all that the request said, are left to the garbage collector, which comes
    too seldom for that.
    """
    fault.__traceback__ = fault.__cause__ = fault.__context__ = None
