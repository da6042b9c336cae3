from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.geometry.strategies import boxes_in
from tests.runtime.tiny_onnx import picture, write_model
from vision_heads import load
from vision_heads.errors import UserError
from vision_heads.geometry.boxes import area, iou_matrix
from vision_heads.heads.base import DecodeOptions
from vision_heads.results import Detections
from vision_heads.runtime.merging import plan_merging, read_merge
from vision_heads.runtime.slicing import Slicing
from vision_heads.spec import MERGED, HeadSpec, InputSpec, ModelSpec

HEADS = (
    HeadSpec(name="a", classes=("car", "van", "tree"), category_ids=(4, 5, 9)),
    HeadSpec(name="b", classes=("automobile", "dog")),
    HeadSpec(name="c", classes=("lorry", "sky")),
    HeadSpec(name="d", classes=("car", "cat")),
)
MERGE = {"vehicle": ["a:car", "a:van", "b:automobile"], "truck": ["c:lorry", "b:dog"]}


@st.composite
def findings(draw):
    """What the four heads found in one picture, few distinct scores so that some are equal."""
    found = {}
    for head in HEADS:
        boxes = draw(boxes_in(200, 200, max_count=12))
        boxes = boxes[area(boxes) > 0]  # no detection is empty
        draws = [draw(st.tuples(st.integers(1, 8), st.integers(0, len(head.classes) - 1)))
                 for _ in boxes]  # fmt: skip
        draws.sort(key=lambda pair: -pair[0])
        found[head.name] = Detections(
            boxes,
            np.array([score / 8 for score, _ in draws]),
            np.array([label for _, label in draws]),
            head.classes,
            head.category_ids,
        )
    return found


def _plan(iou=0.5, max_det=1000, wanted=HEADS, merge=MERGE):
    return plan_merging(merge, HEADS, wanted, iou=iou, max_det=max_det)


def _same(a, b):
    for one, other in ((a.xyxy, b.xyxy), (a.score, b.score), (a.class_id, b.class_id)):
        np.testing.assert_array_equal(one, other)
    assert (a.names, a.category_ids) == (b.names, b.category_ids)


def _members(found, plan):
    """Boxes, scores and new classes of everything that takes part in the merge."""
    rows = [
        (box, score, plan.labels[head][label])
        for head in plan.labels
        for box, score, label in zip(
            found[head].xyxy, found[head].score, found[head].class_id, strict=True
        )
        if plan.labels[head][label] >= 0
    ]
    boxes = np.array([row[0] for row in rows]).reshape(-1, 4)
    return boxes, np.array([row[1] for row in rows]), np.array([row[2] for row in rows])


@given(findings(), st.sampled_from([0.0, 0.3, 0.5, 0.9, 1.0]))
def test_no_two_merged_boxes_overlap_and_every_dropped_one_has_its_reason(found, iou):
    plan = _plan(iou)
    merged = plan.apply(found)[MERGED]
    assert (merged.names, merged.category_ids) == (("vehicle", "truck"), (0, 1))
    assert (np.diff(merged.score) <= 0).all()
    kept = iou_matrix(merged.xyxy.astype(np.float64), merged.xyxy.astype(np.float64))
    same = merged.class_id[:, None] == merged.class_id
    np.fill_diagonal(same, False)
    assert (kept[same] <= iou + 1e-6).all()
    boxes, scores, labels = _members(found, plan)
    taken = {
        (*box, score, label)
        for box, score, label in zip(
            merged.xyxy.tolist(), merged.score.tolist(), merged.class_id.tolist(), strict=True
        )
    }
    shared = iou_matrix(boxes.astype(np.float64), merged.xyxy.astype(np.float64))
    for row, (box, score, label) in enumerate(zip(boxes, scores, labels, strict=True)):
        if (*box.tolist(), score, label) in taken:
            continue
        better = (merged.score >= score) & (merged.class_id == label)
        assert (shared[row, better] > iou - 1e-6).any()


@given(findings())
def test_nothing_outside_the_merge_changes(found):
    left = _plan().apply(found)
    assert list(left) == ["a", "b", "c", "d", MERGED]
    _same(left["d"], found["d"])
    _same(left["a"], found["a"][found["a"].class_id == 2])
    _same(left["b"], found["b"][[]])  # both its classes are merged
    _same(left["c"], found["c"][found["c"].class_id == 1])


@given(findings(), st.integers(1, 5))
def test_the_best_are_kept_where_there_are_too_many(found, most):
    every = _plan().apply(found)[MERGED]
    _same(_plan(max_det=most).apply(found)[MERGED], every[:most])


def test_a_class_of_which_only_one_head_runs_stays_in_its_head():
    plan = _plan(wanted=HEADS[:2])
    assert plan.names == ("vehicle",) and set(plan.labels) == {"a", "b"}
    assert plan.labels["b"].tolist() == [0, -1]  # dog would meet c's lorry, which does not run
    assert _plan(wanted=(HEADS[0], HEADS[3])) is None
    assert _plan(merge={}) is None


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """Two heads that find the same squares; the second calls red "rouge"."""
    path = tmp_path_factory.mktemp("model") / "two.onnx"
    heads = (
        HeadSpec(name="one", classes=("red", "green", "blue")),
        HeadSpec(name="two", classes=("rouge", "green", "blue")),
    )
    spec = ModelSpec(
        input=InputSpec(height=128, width=128),
        heads=heads,
        merge={"warm": ("one:red", "two:rouge")},
    )
    write_model(path, heads=("one", "two"), metadata=spec.to_json())
    return path


@pytest.fixture(scope="module")
def predictor(model):
    return load(model, threads=1)


PICTURE = picture(128, 128, {"red": [(32, 64, 16)], "blue": [(96, 32, 16)]})


def test_the_models_own_merge_applies_until_it_is_switched_off(predictor):
    result = predictor(PICTURE)
    assert list(result.heads) == ["one", "two", MERGED]
    assert result[MERGED].counts() == {"warm": 1}
    assert result[MERGED].xyxy.tolist() == [[32, 64, 48, 80]]
    assert result["one"].counts() == result["two"].counts() == {"blue": 1}
    assert result.to_dict()["heads"][MERGED][0]["class"] == "warm"
    plain = predictor(PICTURE, merge={})
    assert list(plain.heads) == ["one", "two"]
    assert plain["two"].counts() == {"rouge": 1, "blue": 1}


def test_another_merge_replaces_the_models(predictor):
    result = predictor(PICTURE, merge={"cold": ["one:blue", "two:blue"]})
    assert result[MERGED].counts() == {"cold": 1}
    assert result["two"].counts() == {"rouge": 1}


def test_one_head_alone_keeps_its_results(predictor):
    assert predictor(PICTURE, heads=["two"])["two"].counts() == {"rouge": 1, "blue": 1}
    assert list(predictor(PICTURE, heads=["two"]).heads) == ["two"]


def test_the_new_class_can_be_asked_for(predictor):
    result = predictor(PICTURE, classes=["warm"])
    assert result[MERGED].counts() == {"warm": 1} and len(result) == 1
    assert len(predictor(PICTURE, classes=["rouge"])[MERGED]) == 1
    with pytest.raises(UserError, match=r"no class 'cool'; there are one: .*; merged: warm"):
        predictor(PICTURE, classes=["cool"])


def test_tiles_first_then_heads(predictor, tmp_path):
    large = picture(320, 320, {"red": [(16, 16, 16), (120, 120, 16)], "blue": [(200, 40, 16)]})
    cv2.imwrite(str(tmp_path / "large.png"), large)
    for merge in ("nms", "nmm"):
        slicing = Slicing(size=128, overlap=0.25, whole=False, merge=merge)
        plain = predictor(large, slicing=slicing, merge={})
        (result,) = predictor.stream([tmp_path / "large.png"], slicing=slicing)
        assert result[MERGED].counts() == {"warm": 2}
        _same(result["one"], plain["one"][plain["one"].class_id != 0])
        assert sorted(result[MERGED].xyxy.tolist()) == sorted(
            plain["one"].xyxy[plain["one"].class_id == 0].tolist()
        )


@pytest.mark.parametrize(
    ("merge", "message"),
    [
        ({"x": ["one:red", "three:red"]}, "merge.x: no 'three:red'"),
        ({"x": ["one:red"]}, "merge.x: must name classes of at least two heads"),
        ({"x": "one:red"}, "merge: x: .*tuple"),
        (["one:red"], "merge: must be like car:"),
    ],
)
def test_mistakes_are_named(predictor, merge, message):
    with pytest.raises(UserError, match=message):
        predictor(PICTURE, merge=merge)


def test_options_by_head_exclude_a_merge(predictor):
    options = {"two": DecodeOptions(classes=(0,)), "one": DecodeOptions(max_det=1, conf=0.5)}
    (result,) = predictor.stream([PICTURE], options, merge={})
    assert list(result.heads) == ["one", "two"]
    assert result["two"].counts() == {"rouge": 1} and len(result["one"]) == 1
    with pytest.raises(UserError, match="takes one set of options"):
        predictor.stream([PICTURE], options)
    with pytest.raises(UserError, match="say which heads"):
        predictor.stream([PICTURE], options, heads=["one"], merge={})
    with pytest.raises(UserError, match="no head 'six'"):
        predictor.stream([PICTURE], {"six": DecodeOptions()}, merge={})
    with pytest.raises(UserError, match="conf must be in"):
        predictor.stream([PICTURE], {"one": DecodeOptions(conf=2)}, merge={})
    for unknown in (99, -1, "pink"):
        wanted = {"one": DecodeOptions(classes=(unknown,))}
        with pytest.raises(UserError, match=f"classes: no class {unknown!r}"):
            predictor.stream([PICTURE], wanted, merge={})
    by_name = {"two": DecodeOptions(classes=("rouge",))}
    (result,) = predictor.stream([PICTURE], by_name, merge={})
    assert result["two"].counts() == {"rouge": 1}


def test_a_file_says_what_to_merge(tmp_path):
    file = tmp_path / "merge.yaml"
    file.write_text("car: [aerial:car, vehicles:automobile]\nbus:\n- a:bus\n- b:coach\n")
    assert read_merge(file) == {
        "car": ("aerial:car", "vehicles:automobile"),
        "bus": ("a:bus", "b:coach"),
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("car: [unclosed", "not YAML"),
        ("- a:car", "must be like car:"),
        ("", "must be like car:"),
        ("car: a:car", "car: "),
        ("car: [1, 2]", "car.0: "),
    ],
)
def test_what_is_wrong_in_the_file_is_named(tmp_path, text, message):
    file = tmp_path / "merge.yaml"
    file.write_text(text)
    with pytest.raises(UserError, match=rf"merge\.yaml: .*{message}") as caught:
        read_merge(file)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UserError, match=r"none\.yaml: No such file"):
        read_merge(tmp_path / "none.yaml")
