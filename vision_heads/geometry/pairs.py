"""Which boxes of many overlap, without comparing each with each."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from vision_heads.geometry.boxes import area

Ints = NDArray[np.int64]

_CHUNK = 1_000_000
"""Candidate pairs looked at in one go: bounds the memory when all boxes overlap each other."""


class TooManyPairsError(Exception):
    """More boxes overlap each other than there may be pairs."""


def overlapping_pairs(
    boxes: NDArray[np.floating],
    group: NDArray[np.integer] | None = None,
    most: int | None = None,
) -> tuple[Ints, Ints, NDArray[np.float64]]:
    """Find all pairs of boxes of one group that share an area.

    A sweep: sorted along one axis, a box can only overlap those that begin before it ends.

    Args:
        boxes: (N, 4) xyxy.
        group: (N,) only boxes of equal group are paired; None: all are.
        most: pairs that there may be; None for as many as there are.

    Returns:
        i, j: (P,) indices, i != j, each pair once; shared: (P,) area in pixels squared.

    Raises:
        TooManyPairsError: there are more than `most`; found out before they fill the memory.
    """
    boxes = np.asarray(boxes, np.float64).reshape(-1, 4)
    if len(boxes) < 2:
        none = np.zeros(0, np.int64)
        return none, none, np.zeros(0)
    groups = (
        np.zeros(len(boxes), np.int64)
        if group is None
        else np.unique(group, return_inverse=True)[1]
    )
    sweeps = [_sweep(boxes[:, axis], boxes[:, axis + 2], groups) for axis in (0, 1)]
    axis = min((0, 1), key=lambda axis: int(sweeps[axis][1].sum()))
    order, counts = sweeps[axis]
    ordered = np.ascontiguousarray(boxes[order].T)
    found, total = [], 0
    for a, b in _candidates(counts):
        found.append(_share(ordered, a, b, 1 - axis))
        total += len(found[-1][0])
        if most is not None and total > most:
            raise TooManyPairsError
    if not found:
        return order[:0], order[:0], np.zeros(0)
    i, j, shared = (np.concatenate(parts) for parts in zip(*found, strict=True))
    return order[i], order[j], shared


def overlap(
    boxes: NDArray[np.floating],
    i: Ints,
    j: Ints,
    shared: NDArray[np.float64],
    metric: str,
) -> NDArray[np.float64]:
    """Return (P,) IoU ("iou") or intersection over the smaller box ("ios") of pairs.

    Args:
        boxes: (N, 4) xyxy.
        i, j, shared: (P,) pairs, as `overlapping_pairs` gives them.
        metric: "iou" or "ios".
    """
    areas = area(np.asarray(boxes, np.float64))
    first, second = areas[i], areas[j]
    whole = np.minimum(first, second) if metric == "ios" else first + second - shared
    return shared / whole  # pairs share an area, so neither box is empty


def suppress(count: int, rank: Ints, i: Ints, j: Ints) -> Ints:
    """Decide greedily, by rank, which boxes stay, given the pairs that exclude each other.

    Equals going through the boxes best first and dropping what a kept one excludes, but in a
    few passes over all pairs.

    Args:
        count: number of boxes N.
        rank: (N,) distinct; lower is better.
        i, j: (P,) pairs that cannot both stay.

    Returns:
        (N,) for each box the kept box that stands for it: itself when it is kept, else the
        best-ranked kept box that excludes it.
    """
    swap = rank[i] > rank[j]
    better, worse = np.where(swap, j, i), np.where(swap, i, j)
    kept = np.zeros(count, bool)
    open_ = np.ones(count, bool)
    while open_.any():
        blocked = np.zeros(count, bool)
        blocked[worse[open_[better]]] = True
        new = open_ & ~blocked
        kept |= new
        open_ &= ~new
        open_[worse[new[better]]] = False
    by_rank = np.argsort(rank)
    best = np.full(count, count)
    decisive = kept[better]
    np.minimum.at(best, worse[decisive], rank_positions(by_rank)[better[decisive]])
    owner = np.arange(count)
    owner[~kept] = by_rank[best[~kept]]
    return owner


def rank_positions(order: Ints) -> Ints:
    """Invert a permutation: where each index stands in `order`."""
    positions = np.empty_like(order)
    positions[order] = np.arange(len(order))
    return positions


def _sweep(start: NDArray[np.float64], end: NDArray[np.float64], groups: Ints) -> tuple[Ints, Ints]:
    """Order along one axis, and how many of the next ones each box may overlap."""
    low = start.min()
    span = float(max(end.max(), start.max()) - low) + 1.0
    key = start - low + groups * span  # groups lie one behind another, out of reach
    order = np.argsort(key, kind="stable")
    reach = np.searchsorted(key[order], (end - low + groups * span)[order], side="left")
    return order, np.maximum(reach - np.arange(1, len(order) + 1), 0)


def _candidates(counts: Ints) -> Iterator[tuple[Ints, Ints]]:
    """Positions (a, b) in the sweep's order of boxes that may overlap, in chunks."""
    total = np.cumsum(counts)
    begin = 0
    while begin < len(counts):
        done = total[begin - 1] if begin else 0
        end = max(int(np.searchsorted(total, done + _CHUNK, side="right")), begin + 1)
        part = counts[begin:end]
        a = np.repeat(np.arange(begin, end), part)
        within = np.arange(part.sum()) - np.repeat(np.cumsum(part) - part, part)
        yield a, a + 1 + within
        begin = end


def _share(
    columns: NDArray[np.float64], i: Ints, j: Ints, axis: int
) -> tuple[Ints, Ints, NDArray[np.float64]]:
    """Keep the pairs of boxes (4, N) that share an area; `axis` is the one not swept."""
    start, end = columns[axis], columns[axis + 2]
    # The swept axis has been looked at, so this test leaves few; it alone reads all pairs.
    near = np.flatnonzero((start[i] < end[j]) & (start[j] < end[i]))
    i, j = i[near], j[near]
    a, b = columns[:, i], columns[:, j]
    sides = np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])
    good = (sides > 0).all(axis=0)
    return i[good], j[good], sides[:, good].prod(axis=0)
