"""Beam search over branch plans, for more heads than every plan can be looked at."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from vision_heads.branching.plans import Partition, Plan, partitions

BEAM = 16
"""Ways kept to each partition at each stage."""

Floats = NDArray[np.float64]
Steps = NDArray[np.float64]
"""(partitions, 2 + limits): what each adds at a stage to score, price and the limited amounts."""


def beam_plans(heads: int, steps: list[Steps], room: list[float]) -> Iterator[Plan]:
    """Yield good plans: for every partition of the last stage, up to `BEAM` ways to it.

    Stage by stage, each partition gathers the ways to the partitions it refines, or is, and keeps
    those that no other beats in score and price at once: at most `BEAM` of them, spread evenly
    from the cheapest to the best. So every partition can be reached, but not in every way. Ways
    that cannot keep within the limits, whatever follows, are dropped; what is cheapest from any
    partition on is to split nothing further.

    Args:
        heads: how many.
        steps: by stage, the rows in the order of `nodes_of(heads)`.
        room: how much of each limited amount may be added.
    """
    nodes = nodes_of(heads)
    coarser = _coarser(nodes, heads)
    width = steps[0].shape[1]
    ways = np.full((len(nodes), BEAM, width), np.inf)
    ways[0, 0] = 0
    back: list[NDArray[np.int64]] = []
    for stage, step in enumerate(steps):
        later = np.sum([other[:, 2:] for other in steps[stage + 1 :]] or [0 * step[:, 2:]], axis=0)
        grown = np.full_like(ways, np.inf)
        came = np.full((len(nodes), BEAM), -1)
        for node, wider in enumerate(coarser):
            arriving = ways[wider].reshape(-1, width) + step[node]
            within = (arriving[:, 2:] + later[node] <= np.add(room, 1e-6)).all(axis=1)
            kept = _front(arriving, np.flatnonzero(within & np.isfinite(arriving[:, 0])))
            grown[node, : len(kept)] = arriving[kept]
            came[node, : len(kept)] = wider[kept // BEAM] * BEAM + kept % BEAM
        ways = grown
        back.append(came)
    for last in range(len(nodes) * BEAM):
        if np.isfinite(ways.reshape(-1, width)[last, 0]):
            yield _walk(nodes, back, last)


def nodes_of(heads: int) -> list[Partition]:
    """Return every partition of the heads, coarser ones first."""
    return sorted(partitions(range(heads)), key=len)


def _walk(nodes: list[Partition], back: list[NDArray[np.int64]], last: int) -> Plan:
    """Follow a way from its end to its beginning."""
    plan: list[Partition] = []
    for came in reversed(back):
        plan.append(nodes[last // BEAM])
        last = int(came.reshape(-1)[last])
    return tuple(reversed(plan))


def _coarser(nodes: list[Partition], heads: int) -> list[NDArray[np.intp]]:
    """Return, for each partition, the places of those it refines."""
    label = np.empty((len(nodes), heads), np.int8)
    for row, node in zip(label, nodes, strict=True):
        for number, group in enumerate(node):
            row[list(group)] = number
    first, second = np.triu_indices(heads, 1)
    pairs = (label[:, first] == label[:, second]).astype(np.float32)
    # A partition refines another when it joins no pair that the other parts.
    broken = pairs @ (1 - pairs).T
    return [np.flatnonzero(row == 0) for row in broken]


def _front(ways: Floats, rows: NDArray[np.intp]) -> NDArray[np.intp]:
    """Return those of the rows that none beats in score and price, thinned to `BEAM`."""
    rows = rows[np.lexsort((ways[rows, 0], ways[rows, 1]))]
    scores = ways[rows, 0]
    before = np.minimum.accumulate(np.concatenate([[np.inf], scores]))[:-1]
    best = np.asarray(rows[scores < before - 1e-12])
    if len(best) > BEAM:
        best = best[np.linspace(0, len(best) - 1, BEAM).round().astype(np.intp)]
    return best
