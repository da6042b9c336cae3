"""YOLO: one txt a picture, a line `class cx cy w h`, all but the class as parts of the picture.

A line with more coordinates is a polygon `class x1 y1 x2 y2 ...` and gives its bounding box.
Source: the Darknet and ultralytics documentation of the format.
"""

from __future__ import annotations

import math
from collections import Counter
from functools import partial
from pathlib import Path

from vision_heads.data.formats.base import (
    BadLabelsError,
    Part,
    Rows,
    Source,
    decode_text,
    is_outline,
)
from vision_heads.data.formats.folders import label_path, pair_files, read_folder
from vision_heads.data.sample import OUTLINES, POINTS, ProblemKind
from vision_heads.errors import require

_BOX = 5
_TRIANGLE = 7


def read(source: Source) -> Part:
    """Read a part: pictures, and labels in `annotations` or where "images" becomes "labels"."""
    require(source.names, "names: YOLO labels hold only numbers, so the card must name the classes")
    folder = source.annotations

    def label_of(image: Path) -> Path:
        if folder is None:
            return beside(image).with_suffix(".txt")
        return label_path(image, source, folder, ".txt")

    if folder is not None:
        require(folder.is_dir(), f"{folder}: no such folder of YOLO labels")
    labels = folder
    if labels is None and source.images is not None and source.images.suffix != ".txt":
        # Beside the pictures there are often other texts, which are no orphaned labels.
        labels = None if beside(source.images) == source.images else beside(source.images)
    pairs = pair_files(source, ".txt", labels, label_of)
    read_file = partial(
        parse, classes=len(source.names), columns=_BOX if source.keypoints else None
    )
    ids = tuple(range(len(source.names)))
    return read_folder(source, pairs, read_file, source.names, ids, unlabelled=True)


def beside(path: Path) -> Path:
    """Replace the last folder called "images" by "labels"; the path itself if there is none."""
    parts = list(path.parts)
    for index in range(len(parts) - 1, -1, -1):
        if parts[index] == "images":
            parts[index] = "labels"
            return Path(*parts)
    return path


def parse(
    data: bytes, size: tuple[int, int] | None, *, classes: int, columns: int | None = None
) -> Rows:
    """Read one YOLO txt file.

    Args:
        data: the file.
        size: (width, height) of the picture, pixels.
        classes: how many there are.
        columns: read only so many columns of each line; None: all.

    Raises:
        BadLabelsError: the picture's size is unknown, so its labels mean nothing in pixels.
    """
    text = decode_text(data)
    if size is None:
        if text.strip():
            raise BadLabelsError("the picture's size is unknown, and the labels are parts of it")
        return Rows.none()
    width, height = size
    boxes: list[tuple[float, float, float, float]] = []
    labels: list[int] = []
    places: list[int] = []
    problems: list[tuple[ProblemKind, str]] = []
    unread: Counter[str] = Counter()
    for number, line in enumerate(text.splitlines(), 1):
        whole = line.split()
        cells = whole[:columns]
        if not cells:
            continue
        try:
            label, *values = map(float, cells)
            if not math.isfinite(sum(values)) or label != int(label):
                raise ValueError
            x1, y1, x2, y2 = _corners(values)
        except (ValueError, OverflowError):
            problems.append(("bad-annotation", f"line {number}: {_fault(cells)}"))
            continue
        if not 0 <= label < classes:
            detail = f"line {number}: class {cells[0]} of {classes}, counted from 0"
            problems.append(("unknown-class", detail))
            continue
        boxes.append((x1 * width, y1 * height, x2 * width, y2 * height))
        labels.append(int(label))
        places.append(number)
        unread[POINTS] += len(whole) > len(cells)
        unread[OUTLINES] += len(values) >= _TRIANGLE - 1 and is_outline(values[::2], values[1::2])
    rows = Rows.of(boxes, labels, [False] * len(boxes), places, problems)
    rows.unread = unread
    return rows


def _corners(values: list[float]) -> tuple[float, float, float, float]:
    if len(values) == _BOX - 1:
        cx, cy, w, h = values
        return cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2
    if len(values) < _TRIANGLE - 1 or len(values) % 2:
        raise ValueError
    xs, ys = values[::2], values[1::2]
    return min(xs), min(ys), max(xs), max(ys)


def _fault(cells: list[str]) -> str:
    for index, cell in enumerate(cells):
        try:
            value = float(cell)
        except ValueError:
            value = math.nan
        if not math.isfinite(value) or (index == 0 and value != int(value)):
            what = "class" if index == 0 else f"column {index + 1}"
            return f"{what} is {cell!r}, not {'a whole' if index == 0 else 'a'} number"
    return f"{len(cells)} columns; a box has {_BOX}, a polygon an odd number from {_TRIANGLE}"
