"""One labelled picture, whatever format it came from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

REGION = -1
"""Ignore label: an area where no class is judged (VisDrone's ignored regions)."""
OTHER = -2
"""Ignore label: an object of no evaluated class (VisDrone's "others"). Training and the COCO
protocol treat it as a region; the official VisDrone protocol does not know it."""

OUTLINES = "outlines of objects (polygons, masks)"
POINTS = "key points of objects"

ProblemKind = Literal[
    "missing-image",
    "corrupt-image",
    "missing-annotation",
    "bad-annotation",
    "duplicate-image",
    "duplicate-box",
    "unknown-class",
    "empty-box",
    "box-outside",
]


def _no_boxes() -> NDArray[np.float32]:
    return np.zeros((0, 4), np.float32)


def _no_labels() -> NDArray[np.int64]:
    return np.zeros(0, np.int64)


@dataclass(slots=True)
class Sample:
    """A picture's file and its labels.

    Boxes are float32 xyxy in absolute pixels of the upright (EXIF-applied) original picture,
    exactly as labelled: out-of-bounds or empty ones are kept here and reported as problems.

    Attributes:
        image: file of the picture; may not exist when only predictions are scored.
        image_id: the data set's own id, kept into results (file stem where it has none).
        width, height: of the upright picture in pixels.
        boxes: (N, 4) objects.
        labels: (N,) contiguous class indices into the data set's names.
        areas: (N,) pixels² the protocol bins sizes by (COCO's own `area`, or exactly w * h of its
            boxes), or None: w * h.
        ignore_boxes: (K, 4) areas without loss and without false positives.
        ignore_labels: (K,) class index of an object not to be judged (COCO crowd, VisDrone
            score 0), or `REGION`, or `OTHER`.
        rotations: (N, 3, 3) head rotations, NaN where unknown, or None: no poses at all.
        euler: (N, 3) float64 [pitch, yaw, roll] in degrees exactly as labelled, NaN where
            unknown. Only scoring reads them: float32 matrices lose pitch and roll at a yaw of 90.
            None: not labelled so; DirectMHP's angles of `rotations` are meant.
    """

    image: Path
    image_id: int | str
    width: int
    height: int
    boxes: NDArray[np.float32] = field(default_factory=_no_boxes)
    labels: NDArray[np.int64] = field(default_factory=_no_labels)
    areas: NDArray[np.float32] | None = None
    ignore_boxes: NDArray[np.float32] = field(default_factory=_no_boxes)
    ignore_labels: NDArray[np.int64] = field(default_factory=_no_labels)
    rotations: NDArray[np.float32] | None = None
    euler: NDArray[np.float64] | None = None


def by_id(samples: Sequence[Sample]) -> list[int]:
    """Return the places of pictures in the order of their ids, which ranks equal scores.

    Numbers go by size and texts by their characters, as pycocotools sorts them. It cannot sort
    both together; these keep their order.
    """
    ids: list[Any] = [sample.image_id for sample in samples]
    alike = len({isinstance(key, str) for key in ids}) == 1
    return sorted(range(len(ids)), key=ids.__getitem__) if alike else list(range(len(ids)))


@dataclass(frozen=True, slots=True)
class Problem:
    """Something wrong with a data set, named so that its owner can find it.

    Attributes:
        kind: what sort.
        file: the file at fault.
        detail: the line or field and what is wrong with it.
    """

    kind: ProblemKind
    file: Path
    detail: str


@dataclass(slots=True)
class DataSplit:
    """One split of a data set, read.

    Attributes:
        name: of the data set (the card's).
        split: "train", "val", ...
        names: class names, contiguous order.
        category_ids: the data set's own id of each class.
        samples: every picture, sorted by file name; pictures without labels are negatives.
        problems: everything found wrong while reading; nothing is dropped silently.
        terms: of use of the data, shown when training starts.
        unlabelled: pictures without a label file where the format takes that for a negative.
        emptied: pictures that `fixes.apply_fixes` left out, because dropping took their last box.
        unread: what the labels say of objects and nothing here reads, how many of what.
    """

    name: str
    split: str
    names: tuple[str, ...]
    category_ids: tuple[int, ...]
    samples: list[Sample]
    problems: list[Problem] = field(default_factory=list)
    terms: str = ""
    unlabelled: int = 0
    emptied: int = 0
    unread: Counter[str] = field(default_factory=Counter)
