"""Pictures whose labels can be read off their pixels: one bright block a box, on black."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from vision_heads.data.augment import AugmentConfig
from vision_heads.data.sample import DataSplit, Sample

STILL = AugmentConfig(
    flip=0, translate=0, scale=0, hsv_h=0, hsv_s=0, hsv_v=0, blur=0, grey=0, contrast=0, mosaic=0
)
"""No augmentation at all."""
COLORS = ((255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0), (255, 0, 255), (0, 255, 255))
"""BGR by class."""


def still(**changes: object) -> AugmentConfig:
    """Return `STILL` with changes."""
    return AugmentConfig(**{**STILL.model_dump(), **changes})


def block_picture(
    width: int, height: int, boxes: Iterable[tuple[int, int, int, int]], labels: Iterable[int]
) -> NDArray[np.uint8]:
    """Return a black picture with a block in its class's colour in each box."""
    picture = np.zeros((height, width, 3), np.uint8)
    for (x1, y1, x2, y2), label in zip(boxes, labels, strict=True):
        picture[y1:y2, x1:x2] = COLORS[label]
    return picture


def make_sample(
    width: int,
    height: int,
    boxes: list[tuple[int, int, int, int]],
    labels: list[int] | None = None,
    name: str = "a.png",
    ignore: list[tuple[int, int, int, int]] | None = None,
    rotations: NDArray[np.float32] | None = None,
) -> Sample:
    """Return a sample with these labels; its picture is `block_picture`'s."""
    return Sample(
        image=Path(name),
        image_id=name,
        width=width,
        height=height,
        boxes=np.array(boxes, np.float32).reshape(-1, 4),
        labels=np.array(labels if labels is not None else [0] * len(boxes), np.int64),
        ignore_boxes=np.array(ignore or [], np.float32).reshape(-1, 4),
        ignore_labels=np.full(len(ignore or []), -1, np.int64),
        rotations=rotations,
    )


def picture_of(sample: Sample) -> NDArray[np.uint8]:
    """Return the block picture of a sample, as a loader would."""
    boxes = [tuple(map(int, box)) for box in sample.boxes]
    return block_picture(sample.width, sample.height, boxes, sample.labels.tolist())


def extent(picture: NDArray[np.uint8], label: int) -> NDArray[np.float64]:
    """Return the xyxy extent of a class's colour, at half its brightness or more."""
    color = np.array(COLORS[label])
    lit = (picture[..., color > 0] >= 128).all(-1) & (picture[..., color == 0] < 114).all(-1)
    rows, columns = np.flatnonzero(lit.any(1)), np.flatnonzero(lit.any(0))
    return np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1], np.float64)


def write_split(
    folder: Path, count: int, size: tuple[int, int] = (96, 64), posed: bool = False
) -> DataSplit:
    """Write `count` block pictures, each with two boxes and an ignore area; one has none."""
    rng = np.random.default_rng(count)
    folder.mkdir(parents=True, exist_ok=True)
    samples = []
    width, height = size
    for i in range(count):
        x, y = (int(v) for v in rng.integers(2, 20, 2))
        boxes = [(x, y, x + 12, y + 9), (x + 40, y + 20, x + 52, y + 28)] if i else []
        labels = rng.integers(0, len(COLORS), len(boxes)).tolist()
        file = folder / f"{i:03d}.png"
        turns = np.tile(np.eye(3, dtype=np.float32), (len(boxes), 1, 1)) if posed else None
        sample = make_sample(width, height, boxes, labels, str(file), [(0, 50, 9, 60)], turns)
        noise = rng.integers(0, 40, (height, width, 3), dtype=np.uint8)
        blocks = picture_of(sample)
        cv2.imwrite(str(file), np.where(blocks.any(-1, keepdims=True), blocks, noise))
        samples.append(sample)
    names = tuple(f"class{i}" for i in range(len(COLORS)))
    return DataSplit("blocks", "train", names, tuple(range(len(names))), samples)
