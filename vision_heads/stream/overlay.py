"""Lines, zones and their counts painted on pictures, in place. numpy and OpenCV only."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from vision_heads.media.frames import Pixels

_COLOR = (86, 200, 255)
_INK = (24, 24, 24)
_FONT = cv2.FONT_HERSHEY_SIMPLEX


def paint_line(picture: Pixels, points: ArrayLike, text: str) -> None:
    """Paint a line with an arrow to its "in" side, and a text at its first point.

    Args:
        picture: BGR uint8 (H, W, 3), changed in place.
        points: (2, 2) x, y in pixels.
        text: what to write; OpenCV's letters, so ASCII only.
    """
    start, end = np.asarray(points, np.float64)
    way = end - start
    # The right hand of who looks from start to end, y down.
    inwards = np.array([-way[1], way[0]]) / max(1e-9, float(np.hypot(*way)))
    middle = (start + end) / 2
    thick = _thickness(picture)
    cv2.line(picture, _pixel(start), _pixel(end), _COLOR, thick, cv2.LINE_AA)
    tip = middle + 10 * thick * inwards
    cv2.arrowedLine(picture, _pixel(middle), _pixel(tip), _COLOR, thick, cv2.LINE_AA, 0, 0.4)
    _label(picture, start, text)


def paint_zone(picture: Pixels, points: ArrayLike, text: str) -> None:
    """Paint a polygon and a text at its first point; as `paint_line`, points (N, 2)."""
    corners = np.asarray(points, np.float64)
    outline = np.round(_within(corners)).astype(np.int32)
    cv2.polylines(picture, [outline], True, _COLOR, _thickness(picture), cv2.LINE_AA)
    _label(picture, corners[0], text)


def _label(picture: Pixels, place: NDArray[np.float64], text: str) -> None:
    height, width = picture.shape[:2]
    scale = float(np.clip(0.28 + np.sqrt(height * width) / 3000, 0.35, 1.6))
    stroke = 1 if scale < 0.75 else 2
    (wide, high), below = cv2.getTextSize(text, _FONT, scale, stroke)
    left = int(np.clip(place[0], 0, max(0, width - wide - 6)))
    top = int(np.clip(place[1], 0, max(0, height - high - below - 6)))
    corner = (left + wide + 6, top + high + below + 6)
    cv2.rectangle(picture, (left, top), corner, _COLOR, -1)
    cv2.putText(picture, text, (left + 3, top + high + 3), _FONT, scale, _INK, stroke, cv2.LINE_AA)


def _thickness(picture: Pixels) -> int:
    height, width = picture.shape[:2]
    return int(max(1, round((height + width) / 700)))


def _pixel(point: NDArray[np.float64]) -> tuple[int, int]:
    x, y = np.round(_within(point)).astype(int).tolist()
    return x, y


def _within(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Keep far-off points within what OpenCV's 16-bit line clipping can take."""
    return np.clip(points, -30_000, 30_000)
