"""Small pictures of bright squares: learnable in seconds, labelled exactly."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from vision_heads.data.sample import DataSplit, Sample


def square_split(folder: Path, count: int, side: int = 64, seed: int = 0) -> DataSplit:
    """Write `count` pictures of `side` pixels with one to three squares of two colours."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    samples = []
    for number in range(count):
        image = rng.integers(0, 40, (side, side, 3), dtype=np.uint8)
        boxes, labels = [], []
        for _ in range(int(rng.integers(1, 4))):
            x, y = rng.integers(0, side - 16, 2)
            w = int(rng.integers(8, 16))
            label = int(rng.integers(2))
            image[y : y + w, x : x + w] = (230, 60, 60) if label else (60, 230, 230)
            boxes.append((x, y, x + w, y + w))
            labels.append(label)
        file = folder / f"{number:03d}.png"
        cv2.imwrite(str(file), image)
        samples.append(
            Sample(file, file.stem, side, side, np.array(boxes, np.float32), np.array(labels))
        )
    return DataSplit("squares", "train", ("yellow", "blue"), (1, 2), samples)


def only(split: DataSplit, label: int) -> DataSplit:
    """Return a data set that labels one colour of the same pictures, as if no other were there."""
    samples = [
        Sample(s.image, s.image_id, s.width, s.height, s.boxes[s.labels == label],
               np.zeros(int((s.labels == label).sum()), np.int64))
        for s in split.samples
    ]  # fmt: skip
    name = split.names[label]
    return DataSplit(name, split.split, (name,), (split.category_ids[label],), samples)


def posed(split: DataSplit, seed: int = 0) -> DataSplit:
    """Return the same boxes, of one class, each with a rotation about the picture's axis."""
    rng = np.random.default_rng(seed)
    samples = []
    for s in split.samples:
        angles = rng.uniform(-1, 1, len(s.boxes))
        rotations = np.tile(np.eye(3, dtype=np.float32), (len(s.boxes), 1, 1))
        rotations[:, 0, 0] = rotations[:, 1, 1] = np.cos(angles)
        rotations[:, 1, 0] = np.sin(angles)
        rotations[:, 0, 1] = -np.sin(angles)
        labels = np.zeros(len(s.boxes), np.int64)
        samples.append(
            Sample(s.image, s.image_id, s.width, s.height, s.boxes, labels, rotations=rotations)
        )
    return DataSplit("posed", split.split, ("head",), (0,), samples)
