"""Where heads are turned: towards the camera, a place, or one another.

This is the direction of the head, not of the eyes: people glance up to 30 degrees aside without
turning it. All of it rests on two assumptions, because one picture has no depth: heads are
equally large, so that a head's distance follows from its box; and the camera's focal length is
as given, or else the picture's longer side (a horizontal view of 53 degrees).

Directions and places are in image axes: x right, y down, z to the viewer, as rotations have
them (their third column is the nose). Places are in head sizes, the camera at 0; a rotation is
as seen in the picture, so that a face seen frontally looks at the camera wherever it is.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vision_heads.errors import UserError, require
from vision_heads.geometry.rotations import direction

Floats = NDArray[np.float64]

AT_CAMERA = -1
AT_NOBODY = -2


@dataclass(frozen=True, slots=True, eq=False)
class Attention:
    """Who is turned to whom in one picture of N heads.

    Attributes:
        camera: (N,) degrees between each head's direction and the camera; NaN: unknown pose.
        others: (N, N) degrees between head i's direction and the place of head j; NaN on the
            diagonal and where the pose of i is unknown.
        target: (N,) index of the head that i is turned to, `AT_CAMERA` or `AT_NOBODY`: the one
            of the smallest angle, if that is within the limit.
        mutual: (P, 2) pairs i < j of heads that are turned to each other.
    """

    camera: Floats
    others: Floats
    target: NDArray[np.int64]
    mutual: NDArray[np.int64]


def places(
    xyxy: NDArray[np.floating], width: int, height: int, focal: float | None = None
) -> Floats:
    """Estimate where heads are.

    Args:
        xyxy: (N, 4) boxes in pixels.
        width, height: of the picture.
        focal: length in pixels; the picture's longer side when None.

    Returns:
        (N, 3) in head sizes, z negative: away from the viewer.

    Raises:
        UserError: a box is empty or the focal length not positive.
    """
    boxes = np.asarray(xyxy, np.float64).reshape(-1, 4)
    sides = boxes[:, 2:] - boxes[:, :2]
    require((sides > 0).all(), "attention: a box is empty")
    # The longer side: hair, hats and shoulders that cut a box off change it least.
    size = sides.max(axis=1)
    return _unproject((boxes[:, :2] + boxes[:, 2:]) / 2, size, width, height, focal)


def point_place(
    point: tuple[float, float],
    size: float,
    width: int,
    height: int,
    focal: float | None = None,
) -> Floats:
    """Return the place (3,) of something at pixel (x, y), where a head would be `size` px large.

    The size says how far away it is: take it from a head that is beside it.

    Args:
        point: x and y, pixels.
        size: longer side of such a head's box, pixels.
        width, height: of the picture.
        focal: length in pixels; the picture's longer side when None.

    Raises:
        UserError: the size or the focal length is not positive.
    """
    require(size > 0, f"attention: size must be positive, got {size}")
    points = np.array([point], np.float64)
    return np.asarray(_unproject(points, np.array([size]), width, height, focal)[0])


def _unproject(
    points: Floats, size: Floats, width: int, height: int, focal: float | None
) -> Floats:
    length = float(max(width, height)) if focal is None else float(focal)
    require(length > 0, f"attention: focal must be positive, got {focal}")
    centre = np.array([width / 2, height / 2])
    flat = (points - centre) / size[:, None]
    return np.asarray(np.concatenate([flat, -length / size[:, None]], axis=1))


def angle_to(rotation: NDArray[np.floating], place: Floats, targets: Floats) -> Floats:
    """Return how far each head is turned away from each target.

    A rotation is as seen in the picture, that is relative to the line of sight to its head; the
    direction to a target is taken relative to that line too.

    Args:
        rotation: (N, 3, 3).
        place: (N, 3) of the heads, from `places`.
        targets: (M, 3); the camera is at 0.

    Returns:
        (N, M) degrees, 0..180; NaN where the pose is unknown or the target is in the head.
    """
    nose = direction(rotation)
    turned = _in_sight_axes(place, targets[None, :, :] - place[:, None, :])
    length = np.linalg.norm(turned, axis=2)
    with np.errstate(invalid="ignore", divide="ignore"):
        cosine = np.einsum("nk,nmk->nm", nose, turned) / length
        angle = np.degrees(np.arccos(np.clip(cosine, -1, 1)))
    return np.where(length > 1e-6, angle, np.nan)


def _in_sight_axes(place: Floats, vectors: Floats) -> Floats:
    """Turn vectors (N, M, 3) so that the line from head n to the camera becomes z."""
    z = -place / np.linalg.norm(place, axis=1, keepdims=True)
    x = np.stack([z[:, 2], np.zeros(len(z)), -z[:, 0]], axis=1)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    y = np.cross(z, x)
    return np.asarray(np.einsum("nak,nmk->nma", np.stack([x, y, z], axis=1), vectors))


def attention(
    rotation: NDArray[np.floating] | None,
    xyxy: NDArray[np.floating],
    width: int,
    height: int,
    *,
    within: float = 15.0,
    focal: float | None = None,
) -> Attention:
    """Say which heads are turned to the camera and which to each other.

    Args:
        rotation: (N, 3, 3), as in `Detections.rotation`.
        xyxy: (N, 4) boxes in pixels, as in `Detections.xyxy`.
        width, height: of the picture.
        within: degrees up to which a head counts as turned to something.
        focal: length in pixels; the picture's longer side when None.

    Raises:
        UserError: there are no rotations, or a value is out of range.

    Example:
        >>> import numpy as np
        >>> left = [[0, 0, 1], [0, 1, 0], [-1, 0, 0]]   # its nose points to the right
        >>> right = [[0, 0, -1], [0, 1, 0], [1, 0, 0]]  # to the left
        >>> boxes = np.array([[0, 100, 50, 160], [300, 100, 350, 160]])
        >>> attention(np.array([left, right]), boxes, 350, 260).target.tolist()
        [1, 0]
    """
    if rotation is None:
        raise UserError("attention: these detections have no rotation; their head finds no poses")
    require(0 < within <= 180, f"attention: must be above 0 and at most 180 degrees, got {within}")
    place = places(xyxy, width, height, focal)
    angles = angle_to(rotation, place, np.concatenate([np.zeros((1, 3)), place]))
    near = np.nan_to_num(angles, nan=np.inf)  # a head is no target of its own: NaN
    best = near.argmin(axis=1)
    target = np.where(near.min(axis=1) <= within, best - 1, AT_NOBODY)
    index = np.arange(len(target))
    returned = (target > index) & (target[np.maximum(target, 0)] == index)
    mutual = np.stack([index[returned], target[returned]], axis=1)
    return Attention(angles[:, 0], angles[:, 1:], target, mutual)
