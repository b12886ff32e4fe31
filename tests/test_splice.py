"""What is read of a body's bytes, and how little is changed in them."""

import json
import string
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.errors import BadRequest
from relay.splice import POLICY, flag, patch, read, text

PLAIN = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
NAMES = st.sampled_from(["model", "stream", "temperature", "mo", "del", '"model":"', "\\u006dodel", "é", "", "x2"])
VALUES = st.recursive(
    PLAIN | NAMES,
    lambda part: (
        st.lists(part, max_size=3) | st.lists(st.tuples(NAMES | st.just("Model"), part), max_size=3).map(tuple)
    ),
    max_leaves=8,
)
MEMBERS = st.lists(st.tuples(NAMES, VALUES), max_size=6).map(tuple)  # an object is a tuple: its keys may repeat
CHANGES = st.dictionaries(st.sampled_from(["model", "stream", "temperature", "x2", "é", 'q"', "\\u006dodel"]), VALUES)


def written(value: Any, hand: Random) -> str:
    """`value` as JSON in somebody's own hand: any whitespace between tokens, any character as an escape."""
    if isinstance(value, str):
        return f'"{"".join(_character(each, hand) for each in value)}"'
    if isinstance(value, list):
        return f"[{_blank(hand)}{_comma(hand).join(written(part, hand) for part in value)}{_blank(hand)}]"
    if isinstance(value, tuple):
        members = (f"{written(name, hand)}{_blank(hand)}:{_blank(hand)}{written(part, hand)}" for name, part in value)
        return f"{{{_blank(hand)}{_comma(hand).join(members)}{_blank(hand)}}}"
    return json.dumps(value)


def _blank(hand: Random) -> str:
    return hand.choice(["", "", "", " ", "\n", "\t\r\n "])


def _comma(hand: Random) -> str:
    return f"{_blank(hand)},{_blank(hand)}"


def _character(character: str, hand: Random) -> str:
    if character in '"\\' or character < " " or hand.random() < 0.05:
        units = character.encode("utf-16-be").hex()
        return "".join(f"\\u{units[at : at + 4]}" for at in range(0, len(units), 4))
    return character


@given(MEMBERS, CHANGES, st.integers())
def test_what_is_patched_reads_as_the_original_with_the_changes(members: Any, changes: Any, seed: int) -> None:
    hand = Random(seed)  # noqa: S311  # spelling, not secrets
    body = written(members, hand).encode()
    raw = {name: written(value, hand).encode() for name, value in changes.items()}

    patched = patch(body, read(body), raw)

    assert json.loads(body) | {name: json.loads(value) for name, value in raw.items()} == json.loads(patched)
    names = [name for name, _ in json.loads(patched, object_pairs_hook=list)] if patched != b"{}" else []
    assert [1] * len(changes) == [names.count(name) for name in changes]


CERTAIN = st.recursive(
    PLAIN.filter(lambda value: not isinstance(value, str) or ("model" not in value and "\\u" not in value)),
    lambda part: st.lists(part, max_size=3) | st.dictionaries(st.sampled_from(["a", "é", "Model"]), part),
    max_leaves=8,
)


@given(st.lists(CERTAIN, max_size=3), CERTAIN, CERTAIN, st.lists(CERTAIN, max_size=3), st.integers())
def test_only_the_changed_value_changes(before: Any, old: Any, new: Any, after: Any, seed: int) -> None:
    hand = Random(seed)  # noqa: S311  # spelling, not secrets
    first = "".join(f' "a{index}" :{json.dumps(value)} ,' for index, value in enumerate(before))
    last = "".join(f',\n"b{index}":{json.dumps(value)}\t' for index, value in enumerate(after))
    start = f'{_blank(hand)}{{{first}"model"{_blank(hand)}:{_blank(hand)}'.encode()
    end = f"{_blank(hand)}{last}}}{_blank(hand)}".encode()
    body = start + json.dumps(old).encode() + end
    value = json.dumps(new).encode()

    assert start + value + end == patch(body, read(body), {"model": value})


CASES = {
    "replaced where it stands": (b'{"a" : 1 , "model" : "x" }', {"model": b'"y"'}, b'{"a" : 1 , "model" : "y" }'),
    "two at once": (b'{"n":1, "model":"x"}', {"model": b'"y"', "n": b"22"}, b'{"n":22, "model":"y"}'),
    "put in first": (b' { "a":1}', {"model": b'"y"'}, b' {"model":"y", "a":1}'),
    "into nothing": (b"{ }", {"a": b"1", "b": b"2"}, b'{"a":1,"b":2 }'),
    "one there, one not": (b'{"n":1}', {"a": b"2", "n": b"3"}, b'{"a":2,"n":3}'),
    "no change": (b'{"n": 1}', {}, b'{"n": 1}'),
    "numbers keep their spelling": (b'{"t":1e-7,"b":1.0,"n":1}', {"n": b"2"}, b'{"t":1e-7,"b":1.0,"n":2}'),
    "doubles become one": (b'{"model":"a", "x":1e-7,"model":"b"}', {"model": b'"c"'}, b'{"model":"c","x":1e-7}'),
    "a double by escape": (b'{"model":"a","\\u006dodel":"b"}', {"model": b'"c"'}, b'{"model":"c"}'),
    "a key in escapes": (b'{"\\u006d\\u006fdel":"b"}', {"model": b'"c"'}, b'{"model":"c"}'),
    "escaped digits": (b'{"x2":1,"x\\u0032":1}', {"x2": b"3"}, b'{"x2":3}'),
    "nested": (b'{"a":{"model":"z"}, "model":"x"}', {"model": b'"y"'}, b'{"a":{"model":"z"}, "model":"y"}'),
    "nested, and written in no usual way": (
        b'{"a":{"model":"z"} ,"model":"x"}',
        {"model": b'"y"'},
        b'{"a":{"model":"z"},"model":"y"}',
    ),
    "a value": (b'{"model": "x", "a": "model"}', {"model": b'"y"'}, b'{"model": "y", "a": "model"}'),
    "in a string": (b'{"a":"\\"model\\":", "model":"x"}', {"model": b'"y"'}, b'{"a":"\\"model\\":", "model":"y"}'),
    "an escaped slash": (b'{"a\\/b":1}', {"a/b": b"2"}, b'{"a/b":2}'),
    "harmless escapes stay": (b'{"a": "\\u003c", "n":1}', {"n": b"2"}, b'{"a": "\\u003c", "n":2}'),
}


@pytest.mark.parametrize("case", CASES)
def test_patch(case: str) -> None:
    body, changes, expected = CASES[case]

    assert expected == patch(body, read(body), changes)


@pytest.mark.parametrize("size", [0, 5000])
@pytest.mark.parametrize("more", range(9))
def test_a_value_that_looks_like_the_fields_behind_a_double_is_not_taken_for_them(more: int, size: int) -> None:
    names = [f"f{number}" for number in range(more)]
    fields = ',"model":"x"' + "".join(f',"{name}":1' for name in names) + ',"z":12'
    alike = '"model": "w", ' + "".join(f'"{name}": 1, ' for name in names) + '"z": 1'
    for digits in range(1, 2 * more + 20):  # of the double's first value, so that all lengths fit for one of them
        body = f'{{"a":{"1" * digits}{fields},"a":{{"p":"{"p" * size}",{alike}}}}}'.encode()

        patched = json.loads(patch(body, read(body), {"model": b'"y"'}))

        assert json.loads(body) | {"model": "y"} == patched


LONG = b'"' + b"x\\n" * 2000 + b'"'
LONG_CASES = {
    "first": (b'{"model":"x","m":%b}', b'{"model":"y","m":%b}'),
    "last, and with blanks": (b'{"m": %b, "model": "x"}', b'{"m": %b, "model": "y"}'),
    "between": (
        b'{"a":1,"model":"x","m":%b,"\xc3\xa9":{"model":2}}',
        b'{"a":1,"model":"y","m":%b,"\xc3\xa9":{"model":2}}',
    ),
    "over lines": (b'{\n "m": %b,\n "model" : "x"\n}', b'{\n "m": %b,\n "model" : "y"\n}'),
    "twice": (b'{"model":"x","m":%b,"model":"z"}', b'{"model":"y","m":%b}'),
    "twice, and over lines": (b'{"model":"x",\n"m":%b,"model":"z"}', b'{"model":"y","m":%b}'),
    "by escape": (b'{"m":%b,"\\u006dodel":"x"}', b'{"m":%b,"model":"y"}'),
    "twice by escape": (b'{"model":"x","m":%b,"\\u006dodel":"z"}', b'{"model":"y","m":%b}'),
}


@pytest.mark.parametrize("case", LONG_CASES)
def test_patch_of_a_long_body(case: str) -> None:
    body, expected = (each % LONG for each in LONG_CASES[case])

    assert expected == patch(body, read(body), {"model": b'"y"'})


@pytest.mark.parametrize("name", ["Model", "MODEL", "\u017ftream", "max_toKens", "N", "Max_Completion_Tokens"])
def test_a_policy_field_in_another_case_is_refused(name: str) -> None:
    for spelling in (json.dumps({name: 1}), json.dumps({name: 1}, ensure_ascii=False)):
        with pytest.raises(BadRequest, match="lower case") as refused:
            read(spelling.encode())
        assert name == refused.value.param


@given(st.sampled_from(sorted(POLICY)), st.integers())
def test_no_spelling_of_a_case_variant_gets_through(name: str, seed: int) -> None:
    hand = Random(seed)  # noqa: S311  # spelling, not secrets
    variant = "".join(hand.choice([each, each.upper()]) for each in name)
    body = written(((variant, 1),), hand).encode()

    if variant == name:
        assert [name] == list(read(body))
    else:
        with pytest.raises(BadRequest):
            read(body)


def test_another_case_elsewhere_is_no_matter() -> None:
    body = b'{"metadata":{"Model":1},"Temperature":1,"a":"Stream"}'

    assert ["metadata", "Temperature", "a"] == list(read(body))


BAD = {
    "nothing": b"",
    "blank": b" \n",
    "an array": b'[{"model":"x"}]',
    "a string": b'"model"',
    "null": b"null",
    "NaN": b'{"a":NaN}',
    "Infinity": b'{"a":-Infinity}',
    "depth": b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "depth of objects": b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    "half a surrogate pair": b'{"a":"\\ud800"}',
    "half a surrogate pair as a key": b'{"\\udc00":1}',
    "surrogates as UTF-8": b'{"a":"\xed\xa0\x80"}',
    "no UTF-8 in a value": b'{"a":"\xff"}',
    "no UTF-8 in a key": b'{"\xc3":1}',
    "a byte order mark": b'\xef\xbb\xbf{"a":1}',
    "UTF-16": '{"a":1}'.encode("utf-16"),
    "two objects": b'{"a":1}{"a":2}',
    "a comment": b'{"a":1/**/}',
    "a comma at the end": b'{"a":1,}',
    "half an object": b'{"a":1',
    "a line end in a string": b'{"a":"\n"}',
    "a NUL": b'{"a":1}\x00',
    "a number with a zero in front": b'{"a":01}',
}


@pytest.mark.parametrize("case", BAD)
def test_what_is_no_json_object_is_refused(case: str) -> None:
    with pytest.raises(BadRequest):
        read(BAD[case])


def test_a_number_of_any_length_passes_as_it_is() -> None:
    digits = b"9" * 5000
    body = b'{"seed":%s,"model":"a"}' % digits

    assert digits == bytes(read(body)["seed"])
    assert b'{"seed":%s,"model":"b"}' % digits == patch(body, read(body), {"model": b'"b"'})


@given(st.binary(max_size=40) | st.text(alphabet='{}[]":,\\u06dmel \n' + string.digits, max_size=30).map(str.encode))
def test_anything_is_an_object_or_refused(body: bytes) -> None:
    try:
        fields = read(body)
    except BadRequest:
        return
    assert list(json.loads(body)) == list(fields)


@pytest.mark.parametrize(("body", "expected"), [(b"{}", None), (b'{"model":"a"}', "a"), (b'{"model":"\\u00e9"}', "é")])
def test_text(body: bytes, expected: str | None) -> None:
    assert expected == text(read(body), "model")


@pytest.mark.parametrize("value", [b"null", b"1", b"true", b"[]", b'{"a":"b"}', b"9" * 5000])
def test_text_is_a_string_or_refused(value: bytes) -> None:
    with pytest.raises(BadRequest, match="'model' must be a string") as refused:
        text(read(b'{"model":%s}' % value), "model")
    assert "model" == refused.value.param


@pytest.mark.parametrize(
    ("body", "expected"),
    [(b"{}", False), (b'{"stream":null}', False), (b'{"stream":false}', False), (b'{"stream" : true }', True)],
)
def test_flag(body: bytes, expected: bool) -> None:
    assert expected is flag(read(body), "stream")


@pytest.mark.parametrize("value", [b"1", b'"true"', b"[]", b"{}", b"0.0"])
def test_a_flag_is_true_or_false_or_refused(value: bytes) -> None:
    with pytest.raises(BadRequest, match="must be true or false"):
        flag(read(b'{"stream":%s}' % value), "stream")
