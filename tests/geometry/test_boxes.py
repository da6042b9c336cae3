from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.geometry.strategies import boxes_in
from vision_heads.geometry import boxes as bx


def _slow_nms(boxes, scores, labels, threshold):
    """The definition, one pair at a time."""
    kept: list[int] = []
    for i in sorted(range(len(boxes)), key=lambda i: (-scores[i], i)):
        overlaps = (
            bx.iou_matrix(boxes[i : i + 1], boxes[j : j + 1])[0, 0]
            for j in kept
            if labels[i] == labels[j]
        )
        if all(value <= threshold for value in overlaps):
            kept.append(i)
    return kept


@given(boxes_in())
def test_a_corner_and_a_size_are_the_box(boxes):
    xywh = bx.xyxy_to_xywh(boxes)
    np.testing.assert_array_equal(xywh[:, :2], boxes[:, :2])
    np.testing.assert_allclose(xywh[:, :2] + xywh[:, 2:], boxes[:, 2:], atol=1e-3)


@given(boxes_in(), boxes_in())
def test_iou_is_symmetric_and_bounded(a, b):
    iou = bx.iou_matrix(a, b)
    assert iou.shape == (len(a), len(b))
    assert (iou >= 0).all() and (iou <= 1 + 1e-6).all()
    np.testing.assert_allclose(iou, bx.iou_matrix(b, a).T)


@given(boxes_in())
def test_iou_with_itself_is_one_unless_empty(boxes):
    own = np.diagonal(bx.iou_matrix(boxes, boxes))
    np.testing.assert_allclose(own, (bx.area(boxes) > 0).astype(float), atol=1e-6)


def test_iou_of_known_boxes():
    a = np.array([[0, 0, 10, 10]], np.float32)
    b = np.array([[5, 0, 15, 10], [0, 0, 10, 10], [20, 20, 30, 30], [0, 0, 5, 5]], np.float32)
    np.testing.assert_allclose(bx.iou_matrix(a, b)[0], [1 / 3, 1, 0, 0.25])


def test_boxes_beside_each_other_share_nothing():
    a = np.array([[0, 0, 10, 10]], np.float32)
    beside, below = [20, 0, 30, 10], [0, 20, 10, 30]
    assert bx.iou_matrix(a, np.array([beside, below], np.float32)).tolist() == [[0, 0]]


def test_boxes_may_be_smaller_than_a_pixel():
    """As those are that are given in shares of a picture."""
    a = np.array([[0.1, 0.1, 0.3, 0.3]])
    b = np.array([[0.1, 0.1, 0.3, 0.2], [0.1, 0.1, 0.3, 0.3], [0.5, 0.5, 0.6, 0.6]])
    np.testing.assert_allclose(bx.iou_matrix(a, b), [[0.5, 1, 0]], atol=1e-12)


@given(boxes_in(width=2000, height=2000))
def test_clip_stays_inside_and_leaves_the_inside_alone(boxes):
    before = boxes.copy()
    cut = bx.clip(boxes, 700, 900)
    np.testing.assert_array_equal(boxes, before)
    assert (cut >= 0).all() and (cut[:, 0::2] <= 700).all() and (cut[:, 1::2] <= 900).all()
    inside = (boxes[:, 2] <= 700) & (boxes[:, 3] <= 900)
    np.testing.assert_array_equal(cut[inside], boxes[inside])


# Thresholds no small fraction equals: OpenCV computes the overlap in other arithmetic.
@given(boxes_in(), st.sampled_from([0.1234, 0.4567, 0.6543, 0.8765]), st.data())
def test_nms_equals_its_definition(boxes, threshold, data):
    count = len(boxes)
    steps = st.lists(st.integers(0, 4), min_size=count, max_size=count)
    scores = np.array(data.draw(steps), np.float32) / 4  # with ties and with 0
    labels = np.array(data.draw(steps), np.int64)
    kept = bx.nms(boxes, scores, labels, threshold)
    assert kept.tolist() == _slow_nms(boxes, scores, labels, threshold)


def test_nms_respects_classes_limit_and_negative_scores():
    boxes = np.array([[0, 0, 10, 10], [0, 0, 10, 10], [0, 0, 10, 9], [50, 50, 60, 60]], np.float32)
    scores = np.array([-3.0, -1.0, -2.0, -4.0], np.float32)
    assert bx.nms(boxes, scores, None, 0.5).tolist() == [1, 3]
    assert bx.nms(boxes, scores, np.array([0, 1, 2, 0]), 0.5).tolist() == [1, 2, 0, 3]
    assert bx.nms(boxes, scores, np.array([0, 1, 2, 0]), 0.5, max_det=2).tolist() == [1, 2]
    assert bx.nms(np.zeros((0, 4)), np.zeros(0), None, 0.5).shape == (0,)


def test_boxes_without_an_area_suppress_nothing():
    """OpenCV says of any two of them that they overlap wholly."""
    boxes = np.array([[10, 10, 10, 20], [50, 50, 60, 50], [10, 10, 10, 20], [5, 5, 9, 9]], float)
    scores = np.array([0.6, 0.9, 0.7, 0.8])
    assert bx.nms(boxes, scores, None, 0.5).tolist() == [1, 3, 2, 0]
    assert bx.nms(boxes, scores, None, 0.5, max_det=3).tolist() == [1, 3, 2]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_nms_does_not_depend_on_order_of_distinct_scores(dtype):
    rng = np.random.default_rng(3)
    corner = rng.uniform(0, 300, (400, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(5, 60, (400, 2))], 1).astype(dtype)
    scores = rng.permutation(400).astype(dtype) / 400
    labels = rng.integers(0, 3, 400)
    first = bx.nms(boxes, scores, labels, 0.5)
    shuffle = rng.permutation(400)
    second = bx.nms(boxes[shuffle], scores[shuffle], labels[shuffle], 0.5)
    np.testing.assert_array_equal(shuffle[second], first)
    assert 0 < len(first) < 400
