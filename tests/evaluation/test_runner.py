from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from tests.evaluation.scenes import picture, split_of
from vision_heads.errors import UserError
from vision_heads.evaluation.protocols import score
from vision_heads.evaluation.records import class_map
from vision_heads.evaluation.runner import choose_head, describe, options_for, predict_split
from vision_heads.results import Detections, Failure, Result
from vision_heads.spec import HeadSpec, ModelSpec

CLASSES = ("truck", "class 2", "class 1")


class Fake:
    """A predictor that finds one box a picture: a 10x10 of "class 1" at 0, 0."""

    def __init__(self, broken=()):
        self.spec = ModelSpec(heads=(HeadSpec(name="aerial", classes=CLASSES),))
        self.broken = broken
        self.asked = SimpleNamespace(options=None, heads=None)

    def stream(self, images, options, *, merge):
        assert merge == {}  # heads are scored by themselves, whatever the model merges
        (wanted,) = options.values()
        self.asked = SimpleNamespace(options=wanted, heads=list(options))
        for file in images:
            if Path(file).stem in self.broken:
                yield Failure(str(file), f"{file}: not a readable picture")
            else:
                found = Detections(np.array([[0, 0, 10, 10]]), [0.6], [2], CLASSES)
                yield Result({"aerial": found}, 100, 80, str(file))


def data(names="ab"):
    return split_of([picture(name, [(0, 0, 10, 10, 1, 1)]) for name in names], classes=2)


def test_results_come_in_the_samples_order_with_classes_by_name():
    fake, split, seen = Fake(), data(), []
    options = options_for("visdrone")
    run = predict_split(
        fake, split, options, head=fake.spec.heads[0], progress=lambda *at: seen.append(at)
    )
    assert score(split, run.detections, "visdrone").numbers["AP"] == pytest.approx(100)
    assert seen == [(1, 2), (2, 2)]
    assert fake.asked.heads == ["aerial"]
    # A class the data set lacks must not take a place among the 500.
    assert fake.asked.options.classes == (1, 2)
    assert describe(run.classes, split.names) == (
        "2 of 2 classes match: the data set lacks truck (left out)"
    )


def test_a_picture_that_cannot_be_read_is_named_and_counts_as_empty():
    fake, split = Fake(broken="a"), data()
    run = predict_split(fake, split, options_for("coco"), head=fake.spec.heads[0])
    assert [len(one) for one in run.detections] == [0, 1]
    assert run.unread == ("a.jpg: not a readable picture",)
    assert score(split, run.detections, "visdrone").numbers["AR1"] == pytest.approx(50)


def test_no_readable_picture_is_a_mistake():
    fake = Fake(broken="ab")
    with pytest.raises(UserError, match=r"no picture of made val can be read: a\.jpg"):
        predict_split(fake, data(), options_for("coco"), head=fake.spec.heads[0])


def test_no_class_in_common_is_a_mistake():
    fake = Fake()
    split = data()
    split.names = ("cat", "dog")
    with pytest.raises(UserError, match="head aerial: no class in common"):
        predict_split(fake, split, options_for("coco"), head=fake.spec.heads[0])


def test_options():
    assert options_for("visdrone").max_det == 500
    assert options_for("coco").max_det == 1000
    assert options_for("coco").multi_label
    assert (options_for("coco").conf, options_for("coco").iou) == (0.001, 0.7)
    own = options_for("coco", conf=0.0, iou=0.0, max_det=7)
    assert (own.conf, own.iou, own.max_det) == (0.0, 0.0, 7)
    assert options_for("coco", conf=0.1, iou=0.5, max_det=7) == options_for(
        "visdrone", conf=0.1, iou=0.5, max_det=7
    )


def test_head_is_chosen_by_kind_and_name():
    one = HeadSpec(name="one", classes=("a",))
    two = HeadSpec(name="two", classes=("a",))
    other = HeadSpec(name="other", kind="another", classes=("a",))
    assert choose_head(ModelSpec(heads=(one, other)), "coco") is one
    assert choose_head(ModelSpec(heads=(one, two)), "coco", "two") is two
    with pytest.raises(UserError, match="HEAD=CARD, or choose one with --head: one, two"):
        choose_head(ModelSpec(heads=(one, two)), "coco")
    with pytest.raises(UserError, match="no head 'three'"):
        choose_head(ModelSpec(heads=(one,)), "coco", "three")
    with pytest.raises(UserError, match="'other' is of kind another"):
        choose_head(ModelSpec(heads=(one, other)), "coco", "other")
    with pytest.raises(UserError, match="no head of this model"):
        choose_head(ModelSpec(heads=(other,)), "visdrone")


def test_classes_that_only_the_data_have_are_told():
    known = class_map(("x", "a"), ("a", "b", "c"))
    assert describe(known, ("a", "b", "c")) == (
        "1 of 3 classes match: the model cannot find b, c (scored as missed); "
        "the data set lacks x (left out)"
    )


def test_describe_says_nothing_when_all_match():
    fake = Fake()
    split = data()
    split.names = CLASSES
    run = predict_split(fake, split, options_for("coco"), head=fake.spec.heads[0])
    assert describe(run.classes, split.names) is None
    assert fake.asked.options.classes is None
