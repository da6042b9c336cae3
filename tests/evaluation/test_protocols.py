"""What must hold of every box protocol."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.evaluation.scenes import picture, random_scene, results, split_of
from vision_heads.errors import UserError
from vision_heads.evaluation.protocols import PROTOCOLS, protocol_of, score
from vision_heads.evaluation.records import Found, class_map
from vision_heads.heads.base import kind_of
from vision_heads.heads.detect.evaluate import evaluate
from vision_heads.results import Detections

pytest.importorskip("faster_coco_eval")
SEEDS = st.integers(0, 2**32 - 1)
BOX_PROTOCOLS = sorted(name for name, rules in PROTOCOLS.items() if not rules.poses)
each_protocol = pytest.mark.parametrize("protocol", BOX_PROTOCOLS)


def apart(seed):
    """Make pictures whose objects do not touch, with results around them."""
    rng = np.random.default_rng(seed)
    samples, found = [], []
    for name in "abc":
        places = [(x, y) for x in range(0, 90, 20) for y in range(0, 60, 20)]
        rng.shuffle(places)
        rows = [(x, y, *rng.integers(5, 15, 2), 1, rng.integers(1, 4)) for x, y in places[:8]]
        samples.append(picture(name, rows))
        near = np.array([rows[i] for i in rng.integers(0, len(rows), 30)], float)
        near[:, :4] += rng.integers(-2, 3, (30, 4))
        near[:, 4] = rng.random(30)
        found.append(results(near).best_first())
    return split_of(samples), found


@each_protocol
@settings(max_examples=15, deadline=None)
@given(seed=SEEDS)
def test_perfect_results_score_100(protocol, seed):
    split, _ = apart(seed)
    perfect = [
        Detections(s.boxes, np.full(len(s.boxes), 0.7), s.labels, split.names)
        for s in split.samples
    ]
    got = score(split, perfect, protocol).numbers
    assert got["AP"] == got["AP50"] == got["AR100"] == pytest.approx(100)


@each_protocol
@settings(max_examples=15, deadline=None)
@given(seed=SEEDS)
def test_the_order_of_the_pictures_does_not_matter(protocol, seed):
    split, found = apart(seed)
    before = score(split, found, protocol)
    order = np.random.default_rng(seed).permutation(len(found))
    split.samples = [split.samples[i] for i in order]
    after = score(split, [found[i] for i in order], protocol)
    assert after.numbers == pytest.approx(before.numbers, abs=1e-9, nan_ok=True)
    assert (after.confusion.counts == before.confusion.counts).all()
    assert np.allclose(after.curves.f1, before.curves.f1)


@each_protocol
@settings(max_examples=15, deadline=None)
@given(seed=SEEDS)
def test_a_duplicate_with_a_lower_score_never_helps(protocol, seed):
    split, found = apart(seed)
    rng = np.random.default_rng(seed)
    more = []
    for one in found:
        pick = rng.integers(0, len(one), 10)
        more.append(
            Found(
                np.concatenate([one.xywh, one.xywh[pick]]),
                np.concatenate([one.score, one.score[pick] * rng.random(10)]),
                np.concatenate([one.label, one.label[pick]]),
            ).best_first()
        )
    before, after = score(split, found, protocol).numbers, score(split, more, protocol).numbers
    for name in ("AP", "AP50", "AP75"):
        assert after[name] <= before[name] + 1e-9


@each_protocol
@settings(max_examples=15, deadline=None)
@given(seed=SEEDS)
def test_only_the_order_of_the_scores_matters(protocol, seed):
    _, _, split, found = random_scene(seed)
    squared = [Found(one.xywh, one.score**2 / 2, one.label) for one in found]
    before, after = score(split, found, protocol).numbers, score(split, squared, protocol).numbers
    assert after == pytest.approx(before, abs=1e-9, nan_ok=True)


@each_protocol
def test_everything_of_a_score_is_there(protocol):
    _, _, split, found = random_scene(3)
    scores = score(split, found, protocol)
    assert tuple(scores.numbers) == protocol_of(protocol).numbers
    assert list(scores.classes) == list(split.names)
    assert scores.images == len(split.samples)
    record = scores.to_dict()
    assert {*scores.numbers, "protocol", "classes", "confusion", "best_f1"} <= set(record)


def test_confusion_by_hand():
    sample = picture(
        "a",
        [
            (0, 0, 10, 10, 1, 1),  # found as it is
            (20, 0, 10, 10, 1, 1),  # found as class 2
            (40, 0, 10, 10, 1, 2),  # missed
            (60, 40, 20, 20, 0, 0),  # a region
        ],
    )
    found = results(
        [
            (0, 0, 10, 10, 0.9, 1),
            (20, 0, 10, 10, 0.8, 2),
            (40, 0, 10, 10, 0.2, 2),  # below the confidence
            (0, 40, 10, 10, 0.7, 2),  # on background
            (62, 42, 10, 10, 0.7, 1),  # inside the region
        ]
    )
    split = split_of([sample], classes=2)
    for protocol in BOX_PROTOCOLS:
        counts = score(split, [found], protocol).confusion.counts
        assert counts.tolist() == [[1, 1, 0], [0, 0, 1], [0, 1, 0]]


def test_f1_by_hand():
    sample = picture("a", [(0, 0, 10, 10, 1, 1), (20, 0, 10, 10, 1, 1)])
    found = results([(0, 0, 10, 10, 0.8, 1), (50, 50, 10, 10, 0.6, 1), (20, 0, 10, 10, 0.4, 1)])
    curves = score(split_of([sample], classes=1), [found], "visdrone").curves
    f1 = dict(zip(curves.confidence.round(3), curves.f1[0], strict=True))
    assert f1[0.9] == 0
    assert f1[0.7] == pytest.approx(2 / 3)  # precision 1, recall 1/2
    assert f1[0.5] == pytest.approx(1 / 2)
    assert f1[0.3] == pytest.approx(4 / 5)
    assert curves.best_confidence == 0.0


def test_mistakes_are_named():
    split = split_of([picture("a", [])])
    with pytest.raises(UserError, match="unknown protocol 'voc'; known: coco, visdrone"):
        score(split, [results([])], "voc")
    stranger = Detections.empty(("dog",))
    with pytest.raises(UserError, match="no class in common"):
        score(split, [stranger], "visdrone")
    with pytest.raises(ValueError, match="0 predictions for 1 samples"):
        score(split, [], "coco")


def test_classes_that_differ_in_case_alone_are_kept_apart():
    """A reader of letters knows "A" and "a"; both were taken for the last of them."""
    assert class_map(("A", "a", "b c"), ("A", "a", "B-C")).index.tolist() == [0, 1, 2]
    assert class_map(("a", "B"), ("b", "A", "a")).index.tolist() == [2, 0]


def test_classes_match_however_their_words_are_joined():
    for one in ("traffic light", "Traffic-Light", "traffic_light", " TRAFFIC  light"):
        for other in ("traffic light", "traffic-light", "Traffic_Light"):
            assert class_map((one,), (other,)).index.tolist() == [0]


def test_two_lone_classes_match_whatever_they_are_called_where_that_is_asked_for():
    with pytest.raises(UserError, match="no class in common: the model finds head; the data set"):
        class_map(("head",), ("person",))
    assert class_map(("head",), ("person",), lone=True).index.tolist() == [0]
    for model, data in ((("head", "hat"), ("person",)), (("head",), ("person", "hand"))):
        with pytest.raises(UserError, match="no class in common"):
            class_map(model, data, lone=True)


def test_the_kind_evaluates_by_the_protocol():
    split, _ = apart(1)
    perfect = [
        Detections(s.boxes, np.ones(len(s.boxes)), s.labels, split.names) for s in split.samples
    ]
    numbers = kind_of("detect").evaluate(split, perfect, "visdrone")
    assert numbers == evaluate(split, perfect, "visdrone")
    assert numbers["AP50"] == pytest.approx(100)
    assert "AP_large" not in evaluate(split, perfect, "coco")  # no object is large
