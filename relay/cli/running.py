"""running: what the relay of this configuration says of itself while it runs. It is asked as any probe asks it."""

from http.client import HTTPConnection, HTTPException

import msgspec

from relay.call.readiness import Readiness
from relay.config import Server

_PATIENCE = 1.0  # seconds
_ANYWHERE = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104  # who listens everywhere listens here


def ask(server: Server) -> Readiness | None:
    """What /readyz says at the configured place; None where no relay answers there."""
    connection = HTTPConnection(_ANYWHERE.get(server.host, server.host), server.port, timeout=_PATIENCE)
    try:
        connection.request("GET", "/readyz")
        return msgspec.json.decode(connection.getresponse().read(), type=Readiness)
    except (OSError, HTTPException, UnicodeError, msgspec.DecodeError):  # nobody, or somebody else
        return None
    finally:
        connection.close()
