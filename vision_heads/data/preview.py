"""A batch as a picture: what the network sees, with its labels drawn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

from vision_heads.data.warp import Picture
from vision_heads.errors import UserError

if TYPE_CHECKING:
    from vision_heads.data.dataset import Batch

IGNORE_COLOR = (128, 128, 128)
"""BGR of ignore areas' outlines."""
MOST = 16
"""Pictures shown of one batch."""


def save_batch_preview(batch: Batch, names: Mapping[str, Sequence[str]], path: Path | str) -> None:
    """Write a PNG of a batch's first pictures, boxes and ignore areas drawn on them.

    Args:
        batch: as the loader gives it.
        names: class names of each head.
        path: file to write; its folder exists.

    Raises:
        UserError: the file cannot be written.
    """
    sheet = batch_preview(batch, names)
    done, data = cv2.imencode(".png", sheet)
    try:
        Path(path).write_bytes(data.tobytes() if done else b"")
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from error


def batch_preview(batch: Batch, names: Mapping[str, Sequence[str]]) -> Picture:
    """Return a batch's first pictures on one sheet, BGR uint8, at their own size."""
    from vision_heads.media.draw import contact_sheet  # noqa: PLC0415

    pictures = [_drawn(batch, row, names) for row in range(min(len(batch.files), MOST))]
    columns = min(4, max(len(pictures), 1))
    return contact_sheet(pictures, columns, int(batch.images.shape[3]))


def _drawn(batch: Batch, row: int, names: Mapping[str, Sequence[str]]) -> Picture:
    from vision_heads.media.draw import class_color, draw_axes, draw_boxes  # noqa: PLC0415

    picture = np.ascontiguousarray(batch.images[row].numpy()[::-1].transpose(1, 2, 0))
    for head, rows in batch.routes.items():
        own = np.flatnonzero(rows.numpy() == row)
        if not len(own):
            continue
        targets = batch.targets[head]
        ignored = targets.ignore_boxes.numpy()[targets.ignore_rows.numpy() == own[0]]
        colors = [IGNORE_COLOR] * len(ignored)
        picture = draw_boxes(picture, ignored, ["ignored"] * len(ignored), colors)
        mine = targets.rows.numpy() == own[0]
        labels = targets.labels.numpy()[mine].tolist()
        texts = [names[head][label] for label in labels]
        colors = [class_color(label) for label in labels]
        picture = draw_boxes(picture, targets.boxes.numpy()[mine], texts, colors)
        if targets.rotations is not None:
            boxes, turns = targets.boxes.numpy()[mine], targets.rotations.numpy()[mine]
            picture = draw_axes(picture, boxes, turns)
    return picture
