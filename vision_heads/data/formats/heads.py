"""The size and shape of a head, for data sets that give its pose and place but no box.

A head is an ellipsoid around the middle of its bounding box, 170 mm across the ears, 230 mm from
chin to crown, 200 mm from brow to back, a little hair included. Points of the face are given in
the same axes: x to the picture's right, y down, z forward, as the head looks out of the picture.
Source: means of adult anthropometry, rounded to 5 mm.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

HALF_AXES = np.array([85.0, 115.0, 100.0])
"""Millimetres along the head's own axes."""

LANDMARKS: dict[int, tuple[float, float, float]] = {
    8: (0, 115, 80),  # chin
    27: (0, -5, 90),  # root of the nose
    30: (0, 40, 115),  # tip of the nose
    33: (0, 50, 95),  # below the nose
    36: (-45, 0, 65),  # outer and inner corners of the eyes
    39: (-15, 0, 75),
    42: (15, 0, 75),
    45: (45, 0, 65),
    48: (-25, 75, 80),  # corners of the mouth
    54: (25, 75, 80),
}
"""Millimetres by number among the usual 68 points; those on the face's outline move with the
view in some data sets and are left out."""


def ellipsoid_box(centre: ArrayLike, scale: float, rotation: ArrayLike) -> Floats:
    """Return the box (4,) xyxy around a head, seen without perspective.

    Args:
        centre: (2,) pixels.
        scale: pixels a millimetre.
        rotation: (3, 3).
    """
    middle = np.asarray(centre, np.float64)
    reach = np.linalg.norm(np.asarray(rotation, np.float64)[:2] * HALF_AXES, axis=1) * scale
    return np.concatenate([middle - reach, middle + reach])


def fit_landmarks(points: ArrayLike, rotation: ArrayLike) -> tuple[Floats, float]:
    """Find where a head of known rotation is and how large, from its 68 points.

    Args:
        points: (68, 2) pixels.
        rotation: (3, 3).

    Returns:
        (2,) pixels of the head's middle, and pixels a millimetre (not above 0 when the points
        cannot be of a face turned like that).
    """
    seen = np.asarray(points, np.float64)[list(LANDMARKS)]
    model = np.array(list(LANDMARKS.values())) @ np.asarray(rotation, np.float64)[:2].T
    spread = model - model.mean(0)
    scale = float((spread * (seen - seen.mean(0))).sum() / (spread**2).sum())
    return seen.mean(0) - scale * model.mean(0), scale
