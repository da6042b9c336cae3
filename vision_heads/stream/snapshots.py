"""Pictures of what events are about."""

from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np

from vision_heads.media.frames import Pixels
from vision_heads.media.sinks import named_errors, save_jpeg
from vision_heads.stream.seen import Event, Seen

MARGIN = 0.15
"""Share of a box's sides that is shown around it."""


def snapshot_name(event: Event) -> str:
    """Return the file name of an event's picture, below the folder: source/frame-kind-id.jpg."""
    kind = re.sub(r"[^\w.-]+", "-", event.kind)
    return f"{event.source}/{event.frame or 0:08}-{kind}-{event.id[:8]}.jpg"


class Snapshots:
    """Saves the object of each event, or the whole picture where the event is about none.

    Events without a picture (a source lost) have no file.

    Args:
        folder: made when missing.

    Raises:
        UserError: the folder cannot be written to.
    """

    def __init__(self, folder: Path) -> None:
        self.name = str(folder)
        self._folder = folder
        with named_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)

    def frame(self, seen: Seen) -> None:
        """Leave frames out."""

    def event(self, event: Event, image: Pixels | None) -> None:
        """Save an event's picture."""
        if image is not None:
            save_jpeg(self._folder / snapshot_name(event), _crop(image, event.box))

    def end(self, source: str) -> None:
        """Nothing is open between events."""

    def close(self) -> None:
        """Nothing is open between events."""


def _crop(image: Pixels, box: tuple[float, float, float, float] | None) -> Pixels:
    if box is None:
        return image
    height, width = image.shape[:2]
    x1, y1, x2, y2 = box
    across, down = (x2 - x1) * MARGIN, (y2 - y1) * MARGIN
    left = min(max(math.floor(x1 - across), 0), width - 1)
    top = min(max(math.floor(y1 - down), 0), height - 1)
    right = min(max(math.ceil(x2 + across), left + 1), width)
    bottom = min(max(math.ceil(y2 + down), top + 1), height)
    return np.ascontiguousarray(image[top:bottom, left:right])
