"""The picture: well formed, each figure in it, bars to scale, and where it was measured."""

from xml.etree import ElementTree as ET

from tests.bench.figures import Results
from tests.bench.machine import Machine
from tests.bench.picture import picture, wrapped

WHERE = Machine(2, "A <fast> CPU", 24.0, "6.1", "2026-11-22", {"relay": "0.1.0"})
RESULTS: Results = {"request": {"relay": [50.0], "nginx": [20.0]}, "paced": {"relay": [40.0]}}
SVG = "{http://www.w3.org/2000/svg}"


def drawn(results: Results) -> ET.Element:
    return ET.fromstring(picture(results, WHERE, ["A note & more"]))  # noqa: S314 - our own text


def test_it_says_what_and_where() -> None:
    said = [text.text or "" for text in drawn(RESULTS).iter(f"{SVG}text")]

    assert {"50.0 µs", "20.0 µs", "40.0 µs", "2.5 times nginx", "A note & more"} <= set(said)
    assert any("A <fast> CPU" in line and "2026-11-22" in line for line in said)


def test_bars_are_to_scale() -> None:
    widths = [float(bar.attrib["width"]) for bar in drawn(RESULTS).iter(f"{SVG}rect") if bar.attrib["height"] == "17"]

    assert [1.0, 0.4, 1.0] == [round(width / widths[0], 2) for width in widths]


def test_nothing_measured_is_a_picture_too() -> None:
    assert [] == [bar for bar in drawn({}).iter(f"{SVG}rect") if bar.attrib["height"] == "17"]


def test_long_lines_are_wrapped() -> None:
    assert ["one two", "three", "four"] == wrapped("one two three four", 9)
