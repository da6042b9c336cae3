from __future__ import annotations

import numpy as np
import pytest

from vision_heads.errors import UserError
from vision_heads.heads.base import DecodeOptions, kind_of
from vision_heads.heads.detect import decode as module
from vision_heads.spec import HeadSpec

SPEC = HeadSpec(name="a", classes=("x", "y", "z"), category_ids=(7, 3, 5))


def _decode(boxes, scores, **options):
    arrays = {"boxes": np.array(boxes, np.float32), "scores": np.array(scores, np.float32)}
    return kind_of("detect").decode(arrays, SPEC, DecodeOptions(**options))


APART = [[0, 0, 10, 10], [20, 0, 30, 10], [40, 0, 50, 10], [60, 0, 70, 10]]


def test_conf_is_exceeded_strictly():
    scores = [[0.5, 0, 0], [0, 0.25, 0], [0, 0, 0.25001], [0, 0, 0]]
    found = _decode(APART, scores, conf=0.25)
    assert found.class_id.tolist() == [0, 2]
    assert found.names == SPEC.classes and found.category_ids == (7, 3, 5)
    assert _decode(APART, scores, conf=0.25, multi_label=True).class_id.tolist() == [0, 2]
    assert len(_decode(APART, scores, conf=0.0)) == 3  # a score of 0 is nothing found


def test_best_class_or_every_class():
    scores = [[0.6, 0.5, 0.1]]
    one = _decode(APART[:1], scores)
    assert one.class_id.tolist() == [0]
    many = _decode(APART[:1], scores, multi_label=True)
    assert many.class_id.tolist() == [0, 1]
    np.testing.assert_allclose(many.score, [0.6, 0.5])
    # The filter does not make a second-best class the candidate's class.
    assert len(_decode(APART[:1], scores, classes=(1,))) == 0
    assert len(_decode(APART[:1], scores, classes=(1,), multi_label=True)) == 1
    assert len(_decode(APART[:1], scores, classes=())) == 0


def test_nms_is_within_a_class_and_limits_are_over_all():
    boxes = [[0, 0, 10, 10], [1, 0, 11, 10], [0, 0, 10, 10], [60, 0, 70, 10]]
    scores = [[0.8, 0, 0], [0.9, 0, 0], [0, 0.7, 0], [0, 0, 0.3]]
    found = _decode(boxes, scores, iou=0.5)
    assert found.xyxy[:, 0].tolist() == [1, 0, 60]
    assert _decode(boxes, scores, iou=0.5, max_det=2).class_id.tolist() == [0, 1]
    assert len(_decode(boxes, scores, iou=0.9)) == 4


def test_equal_scores_keep_the_candidates_order():
    scores = [[0.5, 0, 0]] * 4
    assert _decode(APART, scores, max_det=3).xyxy[:, 0].tolist() == [0, 20, 40]


def test_nan_is_nothing_found_and_hides_nothing():
    scores = [[np.nan, 0.9, 0], [np.nan] * 3, [0, 0, 0.8], [0, 0, 0]]
    assert _decode(APART, scores).class_id.tolist() == [1, 2]
    assert _decode(APART, scores, multi_label=True).class_id.tolist() == [1, 2]


def test_the_limit_before_nms_keeps_the_best(monkeypatch):
    monkeypatch.setattr(module, "MAX_CANDIDATES", 2)
    scores = [[0.3, 0, 0], [0.9, 0, 0], [0.5, 0, 0], [0.4, 0, 0]]
    assert _decode(APART, scores).xyxy[:, 0].tolist() == [20, 40]


def test_three_thousand_results_of_a_picture_are_no_problem():
    x, y = np.meshgrid(np.arange(60) * 20.0, np.arange(50) * 20.0)
    corner = np.stack([x, y], -1).reshape(-1, 2)
    boxes = np.concatenate([corner, corner + 15], 1)
    scores = np.zeros((3000, 3))
    scores[:, 1] = np.linspace(0.3, 0.9, 3000)
    found = _decode(boxes, scores, max_det=3000)
    assert len(found) == 3000
    assert (np.diff(found.score) <= 0).all()


def test_no_candidates_give_no_detections():
    assert len(_decode(np.zeros((0, 4)), np.zeros((0, 3)))) == 0


def test_unknown_options_of_the_head_are_refused():
    with pytest.raises(UserError, match="colour"):
        kind_of("detect").check(HeadSpec(name="a", classes=("x",), options={"colour": 1}))
