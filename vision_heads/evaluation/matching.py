"""Greedy matching of predictions to ground truth, on all pictures and thresholds at once.

The rule is the one COCO and VisDrone share (both have it from P. Dollar's toolbox): predictions
in falling score take the free object of their class that they overlap most, the later one of
equals, if the overlap reaches the threshold; failing that, an ignored area takes them out of the
count. Overlap with an object is intersection over union, with an ignored area intersection over
the prediction's own area; an ignored area may take any number of predictions.

Only pairs that reach the lowest threshold matter and they are few, so they are kept as a sparse
list. The n-th best predictions of every picture and class never compete with each other, hence
one vectorised step serves them all.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from vision_heads.evaluation.records import ANY, FoundTable, Truth

CELLS = 2_000_000
"""Pairs of one picture that are compared at a time: 0.1 GB. An aerial picture may hold 10^9."""


@dataclass(frozen=True, slots=True)
class Pairs:
    """Predictions and ground truth that overlap enough to matter.

    Attributes:
        found, truth: (P,) int64 rows of the two tables.
        overlap: (P,) float64.
    """

    found: NDArray[np.int64]
    truth: NDArray[np.int64]
    overlap: NDArray[np.float64]

    def __getitem__(self, keep: NDArray[np.bool_]) -> Pairs:
        """Select pairs by a mask."""
        return Pairs(self.found[keep], self.truth[keep], self.overlap[keep])


@dataclass(frozen=True, slots=True)
class Matches:
    """Outcome of every prediction at each of T thresholds.

    Attributes:
        state: (T, N) int8: 1 hit, 0 false positive, -1 not counted.
        partner: (T, N) int32 row of the ground truth that was hit, -1 for none.
    """

    state: NDArray[np.int8]
    partner: NDArray[np.int32]


def overlapping(found: FoundTable, truth: Truth, least: float, by_class: bool = True) -> Pairs:
    """List the pairs of one picture (and class) that overlap by `least` or more.

    Args:
        found: predictions, grouped by picture.
        truth: ground truth, grouped by picture.
        least: lowest overlap that is kept, above 0.
        by_class: only pairs of one class; ground truth labelled `ANY` is of every class.
    """
    rows, columns, values = [], [], []
    for image in np.intersect1d(found.image, truth.image):
        first, last = np.searchsorted(found.image, (image, image + 1))
        start, stop = np.searchsorted(truth.image, (image, image + 1))
        boxes, ignore = truth.xywh[start:stop], truth.ignore[start:stop]
        label = truth.label[start:stop]
        step = max(CELLS // len(boxes), 1)
        for low in range(first, last, step):
            part = slice(low, min(low + step, last))
            table = overlaps(found.xywh[part], boxes, ignore)
            if by_class:
                table[(found.label[part, None] != label) & (label != ANY)] = 0
            row, column = np.nonzero(table >= least)
            rows.append(row + low)
            columns.append(column + start)
            values.append(table[row, column])
    if not rows:
        return Pairs(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0))
    return Pairs(np.concatenate(rows), np.concatenate(columns), np.concatenate(values))


def overlaps(
    found: NDArray[np.float64], truth: NDArray[np.float64], ignore: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Return (N, M) overlaps of xywh boxes; the order of the sums decides the last bit."""
    x, y, w, h = found.T[:, :, None]
    tx, ty, tw, th = truth.T[:, None, :]
    with np.errstate(over="ignore"):  # a box of 1e300 px is a false one like any other
        wide = np.minimum(x + w, tx + tw) - np.maximum(x, tx)
        high = np.minimum(y + h, ty + th) - np.maximum(y, ty)
        common = np.where((wide > 0) & (high > 0), wide * high, 0.0)
        area = w * h
    whole = np.where(ignore, area, area + tw * th - common)
    shares: NDArray[np.float64] = np.divide(
        common, whole, out=np.zeros_like(common), where=common > 0
    )
    return shares


def match(
    found: FoundTable,
    truth: Truth,
    pairs: Pairs,
    thresholds: NDArray[np.float64],
    by_class: bool = True,
) -> Matches:
    """Match greedily at each threshold.

    Args:
        found: predictions; equal scores go by `rank`.
        truth: ground truth.
        pairs: what `overlapping` found at the lowest threshold or below.
        thresholds: (T,) lowest overlap of a match.
        by_class: predictions of different classes do not compete.
    """
    ignored = truth.ignore[pairs.truth]
    turn = _turns(found, np.unique(pairs.found[~ignored]), by_class)
    matches = _match_objects(turn, len(truth), pairs[~ignored], thresholds)
    cover = np.full(len(found), -1.0)
    np.maximum.at(cover, pairs.found[ignored], pairs.overlap[ignored])
    matches.state[(matches.state == 0) & (cover >= thresholds[:, None])] = -1
    return matches


def _match_objects(
    turn: NDArray[np.int64], truths: int, pairs: Pairs, thresholds: NDArray[np.float64]
) -> Matches:
    """Find the hits, one step for the n-th best predictions of all groups together.

    Args:
        turn: (N,) n of each prediction.
        truths: how many rows the ground truth has.
        pairs: of objects only.
        thresholds: (T,).
    """
    state = np.zeros((len(thresholds), len(turn)), np.int8)
    partner = np.full(state.shape, -1, np.int32)
    order = np.lexsort((pairs.truth, pairs.overlap, pairs.found, turn[pairs.found]))
    who, whom, overlap = pairs.found[order], pairs.truth[order], pairs.overlap[order]
    taken = np.zeros((len(thresholds), truths), bool)
    for first, last in pairwise(np.flatnonzero(np.diff(turn[who], prepend=-1, append=-1))):
        ids, starts = np.unique(who[first:last], return_index=True)
        target = whom[first:last]
        free = (overlap[first:last] >= thresholds[:, None]) & ~taken[:, target]
        # Pairs rise by overlap, then by row: the last free one is the one to take.
        place = np.where(free, np.arange(last - first), -1)
        best = np.maximum.reduceat(place, starts, axis=1)
        level, column = np.nonzero(best >= 0)
        hit = target[best[level, column]]
        taken[level, hit] = True
        state[level, ids[column]] = 1
        partner[level, ids[column]] = hit
    return Matches(state, partner)


def _turns(found: FoundTable, rows: NDArray[np.int64], by_class: bool) -> NDArray[np.int64]:
    """(N,) place of each of `rows` in its picture's (and class's) order of falling score."""
    label = found.label[rows] if by_class else np.zeros(len(rows), np.int64)
    order = np.lexsort((found.rank[rows], -found.score[rows], label, found.image[rows]))
    image, label = found.image[rows][order], label[order]
    new = np.flatnonzero(
        (np.diff(image, prepend=-1) != 0) | (np.diff(label, prepend=label[:1]) != 0)
    )
    sizes = np.diff(new, append=len(rows))
    turn = np.full(len(found), -1, np.int64)
    turn[rows[order]] = np.arange(len(rows)) - np.repeat(new, sizes)
    return turn
