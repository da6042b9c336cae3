"""Which picture comes when: the order of an epoch, from the seed and the epoch alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vision_heads.errors import require

# First numbers of the seeds, so that no two uses share a stream.
_ORDER, _SAMPLE, _STEP = 1, 2, 3


@dataclass(frozen=True, slots=True)
class EpochOrder:
    """The pictures of one epoch.

    Attributes:
        source: (N,) which data set each position's picture belongs to.
        rank: (N,) its number among the data set's own positions.
        picks: for each data set, its sample indices in the order of `rank`.
    """

    source: NDArray[np.int64]
    rank: NDArray[np.int64]
    picks: tuple[NDArray[np.int64], ...]


def quotas(sizes: Sequence[int], weights: Sequence[float] | None) -> list[int]:
    """Return how many pictures of each data set an epoch holds.

    Together as many as there are pictures. Without weights each data set is seen once.

    Args:
        sizes: pictures in each data set.
        weights: relative share of each in an epoch, all positive.
    """
    if weights is None:
        return list(sizes)
    require(all(w > 0 for w in weights), "weights: every data set's weight must be above 0")
    shares = np.asarray(weights, np.float64) * sum(sizes) / sum(weights)
    counts = np.floor(shares).astype(int)
    # Largest remainders get what rounding down left over.
    left = sum(sizes) - int(counts.sum())
    counts[np.argsort(counts - shares, kind="stable")[:left]] += 1
    return [max(int(count), 1) for count in counts]


def epoch_order(sizes: Sequence[int], counts: Sequence[int], seed: int, epoch: int) -> EpochOrder:
    """Return an epoch's pictures: data sets evenly mixed, each shuffled.

    A data set that gives more pictures than it has is gone through again in a new order; one
    that gives fewer gives a random part, another in each epoch.

    Args:
        sizes: pictures in each data set.
        counts: pictures of each in an epoch, from `quotas`.
        seed: of the run.
        epoch: from 0.
    """
    rng = np.random.default_rng([_ORDER, seed, epoch])
    picks, keys = [], []
    for size, count in zip(sizes, counts, strict=True):
        passes = [rng.permutation(size) for _ in range(-(-count // size))]
        picks.append(np.concatenate(passes)[:count])
        # Position i of n lies somewhere in the i-th of n equal stretches of the epoch.
        keys.append((np.arange(count) + rng.random(count)) / count)
    source = np.repeat(np.arange(len(sizes)), counts)
    rank = np.concatenate([np.arange(count) for count in counts])
    order = np.argsort(np.concatenate(keys), kind="stable")
    return EpochOrder(source[order], rank[order], tuple(picks))


def sample_rng(seed: int, epoch: int, position: int) -> np.random.Generator:
    """Return the random numbers of the picture at one position of one epoch."""
    return np.random.default_rng([_SAMPLE, seed, epoch, position])


def step_rng(seed: int, epoch: int, step: int) -> np.random.Generator:
    """Return the random numbers that a whole step shares, over all processes."""
    return np.random.default_rng([_STEP, seed, epoch, step])
