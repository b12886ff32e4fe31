"""Which paths are relayed: these, and no other."""

import pytest

from relay.endpoints import ENDPOINTS, TEXT, Endpoint, match

BY_NAME = {endpoint.name: endpoint for endpoint in ENDPOINTS}


@pytest.mark.parametrize("endpoint", ENDPOINTS, ids=lambda endpoint: endpoint.name)
def test_every_spelling_of_a_path(endpoint: Endpoint) -> None:
    assert (endpoint, None) == match(endpoint.name.encode())
    assert (endpoint, None) == match(endpoint.path)
    assert (endpoint, None) == match(b"/openai/v1" + endpoint.path)
    assert (endpoint, "gpt-4.1") == match(b"/openai/deployments/gpt-4.1" + endpoint.path)
    assert endpoint.name == "/v1" + endpoint.path.decode()


@pytest.mark.parametrize(
    ("written", "alias"),
    [
        (b"llama3%3A8b", "llama3:8b"),
        (b"llama3:8b", "llama3:8b"),
        (b"m-a%20b", "m-a b"),
        (b"org%2Fmodel%2fx", "org/model/x"),
        (b"mod%C3%A8le", "modèle"),
        (b"a%252Fb", "a%2Fb"),
        (b"a+b", "a+b"),
        (b"%2e5", ".5"),
    ],
)
def test_an_alias_is_percent_encoded(written: bytes, alias: str) -> None:
    assert (BY_NAME["/v1/embeddings"], alias) == match(b"/openai/deployments/" + written + b"/embeddings")


@pytest.mark.parametrize(
    "path",
    [
        *(b"", b"/", b"*", b"/v1", b"/v1/", b"/v1/models", b"/v1/chat", b"/chat/stream", b"/v2/chat/completions"),
        *(b"/v1/chat/completions/", b"//v1/chat/completions", b"/v1//chat/completions", b"/V1/chat/completions"),
        *(b"/v1/chat%2fcompletions", b"/v1/./chat/completions", b"/v1/x/../chat/completions", b"/v1/v1/embeddings"),
        *(b"http://host/v1/embeddings", b"/v1/chat/completions;x", b"/v1/chat/completions\xff", b"\xff"),
        *(b"/openai/deployments/completions", b"/openai/deployments//chat/completions", b"/openai/embeddings"),
        *(b"/openai/deployments/a", b"/openai/deployments/a/", b"/openai/deployments/a/b/embeddings"),
        *(b"/openai/deployments/a%/embeddings", b"/openai/deployments/a%2/embeddings"),
        *(b"/openai/deployments/a%2g/embeddings", b"/openai/deployments/%C3/embeddings"),
        *(b"/openai/deployments/%ED%A0%80/embeddings", b"/openai/deployments/%2E%2e/embeddings"),
        *(b"/openai/deployments/a%2F..%2fb/embeddings", b"/openai/deployments/a\\b/embeddings"),
        *(b"/openai/deployments%2Fa/embeddings", b"/openai/deployments/a%2Fembeddings"),
        *(b"/openai/deployments/\xc3\xa9/embeddings", b"/openai/v1/deployments/a/embeddings"),
        b"/openai/deployments/a/v1/embeddings",
    ],
)
def test_no_other_path_is_relayed(path: bytes) -> None:
    assert match(path) is None


def test_what_streams_ends_properly() -> None:
    finishing = {name for name, endpoint in BY_NAME.items() if endpoint.finishes}
    asking = {name for name, endpoint in BY_NAME.items() if endpoint.usage_option}

    assert {"/v1/chat/completions", "/v1/completions", "/v1/responses"} == finishing
    assert {"/v1/chat/completions", "/v1/completions"} == asking


def test_the_text_route_is_a_chat() -> None:
    chat = BY_NAME["/v1/chat/completions"]

    assert (chat.path, chat.usage_option, chat.finishes) == (TEXT.path, TEXT.usage_option, TEXT.finishes)
