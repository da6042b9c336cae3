"""Time both protocols on a generated set of VisDrone's size: 548 pictures, 500 results each.

Run: OMP_NUM_THREADS=2 python tools/bench/evaluate.py [--pictures 548] [--results 500]
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vision_heads.data.sample import REGION, DataSplit, Sample
from vision_heads.evaluation.protocols import Found, score

_CLASSES = 10
_WIDTH, _HEIGHT = 1360, 765


def make(pictures: int, results: int, objects: int, seed: int) -> tuple[DataSplit, list[Found]]:
    """Return crowded ground truth and results of which half lie on objects."""
    rng = np.random.default_rng(seed)
    samples, found = [], []
    for number in range(pictures):
        truth = _boxes(rng, int(rng.poisson(objects)))
        labels = rng.integers(0, _CLASSES, len(truth))
        regions = _boxes(rng, int(rng.integers(0, 4))) * (1, 1, 5, 5)
        samples.append(
            Sample(
                Path(f"{number:07d}.jpg"),
                f"{number:07d}",
                _WIDTH,
                _HEIGHT,
                _corners(truth),
                labels,
                None,
                _corners(regions),
                np.full(len(regions), REGION, np.int64),
            )
        )
        found.append(_results(rng, truth, labels, results))
    names = tuple(f"class {index}" for index in range(_CLASSES))
    return DataSplit("generated", "val", names, tuple(range(1, _CLASSES + 1)), samples), found


def _boxes(rng: np.random.Generator, number: int) -> NDArray[np.float64]:
    size = np.exp(rng.normal(3.2, 0.6, (number, 2))).round() + 2
    corner = (rng.random((number, 2)) * (_WIDTH, _HEIGHT)).round()
    return np.hstack([corner, size])


def _corners(xywh: NDArray[np.float64]) -> NDArray[np.float32]:
    return np.hstack([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]]).astype(np.float32)


def _results(
    rng: np.random.Generator, truth: NDArray[np.float64], labels: NDArray[np.int64], number: int
) -> Found:
    pick = rng.integers(0, len(truth), number)
    boxes = truth[pick] + rng.normal(0, 0.1, (number, 4)) * truth[pick][:, [2, 3, 2, 3]]
    stray = rng.random(number) < 0.5
    boxes[stray] = _boxes(rng, int(stray.sum()))
    boxes[:, 2:] = np.maximum(1, boxes[:, 2:])
    return Found(boxes, rng.random(number), labels[pick]).best_first()


def main() -> None:
    """Print one JSON line: seconds by protocol."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pictures", type=int, default=548)
    parser.add_argument("--results", type=int, default=500)
    parser.add_argument("--objects", type=int, default=71, help="mean number in a picture")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    split, found = make(options.pictures, options.results, options.objects, options.seed)
    record: dict[str, float] = {"pictures": options.pictures, "results": options.results}
    for protocol in ("visdrone", "coco"):
        start = time.perf_counter()
        scores = score(split, found, protocol)
        record[f"{protocol}_s"] = round(time.perf_counter() - start, 2)
        record[f"{protocol}_AP50"] = round(scores.numbers["AP50"], 3)
    print(json.dumps(record))


if __name__ == "__main__":
    main()
