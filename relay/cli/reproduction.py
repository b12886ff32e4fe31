"""reproduction: a logged request as a program that makes it again. Pure.

Where and as whom comes from OPENAI_BASE_URL and OPENAI_API_KEY, as in the OpenAI clients; no program holds a key.
"""

import re
from collections.abc import Callable
from pprint import pformat
from typing import Any

from relay.endpoints import TEXT
from relay.record import Record

Program = Callable[[Record, str, dict[str, Any]], str]

_METHODS = {
    "/chat/completions": "chat.completions.create",
    "/completions": "completions.create",
    "/responses": "responses.create",
    "/embeddings": "embeddings.create",
    "/moderations": "moderations.create",
    "/images/generations": "images.generate",
}
# What the client's methods take by name; everything else is passed in extra_body, which takes whatever it is.
_NAMED = ("model", "messages", "prompt", "input", "stream")


def curl(record: Record, body: str, value: dict[str, Any]) -> str:
    """A shell command with the very bytes of the body; no line of JSON can end the here-document."""
    flags = "-sS -N" if value.get("stream") else "-sS"
    return (
        f'curl {flags} "$OPENAI_BASE_URL{_path(record)}" \\\n'
        f'  -H "Authorization: Bearer $OPENAI_API_KEY" \\\n'
        f"  -H 'Content-Type: application/json' \\\n"
        f"  --data-binary @- <<'RELAY'\n{body}\nRELAY"
    )


def python(record: Record, _body: str, value: dict[str, Any]) -> str:
    """A program of the OpenAI client."""
    method = _METHODS.get(_path(record))
    if method is None:
        call = f"client.post({_path(record)!r}, cast_to=object, body=BODY)"
    else:
        named = "".join(f"{name}=BODY.pop({name!r}), " for name in _NAMED if name in value)
        call = f"client.{method}({named}extra_body=BODY)"
    show = "for event in answer:\n    print(event)" if value.get("stream") else "print(answer)"
    return f"from openai import OpenAI\n\nBODY = {_literal(value)}\n\nclient = OpenAI()\nanswer = {call}\n{show}"


def pytest(record: Record, _body: str, value: dict[str, Any]) -> str:
    """A test that the request is answered with the status that it was answered with."""
    name = re.sub(r"\W", "_", record.id)
    return (
        f"import os\n\nimport httpx\n\nBODY = {_literal(value)}\n\n\n"
        f"def test_{name}() -> None:\n"
        f'    url = os.environ["OPENAI_BASE_URL"] + {_path(record)!r}\n'
        f'    headers = {{"Authorization": "Bearer " + os.environ["OPENAI_API_KEY"]}}\n\n'
        f"    answer = httpx.post(url, headers=headers, json=BODY, timeout=600)\n\n"
        f"    assert {record.status} == answer.status_code, answer.text"
    )


PROGRAMS: dict[str, Program] = {"curl": curl, "python": python, "pytest": pytest}


def _path(record: Record) -> str:
    if record.endpoint == TEXT.name:  # what is kept of it is the chat that it was made into
        return TEXT.path.decode()
    return record.endpoint.removeprefix("/v1")


def _literal(value: dict[str, Any]) -> str:
    return pformat(value, width=100, sort_dicts=False)
