"""DDS and RSA: 1 for equal networks, blind to what does not matter, no bias by width."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vision_heads.branching.similarity import FEWEST, KERNELS, _ranks, signature, similarity

WAYS = [("dds", "rbf"), ("dds", "linear"), ("rsa", "rbf")]
seeds = st.integers(0, 2**32 - 1)


def features(seed: int, pictures: int = 12, width: int = 30) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(pictures, width))


def compare(a: np.ndarray, b: np.ndarray, way: tuple[str, str]) -> float:
    return similarity(signature(a, *way), signature(b, *way))


def rotation(width: int, seed: int) -> np.ndarray:
    return np.linalg.qr(np.random.default_rng(seed).normal(size=(width, width)))[0]


@pytest.mark.parametrize("way", WAYS, ids="-".join)
@given(seed=seeds)
def test_a_network_is_like_itself_and_similarity_is_symmetric(way, seed):
    a, b = features(seed), features(seed + 1, width=17)
    assert compare(a, a, way) == pytest.approx(1)
    assert compare(a, b, way) == compare(b, a, way)
    assert -1 <= compare(a, b, way) <= 1


@pytest.mark.parametrize("way", WAYS, ids="-".join)
@given(seed=seeds, scale=st.floats(1e-3, 1e3))
def test_order_and_scale_of_features_do_not_matter(way, seed, scale):
    a, b = features(seed), features(seed + 1)
    order = np.random.default_rng(seed).permutation(a.shape[1])
    assert compare(scale * a[:, order], b, way) == pytest.approx(compare(a, b, way), abs=1e-6)


@pytest.mark.parametrize("kernel", KERNELS)
@given(seed=seeds, shift=st.floats(-100, 100))
def test_dds_does_not_see_rotation_or_shift_of_features(kernel, seed, shift):
    a, b = features(seed), features(seed + 1)
    turned = a @ rotation(a.shape[1], seed) + shift
    way = ("dds", kernel)
    assert compare(turned, a, way) == pytest.approx(1, abs=1e-6)
    assert compare(turned, b, way) == pytest.approx(compare(a, b, way), abs=1e-6)


@pytest.mark.parametrize("way", WAYS, ids="-".join)
def test_order_of_pictures_does_not_matter_as_long_as_it_is_the_same(way):
    a, b = features(0), features(1)
    order = np.random.default_rng(2).permutation(len(a))
    assert compare(a[order], b[order], way) == pytest.approx(compare(a, b, way))
    mixed = a + 0.1 * features(3)
    assert compare(a, mixed, way) > 0.8 > compare(a[order], mixed, way)


@pytest.mark.parametrize("way", WAYS, ids="-".join)
def test_more_noise_is_less_alike(way):
    a, noise = features(0, 40), features(1, 40)
    values = [compare(a, a + level * noise, way) for level in (0, 0.3, 1, 3)]
    assert values == sorted(values, reverse=True)


@pytest.mark.parametrize("way", WAYS, ids="-".join)
def test_unrelated_networks_are_unlike_however_wide_they_are(way):
    """A plain CKA of 20 pictures and 5,000 features is about 0.98 for independent ones."""
    values = [
        compare(features(2 * i, 20, 5000), features(2 * i + 1, 20, 5000), way) for i in range(20)
    ]
    assert abs(np.mean(values)) < 0.1
    a, b = features(0, 20, 5000), features(1, 20, 5000)
    center = np.eye(20) - 1 / 20
    plain = [(center @ x @ x.T @ center).ravel() for x in (a, b)]
    assert plain[0] @ plain[1] / np.prod([np.linalg.norm(g) for g in plain]) > 0.9


def test_linear_dds_is_the_unbiased_cka():
    """Against the estimator as Song et al. write it, with its traces and sums."""

    def hsic(k: np.ndarray, m: np.ndarray) -> float:
        k, m, n = k - np.diag(np.diag(k)), m - np.diag(np.diag(m)), len(k)
        one = np.ones(n)
        cross = (one @ k @ one) * (one @ m @ one) / ((n - 1) * (n - 2))
        return (np.trace(k @ m) + cross - 2 / (n - 2) * (one @ k @ m @ one)) / (n * (n - 3))

    a, b = features(0), features(1) + 0.5 * features(0)
    k, m = a @ a.T, b @ b.T
    expected = hsic(k, m) / np.sqrt(hsic(k, k) * hsic(m, m))
    assert compare(a, b, ("dds", "linear")) == pytest.approx(expected)


def test_rsa_is_spearman_of_the_dissimilarities():
    stats = pytest.importorskip("scipy.stats")
    a, b = features(0), features(1)
    upper = np.triu_indices(len(a), 1)
    expected = stats.spearmanr((1 - np.corrcoef(a))[upper], (1 - np.corrcoef(b))[upper]).statistic
    assert compare(a, b, ("rsa", "rbf")) == pytest.approx(expected)


def test_equal_dissimilarities_share_their_rank():
    stats = pytest.importorskip("scipy.stats")
    values = np.array([3.0, 1.0, 3.0, 0.5, 1.0, 3.0, 7.0])
    assert _ranks(values) == pytest.approx(stats.rankdata(values) - 4)


@pytest.mark.parametrize("method", ["dds", "rsa"])
@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (features(0, FEWEST - 1), "at least 4"),
        (np.ones((6, 8)), "the same for every picture"),
        (np.zeros((6, 8)), "the same for every picture"),
    ],
)
def test_features_that_tell_nothing_are_named(method, bad, message):
    with pytest.raises(ValueError, match=message):
        signature(bad, method)
