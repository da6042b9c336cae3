"""The pictures a model does worst on, drawn: what it missed and what it made up."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vision_heads.data.sample import DataSplit, Sample
from vision_heads.errors import UserError
from vision_heads.evaluation.runner import Run
from vision_heads.geometry.boxes import iou_matrix
from vision_heads.media.draw import draw_boxes
from vision_heads.media.images import read_image
from vision_heads.results import Detections

MISSED = (36, 36, 230)
"""BGR of an object that was not found."""
INVENTED = (0, 190, 255)
"""BGR of a result where there is no such object."""
RIGHT = (120, 200, 80)


@dataclass(frozen=True, slots=True)
class Mistakes:
    """One picture's mistakes at a confidence and IoU 0.5.

    Attributes:
        sample: the picture.
        missed, invented, right: (N, 4) xyxy boxes in original pixels.
    """

    sample: Sample
    missed: NDArray[np.float32]
    invented: NDArray[np.float32]
    right: NDArray[np.float32]

    @property
    def count(self) -> int:
        """Number of mistakes."""
        return len(self.missed) + len(self.invented)

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall, 1 for an empty picture left empty."""
        found = 2 * len(self.right)
        return found / (found + self.count) if found + self.count else 1.0


def mistakes_of(sample: Sample, found: Detections, labels: NDArray[np.int64]) -> Mistakes:
    """Match results, best first, each to the free object of its class it overlaps most.

    Args:
        sample: the truth.
        found: results above the confidence of interest, best first.
        labels: (N,) class of each result in the data set's numbering.
    """
    overlap = iou_matrix(found.xyxy, sample.boxes)
    overlap = np.where(labels[:, None] == sample.labels[None], overlap, 0)
    free = np.ones(len(sample.boxes), bool)
    hit = np.zeros(len(found), bool)
    for row in range(len(found)):
        candidates = np.where(free, overlap[row], 0)
        if len(candidates) and candidates.max() >= 0.5:
            free[candidates.argmax()] = False
            hit[row] = True
    excused = np.zeros(len(found), bool)
    if len(sample.ignore_boxes):
        excused = iou_matrix(found.xyxy, sample.ignore_boxes).max(1) >= 0.5
        centers = (found.xyxy[:, None, :2] + found.xyxy[:, None, 2:]) / 2
        low, high = sample.ignore_boxes[None, :, :2], sample.ignore_boxes[None, :, 2:]
        inside = np.all((centers >= low) & (centers <= high), axis=2)
        excused |= inside.any(axis=1)
    return Mistakes(sample, sample.boxes[free], found.xyxy[~hit & ~excused], found.xyxy[hit])


def worst(split: DataSplit, run: Run, confidence: float, most: int) -> list[Mistakes]:
    """Return the pictures with the lowest F1, the ones with more mistakes first among equals."""
    every = []
    for sample, found in zip(split.samples, run.detections, strict=True):
        sure = found[found.score >= confidence]
        # Classes match as in scoring: "Car" of the head may be "car" of these labels.
        every.append(mistakes_of(sample, sure, run.classes.index[sure.class_id]))
    return sorted((m for m in every if m.count), key=lambda m: (m.f1, -m.count))[:most]


def draw_mistakes(mistakes: Mistakes) -> NDArray[np.uint8]:
    """Draw a picture's mistakes: missed red, invented amber, right green."""
    image = read_image(mistakes.sample.image)
    groups = (
        (mistakes.right, RIGHT), (mistakes.invented, INVENTED), (mistakes.missed, MISSED),
    )  # fmt: skip
    boxes = np.concatenate([group for group, _ in groups])
    colors = [color for group, color in groups for _ in group]
    return draw_boxes(image, boxes, [""] * len(boxes), colors)


def drawn(mistakes: Iterable[Mistakes], most: int) -> list[tuple[Mistakes, NDArray[np.uint8]]]:
    """Draw the first mistakes whose pictures can be read; scoring took the others as empty."""
    found: list[tuple[Mistakes, NDArray[np.uint8]]] = []
    for one in mistakes:
        if len(found) == most:
            break
        with suppress(UserError):
            found.append((one, draw_mistakes(one)))
    return found
