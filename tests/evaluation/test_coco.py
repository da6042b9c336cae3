from __future__ import annotations

import contextlib
import io
import math
from pathlib import Path

import numpy as np
import pytest

from tests.evaluation.scenes import picture, random_scene, results, split_of
from vision_heads.data.sample import OTHER, REGION, DataSplit, Sample
from vision_heads.evaluation import coco, matching
from vision_heads.evaluation.coco import AREAS, NUMBERS, coco_annotations
from vision_heads.evaluation.protocols import score
from vision_heads.evaluation.records import Found
from vision_heads.results import Detections

pytest.importorskip("faster_coco_eval")
SIZES = ("small", "medium", "large")
TWELVE = (
    *("AP", "AP50", "AP75"),
    *(f"AP_{size}" for size in SIZES),
    *("AR1", "AR10", "AR100"),
    *(f"AR_{size}" for size in SIZES),
)


def pycocotools_numbers(split, found):
    """Score with pycocotools from its own files, under ids of the test's choosing."""
    files = pytest.importorskip("pycocotools.coco")
    cocoeval = pytest.importorskip("pycocotools.cocoeval")
    category = [7 * label + 3 for label in range(len(split.names))]
    annotations = [
        {**one, "category_id": category[one["category_id"] - 1]} for one in coco_annotations(split)
    ]
    records = [
        {
            "image_id": image,
            "category_id": category[label],
            "bbox": box.tolist(),
            "score": float(confidence),
        }
        for image, one in enumerate(found, 1)
        for box, confidence, label in zip(one.xywh, one.score, one.label, strict=True)
        if label >= 0
    ]
    with contextlib.redirect_stdout(io.StringIO()):
        truth = files.COCO()
        truth.dataset = {
            "images": [{"id": i + 1} for i in range(len(split.samples))],
            "categories": [{"id": number, "name": str(number)} for number in category],
            "annotations": annotations,
        }
        truth.createIndex()
        run = cocoeval.COCOeval(truth, truth.loadRes(records), "bbox")
        run.evaluate()
        run.accumulate()
        run.summarize()
        stats = dict(zip(TWELVE, run.stats, strict=True))
        run.params.areaRng = [list(AREAS["all"]), list(AREAS["tiny"])]
        run.params.areaRngLbl = ["all", "tiny"]
        run.evaluate()
        run.accumulate()
    tiny = run.eval["precision"][:, :, :, 1, -1]
    stats["AP_tiny"] = tiny[tiny > -1].mean() if (tiny > -1).any() else -1
    return {name: 100 * value if value > -1 else math.nan for name, value in stats.items()}


@pytest.mark.parametrize("seed", range(8))
def test_equals_pycocotools(seed):
    _, _, split, found = random_scene(seed, pictures=6, classes=4, objects=40, found=150)
    found[0] = Found(*(np.repeat(part, 40, axis=0)[:700] for part in unpack(found[0])))
    for sample in split.samples:
        spread = np.random.default_rng(seed).lognormal(0, 1.5, len(sample.boxes))
        sample.areas = (spread * 300).astype(np.float32)
    expected = pycocotools_numbers(split, found)
    got = score(split, found, "coco").numbers
    assert tuple(got) == NUMBERS
    for name, value in expected.items():
        assert got[name] == pytest.approx(value, abs=1e-6, nan_ok=True), name


def test_few_boxes_are_counted_at_a_time_and_only_those_that_can_matter(monkeypatch):
    _, _, split, found = random_scene(3, pictures=6, classes=5, objects=40, found=150)
    found[0] = Found(*(np.repeat(part, 40, axis=0)[:700] for part in unpack(found[0])))
    expected = score(split, found, "coco")
    lots, plain = [], coco._count_classes

    def noted(mine, annotations, classes):
        lots.append((list(classes), len(mine) + len(annotations) + 6 * len(classes)))
        of_one = np.bincount(mine.image * 5 + mine.label)
        assert of_one.max() == 100  # of 700 in one picture
        return plain(mine, annotations, classes)

    monkeypatch.setattr(coco, "_count_classes", noted)
    monkeypatch.setattr(coco, "MOST", 500)
    got = score(split, found, "coco")
    assert got.to_dict() == expected.to_dict()
    assert sorted(label for classes, _ in lots for label in classes) == [0, 1, 2, 3, 4]
    assert any(len(classes) > 1 for classes, _ in lots) and len(lots) > 1
    assert all(records <= 500 for classes, records in lots if len(classes) > 1)


def test_a_picture_of_very_many_boxes_is_compared_piece_by_piece(monkeypatch):
    """All of 8,000 results with all of 8,000 objects took 2 GB, and it grows with the square."""
    _, _, split, found = random_scene(3, pictures=3, classes=4, objects=40, found=150)
    expected = score(split, found, "coco").to_dict()
    sizes, plain = [], matching.overlaps
    monkeypatch.setattr(
        matching, "overlaps", lambda *boxes: sizes.append(plain(*boxes).size) or plain(*boxes)
    )
    monkeypatch.setattr(matching, "CELLS", 100)
    assert score(split, found, "coco").to_dict() == expected
    assert len(sizes) > 6 and max(sizes) <= 100


@pytest.mark.parametrize("ids", [range(10, 16), ["10", "9", "A", "a", "a-b", "ä"]])
def test_equal_scores_go_by_the_ids_of_the_pictures_as_in_pycocotools(ids):
    """The split lists pictures by name; COCO's programs go through them by id, text or not."""
    _, _, split, found = random_scene(3, pictures=6, classes=4, objects=40, found=150)
    expected = pycocotools_numbers(split, found)
    for key, sample in zip(ids, split.samples, strict=True):
        sample.image_id = key
    order = [4, 1, 5, 0, 3, 2]
    split.samples = [split.samples[i] for i in order]
    got = score(split, [found[i] for i in order], "coco").numbers
    for name, value in expected.items():
        assert got[name] == pytest.approx(value, abs=1e-6, nan_ok=True), name


def test_boxes_beyond_all_measure_are_false_ones_without_a_warning(recwarn):
    sample = picture("a", [(10, 10, 40, 40, 1, 1)])
    far = (1e200, 1e200, 5, 5, 0.5, 1)
    got = score(split_of([sample]), [results([far, (10, 10, 40, 40, 0.3, 1)])], "coco").numbers
    assert got["AP50"] == pytest.approx(50, abs=1e-6)
    assert not recwarn.list


def unpack(found):
    return found.xywh, found.score, found.label


def test_one_object_one_hit():
    sample = picture("a", [(10, 10, 40, 40, 1, 1)])
    got = score(split_of([sample]), [results([(10, 10, 40, 40, 0.3, 1)])], "coco").numbers
    assert got["AP"] == got["AP_medium"] == got["AR1"] == pytest.approx(100)
    assert math.isnan(got["AP_tiny"])
    assert math.isnan(got["AP_large"])


@pytest.mark.parametrize(("side", "tiny"), [((16, 15), True), ((16, 16), False)])
def test_the_tiny_bin_is_below_16_by_16(side, tiny):
    sample = picture("a", [(10, 10, *side, 1, 1)])
    got = score(split_of([sample]), [results([(10, 10, *side, 0.3, 1)])], "coco").numbers
    assert math.isnan(got["AP_tiny"]) != tiny
    assert got["AP_small"] == pytest.approx(100)


def test_the_samples_areas_decide_the_bin():
    sample = picture("a", [(10, 10, 40, 40, 1, 1)], areas=[200])
    got = score(split_of([sample]), [results([(10, 10, 40, 40, 0.3, 1)])], "coco").numbers
    assert got["AP_tiny"] == pytest.approx(100)
    assert math.isnan(got["AP_medium"])


@pytest.mark.parametrize("label", [0, REGION, OTHER])
def test_nothing_is_counted_inside_an_ignored_area(label):
    sample = picture("a", [(0, 0, 10, 10, 1, 1)])
    sample.ignore_boxes = np.array([[40, 40, 80, 80]], np.float32)
    sample.ignore_labels = np.array([label])
    inside = [(41 + i, 41, 8, 8, 0.9, 1) for i in range(5)]
    found = results([*inside, (0, 0, 10, 10, 0.1, 1)])
    assert score(split_of([sample]), [found], "coco").numbers["AP"] == pytest.approx(100)


def test_an_ignored_area_of_another_class_changes_nothing():
    sample = picture("a", [(0, 0, 10, 10, 1, 1)])
    sample.ignore_boxes = np.array([[40, 40, 80, 80]], np.float32)
    sample.ignore_labels = np.array([1])
    found = results([(41, 41, 8, 8, 0.9, 1), (0, 0, 10, 10, 0.1, 1)])
    got = score(split_of([sample]), [found], "coco").numbers
    assert got["AP50"] == pytest.approx(50, abs=1e-6)


def test_the_first_object_of_the_first_picture_counts():
    # Annotation id 0 would make it a miss: COCO's code takes 0 for "unmatched".
    assert coco_annotations(split_of([picture("a", [(0, 0, 9, 9, 1, 1)])]))[0]["id"] == 1


def test_nothing_found_is_zero_and_no_objects_is_nothing_to_measure():
    split = split_of([picture("a", [(0, 0, 10, 10, 1, 1)]), picture("b", [])])
    got = score(split, [results([]), results([])], "coco").numbers
    assert got["AP"] == got["AR100"] == 0
    split = split_of([picture("b", [])])
    for found in (results([]), results([(0, 0, 10, 10, 0.5, 1)])):
        scores = score(split, [found], "coco")
        assert all(math.isnan(value) for value in scores.numbers.values())
        assert scores.to_dict()["AP"] is None


def test_a_false_one_in_a_picture_without_objects_counts():
    split = split_of([picture("a", [(0, 0, 10, 10, 1, 1)]), picture("b", [])])
    hit, stray = results([(0, 0, 10, 10, 0.5, 1)]), results([(0, 0, 10, 10, 0.9, 1)])
    assert score(split, [hit, stray], "coco").numbers["AP"] == pytest.approx(50, abs=1e-6)


@pytest.mark.parametrize("seed", range(6))
def test_our_own_matching_gives_the_same_ap50(seed):
    _, _, split, found = random_scene(seed, pictures=5, classes=3, found=400)
    scores = score(split, found, "coco")
    curves = scores.curves
    assert 100 * curves.mean_precision.mean() == pytest.approx(scores.numbers["AP50"], abs=1e-6)
    for name, row in zip(curves.names, curves.precision, strict=True):
        expected = scores.classes[name]["AP50"]
        if not math.isnan(expected):
            assert 100 * row.mean() == pytest.approx(expected, abs=1e-6)


def test_detections_are_matched_by_class_name():
    names = ("Awning-Tricycle", "dog", "car")
    split = DataSplit("d", "val", ("car", "awning tricycle"), (4, 8), [])
    split.samples = [
        Sample(Path("a.jpg"), "a", 50, 50, np.array([[0, 0, 9, 9], [20, 20, 40, 40]], np.float32))
    ]
    split.samples[0].labels = np.array([0, 1])
    found = Detections(
        np.array([[20, 20, 40, 40], [0, 0, 9, 9], [5, 5, 30, 30]]),
        [0.5, 0.6, 0.9],
        [0, 2, 1],
        names,
    )
    for protocol in ("coco", "visdrone"):
        assert score(split, [found], protocol).numbers["AP"] == pytest.approx(100)
