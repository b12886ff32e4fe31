"""picture: the figures that matter most as bars, an SVG made by hand. It is legible on light and on dark ground."""

from collections.abc import Iterator, Sequence
from html import escape

from tests.bench.figures import Line, Results, lines
from tests.bench.machine import Machine
from tests.bench.table import amount

BARS = ("request", "body", "tls", "paced", "burst")
_WIDTH, _LEFT, _RIGHT = 860, 24, 132  # the last is room for the value behind a bar
_TOP, _GROUP, _BAR, _GAP = 92, 74, 17, 4
_LINE = 18  # of the notes below
_WRAP = 128  # characters of a line there
_STYLE = """\
  text { font: 13px system-ui, -apple-system, 'Segoe UI', Helvetica, Arial, sans-serif; fill: #1f2328; }
  .head { font-size: 19px; font-weight: 600; }
  .quiet { font-size: 12px; fill: #59636e; }
  .value { font-variant-numeric: tabular-nums; }
  .relay { fill: #1a7f64; }
  .nginx { fill: #9aa4b0; }
  .floor { stroke: #d1d9e0; }
  @media (prefers-color-scheme: dark) {
    text { fill: #f0f6fc; }
    .quiet { fill: #9198a1; }
    .relay { fill: #3fb68b; }
    .nginx { fill: #6e7781; }
    .floor { stroke: #3d444d; }
  }
"""


def picture(results: Results, where: Machine, notes: Sequence[str]) -> str:
    """The whole file. Bars of one unit of work share no scale with those of another: each group has its own."""
    told = [line for line in lines(results) if line.row.name in BARS]
    said = [piece for note in (str(where), *notes) for piece in wrapped(note, _WRAP)]
    foot = _TOP + _GROUP * len(told)
    height = foot + _LINE * len(said) + 22
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" role="img" aria-labelledby="t">',
        f"<style>\n{_STYLE}</style>",
        '<title id="t">CPU of the relay and of nginx, for a request and for a chunk</title>',
        _text(_LEFT, 36, "head", "What a request costs, and what a chunk costs"),
        *_legend(),
        *(part for number, line in enumerate(told) for part in _group(line, _TOP + _GROUP * number)),
        *(_text(_LEFT, foot + 12 + _LINE * number, "quiet", line) for number, line in enumerate(said)),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _legend() -> Iterator[str]:
    for name, at, words in (("relay", _LEFT, "the relay, log and limits on"), ("nginx", 236, "nginx, a plain proxy")):
        yield f'<rect class="{name}" x="{at}" y="53" width="11" height="11" rx="2"/>'
        yield _text(at + 18, 63, "quiet", words)
    yield _text(_WIDTH - _LEFT, 63, "quiet", "microseconds of CPU, each pair to its own scale", "end")


def _group(line: Line, top: int) -> Iterator[str]:
    """The title of a row, and a bar for each contender."""
    yield _text(_LEFT, top + 12, "", line.row.title)
    if line.ratio is not None:
        yield _text(_WIDTH - _LEFT, top + 12, "quiet", f"{line.ratio:.1f} times nginx", "end")
    found = [(name, value) for name, value in (("relay", line.relay), ("nginx", line.nginx)) if value is not None]
    most, room = max(value for _, value in found), _WIDTH - 2 * _LEFT - _RIGHT
    y = top + 20
    yield f'<path class="floor" d="M{_LEFT} {y - 2}v{len(found) * (_BAR + _GAP)}"/>'
    for name, value in found:
        width = max(2.0, room * value / most)
        yield f'<rect class="{name}" x="{_LEFT}" y="{y}" width="{width:.1f}" height="{_BAR}" rx="2"/>'
        yield _text(_LEFT + width + 8, y + 13, "value", amount(line.row, value))
        y += _BAR + _GAP


def _text(x: float, y: float, kind: str, words: str, anchor: str = "start") -> str:
    return f'<text class="{kind}" x="{x:.0f}" y="{y:.0f}" text-anchor="{anchor}">{escape(words)}</text>'


def wrapped(text: str, width: int) -> list[str]:
    """Lines of at most `width` characters, unless a word is longer."""
    found = [""]
    for word in text.split():
        if found[-1] and len(found[-1]) + 1 + len(word) > width:
            found.append("")
        found[-1] += f" {word}" if found[-1] else word
    return found
