"""LangChain's own standard suite, run by its ChatOpenAI and OpenAIEmbeddings through a real relay against the echo model."""

from typing import Any

import pytest
from langchain_core.embeddings import Embeddings
from langchain_core.language_models import BaseChatModel
from langchain_openai import ChatOpenAI, OpenAIEmbeddings
from langchain_tests.integration_tests import ChatModelIntegrationTests, EmbeddingsIntegrationTests
from pydantic import SecretStr

from tests.process import KEY, RelayProcess


class TestChat(ChatModelIntegrationTests):
    responses = False

    @pytest.fixture(autouse=True)
    def _relay(self, relay: RelayProcess) -> None:
        self.relay = relay

    @property
    def chat_model_class(self) -> type[BaseChatModel]:
        return ChatOpenAI

    @property
    def chat_model_params(self) -> dict[str, Any]:
        return {"model": "echo", "base_url": f"http://127.0.0.1:{self.relay.port}/v1", "api_key": KEY, "use_responses_api": self.responses, "stream_usage": True}

    @property
    def supports_json_mode(self) -> bool:
        return True

    supports_image_inputs = supports_image_tool_message = supports_pdf_inputs = supports_audio_inputs = True
    supports_image_urls = True
    supports_anthropic_inputs = True
    supports_pdf_tool_message = True
    supported_usage_metadata_details = {"invoke": [], "stream": []}

    @property
    def model_override_value(self): return "fast"

class TestResponses(TestChat):
    responses = True
