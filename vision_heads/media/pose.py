"""Head poses on pictures: three axes of a head's own, seen through its rotation."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from vision_heads.media.colors import Color

NOSE: Color = (255, 200, 86)
SIDE: Color = (60, 90, 255)
DOWN: Color = (160, 214, 0)
"""BGR of the axes: out of the nose, to the picture's right of a frontal face, to the chin. Told
apart by colour-blind readers, and from the first classes' boxes."""
AXES: tuple[tuple[str, Color], ...] = (
    ("nose", NOSE),
    ("side", SIDE),
    ("chin", DOWN),
    ("ring: looks away", (200, 200, 200)),
)
"""Legend of the axes."""

_INK: Color = (24, 24, 24)
_FULL = 26.0
"""Size in pixels from which a head gets all three axes; smaller ones only the nose's."""
_SUB = 4
"""Binary digits behind the point of the coordinates that OpenCV paints with."""


def draw_axes(
    image: NDArray[np.uint8],
    xyxy: NDArray[np.floating],
    rotation: NDArray[np.floating],
) -> NDArray[np.uint8]:
    """Return a copy of `image` with the axes of each head, sized by the head.

    The longest line points where the nose does; its end is a dot on a face turned to the viewer
    and a ring on one turned away. Heads below 26 pixels get this line only, so that sixty heads
    in a picture stay readable. Unknown poses (NaN) and boxes that are not finite are left out.

    Args:
        image: (H, W, 3) BGR uint8.
        xyxy: (N, 4) or (4,) pixels, best first; earlier heads are drawn on top.
        rotation: (N, 3, 3) or (3, 3), image axes.

    Returns:
        (H, W, 3) BGR uint8.

    Raises:
        ValueError: the lengths differ.
    """
    boxes = np.asarray(xyxy, np.float64).reshape(-1, 4)
    turns = np.asarray(rotation, np.float64).reshape(-1, 3, 3)
    if len(boxes) != len(turns):
        raise ValueError(f"{len(boxes)} boxes, {len(turns)} rotations")
    picture = np.array(image, np.uint8, order="C")
    known = np.isfinite(boxes).all(axis=1) & np.isfinite(turns).all(axis=(1, 2))
    # Far outside there is nothing to see, and OpenCV's integers are 32 bits.
    known &= (np.abs(boxes) < 1e5).all(axis=1)
    for index in np.flatnonzero(known)[::-1]:
        _draw_one(picture, boxes[index], turns[index])
    return picture


def _draw_one(
    picture: NDArray[np.uint8], box: NDArray[np.float64], turn: NDArray[np.float64]
) -> None:
    # The mean of both sides: a hat's brim or a cut box should not stretch the axes.
    size = float(np.sqrt((box[2] - box[0]) * (box[3] - box[1])))
    if not size > 0:
        return
    centre = (box[:2] + box[2:]) / 2
    thick = int(np.clip(round(size / 28), 1, 6))
    axes = [(turn[:, 2], 0.85, NOSE)]
    if size >= _FULL:
        axes += [(turn[:, 0], 0.5, SIDE), (turn[:, 1], 0.5, DOWN)]
    for direction, length, color in sorted(axes, key=lambda axis: float(axis[0][2])):
        tip = centre + direction[:2] * length * size
        _line(picture, centre, tip, color, thick)
        if color is NOSE:
            away = direction[2] < 0
            _tip(picture, tip, max(1.6, 0.045 * size), color, away, thick)


def _line(
    picture: NDArray[np.uint8],
    start: NDArray[np.float64],
    end: NDArray[np.float64],
    color: Color,
    thick: int,
) -> None:
    first, last = _fixed(start), _fixed(end)
    cv2.line(picture, first, last, _INK, thick + 2, cv2.LINE_AA, _SUB)
    cv2.line(picture, first, last, color, thick, cv2.LINE_AA, _SUB)


def _tip(
    picture: NDArray[np.uint8],
    place: NDArray[np.float64],
    radius: float,
    color: Color,
    away: bool,
    thick: int,
) -> None:
    where, size = _fixed(place), round(radius * (1 << _SUB))
    cv2.circle(picture, where, size + (1 << _SUB), _INK, -1, cv2.LINE_AA, _SUB)
    inner = (_INK, -1) if away else (color, -1)
    cv2.circle(picture, where, size, *inner, cv2.LINE_AA, _SUB)
    if away:
        cv2.circle(picture, where, size, color, max(1, thick // 2), cv2.LINE_AA, _SUB)


def _fixed(point: NDArray[np.float64]) -> tuple[int, int]:
    """A point as OpenCV's fixed-point numbers; it counts from pixel centres."""
    x, y = np.round((point - 0.5) * (1 << _SUB)).astype(int).tolist()
    return x, y
