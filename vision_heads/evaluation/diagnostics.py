"""Curves and confusion matrix, the same for every box protocol."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vision_heads.evaluation.matching import match, overlapping
from vision_heads.evaluation.records import FoundTable, Truth
from vision_heads.evaluation.scores import Confusion, Curves

CONFUSION_CONFIDENCE = 0.25
CONFUSION_IOU = 0.5
_RECALL = np.linspace(0.0, 1.0, 101)
_CONFIDENCE = np.linspace(0.0, 1.0, 501)


def falling(found: FoundTable, label: int) -> NDArray[np.int64]:
    """Return the rows of one class by falling score; equals go by picture, then by place."""
    rows = np.flatnonzero(found.label == label)
    return rows[np.lexsort((found.rank[rows], found.image[rows], -found.score[rows]))]


def curves(
    names: tuple[str, ...],
    found: FoundTable,
    state: NDArray[np.int8],
    objects: NDArray[np.int64],
) -> Curves:
    """Draw up precision over recall and F1 over confidence.

    Args:
        names: the C classes.
        found: the predictions that the protocol judged.
        state: (N,) outcome of each at IoU 0.5: 1 hit, 0 false positive, -1 not counted.
        objects: (C,) objects of each class.
    """
    precision = np.zeros((len(names), len(_RECALL)))
    f1 = np.zeros((len(names), len(_CONFIDENCE)))
    for label, number in enumerate(objects):
        rows = falling(found, label)
        rows = rows[state[rows] >= 0]
        if not len(rows) or not number:
            continue
        hits = np.cumsum(state[rows] == 1)
        count = np.arange(1, len(rows) + 1)
        best = np.maximum.accumulate((hits / count)[::-1])[::-1]
        place = np.searchsorted(hits / number, _RECALL, side="left")
        precision[label] = np.append(best, 0.0)[place]
        shown = np.searchsorted(-found.score[rows], -_CONFIDENCE, side="right")
        f1[label] = 2 * np.append(0, hits)[shown] / (shown + number)
    return Curves(names, objects, _RECALL, precision, _CONFIDENCE, f1)


def confusion(names: tuple[str, ...], found: FoundTable, truth: Truth) -> Confusion:
    """Count which class was found on which, at one confidence and one IoU.

    Predictions are matched regardless of class, the best score first. One that hits nothing but
    lies at least half inside an ignored area is left out.
    """
    shown = found[(found.score >= CONFUSION_CONFIDENCE) & (found.label >= 0)]
    pairs = overlapping(shown, truth, CONFUSION_IOU, by_class=False)
    matches = match(shown, truth, pairs, np.array([CONFUSION_IOU]), by_class=False)
    state, partner = matches.state[0], matches.partner[0]
    background = len(names)
    counts = np.zeros((background + 1, background + 1), np.int64)
    hit = state == 1
    np.add.at(counts, (truth.label[partner[hit]], shown.label[hit]), 1)
    counts[background, :-1] = np.bincount(shown.label[state == 0], minlength=background)
    missed = ~truth.ignore
    missed[partner[hit]] = False
    counts[:-1, background] = np.bincount(truth.label[missed], minlength=background)
    return Confusion(names, counts, CONFUSION_CONFIDENCE, CONFUSION_IOU)
