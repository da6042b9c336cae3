"""Candidates of one picture to detections: threshold, limits and NMS, all of them deterministic."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vision_heads.geometry.boxes import nms
from vision_heads.heads.base import DecodeOptions
from vision_heads.results import Detections
from vision_heads.spec import HeadSpec

MAX_CANDIDATES = 30_000
"""Most (box, class) pairs that enter NMS, the best ones: a bound on time that no clock decides."""


def decode(
    boxes: NDArray[np.float32],
    scores: NDArray[np.float32],
    spec: HeadSpec,
    options: DecodeOptions,
) -> Detections:
    """Turn candidates into detections.

    Args:
        boxes: (K, 4) xyxy, network pixels.
        scores: (K, C) probabilities in the order of `spec.classes`; NaN counts as absent.
        spec: the head, for its names.
        options: `conf` is exceeded strictly. With `multi_label`, a candidate counts once for
            each class above `conf`; otherwise for its best class, the first of equal ones.
            `classes` selects after that choice.

    Returns:
        At most `options.max_det` detections in network pixels, best first; equal scores in the
        order of the candidates.
    """
    chosen = choose(boxes, scores, options)
    return Detections(
        boxes[chosen.rows], chosen.scores, chosen.labels, spec.classes, spec.category_ids
    )


class Chosen(NamedTuple):
    """Candidates that become results, best first: rows (N,), class indices (N,), scores (N,)."""

    rows: NDArray[np.int64]
    labels: NDArray[np.int64]
    scores: NDArray[np.float32]


def choose(
    boxes: NDArray[np.float32], scores: NDArray[np.float32], options: DecodeOptions
) -> Chosen:
    """Threshold, limits and NMS: what `decode` keeps, for kinds that carry more than boxes."""
    rows, labels, values = _select(scores, options)
    if len(values) > MAX_CANDIDATES:
        best = np.sort(np.argsort(-values, kind="stable")[:MAX_CANDIDATES])
        rows, labels, values = rows[best], labels[best], values[best]
    kept = nms(boxes[rows], values, labels, options.iou, options.max_det)
    return Chosen(rows[kept], labels[kept], values[kept])


def _select(
    scores: NDArray[np.float32], options: DecodeOptions
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
    """Candidate index, class and score of everything above the threshold."""
    if options.multi_label:
        rows, labels = np.nonzero(scores > options.conf)
        values = scores[rows, labels]
    else:
        # NaN would win argmax and hide the candidate's other classes.
        clean = np.nan_to_num(scores, nan=0.0)
        labels = clean.argmax(axis=1)
        values = clean[np.arange(len(clean)), labels]
        rows = np.flatnonzero(values > options.conf)
        labels, values = labels[rows], values[rows]
    if options.classes is not None:
        wanted = np.isin(labels, options.classes)
        rows, labels, values = rows[wanted], labels[wanted], values[wanted]
    return rows, labels, values
