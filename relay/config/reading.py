"""reading: collects what is wrong while a document is read. Nothing stops at the first fault; each has its line."""

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Any, TypeVar

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from relay.config.document import Document, Fault, Place
from relay.config.secret import Secret, Unreadable, resolve
from relay.config.shapes import Shape

S = TypeVar("S", bound=Shape)

# pydantic's words name Python's types; these are for who writes YAML.
_WRONG = {
    "missing": "is missing",
    "model_type": "is not a mapping",
    "dict_type": "is not a mapping",
    "list_type": "is not a list",
    "string_type": "is not text",
    "int_type": "is not a whole number",
    "float_type": "is not a number",
    "finite_number": "is not a number",
    "greater_than": "is too small",
    "greater_than_equal": "is too small",
    "less_than_equal": "is too large",
    "literal_error": "is none of the choices",
    "string_too_short": "is empty",
    "too_short": "is empty",
}


class Reading:
    def __init__(self, document: Document, environ: Mapping[str, str]) -> None:
        self.environ = environ
        self.faults: list[Fault] = list(document.faults)
        self.warnings: list[str] = []
        self._document = document

    def fault(self, place: Place, message: str) -> None:
        self.faults.append(self._document.fault(place, message))

    def warn(self, place: Place, message: str) -> None:
        self.warnings.append(f"{'.'.join(map(str, place))}: {message}")

    def secret(self, place: Place, text: str) -> Secret:
        """The secret that `text` names. Raises Unresolved; one that is there and cannot be read is a fault as well."""
        try:
            return resolve(text, self.environ)
        except Unreadable as reason:
            self.fault(place, str(reason))
            raise

    def shape(self, kind: type[S], data: Any, place: Place) -> S | None:
        """`data` as a `kind`, nothing as an empty mapping; None when it has faults, which are then kept."""
        data = {} if data is None else data
        seen: dict[int, type[Shape]] = {}
        try:
            return kind.model_validate(data, context=seen)
        except ValidationError as error:
            for detail in error.errors(include_url=False, include_input=False):
                self.fault((*place, *detail["loc"]), _explain(detail, data, seen))
            return None

    def sound(self, kind: type[Shape], data: Any) -> dict[str, Any]:
        """Those fields of `data`, read as a `kind`, that are right by themselves; nothing is told of the others."""
        given = data if isinstance(data, dict) else {}
        try:
            kind.model_validate(given)
        except ValidationError as error:
            wrong = {detail["loc"][0] for detail in error.errors() if detail["loc"]}
            return {name: value for name, value in given.items() if name not in wrong}
        return given


def nearest(name: str, known: Iterable[str]) -> str:
    """`; did you mean …?` with the likeliest of the known names, else all of them."""
    names = list(known)
    close = get_close_matches(name, names, 1)
    return f"; did you mean {close[0]}?" if close else f"; known here: {', '.join(names) or 'none'}"


def _explain(detail: ErrorDetails, data: Any, seen: Mapping[int, type[Shape]]) -> str:
    """What is wrong and what would be right, in one line without the value."""
    fields, name = _field(data, detail["loc"], seen)
    if detail["type"] == "extra_forbidden":
        return "unknown field" + nearest(name, fields)
    wrong = _WRONG.get(detail["type"]) or detail["msg"].removeprefix("Value error, ")
    right = fields.get(name) or ("write {field: value}" if detail["type"] == "model_type" else None)
    return f"{wrong}; {right}" if right else wrong


def _field(data: Any, loc: Place, seen: Mapping[int, type[Shape]]) -> tuple[dict[str, str | None], str]:
    """The fields, with their descriptions, of the innermost shape on the way to `loc`, and the one that is meant."""
    fields: dict[str, str | None] = {}
    name = ""
    for part in loc:
        if id(data) in seen:
            fields = {field: info.description for field, info in seen[id(data)].model_fields.items()}
            name = str(part)
        data = _step(data, part)
    return fields, name


def _step(data: Any, part: str | int) -> Any:
    if isinstance(data, dict):
        return data.get(part)
    return data[part] if isinstance(data, list) and isinstance(part, int) else None
