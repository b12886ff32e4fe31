"""A program for the 1.x line of the OpenAI SDK, run by a Python that has it. It prints what it got, as JSON."""

import json
import sys

import openai

client = openai.OpenAI(max_retries=0)

chat = client.chat.completions.create(model="alias", messages=[{"role": "user", "content": "Good morning"}])

stream = client.chat.completions.create(
    model="alias", messages=[{"role": "user", "content": "one two three"}], stream=True
)
pieces = [chunk.choices[0].delta.content or "" for chunk in stream]

tools = client.chat.completions.create(
    model="alias",
    messages=[{"role": "user", "content": "get_weather"}],
    tools=[{"type": "function", "function": {"name": "get_weather", "parameters": {"type": "object"}}}],
)
calls = tools.choices[0].message.tool_calls or []

try:
    client.with_options(api_key="sk-wrong").models.list()
    error = None
except openai.AuthenticationError as refusal:
    error = [refusal.status_code, refusal.code]

json.dump(
    {
        "chat": chat.choices[0].message.content,
        "stream": pieces,
        "tools": [call.function.name for call in calls if call.type == "function"],
        "error": error,
    },
    sys.stdout,
)
