"""The outcome of a protocol: numbers, a table by class, curves and the confusion matrix."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from vision_heads.evaluation.headpose import PoseScores

COUNTS = ("images", "objects", "heads", "total", "matched")
"""Names of figures that are counts, whole numbers; all others have decimals."""


@dataclass(frozen=True, slots=True)
class Curves:
    """Precision, recall and F1 at IoU 0.5.

    Attributes:
        names: the C classes.
        objects: (C,) int64 objects each class's recall is counted in.
        recall: (101,) grid 0..1.
        precision: (C, 101) best precision at that recall or more; 0 where it is not reached.
        confidence: (K,) grid 0..1.
        f1: (C, K) harmonic mean of precision and recall of the results at that score or more.
    """

    names: tuple[str, ...]
    objects: NDArray[np.int64]
    recall: NDArray[np.float64]
    precision: NDArray[np.float64]
    confidence: NDArray[np.float64]
    f1: NDArray[np.float64]

    @property
    def mean_precision(self) -> NDArray[np.float64]:
        """(101,) plain mean over the classes that have objects."""
        return _mean_of(self.precision, self.objects)

    @property
    def mean_f1(self) -> NDArray[np.float64]:
        """(K,) plain mean over the classes that have objects."""
        return _mean_of(self.f1, self.objects)

    @property
    def best_confidence(self) -> float:
        """Return the confidence at which the mean F1 is highest (the lowest of equals)."""
        return float(self.confidence[np.argmax(self.mean_f1)])


def _mean_of(table: NDArray[np.float64], objects: NDArray[np.int64]) -> NDArray[np.float64]:
    rows = table[objects > 0]
    return rows.mean(axis=0) if len(rows) else np.zeros(table.shape[1])


@dataclass(frozen=True, slots=True)
class Confusion:
    """What was found where, over all classes together.

    Attributes:
        names: the C classes; row and column C stand for background.
        counts: (C + 1, C + 1) int64, [truth, found]: [c, C] missed, [C, c] found on background.
        confidence, iou: results at this score or more, matched at this IoU or more.
    """

    names: tuple[str, ...]
    counts: NDArray[np.int64]
    confidence: float
    iou: float


@dataclass(frozen=True, slots=True)
class Scores:
    """What a protocol says of predictions.

    Attributes:
        protocol: its name.
        numbers: by name, percent unless `units` says otherwise; NaN where the data
            holds nothing to measure it on (JSON: null).
        classes: the same by class name: rows of the per-class table, with the counts
            "objects" and "images" beside the percentages.
        images: how many pictures were scored.
        curves, confusion: for the plots.
        units: of numbers that are not percent.
        pose: errors of head poses; None for protocols that know none.
    """

    protocol: str
    numbers: dict[str, float]
    classes: dict[str, dict[str, float]]
    images: int
    curves: Curves
    confusion: Confusion
    units: Mapping[str, str] = field(default_factory=dict)
    pose: PoseScores | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return a record for JSON: the numbers by their names, then everything else.

        What could not be measured is None.
        """
        return {
            **no_nan(self.numbers),
            **({} if self.pose is None else self.pose.to_dict()),
            "protocol": self.protocol,
            "images": self.images,
            "classes": {name: no_nan(row) for name, row in self.classes.items()},
            "best_f1": {
                "confidence": self.curves.best_confidence,
                "f1": float(self.curves.mean_f1.max(initial=0.0)),
            },
            "confusion": {
                "names": [*self.confusion.names, "background"],
                "counts": self.confusion.counts.tolist(),
                "confidence": self.confusion.confidence,
                "iou": self.confusion.iou,
            },
        }


def no_nan(row: dict[str, float]) -> dict[str, float | None]:
    """Replace NaN by None, which JSON can hold."""
    return {name: None if math.isnan(value) else value for name, value in row.items()}
