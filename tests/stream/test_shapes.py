from __future__ import annotations

import pytest

from vision_heads.errors import UserError
from vision_heads.stream.shapes import Shapes, read_shapes

GOOD = """
units: fraction
lines:
  - {name: gate, points: [[0.1, 0.5], [0.9, 0.5]], anchor: bottom, sources: [cam1]}
zones:
  - {name: yard, points: [[0, 0], [0.5, 0], [0.5, 1]], heads: [vehicles], classes: [car, van]}
"""
CLASSES = {"vehicles": ("car", "van"), "people": ("person",)}


def write(tmp_path, text):
    file = tmp_path / "shapes.yaml"
    file.write_text(text)
    return file


def test_a_file(tmp_path):
    shapes = read_shapes(write(tmp_path, GOOD))
    assert shapes.units == "fraction"
    gate, yard = shapes.lines[0], shapes.zones[0]
    assert gate.anchor == "bottom" and gate.points == ((0.1, 0.5), (0.9, 0.5))
    assert gate.counts("people", "person")
    assert yard.counts("vehicles", "van") and not yard.counts("people", "person")
    shapes.check(CLASSES, "shapes.yaml")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[1, 2]", "must have the fields lines, zones or both"),
        ("", "must have the fields lines, zones or both"),
        ("lines: []", "neither lines nor zones"),
        ("lines: {", "not YAML"),
        ("lines: [{points: [[0, 0], [1, 1]]}]", "lines.0.name: must be given"),
        ("lines: [{name: a, points: [[0, 0]]}]", "a line has 2 points, got 1"),
        ("lines: [{name: a, points: [[0, 0], [0, 0]]}]", "must differ"),
        ("lines: [{name: a, points: [[0, .nan], [1, 1]]}]", "lines.0.points.0.1"),
        ("lines: [{name: a, points: [[0, 0, 0], [1, 1]]}]", "lines.0.points.0"),
        ("lines: [{name: a, points: [[0, 0], [1, 1]], class: car}]", "lines.0.class: no such"),
        ("zones: [{name: a, points: [[0, 0], [1, 1]]}]", "at least 3 points, got 2"),
        ("zones: [{name: a, points: [[0, 0], [1, 1], [2, 2]]}]", "must not lie on one line"),
        ("zones: [{name: a, points: [[0, 0], [1, 1], [2, 0]], anchor: top}]", "zones.0.anchor"),
        (
            "lines: [{name: a, points: [[0, 0], [1, 1]]}, {name: a, points: [[0, 1], [1, 0]]}]",
            "lines: the name 'a' is there twice",
        ),
        (
            "lines: [{name: a, points: [[0, 0.5], [1, 0.5]]}]",
            "lines.0.points: all within one pixel",
        ),
        (
            "units: fraction\nlines: [{name: a, points: [[0, 0], [1, 20]]}]",
            "lines.0.points: fractions are 0..1",
        ),
    ],
)
def test_mistakes_name_file_and_field(tmp_path, text, message):
    file = write(tmp_path, text)
    with pytest.raises(UserError) as caught:
        read_shapes(file)
    assert str(caught.value).startswith(f"{file}: ") and message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file(tmp_path):
    with pytest.raises(UserError, match=r"nowhere\.yaml: No such file"):
        read_shapes(tmp_path / "nowhere.yaml")


@pytest.mark.parametrize(
    ("field", "message"),
    [
        ("heads: [cars]", r"f: zones\.0\.heads: no head 'cars'; there are: vehicles, people"),
        ("classes: [cat]", r"f: zones\.0\.classes: no class 'cat'; there are: car, person, van"),
        ("heads: [people], classes: [car]", r"no class 'car'; there are: person"),
    ],
)
def test_names_are_checked_against_the_model(tmp_path, field, message):
    text = f"zones: [{{name: a, points: [[0, 0], [1, 1], [2, 0]], {field}}}]"
    with pytest.raises(UserError, match=message):
        read_shapes(write(tmp_path, text)).check(CLASSES, "f")


def test_names_of_sources_that_there_are_not_are_told(tmp_path):
    shapes = read_shapes(write(tmp_path, GOOD.replace("[cam1]", "[cam1, cam3]")))
    assert shapes.strangers(["cam1", "cam3"]) == []
    assert shapes.strangers(["cam1", "cam2"]) == [
        "lines.0.sources: 'cam3' is none of the sources: cam1, cam2"
    ]


def test_shapes_can_be_made_in_python():
    shapes = Shapes(lines=[{"name": "a", "points": [[0, 0], [10, 10]]}])
    assert shapes.units == "pixels" and shapes.zones == ()
