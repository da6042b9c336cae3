"""Pictures for watchers: drawn or plain, as wide as wanted, as JPEG."""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from vision_heads.media.draw import draw_axes, draw_result
from vision_heads.media.sinks import jpeg_sized
from vision_heads.results import Detections, Result
from vision_heads.stream.seen import Seen

WIDTHS = (480, 960, 1920)
"""Widths that pictures are scaled down to: few, so that watchers share the work."""
QUALITY = 80

Pixels = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Look:
    """How a frame is shown.

    Attributes:
        width: most pixels across, None for all there are; see `nearest_width`.
        drawn: whether results are drawn at all; lines and zones of hooks always are.
        heads: names of those that are drawn, None for all.
        boxes, tracks, axes: boxes with their labels; track ids in labels; head poses.
    """

    width: int | None = None
    drawn: bool = True
    heads: frozenset[str] | None = None
    boxes: bool = True
    tracks: bool = True
    axes: bool = True


def nearest_width(wanted: int) -> int | None:
    """Return the smallest of `WIDTHS` that is enough, None where all of them are too small."""
    return next((width for width in WIDTHS if width >= wanted), None)


def render(seen: Seen, look: Look) -> bytes:
    """Return a frame as JPEG."""
    image = _painted(seen, look)
    if look.width is not None and image.shape[1] > look.width:
        size = (look.width, max(1, round(image.shape[0] * look.width / image.shape[1])))
        image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)  # type: ignore[assignment]
    return encode(image)


def encode(image: Pixels, quality: int = QUALITY) -> bytes:
    """Return a BGR picture as JPEG; one too long for that is shrunk."""
    image = jpeg_sized(image)
    good, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not good:
        raise ValueError(f"a picture of {image.shape} cannot be written as JPEG")
    return data.tobytes()


def _painted(seen: Seen, look: Look) -> Pixels:
    if look == Look(look.width):
        return seen.drawn()  # what recordings show, too: drawn once for all
    image: Pixels = seen.frame.image
    if look.drawn:
        # All heads stay in the result, for colours go by their order.
        heads = {name: _kept(found, name, look) for name, found in seen.result.heads.items()}
        image = _draw(image, replace(seen.result, heads=heads), look)
    if seen.overlay:
        image = image.copy() if image is seen.frame.image else image
        for paint in seen.overlay:
            paint(image)
    return image


def _kept(found: Detections, name: str, look: Look) -> Detections:
    if look.heads is not None and name not in look.heads:
        found = found[:0]
    return replace(
        found,
        track=found.track if look.tracks else None,
        rotation=found.rotation if look.axes else None,
    )


def _draw(image: Pixels, result: Result, look: Look) -> Pixels:
    if look.boxes:
        return draw_result(image, result)
    for found in result.heads.values():
        if found.rotation is not None and len(found):
            image = draw_axes(image, found.xyxy, found.rotation)
    return image
