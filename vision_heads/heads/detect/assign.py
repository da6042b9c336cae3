"""Task-aligned assignment (TOOD, arXiv 2108.07755) over the pairs that can match, and no others.

The usual implementation fills a (boxes x cells) matrix for every picture: with 500 objects and
P2's 34,000 cells that is more than a gigabyte a batch. An object only ever takes cells whose
centre it covers, so this one lists those pairs; wherever predictions overlap their targets the
result is the same (tested against ultralytics' assigner).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from vision_heads.heads.detect.anchors import Grid

_EPSILON = 1e-9


class Assignment(NamedTuple):
    """Positive cells.

    Attributes:
        box: (P,) index of the target box.
        cell: (P,) index into all cells of all rows, row * A + anchor.
        score: (P,) soft class target in 0..1.
    """

    box: Tensor
    cell: Tensor
    score: Tensor


def covered_cells(boxes: Tensor, grids: list[Grid], min_side: float) -> tuple[Tensor, Tensor]:
    """List the (box, cell) pairs in which the box covers the cell's centre.

    Args:
        boxes: (M, 4) xyxy in pixels.
        grids: the levels' cells.
        min_side: pixels; sides shorter than this are widened about their centre first.

    Returns:
        Box indices and cell indices (0..A-1), each (pairs,).
    """
    center, side = (boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]
    half = side.clamp(min=min_side) / 2
    low, high = center - half, center + half
    owners, cells, base = [], [], 0
    for grid in grids:
        limit = torch.tensor((grid.width, grid.height), device=boxes.device)
        first = ((low + _EPSILON) / grid.stride - 0.5).floor().long().add(1).clamp(min=0)
        last = ((high - _EPSILON) / grid.stride - 0.5).ceil().long().sub(1).minimum(limit - 1)
        span = (last - first + 1).clamp(min=0)
        count = span[:, 0] * span[:, 1]
        owner = torch.repeat_interleave(torch.arange(len(boxes), device=boxes.device), count)
        start = count.cumsum(0) - count
        step = torch.arange(len(owner), device=boxes.device) - start[owner]
        columns = span[owner, 0]
        x = first[owner, 0] + step % columns
        y = first[owner, 1] + torch.div(step, columns, rounding_mode="floor")
        owners.append(owner)
        cells.append(base + y * grid.width + x)
        base += grid.cells
    return torch.cat(owners), torch.cat(cells)


def assign(
    box: Tensor, cell: Tensor, metric: Tensor, overlap: Tensor, *, boxes: int, topk: int
) -> Assignment:
    """Choose each box's best cells and settle cells that several boxes want.

    A cell chosen by several boxes goes to the one, of all that cover it, with the best overlap.
    Scores are each box's metric, scaled so that its best cell gets its best overlap.

    Args:
        box, cell: (pairs,) candidate pairs; cells numbered over all rows.
        metric: (pairs,) score**alpha * overlap**beta.
        overlap: (pairs,) overlap of prediction and target, 0 or more.
        boxes: number of target boxes.
        topk: most cells a box takes.
    """
    # A pair without any overlap teaches nothing, and must not take part in settling a contest.
    chosen = (_rank_within(box, metric, boxes) < topk) & (metric > 0)
    wanted, times = torch.unique(cell[chosen], return_counts=True)
    contested = torch.isin(cell, wanted[times > 1])
    winners = _first_of_each(cell, overlap, contested)
    positive = (chosen & ~contested) | winners
    box, cell, metric, overlap = (v[positive] for v in (box, cell, metric, overlap))
    best_metric = metric.new_zeros(boxes).scatter_reduce(0, box, metric, "amax")
    best_overlap = overlap.new_zeros(boxes).scatter_reduce(0, box, overlap, "amax")
    score = metric * best_overlap[box] / (best_metric[box] + _EPSILON)
    return Assignment(box, cell, score)


def _rank_within(group: Tensor, value: Tensor, groups: int) -> Tensor:
    """Rank of each value in its group, 0 the largest; ties keep their order."""
    order = torch.argsort(value, descending=True, stable=True)
    order = order[torch.argsort(group[order], stable=True)]
    count = torch.bincount(group, minlength=groups)
    start = count.cumsum(0) - count
    rank = torch.empty_like(order)
    rank[order] = torch.arange(len(order), device=order.device) - start[group[order]]
    return rank


def _first_of_each(group: Tensor, value: Tensor, among: Tensor) -> Tensor:
    """Mask of the pairs with the largest value of their group, one a group, within `among`."""
    index = among.nonzero().squeeze(1)
    order = torch.argsort(value[index], descending=True, stable=True)
    order = index[order[torch.argsort(group[index][order], stable=True)]]
    ordered = group[order]
    first = torch.ones_like(ordered, dtype=torch.bool)
    first[1:] = ordered[1:] != ordered[:-1]
    mask = torch.zeros_like(among)
    mask[order[first]] = True
    return mask
