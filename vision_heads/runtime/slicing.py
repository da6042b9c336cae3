"""Large pictures in overlapping tiles, and one result out of the tiles' results.

An object at a tile's border is seen cut there, and whole by a neighbour, unless it is larger
than the overlap; then its pieces are seen by both. So merging knows more than how much two
boxes overlap: which side of a box lies on a border where its tile, but not the picture, ends.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from vision_heads.errors import require
from vision_heads.geometry.pairs import overlap, overlapping_pairs, rank_positions, suppress
from vision_heads.runtime.checks import is_real, is_whole

Merge = Literal["nms", "nmm"]
Metric = Literal["iou", "ios"]
Floats = NDArray[np.float32]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

WHOLE = -1
"""Tile number of boxes found in the whole picture."""

MAX_TILES = 10_000
"""Most tiles of one picture: an overlap near 1 asks for one a pixel."""

MOST_PAIRS = 20_000_000
"""Most pairs of overlapping boxes of one picture: merging takes some 90 bytes for each."""

_OUTWARD = np.array([-1, -1, 1, 1], np.float32)
_BEYOND = 1.0
"""Pixels past a border from which a box is taken to go on there."""
_TOUCH = 2.0
"""Pixels by which pieces of tiles that share nothing may miss each other."""


@dataclass(frozen=True, slots=True)
class Slicing:
    """How a large picture is cut up and its results are merged.

    Attributes:
        size: side of a tile in pixels of the picture; a picture that fits is not sliced.
        overlap: share of a tile that its neighbour sees too, 0 <= overlap < 1; at least the
            size of the objects that matter, so that one tile sees each whole.
        whole: also look at the whole picture at once, for objects larger than a tile.
        merge: "nms" keeps the better of two boxes of one object; "nmm" makes one box around
            both.
        metric: by which two boxes of different tiles are one object: "iou", or "ios", the
            shared area over the smaller box.
        threshold: metric above which they are.

    Raises:
        UserError: a value is out of range.
    """

    size: int = 640
    overlap: float = 0.2
    whole: bool = True
    merge: Merge = "nms"
    metric: Metric = "ios"
    threshold: float = 0.5

    def __post_init__(self) -> None:
        require(
            is_whole(self.size) and self.size >= 32,
            f"slice: size must be at least 32 pixels, got {self.size!r}",
        )
        require(
            is_real(self.overlap) and 0 <= self.overlap < 1,
            f"overlap must be in 0 <= overlap < 1, got {self.overlap!r}",
        )
        require(self.merge in get_args(Merge), f"merge must be 'nms' or 'nmm', got {self.merge!r}")
        require(
            self.metric in get_args(Metric), f"metric must be 'iou' or 'ios', got {self.metric!r}"
        )
        require(
            is_real(self.threshold) and 0 < self.threshold <= 1,
            f"threshold must be in 0 < threshold <= 1, got {self.threshold!r}",
        )


@dataclass(slots=True)
class TileBoxes:
    """Boxes of one class list from all tiles of a picture, in the picture's pixels.

    Attributes:
        boxes: (N, 4) xyxy.
        scores: (N,).
        labels: (N,) class indices.
        tile: (N,) number of the tile each was found in, `WHOLE` for the whole picture.
        cut: (N, 4) whether x1, y1, x2, y2 lies on a border at which the tile ends and the
            picture does not.
    """

    boxes: Floats
    scores: Floats
    labels: Ints
    tile: Ints
    cut: Bools


def count_tiles(width: int, height: int, size: int, overlap: float) -> int:
    """Return how many tiles `plan_tiles` would give."""
    step = _step(size, overlap)
    return _count(width, size, step) * _count(height, size, step)


def plan_tiles(width: int, height: int, size: int, overlap: float) -> Ints:
    """Return (T, 4) xyxy tiles that cover the picture, row by row.

    As few as the overlap allows, spread evenly: neighbours share at least `overlap` of a tile.
    A side shorter than a tile is covered by one as short as it.
    """
    step = _step(size, overlap)
    xs, ys = _starts(width, size, step), _starts(height, size, step)
    left, top = (axis.reshape(-1) for axis in np.meshgrid(xs, ys))
    return np.stack(
        [left, top, np.minimum(left + size, width), np.minimum(top + size, height)], axis=1
    )


def cut_sides(boxes: Floats, tile: Ints, width: int, height: int) -> Bools:
    """Tell which sides of boxes (N, 4) lie on an inner border of their tile (4,), picture pixels.

    A predicted box ends within a pixel or two of the border it was cut at, so a 200th of the
    tile's longer side still counts as on it.
    """
    margin = max((tile[2:] - tile[:2]).max() / 200, 1.0)
    inner = tile != np.array([0, 0, width, height])
    return np.asarray((np.abs(boxes - tile) <= margin) & inner)


def merge(found: TileBoxes, slicing: Slicing) -> tuple[Ints, Floats, Floats]:
    """Make one box of each object that several tiles saw.

    1. Pieces of an object that is larger than the overlap, cut at facing borders of two tiles,
       are joined.
    2. Whole boxes come before cut ones, then by score. A box drops a later one of its class
       from another tile when the metric is above the threshold, or when the later one is a
       piece that lies mostly inside it and it goes on where the piece was cut. Boxes of one
       tile are never compared: its own NMS already has.

    Args:
        found: all boxes of the picture.
        slicing: which merge and metric.

    Returns:
        index: (M,) into `found`, the box that stands for each object, best score first;
        boxes: (M, 4); scores: (M,), the best of each object's boxes.

    Raises:
        TooManyPairsError: more than `MOST_PAIRS` of them overlap.
    """
    index, joined = _join_pieces(found)
    i, j, shared = overlapping_pairs(joined.boxes, joined.labels, MOST_PAIRS)
    different = joined.tile[i] != joined.tile[j]
    i, j, shared = i[different], j[different], shared[different]
    rank = _ranks(joined)
    swap = rank[i] > rank[j]
    i, j = np.where(swap, j, i), np.where(swap, i, j)
    same = overlap(joined.boxes, i, j, shared, slicing.metric) > slicing.threshold
    same |= _is_piece_of(joined, i, j, shared)
    owner = suppress(len(joined.scores), rank, i[same], j[same])
    boxes, scores = joined.boxes.copy(), joined.scores.copy()
    np.maximum.at(scores, owner, joined.scores)
    if slicing.merge == "nmm":
        _grow(boxes, owner, joined.boxes)
    kept = np.flatnonzero(owner == np.arange(len(owner)))
    kept = kept[np.argsort(-scores[kept], kind="stable")]
    return index[kept], boxes[kept], scores[kept]


def _step(size: int, overlap: float) -> int:
    """Pixels from one tile to the next at most."""
    return max(size - int(np.ceil(size * overlap)), 1)


def _count(length: int, size: int, step: int) -> int:
    return max(-(-(length - size) // step), 0) + 1


def _starts(length: int, size: int, step: int) -> Ints:
    count = _count(length, size, step)
    return np.arange(count) * (length - size) // max(count - 1, 1)


def _ranks(found: TileBoxes) -> Ints:
    """Whole boxes first, then by score, then as given."""
    return rank_positions(np.lexsort((-found.scores, found.cut.any(axis=1))))


def _join_pieces(found: TileBoxes) -> tuple[Ints, TileBoxes]:
    """Join pieces cut at facing borders.

    Returns the best-scored piece of each resulting box, and the resulting boxes: what else is
    known of an object, such as a head's rotation, comes from the view that showed most of it.
    """
    # Without any overlap, pieces only touch: let them reach a little over their borders.
    pieces = np.flatnonzero(found.cut.any(axis=1))
    reach = found.boxes[pieces] + found.cut[pieces] * _OUTWARD * _TOUCH
    i, j, _ = overlapping_pairs(reach, found.labels[pieces], MOST_PAIRS)
    i, j = pieces[i], pieces[j]
    joined = np.zeros(len(i), bool)
    for axis in (0, 1):
        joined |= _continues(found, i, j, axis) | _continues(found, j, i, axis)
    root = _components(len(found.scores), i[joined], j[joined])
    boxes, scores = found.boxes.copy(), found.scores.copy()
    _grow(boxes, root, found.boxes)
    np.maximum.at(scores, root, found.scores)
    # A side of the whole is still cut when the piece that reaches out farthest was cut there.
    cut = np.zeros_like(found.cut)
    np.logical_or.at(cut, root, found.cut & (found.boxes == boxes[root]))
    # A joined box belongs to no single tile: a number of its own, below WHOLE.
    members = np.bincount(root, minlength=len(root))
    tile = np.where(members > 1, WHOLE - 1 - np.arange(len(root)), found.tile)
    index = np.flatnonzero(members)
    order = np.lexsort((-found.scores, root))
    best = order[np.searchsorted(root[order], index)]
    return best, TileBoxes(
        boxes[index], scores[index], found.labels[index], tile[index], cut[index]
    )


def _continues(found: TileBoxes, i: Ints, j: Ints, axis: int) -> Bools:
    """Whether piece j goes on, rightwards (axis 0) or downwards (1), where piece i was cut."""
    low, high, other = axis, axis + 2, 1 - axis
    a, b = found.boxes[i], found.boxes[j]
    faces = found.cut[i, high] & found.cut[j, low]
    # Both cover the strip that both tiles see, and each goes on where the other ends.
    spans = (a[:, low] < b[:, low] - _BEYOND) & (b[:, high] > a[:, high] + _BEYOND)
    first = np.maximum(a[:, other], b[:, other])
    last = np.minimum(a[:, other + 2], b[:, other + 2])
    span = np.maximum(a[:, other + 2], b[:, other + 2]) - np.minimum(a[:, other], b[:, other])
    return np.asarray(faces & spans & (last - first > 0.5 * span))


def _is_piece_of(found: TileBoxes, whole: Ints, piece: Ints, shared: NDArray[np.float64]) -> Bools:
    """Whether `piece` lies mostly in `whole`, which goes on beyond each border that cut it."""
    sides = (found.boxes[piece, 2:] - found.boxes[piece, :2]).astype(np.float64)
    inside = shared > 0.5 * sides.prod(axis=1)
    beyond = (found.boxes[whole] - found.boxes[piece]) * _OUTWARD > _BEYOND
    cut = found.cut[piece]
    return np.asarray(inside & cut.any(axis=1) & (beyond | ~cut).all(axis=1))


def _components(count: int, i: Ints, j: Ints) -> Ints:
    """Lowest index of the connected group each of `count` nodes belongs to."""
    root = np.arange(count)
    while True:
        before = root.copy()
        lowest = np.minimum(root[i], root[j])
        np.minimum.at(root, i, lowest)
        np.minimum.at(root, j, lowest)
        root = root[root]
        if np.array_equal(root, before):
            return root


def _grow(boxes: Floats, owner: Ints, members: Floats) -> None:
    """Enlarge `boxes[owner]` in place to hold its members."""
    np.minimum.at(boxes[:, :2], owner, members[:, :2])
    np.maximum.at(boxes[:, 2:], owner, members[:, 2:])
