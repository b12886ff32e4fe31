"""An instance of a JSON schema, made from what a user said. Pure; knows no API.

Understood: const, enum, type, properties, required, items, prefixItems, anyOf, oneOf, allOf, local $ref, the bounds of
numbers and lengths, common string formats. Not understood, and so perhaps broken: pattern, not, if, uniqueItems.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

from relay.errors import BadRequest

_NUMBER = re.compile(r"(?<![\w.])-?\d{1,15}(?!\d)(?:\.\d+)?")
_FORMATS = {
    "date": "2025-01-01",
    "date-time": "2025-01-01T00:00:00Z",
    "time": "00:00:00Z",
    "duration": "P1D",
    "email": "echo@example.com",
    "hostname": "example.com",
    "ipv4": "192.0.2.1",
    "ipv6": "2001:db8::1",
    "uri": "https://example.com/",
    "uuid": "00000000-0000-4000-8000-000000000000",
}
_MOST_VALUES = 5000  # OpenAI's own bound on properties: without one, a short schema could ask for an endless instance
_DEEPEST = 64
_LONGEST = 10_000  # of the padding that minLength asks for

Schema = dict[str, Any]


def instance(schema: Any, text: str) -> Any:
    """A JSON value that fits `schema`: strings are `text`, numbers the first number in it (else 1), enums their first.

    Every listed property is filled; a recursive schema ends at its first chance. Raises BadRequest when it has none,
    or when the instance would be too large.
    """
    try:
        return _Maker(schema, text).make(schema, ())
    except RecursionError as fault:  # thousands of schemas, one inside the other
        raise BadRequest("The JSON schema is nested too deeply.") from fault


@dataclass(slots=True)
class _Maker:
    """One instance in the making; `above` holds "" for every level above, and the $refs that were followed there."""

    root: Any
    text: str
    left: int = _MOST_VALUES
    makers: dict[str, Callable[[Schema, tuple[str, ...]], Any]] = field(init=False)

    def __post_init__(self) -> None:
        self.makers = {
            "object": self._object,
            "array": self._array,
            "string": self._string,
            "integer": lambda schema, _: _number(schema, self.text, whole=True),
            "number": lambda schema, _: _number(schema, self.text, whole=False),
            "boolean": lambda *_: True,
            "null": lambda *_: None,
        }

    def make(self, schema: Any, above: tuple[str, ...]) -> Any:
        self._spend(above)
        if not isinstance(schema, dict):
            return self.text
        schema, above = self._flat(schema, (*above, ""))
        if "const" in schema:
            return schema["const"]
        if options := _list(schema, "enum"):
            return options[0]
        return self.makers.get(_type(schema), self._string)(schema, above)

    def _spend(self, above: tuple[str, ...]) -> None:
        self.left -= 1
        if self.left < 0 or len(above) > _DEEPEST:
            raise BadRequest("The JSON schema asks for an instance that is too large, too deep or without an end.")

    def _flat(self, schema: Schema, above: tuple[str, ...]) -> tuple[Schema, tuple[str, ...]]:
        """`schema` with its $ref, anyOf, oneOf and allOf resolved; and `above` with what was followed on the way."""
        self._spend(above)
        if ref := _ref(schema):
            return self._flat(_merged(self._target(ref), _without(schema, "$ref")), (*above, ref))
        if choices := _list(schema, "anyOf") or _list(schema, "oneOf"):
            return self._flat(_merged(_best(choices, above), _without(schema, "anyOf", "oneOf")), above)
        rest = _without(schema, "allOf")
        for part in _list(schema, "allOf"):
            inner, above = self._flat(part if isinstance(part, dict) else {}, (*above, ""))
            rest = _merged(inner, rest)
        return rest, above

    def _target(self, ref: str) -> Any:
        found = self.root
        for step in ref.removeprefix("#").split("/")[1:]:
            name = unquote(step).replace("~1", "/").replace("~0", "~")
            found = found.get(name) if isinstance(found, dict) else None
        return found

    def _object(self, schema: Schema, above: tuple[str, ...]) -> dict[str, Any]:
        listed = schema.get("properties")
        properties: Schema = listed if isinstance(listed, dict) else {}
        required = [name for name in _list(schema, "required") if isinstance(name, str)]
        wanted = {name: part for name, part in properties.items() if name in required or not _recurs(part, above)}
        wanted |= {name: {} for name in required if name not in properties}
        return {name: self.make(part, above) for name, part in wanted.items()}

    def _array(self, schema: Schema, above: tuple[str, ...]) -> list[Any]:
        first = [self.make(part, above) for part in _list(schema, "prefixItems")]
        item = schema.get("items")
        wanted = 1 if isinstance(item, dict) and not first and not _recurs(item, above) else 0
        least, most = _bound(schema, "minItems", 0), _bound(schema, "maxItems", _MOST_VALUES)
        more = int(min(max(wanted, least - len(first)), max(most - len(first), 0), self.left + 1))
        return first + [self.make(item, above) for _ in range(more)]

    def _string(self, schema: Schema, _: tuple[str, ...]) -> str:
        text = _FORMATS.get(str(schema.get("format")), self.text)
        padded = text.ljust(int(min(_bound(schema, "minLength", 0), _LONGEST)), ".")
        return padded[: int(max(_bound(schema, "maxLength", len(padded)), 0))]


def _number(schema: Schema, text: str, *, whole: bool) -> float:
    """The first of some likely numbers that keeps the schema's bounds; when none does, the likeliest."""
    likely = [int(number) if whole or number == int(number) else number for number in _likely(schema, text)]
    return next((number for number in likely if _fits(number, schema)), likely[0])


def _likely(schema: Schema, text: str) -> Iterator[float]:
    if said := _NUMBER.search(text):
        yield float(said.group())
    yield 1
    low = _bound(schema, "minimum", _bound(schema, "exclusiveMinimum", 0))
    high = _bound(schema, "maximum", _bound(schema, "exclusiveMaximum", low + 2))
    step = _bound(schema, "multipleOf", 1) or 1
    yield from (low, low + 1, high, high - 1, (low + high) / 2, step, (low // step + 1) * step)


def _fits(number: float, schema: Schema) -> bool:
    step = _bound(schema, "multipleOf", 0)
    return (
        _bound(schema, "minimum", number) <= number <= _bound(schema, "maximum", number)
        and _bound(schema, "exclusiveMinimum", number - 1) < number < _bound(schema, "exclusiveMaximum", number + 1)
        and (not step or number % step == 0)
    )


def _best(choices: list[Any], above: tuple[str, ...]) -> Any:
    """The first choice that neither recurs nor is null; else the first that does not recur; else null."""
    ends = [choice for choice in choices if not _recurs(choice, above)]
    solid = [choice for choice in ends if choice != {"type": "null"}]
    return (solid or ends or [{"type": "null"}])[0]


def _merged(under: Any, over: Schema) -> Schema:
    """Both schemas in one; what `over` says wins, but properties and required are joined."""
    if not isinstance(under, dict):
        return over
    joined = {**under, **over}
    if isinstance(under.get("properties"), dict) and isinstance(over.get("properties"), dict):
        joined["properties"] = {**under["properties"], **over["properties"]}
    joined["required"] = _list(under, "required") + _list(over, "required")
    return joined


def _type(schema: Schema) -> str:
    named = schema.get("type")
    names = [name for name in named if name != "null"] if isinstance(named, list) else [named]
    if names and isinstance(names[0], str):
        return names[0]
    return "object" if "properties" in schema else "array" if "items" in schema else "string"


def _recurs(schema: Any, above: tuple[str, ...]) -> bool:
    """Whether `schema` leads nowhere but to something that is being made already."""
    if not isinstance(schema, dict):
        return False
    if ref := _ref(schema):
        return ref in above
    choices = _list(schema, "anyOf") or _list(schema, "oneOf")
    if choices and all(_recurs(choice, above) for choice in choices):
        return True
    return any(_recurs(part, above) for part in _list(schema, "allOf"))


def _without(schema: Schema, *keys: str) -> Schema:
    return {key: value for key, value in schema.items() if key not in keys}


def _ref(schema: Schema) -> str:
    ref = schema.get("$ref")
    return ref if isinstance(ref, str) else ""


def _list(schema: Schema, key: str) -> list[Any]:
    found = schema.get(key)
    return found if isinstance(found, list) else []


def _bound(schema: Schema, key: str, otherwise: float) -> float:
    found = schema.get(key)
    return found if isinstance(found, int | float) and not isinstance(found, bool) else otherwise
