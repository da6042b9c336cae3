"""The pictures a model does worst on, drawn: what it missed and what it made up."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vision_heads.data.sample import DataSplit, Sample
from vision_heads.errors import UserError
from vision_heads.evaluation.matching import match, overlapping
from vision_heads.evaluation.records import Found, FoundTable, Truth, to_xywh
from vision_heads.evaluation.runner import Run
from vision_heads.media.draw import draw_boxes
from vision_heads.media.images import read_image
from vision_heads.results import Detections

MISSED = (36, 36, 230)
"""BGR of an object that was not found."""
INVENTED = (0, 190, 255)
"""BGR of a result where there is no such object."""
RIGHT = (120, 200, 80)
IOU = 0.5
"""Overlap from which a result is right."""


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
    """Match results as scoring by COCO's rules does, see `evaluation.matching`.

    Args:
        sample: the truth.
        found: results above the confidence of interest.
        labels: (N,) class of each result in the data set's numbering.
    """
    truth = Truth.of_sample(sample, 0)
    score = found.score.astype(np.float64)
    table = FoundTable.of([Found(to_xywh(found.xyxy), score, labels)])
    matches = match(table, truth, overlapping(table, truth, IOU), np.array([IOU]))
    state = matches.state[0]
    hit = state == 1
    missed = np.ones(len(sample.boxes), bool)
    missed[matches.partner[0][hit]] = False
    return Mistakes(sample, sample.boxes[missed], found.xyxy[state == 0], found.xyxy[hit])


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
