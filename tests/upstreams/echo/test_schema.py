"""Instances of schemas: each fits its schema, and no schema, however odd, does worse than be refused."""

import contextlib
import datetime as dt
import uuid
from decimal import Decimal
from enum import Enum
from typing import Annotated, Any, Literal, Optional

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field, TypeAdapter

from relay.errors import BadRequest
from relay.upstream.echo.schema import instance

TEXT = "Meet me at 7, or at 9."


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


class Node(BaseModel):
    name: str
    children: list["Node"]
    parent: Optional["Node"] = None


class Pair(BaseModel):
    left: Node | None
    right: "Pair | None" = None


class Cat(BaseModel):
    kind: Literal["cat"]
    lives: Annotated[int, Field(ge=8, le=9)]


class Dog(BaseModel):
    kind: Literal["dog"]


class Everything(BaseModel):
    colour: Colour
    when: dt.datetime
    day: dt.date | None
    key: uuid.UUID
    price: Decimal
    share: Annotated[float, Field(gt=0, lt=1)]
    dozens: Annotated[int, Field(multiple_of=12, gt=0)]
    code: Annotated[str, Field(min_length=30)]
    short: Annotated[str, Field(max_length=4)]
    many: Annotated[list[int], Field(min_length=3)]
    two: tuple[int, str]
    pet: Annotated[Cat | Dog, Field(discriminator="kind")]
    free: dict[str, int]
    anything: Any


@pytest.mark.parametrize(
    "kind",
    [
        Colour,
        Node,
        Pair,
        Everything,
        list[Node],
        int | None,
        dict[str, str],
        bool,
        float,
        tuple[int, int],
        Literal["x", 1],
    ],
)
def test_an_instance_fits_its_schema(kind: Any) -> None:
    shape: TypeAdapter[Any] = TypeAdapter(kind)
    shape.validate_json(msgspec.json.encode(instance(shape.json_schema(), TEXT)), strict=True)


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({"type": "string"}, TEXT),
        ({"type": "integer"}, 7),
        ({"type": "number"}, 7),
        ({"type": "integer", "minimum": 8}, 8),
        ({"type": "integer", "maximum": 5}, 1),
        ({"type": "integer", "exclusiveMinimum": -1000, "exclusiveMaximum": 1000}, 7),
        ({"type": "integer", "exclusiveMinimum": 7}, 8),
        ({"type": "integer", "exclusiveMaximum": 0}, -1),
        ({"type": "integer", "multipleOf": 5}, 0),
        ({"type": "number", "multipleOf": 0}, 7),
        ({"type": ["null", "boolean"]}, True),
        ({"type": "null"}, None),
        ({"type": []}, TEXT),
        ({}, TEXT),
        (True, TEXT),
        ({"enum": ["b", "a"]}, "b"),
        ({"enum": []}, TEXT),
        ({"const": 5, "type": "string"}, 5),
        ({"type": "string", "format": "date"}, "2025-01-01"),
        ({"type": "string", "minLength": 25}, TEXT + "..."),
        ({"type": "string", "maxLength": 4}, "Meet"),
        ({"type": "array", "items": {"type": "integer"}}, [7]),
        ({"type": "array", "items": {"type": "integer"}, "minItems": 2}, [7, 7]),
        ({"type": "array", "items": {"type": "integer"}, "maxItems": 0}, []),
        ({"type": "array"}, []),
        ({"type": "object"}, {}),
        ({"properties": {"a": {"type": "null"}}, "required": ["a", "b"]}, {"a": None, "b": TEXT}),
        ({"anyOf": [{"type": "null"}, {"type": "integer"}], "title": "A"}, 7),
        ({"oneOf": [{"type": "boolean"}, {"type": "integer"}]}, True),
        ({"anyOf": [{"type": "null"}]}, None),
        (
            {"allOf": [{"properties": {"a": {"type": "null"}}}, {"$ref": "#/x~1y"}], "x/y": {"properties": {"b": {}}}},
            {"b": TEXT, "a": None},
        ),
        ({"properties": {"a": True}}, {"a": TEXT}),
        ({"$ref": "#/nowhere"}, TEXT),
        ({"$ref": "#/a", "a": {"properties": {"b": {"allOf": [{"anyOf": [{"$ref": "#/a"}]}]}}}}, {}),
        ({"$ref": "https://elsewhere.example/schema"}, TEXT),
    ],
)
def test_an_instance_is_made_from_what_was_said(schema: Any, value: Any) -> None:
    assert value == instance(schema, TEXT)


@pytest.mark.parametrize(("text", "number"), [("none", 1), ("a1 is 2nd", 2), ("-3", -3), ("2.5", 2.5), ("9" * 40, 1)])
def test_the_first_number_said_is_taken(text: str, number: float) -> None:
    assert number == instance({"type": "number"}, text)


def test_a_recursive_schema_ends_at_its_first_chance() -> None:
    assert instance(Node.model_json_schema(), TEXT) == {"name": TEXT, "children": [], "parent": None}


NESTED: dict[str, Any] = {}
for _ in range(100):
    NESTED = {"properties": {"a": NESTED}}
INWARD: dict[str, Any] = {}
for _ in range(3000):
    INWARD = {"allOf": [INWARD]}
UNENDING = {"type": "object", "properties": {"self": {"$ref": "#"}}, "required": ["self"]}
WIDE = {f"a{i}": {"properties": {"x": {"$ref": f"#/a{i + 1}"}, "y": {"$ref": f"#/a{i + 1}"}}} for i in range(30)}


@pytest.mark.parametrize(
    "schema",
    [
        NESTED,
        {"properties": {"a": INWARD}},
        UNENDING,
        {"$ref": "#"},
        {"allOf": [{"$ref": "#"}, {"$ref": "#"}]},
        {"$ref": "#/a0", **WIDE},
        {"type": "array", "items": {}, "minItems": 1_000_000_000},
        {"type": "array", "items": {"type": "array", "items": {}, "minItems": 1000}, "minItems": 1000},
    ],
)
def test_a_schema_that_asks_for_too_much_is_refused(schema: Any) -> None:
    with pytest.raises(BadRequest):
        instance(schema, TEXT)


KEYWORDS = st.sampled_from(
    [
        "type",
        "properties",
        "required",
        "items",
        "prefixItems",
        "anyOf",
        "allOf",
        "enum",
        "format",
        "a",
        "minimum",
        "exclusiveMaximum",
        "multipleOf",
        "maxLength",
        "minItems",
    ]
)
PLAIN = st.none() | st.booleans() | st.integers(-9, 9) | st.floats(-9, 9) | st.just("#") | st.text(max_size=3)
TYPES = st.sampled_from(["object", "array", "string", "integer", "number"])
SCHEMAS = st.recursive(
    PLAIN | TYPES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYWORDS | st.just("$ref"), inner, max_size=4),
)


@given(SCHEMAS)
def test_no_schema_does_worse_than_be_refused(schema: Any) -> None:
    with contextlib.suppress(BadRequest):
        msgspec.json.encode(instance(schema, TEXT))
