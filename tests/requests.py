"""A request's head and body as they stand once they are read."""

from relay.ask import Arrival, Ask, arrive, read, read_head
from relay.endpoints import ENDPOINTS, Endpoint
from relay.exchange import Header

CHAT, COMPLETIONS, RESPONSES, EMBEDDINGS = ENDPOINTS[:4]


def arrival(*headers: Header, endpoint: Endpoint = CHAT, deployment: str | None = None) -> Arrival:
    return arrive(read_head(endpoint, deployment, b"", headers, "127.0.0.1"))


def ask(body: bytes, endpoint: Endpoint = CHAT) -> Ask:
    return read(arrival(endpoint=endpoint).head, body, 1 << 20)
