"""Which picture comes when: the order of an epoch, from the seed and the epoch alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from vision_heads.errors import require

NEVER = 2**31
"""An epoch that no run reaches."""

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
        counts: pictures of each in an epoch, from `quotas`; 0 leaves one out.
        seed: of the run.
        epoch: from 0.
    """
    rng = np.random.default_rng([_ORDER, seed, epoch])
    picks, keys = [], []
    for size, count in zip(sizes, counts, strict=True):
        passes = [rng.permutation(size) for _ in range(-(-count // size))]
        picks.append(np.concatenate([np.zeros(0, np.int64), *passes])[:count])
        # Position i of n lies somewhere in the i-th of n equal stretches of the epoch.
        keys.append((np.arange(count) + rng.random(count)) / count)
    source = np.repeat(np.arange(len(sizes)), counts)
    rank = np.concatenate([np.arange(count) for count in counts])
    order = np.argsort(np.concatenate(keys), kind="stable")
    return EpochOrder(source[order], rank[order], tuple(picks))


@dataclass(frozen=True, slots=True)
class Schedule:
    """How many pictures of which data set every epoch of a run holds.

    Without weights an epoch shows each picture once. With them it has as many pictures as the
    data sets together, shared out by the weights. A data set that is left out from some epoch
    on gives nothing to it: without weights the epoch gets shorter by it, and in a batch the
    shares of the others grow.

    Attributes:
        sizes: pictures in each data set.
        weights: relative share of each, all positive; None: in proportion to the sizes.
        until: first epoch without each data set.
        seed: of the run.
        batch_size: of all processes together.
        whole_batches: leave an epoch's last, incomplete batch out.
    """

    sizes: tuple[int, ...]
    weights: tuple[float, ...] | None
    until: tuple[int, ...]
    seed: int
    batch_size: int
    whole_batches: bool

    def active(self, epoch: int) -> list[int]:
        """Return the numbers of the data sets that the epoch draws from."""
        return [i for i, end in enumerate(self.until) if epoch < end]

    def counts(self, epoch: int) -> list[int]:
        """Return how many pictures of each data set the epoch holds."""
        active = self.active(epoch)
        weights = self.weights and [self.weights[i] for i in active]
        shares = dict(
            zip(active, quotas([self.sizes[i] for i in active], weights or None), strict=True)
        )
        return [shares.get(i, 0) for i in range(len(self.sizes))]

    def steps(self, epoch: int) -> int:
        """Return the number of batches of the epoch."""
        total = sum(self.counts(epoch))
        return (total + (0 if self.whole_batches else self.batch_size - 1)) // self.batch_size

    def order(self, epoch: int) -> EpochOrder:
        """Return the epoch's pictures."""
        return epoch_order(self.sizes, self.counts(epoch), self.seed, epoch)

    def leave_out(self, index: int, epoch: int) -> Schedule:
        """Return the schedule that draws nothing from a data set from an epoch on."""
        until = list(self.until)
        until[index] = min(until[index], epoch)
        return replace(self, until=tuple(until))

    def turns(self, epochs: int) -> list[NDArray[np.int64]]:
        """Return how often each picture of each data set has its turn in the first epochs.

        A turn is a place in a batch. What mosaics and mixtures add to pictures whose turn it is
        does not count.
        """
        totals = [np.zeros(size, np.int64) for size in self.sizes]
        for epoch in range(epochs):
            order = self.order(epoch)
            shown = order.source[: self.steps(epoch) * self.batch_size]
            for i, picks in enumerate(order.picks):
                own = picks[: int((shown == i).sum())]
                totals[i] += np.bincount(own, minlength=self.sizes[i])
        return totals


def sample_rng(seed: int, epoch: int, position: int) -> np.random.Generator:
    """Return the random numbers of the picture at one position of one epoch."""
    return np.random.default_rng([_SAMPLE, seed, epoch, position])


def step_rng(seed: int, epoch: int, step: int) -> np.random.Generator:
    """Return the random numbers that a whole step shares, over all processes."""
    return np.random.default_rng([_STEP, seed, epoch, step])
