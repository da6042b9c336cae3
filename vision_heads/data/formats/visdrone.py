"""Native VisDrone: one txt a picture, a line `x,y,w,h,score,category,truncation,occlusion`.

Pixels from the picture's top left corner. Category 0 is an ignored region, 1..10 the classes,
11 "others"; score 0 marks an object that is not judged.
Source: the VisDrone-DET ground-truth format of the challenge.
"""

from __future__ import annotations

import math

from vision_heads.data.formats.base import Part, Rows, Source, decode_text
from vision_heads.data.formats.folders import pair_files, read_folder
from vision_heads.data.sample import OTHER, REGION, ProblemKind
from vision_heads.errors import require

NAMES = (
    "pedestrian",
    "people",
    "bicycle",
    "car",
    "van",
    "truck",
    "tricycle",
    "awning-tricycle",
    "bus",
    "motor",
)
"""Class names in the order of the challenge's categories 1..10."""
CATEGORY_IDS = tuple(range(1, 11))
_FIELDS = ("x", "y", "width", "height", "score", "category")
_OTHERS = 11


def read(source: Source) -> Part:
    """Read a part: a folder of pictures and a folder of txt files with the same stems."""
    names = source.names or NAMES
    require(
        len(names) == len(NAMES),
        f"names: VisDrone has {len(NAMES)} classes, the card names {len(names)}",
    )
    folder = source.annotations or source.root / "annotations"
    require(folder.is_dir(), f"{folder}: no such folder of VisDrone txt files")

    pairs = pair_files(source, ".txt", folder)
    return read_folder(source, pairs, parse, names, CATEGORY_IDS)


def parse(data: bytes, size: tuple[int, int] | None) -> Rows:
    """Read one VisDrone txt file; `size` is not needed."""
    boxes: list[tuple[float, float, float, float]] = []
    labels: list[int] = []
    ignored: list[bool] = []
    places: list[int] = []
    problems: list[tuple[ProblemKind, str]] = []
    for number, line in enumerate(decode_text(data).splitlines(), 1):
        cells = line.strip().rstrip(",").split(",")
        if cells == [""]:
            continue
        try:
            x, y, w, h, score, category = map(float, cells[:6])
            if not math.isfinite(x + y + w + h + score + category):
                raise ValueError
        except ValueError:
            problems.append(("bad-annotation", f"line {number}: {_fault(cells)}"))
            continue
        if category not in range(_OTHERS + 1):
            problems.append(("unknown-class", f"line {number}: category {cells[5].strip()}"))
            continue
        label = {0: REGION, _OTHERS: OTHER}.get(int(category), int(category) - 1)
        boxes.append((x, y, x + w, y + h))
        labels.append(label)
        ignored.append(label < 0 or score == 0)
        places.append(number)
    return Rows.of(boxes, labels, ignored, places, problems)


def _fault(cells: list[str]) -> str:
    if len(cells) < len(_FIELDS):
        return f"{len(cells)} fields, at least {len(_FIELDS)} are needed"
    for name, cell in zip(_FIELDS, cells, strict=False):
        try:
            finite = math.isfinite(float(cell))
        except ValueError:
            finite = False
        if not finite:
            return f"{name} is {cell.strip()!r}, not a number"
    return "numbers are too large"
