"""restart: which fields of the configuration a running relay cannot take over. Pure; the one list of them."""

from operator import attrgetter

from relay.config.values import Config

# Bound, opened or handed to other processes once, at the start. Everything else a running relay swaps as a whole.
AT_START = (
    "server.host",
    "server.port",
    "server.workers",
    "server.keep_alive",
    "server.drain_timeout",
    "store",
    "counters",
    "log.retention",
)


def restarts(old: Config, new: Config) -> tuple[str, ...]:
    """The fields in which `new` differs from `old` and which stay as in `old` until the next start."""
    return tuple(field for field in AT_START if attrgetter(field)(old) != attrgetter(field)(new))
