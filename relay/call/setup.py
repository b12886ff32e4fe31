"""Setup: one version of all that a request reads of the configuration. Immutable, and swapped whole.

A request keeps the one that was in force when its head came, whatever happens to the configuration while it runs.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from relay.pricing import Rate
from relay.record import Keep
from relay.routing import Routes
from relay.upstream.door import Upstream


@dataclass(frozen=True, slots=True)
class Setup:
    """`rates` by UPSTREAM/MODEL; `max_body` in bytes, `heartbeat` in seconds of silence, None for none.

    `retries`: how often the same target may be tried again for one request; `deadline`: seconds for all tries together.
    """

    routes: Routes
    upstreams: Mapping[str, Upstream] = field(default_factory=dict)
    rates: Mapping[str, Rate] = field(default_factory=dict)
    bodies: Keep = "full"
    max_body: int = 64 << 20
    heartbeat: float | None = None
    retries: int = 1
    deadline: float = 600.0
