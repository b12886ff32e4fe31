"""document: a YAML file as plain values, with the line of each. Knows YAML and no field of ours.

Only what JSON could say is read, plus comments and anchors: scalars become text, numbers, booleans or null, a mapping's
keys are always text, and dates stay text. What cannot be read at all raises ConfigFault; a repeated key is a fault.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import yaml

from relay.errors import SetupFault

Place = tuple[str | int, ...]  # ("upstreams", "openai", "timeouts"), ("keys", 0, "rpm")

_TAG = "tag:yaml.org,2002:"
_TEXT = {_TAG + name for name in ("timestamp", "value", "merge")}  # 2024-10-21 is the version of an API
_KNOWN = _TEXT | {_TAG + name for name in ("null", "bool", "int", "float", "str", "map", "seq")}

MOST_NODES = 100_000  # with every alias written out: beyond any file that a person keeps, far below a bomb
DEEPEST = 40


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is wrong, printed as `FILE:LINE: path.to.field: what is wrong; what would be right`.

    `line` is 0 where the file is not there, or could not be read.
    """

    file: str
    line: int
    field: str
    message: str

    def __str__(self) -> str:
        return ": ".join(
            part for part in (f"{self.file}:{self.line}" if self.line else self.file, self.field, self.message) if part
        )


class ConfigFault(SetupFault):
    """The configuration cannot be used; `faults` are all the reasons in the order of the file, at least one."""

    def __init__(self, faults: tuple[Fault, ...]) -> None:
        rest = f" (and {len(faults) - 1} more: `relay check` prints them all)" if len(faults) > 1 else ""
        super().__init__(f"{faults[0]}{rest}")
        self.faults = faults


@dataclass(frozen=True, slots=True)
class Document:
    """`lines` holds the line, from 1, of every mapping key and list item by its place."""

    file: str
    data: dict[str, Any] = field(default_factory=dict)
    lines: dict[Place, int] = field(default_factory=dict)
    faults: tuple[Fault, ...] = ()

    def fault(self, place: Place, message: str) -> Fault:
        """A fault at `place`, on its line or on that of the nearest thing around it that is there."""
        known = (place[:end] for end in range(len(place), 0, -1))
        line = next((self.lines[part] for part in known if part in self.lines), 1)
        return Fault(self.file, line, ".".join(map(str, place)), message)


def parse(text: str, file: str) -> Document:
    """Read YAML text; `file` is its name in faults. Raises ConfigFault where it is no YAML, no mapping, or a bomb."""
    try:
        reader = _Reader(file)
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        data = {} if root is None else reader.value(root, ())
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise _unreadable(file, mark.line + 1 if mark else 1, f"not YAML: {error.problem or error.context}") from error
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise _unreadable(file, line, f"not YAML: a character that it does not allow ({error.reason})") from error
    except RecursionError as error:
        raise _unreadable(file, 1, "nested too deeply; write it flat") from error
    if not isinstance(data, dict):
        raise _unreadable(file, 1, "not a mapping; write fields such as `upstreams:` and `models:`")
    return Document(file, data, reader.lines, tuple(reader.faults))


def _unreadable(file: str, line: int, message: str) -> ConfigFault:
    return ConfigFault((Fault(file, line, "", message),))


class _Reader:
    """Turns nodes into values, and remembers where each was."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.lines: dict[Place, int] = {}
        self.faults: list[Fault] = []
        self._scalars = yaml.SafeLoader("")
        self._left = MOST_NODES

    def value(self, node: yaml.Node, place: Place) -> Any:
        self._left -= 1
        if self._left < 0 or len(place) > DEEPEST:
            raise _unreadable(self.file, node.start_mark.line + 1, "too many or too deep values; write fewer anchors")
        if node.tag not in _KNOWN:
            raise _unreadable(self.file, node.start_mark.line + 1, f"the tag {node.tag!r} is not known; leave it out")
        if isinstance(node, yaml.MappingNode):
            return dict(self._pairs(node, place))
        if isinstance(node, yaml.SequenceNode):
            return [self._child(item, item, (*place, index)) for index, item in enumerate(node.value)]
        return self._scalar(node)

    def _pairs(self, node: yaml.MappingNode, place: Place) -> Iterator[tuple[str, Any]]:
        first: dict[str, int] = {}
        for key, item in node.value:
            line = key.start_mark.line + 1
            if not isinstance(key, yaml.ScalarNode):
                raise _unreadable(self.file, line, "a field's name must be text; put it in quotes")
            here = (*place, key.value)
            if key.value in first:
                message = f"written twice, first on line {first[key.value]}; keep one"
                self.faults.append(Fault(self.file, line, ".".join(map(str, here)), message))
            first.setdefault(key.value, line)
            yield key.value, self._child(key, item, here)

    def _child(self, marked: yaml.Node, item: yaml.Node, place: Place) -> Any:
        self.lines[place] = marked.start_mark.line + 1
        return self.value(item, place)

    def _scalar(self, node: yaml.Node) -> Any:
        if node.tag in _TEXT:
            return node.value
        try:
            return self._scalars.construct_object(node)
        except (ValueError, LookupError) as error:
            raise _unreadable(self.file, node.start_mark.line + 1, "not a value that YAML knows; quote it") from error
