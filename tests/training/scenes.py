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
