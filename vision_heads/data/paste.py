"""Copy-paste of small objects (Kisantal et al. 2019): rare and tiny things seen more often."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vision_heads.data.warp import PAD_VALUE, Floats, Labels, Picture
from vision_heads.geometry.boxes import area, intersection_matrix

TRIES = 8
"""Places tried for each copy before it is given up."""
MAX_COVERED = 0.1
"""Largest part of any object, or of the copy itself, that may overlap."""


def paste_small(
    picture: Picture, labels: Labels, chance: float, max_side: float, rng: np.random.Generator
) -> tuple[Picture, Labels]:
    """Paste copies of small objects at other places of the scene.

    On a mosaic the place is as likely another picture's. A copy keeps a margin of what was
    around it, fading out, so that its outline is no edge. Copies stay off objects, ignore
    areas and each other.

    Args:
        picture: BGR uint8 (H, W, 3); not changed.
        labels: what is on it.
        chance: of each small object to be copied.
        max_side: longest side that counts as small, network pixels.
        rng: decides what goes where.

    Returns:
        The picture and the labels with the copies added; the arguments when there are none.
    """
    sides = (labels.boxes[:, 2:] - labels.boxes[:, :2]).max(1, initial=0)
    small = np.flatnonzero((sides <= max_side) & (rng.random(len(sides)) < chance))
    chosen = [i for i in small.tolist() if _is_clear(labels, i)]
    if not chosen:
        return picture, labels
    canvas = picture.copy()
    taken = np.concatenate([labels.boxes, labels.ignore])
    copies, of = [], []
    for i in chosen:
        place = _find_place(labels.boxes[i], taken, picture, rng)
        if place is not None:
            _paste(canvas, picture, labels.boxes[i], place)
            copy = labels.boxes[i] + np.array([*place, *place], np.float32)
            taken = np.concatenate([taken, copy[None]])
            copies.append(copy)
            of.append(i)
    if not copies:
        return picture, labels
    added = Labels(
        np.stack(copies), labels.labels[of], np.zeros((0, 4), np.float32), labels.rotations[of]
    )
    return canvas, Labels.join([labels, added])


def _is_clear(labels: Labels, index: int) -> bool:
    """Whether nothing else labelled lies on the object: a copy would carry it unlabelled."""
    box = labels.boxes[index][None]
    others = np.concatenate([np.delete(labels.boxes, index, 0), labels.ignore])
    return bool(intersection_matrix(box, others).sum() <= MAX_COVERED * area(box)[0])


def _find_place(
    box: Floats, taken: Floats, picture: Picture, rng: np.random.Generator
) -> tuple[int, int] | None:
    """Return a whole-pixel move (x, y) to a free place of the picture."""
    low = -np.floor(box[:2]).astype(int)
    high = np.array(picture.shape[1::-1]) - np.ceil(box[2:]).astype(int)
    tries = rng.integers(low, high, (TRIES, 2), endpoint=True)
    moved = box + np.concatenate([tries, tries], 1).astype(np.float32)
    shared = intersection_matrix(moved, taken)
    least = np.minimum(area(moved)[:, None], area(taken)[None])
    free = (shared <= MAX_COVERED * least).all(1)
    for x, y in tries[free].tolist():
        x1, y1, x2, y2 = np.floor(box + np.array([x, y, x, y])).astype(int).tolist()
        # Nothing stands on the grey beside the pictures.
        if (picture[y1 : y2 + 1, x1 : x2 + 1] == PAD_VALUE).all(-1).mean() < MAX_COVERED:
            return x, y
    return None


def _paste(canvas: Picture, picture: Picture, box: Floats, move: tuple[int, int]) -> None:
    """Draw the box's part of `picture` on `canvas`, moved, its margin fading out."""
    height, width = picture.shape[:2]
    dx, dy = move
    margin = max(1, round(float((box[2:] - box[:2]).max()) * 0.15))
    # Both the part and its copy must lie on the picture.
    x1 = max(int(np.floor(box[0])) - margin, 0, -dx)
    y1 = max(int(np.floor(box[1])) - margin, 0, -dy)
    x2 = min(int(np.ceil(box[2])) + margin, width, width - dx)
    y2 = min(int(np.ceil(box[3])) + margin, height, height - dy)
    across = _fade(np.arange(x1, x2) + 0.5, box[0], box[2], margin)
    down = _fade(np.arange(y1, y2) + 0.5, box[1], box[3], margin)
    weight = (down[:, None] * across[None])[..., None]
    target = canvas[y1 + dy : y2 + dy, x1 + dx : x2 + dx]
    part = picture[y1:y2, x1:x2]
    target[:] = np.rint(part * weight + target * (1 - weight)).astype(np.uint8)


def _fade(at: NDArray[np.floating], low: float, high: float, margin: int) -> NDArray[np.floating]:
    """Weights 1 within low..high, falling to 0 over the margin outside."""
    outside = np.maximum(low - at, at - high)
    return np.asarray(np.clip(1 - np.maximum(outside, 0) / (margin + 0.5), 0, 1))
