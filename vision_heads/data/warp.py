"""Geometry of augmentation: one matrix takes a picture, its boxes and its poses along.

Matrices are 3x3 float64 on continuous image coordinates (x right, y down, a pixel is one unit
wide, its centre at .5) and multiply column vectors. Nothing here is random but `random_view`.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from vision_heads.data.sample import Sample
from vision_heads.geometry.boxes import area, clip

Matrix = NDArray[np.float64]
Picture = NDArray[np.uint8]
Floats = NDArray[np.float32]

PAD_VALUE = 114
"""Grey level of what no picture covers; `InputSpec.pad_value`'s default."""


@dataclass(slots=True)
class Labels:
    """Labels of one picture on the network's input, xyxy network pixels.

    Attributes:
        boxes: (N, 4) float32.
        labels: (N,) int64.
        ignore: (K, 4) float32 areas without loss.
        rotations: (N, 3, 3) float32, NaN where unknown.
    """

    boxes: Floats
    labels: NDArray[np.int64]
    ignore: Floats
    rotations: Floats

    @classmethod
    def none(cls) -> Labels:
        """Return no labels."""
        boxes = np.zeros((0, 4), np.float32)
        return cls(boxes, np.zeros(0, np.int64), boxes, np.zeros((0, 3, 3), np.float32))

    @classmethod
    def join(cls, parts: list[Labels]) -> Labels:
        """Put the labels of several pictures together, in order."""
        return cls(
            np.concatenate([p.boxes for p in parts]),
            np.concatenate([p.labels for p in parts]),
            np.concatenate([p.ignore for p in parts]),
            np.concatenate([p.rotations for p in parts]),
        )


def shift(x: float, y: float) -> Matrix:
    """Return the translation by (x, y)."""
    return np.array([[1, 0, x], [0, 1, y], [0, 0, 1]], np.float64)


def stretch(x: float, y: float) -> Matrix:
    """Return the scaling by x and y about the origin; x < 0 mirrors."""
    return np.array([[x, 0, 0], [0, y, 0], [0, 0, 1]], np.float64)


def turn(degrees: float) -> Matrix:
    """Return the rotation about the origin, clockwise as seen (y points down)."""
    angle = np.deg2rad(degrees)
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]], np.float64)


def shear(x_degrees: float, y_degrees: float) -> Matrix:
    """Return the shear along x and y about the origin."""
    matrix = np.eye(3)
    matrix[0, 1] = np.tan(np.deg2rad(x_degrees))
    matrix[1, 0] = np.tan(np.deg2rad(y_degrees))
    return matrix


def is_upright(matrix: Matrix) -> bool:
    """Tell whether edges along the axes stay along the axes."""
    return not (matrix[0, 1] or matrix[1, 0] or matrix[2, 0] or matrix[2, 1])


def transform_points(points: NDArray[np.floating], matrix: Matrix) -> NDArray[np.float64]:
    """Map (N, 2) points."""
    out = points @ matrix[:, :2].T + matrix[:, 2]
    return np.asarray(out[:, :2] / out[:, 2:])


def transform_boxes(boxes: NDArray[np.floating], matrix: Matrix) -> NDArray[np.float64]:
    """Map (N, 4) xyxy boxes to the upright hulls of their four mapped corners, unclipped."""
    if is_upright(matrix):
        scale = matrix[[0, 1, 0, 1], [0, 1, 0, 1]]
        out = boxes * scale + matrix[[0, 1, 0, 1], 2]
        order = np.where(scale < 0, [2, 3, 0, 1], [0, 1, 2, 3])
        return np.asarray(out[:, order])
    corners = np.asarray(boxes, np.float64)[:, [0, 1, 2, 1, 2, 3, 0, 3]].reshape(-1, 2)
    moved = transform_points(corners, matrix).reshape(-1, 4, 2)
    return np.concatenate([moved.min(1), moved.max(1)], axis=1)


def pose_transform(matrix: Matrix) -> NDArray[np.float32]:
    """Return the 3x3 `Q`, `F` that a similarity does to a head rotation: R' = Q R F.

    The picture is mirrored first (R' = M R M, M = diag(-1, 1, 1)), then turned by theta
    (R' = Rz(theta) R); both are read off the matrix. Stacked as (2, 3, 3).
    """
    mirrored = np.linalg.det(matrix[:2, :2]) < 0
    flip = np.diag([-1.0 if mirrored else 1.0, 1, 1])
    linear = matrix[:2, :2] @ flip[:2, :2]
    theta = np.degrees(np.arctan2(linear[1, 0], linear[0, 0]))
    return np.stack([turn(theta) @ flip, flip]).astype(np.float32)


def warp_labels(
    sample: Sample, matrix: Matrix, size: tuple[int, int], min_box: float, min_visible: float
) -> Labels:
    """Take a sample's labels to the network's input.

    An object of which too little is left becomes an ignore area where it is still seen: neither
    an object nor background.

    Args:
        sample: labels in original pixels.
        matrix: original pixels to network pixels.
        size: (height, width) of the network's input.
        min_box: shortest side an object keeps, network pixels.
        min_visible: smallest fraction of its box that an object keeps.

    Returns:
        Labels cut off at the edges of the input.
    """
    height, width = size
    # Labels may stick out of the picture; on a mosaic that would reach the neighbour.
    inside = clip(sample.boxes, sample.width, sample.height)
    hull = transform_boxes(inside, matrix)
    seen = _seen(inside, hull, matrix, size)
    full, left = area(hull), area(seen)
    sides = (seen[:, 2:] - seen[:, :2]).min(1, initial=np.inf)
    keep = (sides >= min_box - 1e-4) & (left >= min_visible * full) & (left > 0)
    areas = clip(sample.ignore_boxes, sample.width, sample.height)
    areas = clip(transform_boxes(areas, matrix), width, height)
    ignore = np.concatenate([areas[area(areas) > 0], seen[~keep & (left > 0)]])
    return Labels(
        seen[keep].astype(np.float32),
        sample.labels[keep],
        ignore.astype(np.float32),
        _warp_rotations(sample, matrix, keep),
    )


def _seen(
    boxes: NDArray[np.floating], hull: NDArray[np.float64], matrix: Matrix, size: tuple[int, int]
) -> NDArray[np.float64]:
    """Hulls of what is in view of each mapped box; turned boxes are cut before, not after."""
    height, width = size
    seen = np.asarray(clip(hull, width, height))
    if is_upright(matrix):
        return seen
    view = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float32)
    for i in np.flatnonzero((seen != hull).any(1) & (area(seen) > 0)):
        corners = transform_points(boxes[i][[0, 1, 2, 1, 2, 3, 0, 3]].reshape(4, 2), matrix)
        _, part = cv2.intersectConvexConvex(corners.astype(np.float32), view)
        points = np.asarray(part, np.float64).reshape(-1, 2) if part is not None else corners[:0]
        seen[i] = [*points.min(0), *points.max(0)] if len(points) else 0
    return np.asarray(clip(seen, width, height), np.float64)


def _warp_rotations(sample: Sample, matrix: Matrix, keep: NDArray[np.bool_]) -> Floats:
    if sample.rotations is None:
        return np.full((int(keep.sum()), 3, 3), np.nan, np.float32)
    turned, flip = pose_transform(matrix)
    return np.asarray(turned @ sample.rotations[keep] @ flip, np.float32)


def in_view(matrix: Matrix, width: float, height: float, size: tuple[int, int]) -> bool:
    """Tell whether a picture, mapped, may reach into the input.

    Args:
        matrix: picture pixels to network pixels.
        width, height: of the picture.
        size: (height, width) of the input.
    """
    x1, y1, x2, y2 = transform_boxes(np.array([[0, 0, width, height]], np.float64), matrix)[0]
    return bool(x1 < size[1] and y1 < size[0] and x2 > 0 and y2 > 0)


def paint(canvas: Picture, picture: Picture, matrix: Matrix) -> Matrix:
    """Draw a picture on the canvas through a matrix, bilinear, in place.

    Upright pictures are resized, which takes a quarter of a warp's time; whole pixels are then
    all that resizing can do, and the picture ends up to half a pixel beside the matrix.

    Args:
        canvas: (H, W, 3) uint8; what the picture does not reach stays.
        picture: (h, w, 3) uint8.
        matrix: picture pixels to canvas pixels.

    Returns:
        The matrix that was really applied, exact; labels must follow this one.
    """
    if is_upright(matrix):
        return _paint_upright(canvas, picture, matrix)
    height, width = picture.shape[:2]
    hull = transform_boxes(np.array([[0, 0, width, height]], np.float64), matrix)[0]
    limits = np.array([canvas.shape[1], canvas.shape[0]])
    x1, y1 = np.clip(np.floor(hull[:2]), 0, limits).astype(int).tolist()
    x2, y2 = np.clip(np.ceil(hull[2:]), 0, limits).astype(int).tolist()
    if x1 >= x2 or y1 >= y2:
        return matrix
    # OpenCV counts from pixel centres.
    moved = shift(-x1 - 0.5, -y1 - 0.5) @ matrix @ shift(0.5, 0.5)
    arguments = ((x2 - x1, y2 - y1), canvas[y1:y2, x1:x2], cv2.INTER_LINEAR)
    if matrix[2, 0] or matrix[2, 1]:
        cv2.warpPerspective(picture, moved, *arguments, cv2.BORDER_TRANSPARENT)
    else:
        cv2.warpAffine(picture, moved[:2], *arguments, cv2.BORDER_TRANSPARENT)
    return matrix


def _paint_upright(canvas: Picture, picture: Picture, matrix: Matrix) -> Matrix:
    height, width = picture.shape[:2]
    mirrored = matrix[0, 0] < 0
    if mirrored:
        matrix = matrix @ shift(width, 0) @ stretch(-1, 1)
    across = _whole_pixels(matrix[0, 0], matrix[0, 2], width, canvas.shape[1])
    down = _whole_pixels(matrix[1, 1], matrix[1, 2], height, canvas.shape[0])
    if across is None or down is None:
        return matrix @ shift(width, 0) @ stretch(-1, 1) if mirrored else matrix
    (left, right, x1, x2), (top, bottom, y1, y2) = across, down
    if mirrored:
        part = cv2.flip(picture[top:bottom, width - right : width - left], 1)
    else:
        part = picture[top:bottom, left:right]
    if part.shape[:2] != (y2 - y1, x2 - x1):
        part = cv2.resize(part, (x2 - x1, y2 - y1), interpolation=cv2.INTER_LINEAR)
    cut_x, cut_y = max(-x1, 0), max(-y1, 0)
    target = canvas[y1 + cut_y : y2, x1 + cut_x : x2]
    target[:] = part[cut_y : cut_y + target.shape[0], cut_x : cut_x + target.shape[1]]
    scale_x, scale_y = (x2 - x1) / (right - left), (y2 - y1) / (bottom - top)
    applied = shift(x1, y1) @ stretch(scale_x, scale_y) @ shift(-left, -top)
    return applied @ shift(width, 0) @ stretch(-1, 1) if mirrored else applied


def _whole_pixels(
    scale: float, move: float, length: int, limit: int
) -> tuple[int, int, int, int] | None:
    """Return which pixels of a line of `length` to resize to which of the `limit` in view.

    Returns:
        First and last + 1 of the source, first and last + 1 of the target, which may reach a
        little out of view; None when nothing is in view. Ends of the line that meet another
        line's end are rounded alike.
    """
    # One more than is seen, because the outermost half pixel has no neighbour to blend with.
    first = max(int(np.floor(-move / scale)) - 1, 0)
    last = min(int(np.ceil((limit - move) / scale)) + 1, length)
    if first >= last:
        return None
    start, end = round(first * scale + move), round(last * scale + move)
    return (first, last, start, end) if end > max(start, 0) and start < limit else None
