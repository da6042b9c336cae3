from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.geometry.strategies import boxes_in
from vision_heads.geometry import pairs
from vision_heads.geometry.boxes import intersection_matrix, iou_matrix
from vision_heads.geometry.pairs import overlap, overlapping_pairs, suppress


@given(boxes_in(), st.data())
def test_pairs_are_those_of_the_full_matrix(boxes, data):
    count = len(boxes)
    group = np.array(data.draw(st.lists(st.integers(-2, 2), min_size=count, max_size=count)), int)
    i, j, shared = overlapping_pairs(boxes, group)
    full = intersection_matrix(boxes.astype(np.float64), boxes.astype(np.float64))
    expected = {
        (a, b)
        for a in range(count)
        for b in range(a + 1, count)
        if group[a] == group[b] and full[a, b] > 0
    }
    assert len(i) == len(expected)
    assert {(min(p), max(p)) for p in zip(i.tolist(), j.tolist(), strict=True)} == expected
    np.testing.assert_allclose(shared, full[i, j])
    np.testing.assert_allclose(
        overlap(boxes, i, j, shared, "iou"), iou_matrix(boxes, boxes)[i, j], atol=1e-6
    )


def test_ios_is_the_share_of_the_smaller():
    boxes = np.array([[0, 0, 10, 10], [5, 5, 9, 9], [8, 0, 18, 10]], np.float32)
    i, j, shared = overlapping_pairs(boxes)
    found = {
        tuple(sorted(p)): v
        for *p, v in zip(i.tolist(), j.tolist(), overlap(boxes, i, j, shared, "ios"), strict=True)
    }
    assert found == pytest.approx({(0, 1): 1.0, (0, 2): 0.2, (1, 2): 4 / 16})


def test_chunks_change_nothing(monkeypatch):
    rng = np.random.default_rng(0)
    corner = rng.uniform(0, 100, (200, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(0, 50, (200, 2))], 1)
    whole = overlapping_pairs(boxes)
    monkeypatch.setattr(pairs, "_CHUNK", 37)
    for a, b in zip(whole, overlapping_pairs(boxes), strict=True):
        np.testing.assert_array_equal(a, b)


@given(st.integers(1, 30), st.data())
def test_suppress_equals_going_through_them_best_first(count, data):
    rank = np.array(data.draw(st.permutations(range(count))))
    node = st.integers(0, count - 1)
    edges = data.draw(st.lists(st.tuples(node, node).filter(lambda p: p[0] != p[1]), max_size=60))
    i = np.array([a for a, _ in edges], np.int64)
    j = np.array([b for _, b in edges], np.int64)
    exclude = {(a, b) for a, b in edges} | {(b, a) for a, b in edges}
    kept: list[int] = []
    expected = np.zeros(count, int)
    for node_ in np.argsort(rank):
        owner = next((k for k in kept if (int(node_), k) in exclude), None)
        expected[node_] = node_ if owner is None else owner
        if owner is None:
            kept.append(int(node_))
    np.testing.assert_array_equal(suppress(count, rank, i, j), expected)
