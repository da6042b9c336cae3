"""How alike two networks see the same pictures: DDS and RSA. No torch.

Both compare not features, whose channels mean something else in every network, but how the
features of one picture relate to those of every other picture.

DDS: Duality Diagram Similarity, Dwivedi et al., ECCV 2020 (arXiv 2008.02107): the cosine of two
kernel matrices, centred as in CKA (Kornblith et al., arXiv 1905.00414). The centring is the
unbiased one (Song et al., JMLR 2012): a plain one calls any two networks alike as soon as there
are more features than pictures, as there are here. Features are not z-scored one by one, as this
would give a channel of noise the weight of one that matters.

RSA: representation dissimilarity matrices, 1 - Pearson between the features of two pictures, of
two networks compared by Spearman's correlation (Kriegeskorte et al. 2008; for branches
Vandenhende et al., arXiv 1904.02920).
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Method = Literal["dds", "rsa"]
Kernel = Literal["rbf", "linear"]

METHODS: tuple[Method, ...] = ("dds", "rsa")
KERNELS: tuple[Kernel, ...] = ("rbf", "linear")
FEWEST = 4
"""Pictures below which neither can be computed."""

_NOTHING = 1e-9
"""Spread of features, relative to their size, that is rounding and nothing else."""


def signature(features: NDArray[np.floating], method: Method, kernel: Kernel = "rbf") -> Floats:
    """Return what a network's features of some pictures are compared by.

    Args:
        features: (N, P), a row a picture, N at least `FEWEST`.
        method: "dds" or "rsa".
        kernel: of DDS: "linear", or "rbf" as wide as the median distance.

    Returns:
        (N * (N - 1) / 2,) of unit length; the product of two signatures of the same pictures is
        the networks' similarity, 1 for equal ones.

    Raises:
        ValueError: too few pictures, or features that tell no picture from another.
    """
    x = np.asarray(features, np.float64)
    if len(x) < FEWEST:
        raise ValueError(f"{len(x)} pictures; at least {FEWEST} are needed")
    centred = x - x.mean(axis=0)
    if np.abs(centred).max() <= _NOTHING * max(np.abs(x).max(), np.finfo(np.float64).tiny):
        raise ValueError("its features are the same for every picture")
    values = _ranks(_correlation_distances(x)) if method == "rsa" else _kernel(centred, kernel)
    length = float(np.linalg.norm(values))
    if length == 0:
        raise ValueError("its features tell no picture from another")
    return np.asarray(values / length)


def similarity(first: Floats, second: Floats) -> float:
    """Return the similarity of two networks by their signatures: 1 equal, about 0 unrelated."""
    return float(first @ second)


def _kernel(centred: Floats, kernel: Kernel) -> Floats:
    """Return the upper triangle of the kernel matrix, centred without bias."""
    gram = centred @ centred.T
    if kernel == "rbf":
        squares = np.diag(gram)
        distances = np.maximum(squares[:, None] + squares[None] - 2 * gram, 0)
        gram = np.exp(-distances / np.median(distances[_pairs(len(gram))]).clip(1e-300))
    return _without_means(gram)[_pairs(len(gram))]


def _without_means(matrix: Floats) -> Floats:
    """Centre a symmetric (N, N) matrix so that products of two have no bias; diagonals play no
    part. Song et al. 2012, in the form of Szekely & Rizzo, Annals of Statistics 2014.
    """
    count = len(matrix)
    matrix = matrix.copy()
    np.fill_diagonal(matrix, 0)
    rows = matrix.sum(axis=1) / (count - 2)
    whole = matrix.sum() / ((count - 1) * (count - 2))
    return np.asarray(matrix - rows[:, None] - rows[None] + whole)


def _correlation_distances(features: Floats) -> Floats:
    """Return 1 - Pearson of each pair of rows, upper triangle."""
    rows = features - features.mean(axis=1, keepdims=True)
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    if not lengths.all():
        raise ValueError("its features of a picture are all alike")
    rows /= lengths
    return np.asarray((1 - rows @ rows.T)[_pairs(len(rows))])


def _ranks(values: Floats) -> Floats:
    """Return ranks less their mean; equal values get the mean of their ranks."""
    _, where, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    ranks = (last - (counts - 1) / 2)[where.reshape(-1)]
    return np.asarray(ranks - ranks.mean())


def _pairs(count: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    upper = np.triu_indices(count, 1)
    return upper[0], upper[1]
