"""config: config.yaml, read whole or refused whole, as frozen values. What is wrong is told by file, line and field."""

from relay.config.document import ConfigFault, Fault
from relay.config.file import faults, find, load, stamp
from relay.config.restart import AT_START, restarts
from relay.config.secret import Secret
from relay.config.upstreams import ECHO
from relay.config.values import Config, Kind, Log, Queue, Retry, Server, Stamp, StaticKey, Upstream

__all__ = [
    "AT_START",
    "ECHO",
    "Config",
    "ConfigFault",
    "Fault",
    "Kind",
    "Log",
    "Queue",
    "Retry",
    "Secret",
    "Server",
    "Stamp",
    "StaticKey",
    "Upstream",
    "faults",
    "find",
    "load",
    "restarts",
    "stamp",
]
