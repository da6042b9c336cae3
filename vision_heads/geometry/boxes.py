"""Box arithmetic on float arrays of shape (N, 4). Nothing of the package is imported here.

`xyxy` boxes are continuous coordinates: x2 - x1 is the width, a box around the whole picture is
(0, 0, width, height). Functions never change their arguments.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]


def xyxy_to_xywh(boxes: NDArray[np.floating]) -> NDArray[np.floating]:
    """Corners to corner and size (x, y, width, height); any float type, kept."""
    boxes = np.asarray(boxes).reshape(-1, 4)
    return np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1)


def clip(boxes: NDArray[np.floating], width: float, height: float) -> NDArray[np.floating]:
    """Cut xyxy boxes off at the picture's edges; one outside becomes empty on the edge.

    Args:
        boxes: (N, 4) xyxy, pixels.
        width, height: of the picture.
    """
    limit = np.array([width, height, width, height], boxes.dtype)
    return np.asarray(np.clip(boxes, np.zeros(4, boxes.dtype), limit))


def area(boxes: NDArray[np.floating]) -> NDArray[np.floating]:
    """Return (N,) areas of xyxy boxes in pixels squared; 0 where x2 < x1 or y2 < y1."""
    sides = np.maximum(boxes[:, 2:] - boxes[:, :2], 0)
    return np.asarray(sides[:, 0] * sides[:, 1])


def intersection_matrix(a: NDArray[np.floating], b: NDArray[np.floating]) -> NDArray[np.floating]:
    """Return (N, M) areas shared by each of `a` (N, 4) and each of `b` (M, 4), xyxy."""
    width = np.minimum(a[:, None, 2], b[None, :, 2]) - np.maximum(a[:, None, 0], b[None, :, 0])
    height = np.minimum(a[:, None, 3], b[None, :, 3]) - np.maximum(a[:, None, 1], b[None, :, 1])
    return np.asarray(np.maximum(width, 0) * np.maximum(height, 0))


def iou_matrix(a: NDArray[np.floating], b: NDArray[np.floating]) -> NDArray[np.floating]:
    """Return (N, M) intersection over union of `a` (N, 4) and `b` (M, 4), xyxy.

    Two empty boxes have IoU 0.
    """
    shared = intersection_matrix(a, b)
    union = area(a)[:, None] + area(b)[None, :] - shared
    return np.asarray(np.divide(shared, union, out=np.zeros_like(shared), where=union > 0))


def nms(
    boxes: NDArray[np.floating],
    scores: NDArray[np.floating],
    class_id: NDArray[np.integer] | None,
    iou: float,
    max_det: int | None = None,
) -> NDArray[np.int64]:
    """Greedy non-maximum suppression within each class, in C++ (OpenCV).

    Best first, a box is kept unless a kept box of its class overlaps it by more than `iou`.
    Equal scores are taken in the order given, so that the result depends on nothing else. A box
    without an area overlaps none.

    OpenCV's batched call shifts classes apart and compares every box with every kept one of any
    class; one call a class gives the same boxes in a third of the time (docs/decisions.md).

    Args:
        boxes: (N, 4) xyxy.
        scores: (N,) any finite numbers.
        class_id: (N,) boxes of different classes never suppress each other; None: one class.
        iou: threshold in 0..1.
        max_det: keep at most so many, the best over all classes.

    Returns:
        (M,) indices of the kept boxes, best first.
    """
    scores = np.asarray(scores)
    order = np.argsort(-scores, kind="stable")
    corners = np.asarray(boxes, np.float64).reshape(-1, 4)[order]
    kept = area(corners) == 0  # OpenCV has any two of these overlap wholly, wherever they are
    solid = np.flatnonzero(~kept)
    rects = xyxy_to_xywh(corners)
    labels = None if class_id is None else np.asarray(class_id)[order][solid]
    for part in _groups(labels, len(solid)):
        group = solid[part]
        # Ranks instead of scores: OpenCV accepts no negative threshold, and breaks no ties.
        ranks = np.arange(len(group), 0, -1, dtype=np.float32)
        found = cv2.dnn.NMSBoxes(rects[group], ranks, 0.0, float(iou))  # type: ignore[arg-type]
        kept[group[np.asarray(found, np.int64).reshape(-1)]] = True
    return order[np.flatnonzero(kept)][:max_det]


def _groups(labels: NDArray[np.integer] | None, count: int) -> list[NDArray[np.int64]]:
    """Indices of each class, ascending."""
    if count == 0:
        return []
    if labels is None:
        return [np.arange(count)]
    by_class = np.argsort(labels, kind="stable")
    starts = np.flatnonzero(np.diff(labels[by_class])) + 1
    return np.split(by_class, starts)
