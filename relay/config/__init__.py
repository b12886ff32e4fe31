"""config: config.yaml, read whole or refused whole, as frozen values. What is wrong is told by file, line and field."""

from relay.config.document import ConfigFault, Fault
from relay.config.file import faults, find, load
from relay.config.secret import Secret
from relay.config.values import Config, Kind, Log, Server, StaticKey, Upstream

__all__ = [
    "Config",
    "ConfigFault",
    "Fault",
    "Kind",
    "Log",
    "Secret",
    "Server",
    "StaticKey",
    "Upstream",
    "faults",
    "find",
    "load",
]
