"""All that is ever changed: the bytes that an upstream gets, and the bytes that a client gets."""

import json

import pytest

from relay.edits import edit, renamed, renamed_event
from relay.endpoints import Endpoint
from relay.errors import BadRequest
from relay.exchange import joined
from relay.routing import Alias, Target
from tests.requests import CHAT, COMPLETIONS, EMBEDDINGS, RESPONSES, ask

UP = Target("up", "real")
ALIAS = Alias("fast", ((UP,),))

MODELS = {
    "another name": (b'{"model": "fast", "x":1e-7}', b'{"model": "real", "x":1e-7}', ("model",)),
    "its own name": (b'{"model" : "real" }', b'{"model" : "real" }', ()),
    "its own name, and as a value": (b'{"model": "real", "x": "model"}', b'{"model": "real", "x": "model"}', ()),
    "its own name, and deeper": (b'{"model":"real", "x":{"model":1}}', b'{"model":"real", "x":{"model":1}}', ()),
    "twice, at last its own name": (b'{"model":"dear","x":1,"model":"real"}', b'{"model":"real","x":1}', ("model",)),
    "its own name, and by escape another": (b'{"mod\\u0065l":"dear","x":1,"model":"real"}',
                                            b'{"model":"real","x":1}', ("model",)),
    "a stream twice": (b'{"model":"real","stream":true,"stream":false}', b'{"model":"real","stream":false}',
                       ("stream",)),
    "no name": (b'{ "input":[]}', b'{"model":"real", "input":[]}', ("model",)),
    "an escaped name": (b'{"model":"\\u0066ast"}', b'{"model":"real"}', ("model",)),
    "nulls and unknown fields": (b'{"model":"fast","a":null,"\\u003c":[ ]}',
                                 b'{"model":"real","a":null,"\\u003c":[ ]}', ("model",)),
}  # fmt: skip


@pytest.mark.parametrize("case", MODELS)
def test_the_model(case: str) -> None:
    body, expected, names = MODELS[case]

    edited = edit(ask(body), CHAT, ALIAS, UP, True)

    assert (expected, names, False) == (edited.body, edited.names, edited.asks_usage)


def test_a_body_with_nothing_to_change_is_the_same_object() -> None:
    asked = ask(b'{"model":"real"}')

    assert asked.body is edit(asked, CHAT, ALIAS, UP, True).body


def test_a_model_of_any_spelling_is_written_as_json() -> None:
    target = Target("up", 'a"\\你')

    edited = edit(ask(b'{"model":"fast"}'), CHAT, ALIAS, target, True)

    assert {"model": 'a"\\你'} == json.loads(joined(edited.body))


LONG = {
    "the model alone": (b'{"model": "fast", "m": "%b"}', b'{"model": "real", "m": "%b"}'),
    "behind the long one": (b'{"m":"%b","model":"fast"}', b'{"m":"%b","model":"real"}'),
    "a stream": (b'{"model":"fast","m":"%b","stream":true}',
                 b'{"stream_options":{"include_usage":true},"model":"real","m":"%b","stream":true}'),
}  # fmt: skip


@pytest.mark.parametrize("case", LONG)
def test_a_long_body_goes_on_in_pieces_that_are_no_copies(case: str) -> None:
    asked, expected = LONG[case]
    words = b"x" * 20_000

    edited = edit(ask(asked % words), CHAT, ALIAS, UP, True)

    assert expected % words == joined(edited.body)
    assert isinstance(edited.body, tuple)
    assert not [each for each in edited.body if isinstance(each, bytes) and words in each]


def test_a_long_body_in_doubt_is_made_anew() -> None:
    edited = edit(ask(b'{"model":"x","m":"%b","model":"fast"}' % (b"x" * 20_000)), CHAT, ALIAS, UP, True)

    assert b'{"model":"real","m":"%b"}' % (b"x" * 20_000) == edited.body


def test_a_long_body_with_nothing_to_change_is_the_same_object() -> None:
    asked = ask(b'{"model":"real","m":"%b"}' % (b"x" * 20_000))

    assert asked.body is edit(asked, CHAT, ALIAS, UP, True).body


STREAM = b'{"model":"real","stream":true%s}'
OPTIONS = b',"stream_options":'
ASKED = b'{"stream_options":{"include_usage":true},"model":"real","stream":true}'
USAGE: dict[str, tuple[bytes, Endpoint, bytes | None]] = {
    "not asked for": (STREAM % b"", CHAT, ASKED),
    "not asked for, completions": (STREAM % b"", COMPLETIONS, ASKED),
    "null": (STREAM % (OPTIONS + b"null"), CHAT, STREAM % (OPTIONS + b'{"include_usage":true}')),
    "empty": (STREAM % (OPTIONS + b"{ }"), CHAT, STREAM % (OPTIONS + b'{"include_usage":true }')),
    "others kept": (STREAM % (OPTIONS + b'{ "x": 1.0}'), CHAT,
                    STREAM % (OPTIONS + b'{"include_usage":true, "x": 1.0}')),
    "false": (STREAM % (OPTIONS + b'{"include_usage": false}'), CHAT, STREAM % (OPTIONS + b'{"include_usage": true}')),
    "include null": (STREAM % (OPTIONS + b'{"include_usage":null}'), CHAT,
                     STREAM % (OPTIONS + b'{"include_usage":true}')),
    "asked for": (STREAM % (OPTIONS + b'{"include_usage": true}'), CHAT, None),
    "no stream": (b'{"model":"real","stream":false}', CHAT, None),
    "no stream, but options": (b'{"model":"real","stream_options":7}', CHAT, None),
    "responses say it anyway": (STREAM % b"", RESPONSES, None),
    "embeddings have no stream": (STREAM % b"", EMBEDDINGS, None),
}  # fmt: skip


@pytest.mark.parametrize("case", USAGE)
def test_usage_is_asked_for(case: str) -> None:
    body, endpoint, expected = USAGE[case]

    edited = edit(ask(body, endpoint), endpoint, ALIAS, UP, True)

    assert (expected or body, expected is not None) == (edited.body, edited.asks_usage)
    assert (() if expected is None else ("stream_options",)) == edited.names


def test_usage_is_not_asked_of_who_refuses_it() -> None:
    edited = edit(ask(STREAM % b""), CHAT, ALIAS, UP, False)

    assert (STREAM % b"", (), False) == (edited.body, edited.names, edited.asks_usage)


@pytest.mark.parametrize("options", [b"1", b'"a"', b"[]", b"true", b'{"include_usage":1}', b'{"include_usage":"yes"}'])
def test_options_that_are_none_are_refused(options: bytes) -> None:
    with pytest.raises(BadRequest) as refused:
        edit(ask(STREAM % (OPTIONS + options)), CHAT, ALIAS, UP, True)

    assert (refused.value.param or "") in {"stream_options", "include_usage"}


PARAMETERS = {
    "forced": ({"temperature": b"0"}, {}, b'{"model":"real","temperature":1}', b'{"model":"real","temperature":0}'),
    "forced, left out": ({"temperature": b"0"}, {}, b'{"model":"real"}', b'{"temperature":0,"model":"real"}'),
    "default": ({}, {"n": b"2"}, b'{"model":"real"}', b'{"n":2,"model":"real"}'),
    "default, given": ({}, {"n": b"2"}, b'{"model":"real","n":1}', b'{"model":"real","n":1}'),
    "default, given as null": ({}, {"n": b"2"}, b'{"model":"real","n":null}', b'{"model":"real","n":null}'),
    "forced before default": ({"n": b"3"}, {"n": b"2"}, b'{"model":"real"}', b'{"n":3,"model":"real"}'),
    "every double of a forced one": ({"n": b"3"}, {}, b'{"n":1,"model":"real","\\u006e":2}', b'{"n":3,"model":"real"}'),
    "options forced": ({"stream_options": b'{"x":1}'}, {}, STREAM % b"",
                       b'{"stream_options":{"include_usage":true,"x":1},"model":"real","stream":true}'),
}  # fmt: skip


@pytest.mark.parametrize("case", PARAMETERS)
def test_parameters_of_the_alias(case: str) -> None:
    forced, default, body, expected = PARAMETERS[case]

    edited = edit(ask(body), CHAT, Alias("real", ((UP,),), forced, default), UP, True)

    assert expected == edited.body


ANSWERS = {
    "a chat": (b'{"id": "c", "model": "real", "x":1e-7}', b'{"id": "c", "model": "fast", "x":1e-7}'),
    "a chunk": (b'{"model":"real","choices":[{"delta":{"content":"\\u003c"}}]}',
                b'{"model":"fast","choices":[{"delta":{"content":"\\u003c"}}]}'),
    "a model that is null": (b'{"model":null}', b'{"model":"fast"}'),
    "a responses event": (b'{"type":"response.created", "response":{"id":"r", "model":"real"}}',
                          b'{"type":"response.created", "response":{"id":"r", "model":"fast"}}'),
    "another event": (b'{"type":"response.output_text.delta","delta":"\\"model\\": \\"real\\""}', None),
    "a response that names none": (b'{"response":{"id":"r"}}', None),
    "a response that is none": (b'{"response":"real"}', None),
    "no model": (b'{"object": "list", "data": [{"model":"real"}]}', None),
    "no object": (b'["model"]', None),
    "no JSON": (b'{"model":', None),
    "no UTF-8": (b'{"model":"\xff"}', None),
}  # fmt: skip


@pytest.mark.parametrize("case", ANSWERS)
def test_an_answer_is_renamed(case: str) -> None:
    body, expected = ANSWERS[case]

    assert (expected or body) == renamed(body, "fast")


def test_an_answer_of_any_depth_is_renamed_or_left() -> None:
    for depth in (2, 100, 700, 900, 950, 970, 990, 1000, 100_000):
        body = b'{"response":' * depth + b'{"model":"real"}' + b"}" * depth

        assert body == renamed(body, "fast")


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        (b'data: {"model": "real"}\n\n', b'data: {"model": "fast"}\n\n'),
        (b'id: 7\r\ndata:{"model":"real"}\r\n\r\n', b'id: 7\r\ndata:{"model":"fast"}\r\n\r\n'),
        (b'event: response.created\ndata: {"response":{"model":"real"}}\n\n',
         b'event: response.created\ndata: {"response":{"model":"fast"}}\n\n'),
        (b"data: [DONE]\n\n", b"data: [DONE]\n\n"),
        (b": model\n\n", b": model\n\n"),
        (b'data: "model"\n\n', b'data: "model"\n\n'),
    ],
)  # fmt: skip
def test_an_event_is_renamed(event: bytes, expected: bytes) -> None:
    assert expected == renamed_event(event, "fast")
