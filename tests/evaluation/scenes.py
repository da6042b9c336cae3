"""Small data sets and results for the tests of evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from vision_heads.data.sample import OTHER, REGION, DataSplit, Sample
from vision_heads.evaluation.records import UNSCORED, Found

Row = Sequence[float]


def picture(
    name: str,
    rows: Sequence[Row],
    width: int = 100,
    height: int = 80,
    areas: Sequence[float] | None = None,
) -> Sample:
    """Make a sample of rows x, y, w, h, score, category as VisDrone's files have them."""
    table = np.array(rows, np.float64).reshape(-1, 6)
    category = table[:, 5].astype(np.int64)
    judged = (table[:, 4] != 0) & (category >= 1) & (category != 11)
    corners = np.hstack([table[:, :2], table[:, :2] + table[:, 2:4]]).astype(np.float32)
    ignored = np.where(category == 0, REGION, np.where(category == 11, OTHER, category - 1))
    return Sample(
        Path(f"{name}.jpg"),
        name,
        width,
        height,
        corners[judged],
        category[judged] - 1,
        None if areas is None else np.array(areas, np.float32),
        corners[~judged],
        ignored[~judged],
    )


def split_of(samples: list[Sample], classes: int = 10) -> DataSplit:
    names = tuple(f"class {number}" for number in range(1, classes + 1))
    return DataSplit("made", "val", names, tuple(range(1, classes + 1)), samples)


def wild_scene(seed: int, found: int = 40) -> tuple[list, list, list, DataSplit, list[Found]]:
    """Make pictures of several sizes with everything that files of other people hold.

    Regions over the border, outside, of no size, over one another; boxes of no or negative size,
    outside, huge, with halves; results in no order, of no class; pictures without either side.

    Returns:
        Rows of both sides and (width, height), one for each picture, then the same as a split.
    """
    rng = np.random.default_rng(seed)
    truth_rows, found_rows, sizes = [], [], []
    for _ in range(int(rng.integers(1, 5))):
        width, height = (int(side) for side in rng.integers(5, 60, 2))
        number = int(rng.integers(0, 15))
        boxes = rng.integers(-20, 70, (number, 4))
        boxes[:, 2:] = np.abs(boxes[:, 2:]) // rng.integers(1, 5)
        category = rng.choice([0, 1, 2, 3, 11], number, p=[0.25, 0.3, 0.2, 0.15, 0.1])
        judged = np.where(rng.random(number) < 0.2, 0, 1)
        truth_rows.append(np.column_stack([boxes, judged, category]).astype(float))
        count = int(rng.integers(0, found + 1)) if number else int(rng.integers(0, 4))
        near = rng.integers(-30, 60, (count, 4)).astype(float)
        if number:
            near = boxes[rng.integers(0, number, count)] + rng.integers(-4, 5, (count, 4)) / 2
        near[rng.random(count) < 0.02, 2:] = 1e12
        kind = rng.choice([0, 1, 2, 3, 11], count, p=[0.05, 0.4, 0.3, 0.2, 0.05])
        found_rows.append(np.column_stack([near, rng.integers(-1, 12, count) / 8, kind]))
        sizes.append((width, height))
    samples = [
        picture(f"{i:03d}", rows, *size)
        for i, (rows, size) in enumerate(zip(truth_rows, sizes, strict=True))
    ]
    found_by_picture = [results(rows) for rows in found_rows]
    return truth_rows, found_rows, sizes, split_of(samples, 10), found_by_picture


def results(rows: Sequence[Row]) -> Found:
    """Make results of rows x, y, w, h, score, category; 0 and 11 are of no class."""
    table = np.array(rows, np.float64).reshape(-1, 6)
    category = table[:, 5].astype(np.int64)
    label = np.where((category >= 1) & (category <= 10), category - 1, UNSCORED)
    return Found(table[:, :4], table[:, 4], label)


def random_scene(
    seed: int, pictures: int = 4, classes: int = 3, objects: int = 25, found: int = 60
) -> tuple[list[np.ndarray], list[np.ndarray], DataSplit, list[Found]]:
    """Make crowded pictures with ties, ignored objects, regions and "others".

    Returns the rows of both sides too. Whole-pixel boxes from a small range give many equal
    overlaps, and scores of one digit many equal scores.
    """
    rng = np.random.default_rng(seed)
    truth_rows, found_rows = [], []
    for _ in range(pictures):
        number = int(rng.integers(0, objects + 1))
        boxes = np.hstack([rng.integers(-5, 95, (number, 2)), rng.integers(3, 25, (number, 2))])
        category = rng.integers(1, classes + 1, number)
        category[rng.random(number) < 0.08] = 0
        category[rng.random(number) < 0.08] = 11
        score = np.where((category == 0) | (rng.random(number) < 0.15), 0, 1)
        truth_rows.append(np.column_stack([boxes, score, category]).astype(float))

        count = int(rng.integers(0, found + 1))
        if number:
            near = boxes[rng.integers(0, number, count)].astype(float)
            near += rng.integers(-4, 5, near.shape) * rng.choice([0.5, 1.0], near.shape)
        else:
            near = rng.integers(1, 50, (count, 4)).astype(float)
        near[:, 2:] = np.maximum(0.5, near[:, 2:])
        kind = rng.choice([*range(1, classes + 1), 11], count)
        found_rows.append(np.column_stack([near, rng.integers(0, 10, count) / 10, kind]))
    samples = [picture(f"{i:03d}", rows) for i, rows in enumerate(truth_rows)]
    return truth_rows, found_rows, split_of(samples, 10), [results(rows) for rows in found_rows]
