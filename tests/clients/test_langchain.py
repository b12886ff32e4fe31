"""LangChain's own standard suites, run by ChatOpenAI and OpenAIEmbeddings through a real relay against the echo model.

Left to itself LangChain keeps its connections for as long as the process lives, which ties all async tests to one event
loop; here every test has connections of its own, and ends them.
"""

import base64
from collections.abc import AsyncIterator
from typing import Any

import pytest
from langchain_core.embeddings import Embeddings
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_openai import ChatOpenAI, OpenAIEmbeddings
from langchain_tests.integration_tests import ChatModelIntegrationTests, EmbeddingsIntegrationTests
from openai import DefaultAsyncHttpxClient, DefaultHttpxClient
from typing_extensions import override  # typing has it from 3.12

from relay.upstream.echo.images import pixel
from tests.process import KEY, RelayProcess, Start

pytestmark = pytest.mark.allow_hosts(["127.0.0.1"])  # nothing is fetched from elsewhere, though the suite could
PICTURE = base64.b64encode(pixel()).decode()


@pytest.fixture(scope="module")
def relay(start: Start) -> RelayProcess:
    """With an alias that answers by its own name, as the suite expects of a model that was asked for by name."""
    return start(models={"alias": {"targets": [{"to": "echo/served"}], "response_model": "alias"}})


@pytest.fixture
async def settings(relay: RelayProcess) -> AsyncIterator[dict[str, Any]]:
    """What ChatOpenAI and OpenAIEmbeddings take alike."""
    with DefaultHttpxClient() as client:
        async with DefaultAsyncHttpxClient() as async_client:
            yield {
                "model": "echo",
                "base_url": f"http://127.0.0.1:{relay.port}/v1",
                "api_key": KEY,
                "http_client": client,
                "http_async_client": async_client,
            }


# langchain-openai dumps the SDK's ContentDoneEvent, whose declared type of `parsed` has lost its parameter
@pytest.mark.filterwarnings(r"ignore:(?s)Pydantic serializer warnings.*field_name='parsed':UserWarning:pydantic")
# the suite hands over a Pydantic V1 class on purpose
@pytest.mark.filterwarnings("ignore:Received a Pydantic BaseModel V1 schema:UserWarning:langchain_openai")
class TestChat(ChatModelIntegrationTests):
    """The suite over /v1/chat/completions.

    Off, as by default: JSON mode, where the suite names the fields in prose, which an echo does not understand; and
    images, audio and PDF, which the suite fetches from the network (the pictures below are made here instead).
    """

    through_responses = False

    @pytest.fixture(autouse=True)
    def _through(self, settings: dict[str, Any]) -> None:
        self.settings = settings

    @property
    @override
    def chat_model_class(self) -> type[BaseChatModel]:
        return ChatOpenAI

    @property
    @override
    def chat_model_params(self) -> dict[str, Any]:
        # a base_url turns stream_usage off, and the suite wants to see usage
        return {**self.settings, "use_responses_api": self.through_responses, "stream_usage": True}

    @property
    @override
    def model_override_value(self) -> str:
        return "alias"

    @pytest.mark.xfail(reason="measures time with pytest-benchmark against a recorded cassette", run=False)
    @override
    def test_stream_time(self) -> None:
        """Not run."""


class TestResponses(TestChat):
    """The same over /v1/responses."""

    through_responses = True


class TestEmbeddings(EmbeddingsIntegrationTests):
    """The suite over /v1/embeddings."""

    @pytest.fixture(autouse=True)
    def _through(self, settings: dict[str, Any]) -> None:
        self.settings = settings

    @property
    @override
    def embeddings_class(self) -> type[Embeddings]:
        return OpenAIEmbeddings

    @property
    @override
    def embedding_model_params(self) -> dict[str, Any]:
        # the check would download a vocabulary to count tokens, and send numbers in place of texts
        return {**self.settings, "check_embedding_ctx_length": False}


PICTURES: dict[str, dict[str, Any]] = {
    "of OpenAI": {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PICTURE}"}},
    "of LangChain": {"type": "image", "base64": PICTURE, "mime_type": "image/png"},
    "elsewhere": {"type": "image", "url": "https://example.com/cat.png"},
}


@pytest.mark.parametrize("responses", [False, True])
@pytest.mark.parametrize("picture", PICTURES)
def test_a_picture_reaches_the_model(settings: dict[str, Any], picture: str, responses: bool) -> None:
    model = ChatOpenAI(**settings, use_responses_api=responses)
    asked = HumanMessage(content=[{"type": "text", "text": "What is this?"}, PICTURES[picture]])

    assert "What is this? [image]" == model.invoke([asked]).text


@pytest.mark.parametrize("responses", [False, True])
@pytest.mark.parametrize("picture", ["of OpenAI", "of LangChain"])
def test_a_picture_that_a_tool_made_reaches_the_model(settings: dict[str, Any], picture: str, responses: bool) -> None:
    model = ChatOpenAI(**settings, use_responses_api=responses)
    call = AIMessage([], tool_calls=[{"type": "tool_call", "id": "1", "name": "draw", "args": {}}])

    answer = model.invoke([HumanMessage("Draw!"), call, ToolMessage([PICTURES[picture]], tool_call_id="1")])

    assert "[image]" == answer.text


def test_usage_is_logged_though_langchain_does_not_ask_for_it(relay: RelayProcess, settings: dict[str, Any]) -> None:
    chunks = list(ChatOpenAI(**settings).stream("usage nobody asked for", model="alias"))

    assert "usage nobody asked for" == "".join(chunk.text for chunk in chunks)
    assert [None] * len(chunks) == [chunk.usage_metadata for chunk in chunks]
    row = relay.log()[0]
    assert ("alias", "served", True, "ok", 4, 4) == tuple(
        row[name] for name in ("alias", "model", "stream", "outcome", "input_tokens", "output_tokens")
    )
