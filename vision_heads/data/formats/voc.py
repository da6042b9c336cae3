"""PASCAL VOC: one XML a picture; pixel coordinates count from 1 and xmax, ymax are inside.

So the box from pixel 1 to pixel W covers the whole width: xyxy = xmin-1, ymin-1, xmax, ymax.
`difficult` objects are not judged, as in the devkit. `vh data convert` writes areas without a
class as difficult objects called `REGION_NAME` and `OTHER_NAME`; they are read back as such.
Source: the VOC2007/2012 devkit documentation.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial
from xml.etree import ElementTree

import numpy as np

from vision_heads.data.formats.base import (
    BadLabelsError,
    Part,
    Rows,
    Source,
    parallel,
    upright,
)
from vision_heads.data.formats.folders import Pair, label_bytes, pair_files, read_folder
from vision_heads.data.sample import OTHER, REGION, ProblemKind
from vision_heads.errors import require
from vision_heads.paths import printable

REGION_NAME = "ignored-region"
OTHER_NAME = "ignored-other"
_AREAS = {REGION_NAME: REGION, OTHER_NAME: OTHER}
_NOT_XML = (ElementTree.ParseError, ValueError, LookupError)  # the last: unknown encodings
_EDGES = ("xmin", "ymin", "xmax", "ymax")


def read(source: Source) -> Part:
    """Read a part: a folder of pictures and a folder of XML files with the same stems.

    Without `names` in the card the classes are those found in this part's files, sorted.
    """
    pairs = _pairs(source)
    names = source.names or tuple(sorted(class_names(pairs)))
    index = name_index(names)
    ids = tuple(range(len(names)))
    read_file = partial(parse, index=index)
    return read_folder(source, pairs, read_file, names, ids, place_word="object")


def name_index(names: Sequence[str]) -> dict[str, int]:
    """Return the class index by name, without the spaces around it: the files' are none of it.

    Raises:
        UserError: the files cannot hold a name, or cannot tell it from another.
    """
    index = {name.strip(): number for number, name in enumerate(names)}
    for number, name in enumerate(names):
        held = name.strip() and printable(name) == name and index[name.strip()] == number
        require(held, f"names: {name!r}: VOC files cannot hold it or tell it from another class")
    return index


def found_names(source: Source) -> set[str]:
    """Return the class names in a part's files; files that are no XML have none."""
    return class_names(_pairs(source))


def _pairs(source: Source) -> list[Pair]:
    folder = source.annotations or source.root / "Annotations"
    require(folder.is_dir(), f"{folder}: no such folder of VOC XML files")
    return pair_files(source, ".xml", folder)


def class_names(pairs: list[Pair]) -> set[str]:
    """Collect the names of all objects; unreadable files are left to `read_folder` to report."""

    def names(pair: Pair) -> set[str]:
        try:
            root = ElementTree.fromstring(label_bytes(pair.label))
        except (OSError, *_NOT_XML):
            return set()
        found = {(item.findtext("name") or "").strip() for item in root.iter("object")}
        return found - {"", REGION_NAME, OTHER_NAME}

    return set().union(*parallel(names, pairs))


def parse(data: bytes, size: tuple[int, int] | None, *, index: Mapping[str, int]) -> Rows:
    """Read one VOC XML file.

    Args:
        data: the file.
        size: not needed.
        index: class index by name.

    Raises:
        BadLabelsError: it is no XML, or no `annotation`.
    """
    try:
        root = ElementTree.fromstring(data)
    except _NOT_XML as error:
        raise BadLabelsError(f"not XML: {error}") from error
    if root.tag != "annotation":
        raise BadLabelsError(f"its root is <{root.tag}>, not <annotation>")
    boxes: list[tuple[float, float, float, float]] = []
    labels: list[int] = []
    ignored: list[bool] = []
    places: list[int] = []
    problems: list[tuple[ProblemKind, str]] = []
    for number, item in enumerate(root.findall("object"), 1):
        name = (item.findtext("name") or "").strip()
        difficult = (item.findtext("difficult") or "").strip() in {"1", "true", "True"}
        label = index.get(name, _AREAS.get(name) if difficult else None)
        if label is None:
            problems.append(("unknown-class", f"object {number}: name {name!r}"))
            continue
        try:
            boxes.append(_box(item))
        except ValueError as error:
            problems.append(("bad-annotation", f"object {number}: {error}"))
            continue
        labels.append(label)
        ignored.append(difficult)
        places.append(number)
    return Rows.of(boxes, labels, ignored, places, problems, _size(root))


def _box(item: ElementTree.Element) -> tuple[float, float, float, float]:
    edges = []
    for name in _EDGES:
        text = item.findtext(f"bndbox/{name}")
        if text is None:
            raise ValueError(f"no bndbox/{name}")
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            raise ValueError(f"{name} is {text.strip()!r}, not a number")
        edges.append(value)
    x1, y1, x2, y2 = edges
    x1, y1 = x1 - 1, y1 - 1
    if turn := _turn(item):
        box = upright(np.array([[x1, y1, x2, y2]]), np.array([turn]))
        x1, y1, x2, y2 = box[0].tolist()
    return x1, y1, x2, y2


def _turn(item: ElementTree.Element) -> float:
    """Return the degrees that CVAT says a box is turned by, 0 where nothing says so."""
    for attribute in item.iterfind("attributes/attribute"):
        if attribute.findtext("name") == "rotation":
            try:
                turn = float(attribute.findtext("value") or 0)
            except ValueError:
                return 0.0
            return turn if math.isfinite(turn) else 0.0
    return 0.0


def _size(root: ElementTree.Element) -> tuple[int, int] | None:
    """Return the stated size; labelling tools write 0 or nothing when they do not know it."""
    try:
        width = int(float(root.findtext("size/width") or 0))
        height = int(float(root.findtext("size/height") or 0))
    except (ValueError, OverflowError):
        return None
    return (width, height) if width > 0 and height > 0 else None
