"""The report of `vh data check`, and the fixes that training accepts."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from tests.data.folders import card, coco, picture, text, visdrone_set
from vision_heads.data.card import load_card, load_split
from vision_heads.data.check import (
    _chosen,
    apply_fixes,
    check_card,
    size_histogram,
    split_sheet,
)
from vision_heads.data.fixes import overlooked, parse_fixes
from vision_heads.data.sample import DataSplit, Problem, Sample
from vision_heads.errors import UserError

PICTURE = Path("a.png")


def report_of(path):
    return check_card(load_card(path))[0]


def split_with(boxes, areas=None, size=(40, 30), problems=()):
    boxes = np.array(boxes, np.float32).reshape(-1, 4)
    sample = Sample(PICTURE, "a", *size, boxes, np.arange(len(boxes)) % 2, areas)
    return DataSplit("set", "train", ("a", "b"), (0, 1), [sample], list(problems))


def test_a_clean_set(tmp_path):
    path = visdrone_set(
        tmp_path, {"a": "1,1,10,10,1,1,0,0\n0,0,9,9,0,0,0,0\n31,1,10,10,1,4,0,0", "b": ""}
    )
    report = report_of(path)
    (split,) = report.splits
    assert report.clean
    assert (split.pictures, split.negatives, split.boxes, split.ignored) == (2, 1, 2, 1)
    assert split.overhanging == 1
    assert split.classes["pedestrian"] == split.classes["car"] == 1
    assert sum(split.classes.values()) == 2
    assert split.sizes == {"tiny": 2, "small": 0, "medium": 0, "large": 0}


def test_a_split_without_a_picture_is_not_clean(tmp_path):
    path = visdrone_set(tmp_path, {"a": ""})
    for file in tmp_path.glob("train/*/*"):
        file.unlink()
    report = report_of(path)
    assert (report.clean, report.splits[0].pictures, report.splits[0].problems) == (False, 0, [])


def test_a_corrupt_picture_is_named_once(tmp_path):
    path = visdrone_set(tmp_path, {"a": "", "b": ""})
    (tmp_path / "train/images/a.png").write_bytes(b"")
    whole = tmp_path / "train/images/b.png"
    whole.write_bytes(whole.read_bytes()[:-300])
    problems = report_of(path).splits[0].problems
    assert {p.kind for p in problems} == {"corrupt-image"}
    assert sorted(p.file.name for p in problems) == ["a.png", "b.png"]
    assert not any(p.file.name in p.detail for p in problems)


def test_size_bins_end_below_their_limit():
    sides = [15.9, 16, 31.9, 32, 95, 96, 500]
    split = split_with([[0, 0, side, side] for side in sides])
    expected = {"tiny": 1, "small": 2, "medium": 2, "large": 2}
    assert size_histogram(split.samples) == expected
    split.samples[0].areas = np.full(len(sides), 100, np.float32)
    assert size_histogram(split.samples)["tiny"] == len(sides)


def test_pictures_that_only_decoding_finds_corrupt(tmp_path):
    path = visdrone_set(tmp_path, {"a": "", "b": ""})
    file = tmp_path / "train/images/a.png"
    data = bytearray(file.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 200] = bytes(200)
    file.write_bytes(bytes(data))
    assert load_split(path, "train").problems == []
    report = report_of(path)
    assert report.splits[0].counts() == {"corrupt-image": 1}
    assert not report.clean


def test_twins_in_a_split_are_reported_and_leaks_are_broken(tmp_path):
    for split, stems in (("train", ("a", "b")), ("val", ("c", "d"))):
        visdrone_set(tmp_path, dict.fromkeys(stems, ""), split)
    images = {s: tmp_path / s / "images" for s in ("train", "val")}
    picture(images["val"] / "c.png", seed=77)
    picture(images["val"] / "d.png", seed=78)
    shutil.copy(images["train"] / "a.png", images["train"] / "b.png")
    places = {
        s: {"images": f"{s}/images", "annotations": f"{s}/annotations"} for s in ("train", "val")
    }
    path = card(tmp_path / "both.yaml", format="visdrone", splits=places)
    report = report_of(path)
    assert report.splits[0].counts() == {"duplicate-image": 1}
    assert report.clean and report.leaks == []
    # The same pixels in another file format are the same picture.
    bmp = images["val"] / "d.bmp"
    picture(bmp, seed=0)
    (images["val"] / "d.png").unlink()
    report = report_of(path)
    assert [(leak.train, leak.other, leak.other_file.name) for leak in report.leaks] == [
        ("train", "val", "d.bmp")
    ]
    assert not report.clean
    assert report.to_dict()["leaks"][0]["other_file"] == str(bmp)


def test_without_a_training_split_every_split_may_leak_into_later_ones(tmp_path):
    for split, stem in (("a", "p"), ("b", "q"), ("c", "r")):
        visdrone_set(tmp_path, {stem: ""}, split)
    picture(tmp_path / "b/images/q.png", seed=77)  # p and r are the same
    places = {s: {"images": f"{s}/images", "annotations": f"{s}/annotations"} for s in "abc"}
    report = report_of(card(tmp_path / "all.yaml", format="visdrone", splits=places))
    assert [(leak.train, leak.other) for leak in report.leaks] == [("a", "c")]


def test_a_sheet_is_spread_over_the_split():
    samples = [
        Sample(
            Path(f"{n}.png"), str(n), 40, 30, np.array([[1, 1, 9, 9]], np.float32), np.zeros(1, int)
        )
        for n in range(21)
    ]
    samples[4].boxes = np.array([[5, 5, 5, 9]], np.float32)  # empty: comes first, and once
    samples[6].boxes, samples[6].labels = np.zeros((0, 4), np.float32), np.zeros(0, int)
    split = DataSplit("set", "train", ("a",), (0,), samples)
    chosen = [int(sample.image_id) for sample in _chosen(split, 6)]
    assert chosen[0] == 4 and len(set(chosen)) == 6 and 6 not in chosen
    assert chosen[1] == 0 and chosen[-1] == 20
    assert max(np.diff(chosen[1:])) <= 6


def test_splits_with_different_classes_disagree(tmp_path):
    picture(tmp_path / "images/a.png")
    for split, names in (("train", ("cat", "dog")), ("val", ("cat",))):
        categories = [{"id": n, "name": name} for n, name in enumerate(names)]
        images = [{"id": 1, "file_name": "a.png"}] if split == "train" else []
        coco(tmp_path / f"{split}.json", images, [], categories)
    places = {s: {"images": "images", "annotations": f"{s}.json"} for s in ("train", "val")}
    report = report_of(card(tmp_path / "c.yaml", format="coco", splits=places))
    assert report.disagreements[0].startswith("names of train and val differ: dog; name the")
    assert not report.clean


def test_the_sheet_shows_faulty_pictures_first_and_leaves_out_corrupt_ones(tmp_path):
    lines = {f"p{n}": "3,3,20,20,1,1,0,0\n" for n in range(8)}
    lines["p7"] = "3,3,200,20,1,1,0,0\n"
    path = visdrone_set(tmp_path, lines)
    (tmp_path / "train/images/p0.png").write_bytes(b"x")
    split = load_split(path, "train")
    images = split_sheet(split, count=4, width=80)
    assert [image.shape for image in images] == [(60, 80, 3)] * 4
    assert _chosen(split, 4)[0].image_id == "p7"


def test_the_sheet_shows_poses():
    (sample,) = load_split("demo-heads", "val").samples[:1]
    split = DataSplit("heads", "val", ("head",), (1,), [sample])
    (posed,) = split_sheet(split)
    sample.rotations = None
    (plain,) = split_sheet(split)
    assert (posed != plain).any()


def test_clip_cuts_boxes_off_and_leaves_the_input_alone():
    boxes = [[-5, 2, 10, 40], [1, 1, 5, 5]]
    areas = np.array([400, 7], np.float32)
    split = split_with(
        boxes, areas, problems=[Problem("box-outside", PICTURE.with_suffix(".txt"), "")]
    )
    fixed = apply_fixes(split, {"clip"})
    assert fixed.samples[0].boxes.tolist() == [[0, 2, 10, 30], [1, 1, 5, 5]]
    assert fixed.samples[0].areas.tolist() == [280, 7]
    assert split.samples[0].boxes.tolist() == boxes
    assert fixed.problems == split.problems


def test_rounding_over_the_border_needs_no_fix():
    split = split_with([[0, 0, 41, 30.5]])
    assert apply_fixes(split, ()).samples[0].boxes.tolist() == [[0, 0, 40, 30]]


def test_drop_leaves_out_empty_and_outside_boxes_with_all_their_fields():
    split = split_with([[5, 5, 5, 9], [1, 1, 6, 6], [30, 1, 90, 9]], np.arange(3, dtype=np.float32))
    split.samples[0].rotations = np.arange(27, dtype=np.float32).reshape(3, 3, 3)
    (sample,) = apply_fixes(split, {"drop"}).samples
    assert sample.boxes.tolist() == [[1, 1, 6, 6]]
    assert (sample.labels.tolist(), sample.areas.tolist()) == ([1], [1])
    assert sample.rotations.tolist() == split.samples[0].rotations[1:2].tolist()


def test_a_box_wholly_outside_needs_drop_too():
    problems = [Problem("box-outside", PICTURE.with_suffix(".txt"), "line 1")]
    split = split_with([[50, 1, 60, 9]], problems=problems)
    with pytest.raises(UserError, match="add drop"):
        apply_fixes(split, {"clip"})
    fixed = apply_fixes(split, {"clip", "drop"})
    assert (fixed.samples, fixed.emptied) == ([], 1)


def test_a_box_of_which_nothing_is_inside_is_outside(tmp_path):
    """Within the pixel that rounding may take, the check was clean, and training refused it."""
    path = visdrone_set(tmp_path, {"a": "40,1,1,10,1,1,0,0\n1,1,10,10,1,1,0,0"})  # 40 px wide
    report = report_of(path)
    assert not report.clean and report.splits[0].overhanging == 0
    (problem,) = report.splits[0].problems
    assert (problem.kind, problem.file.name) == ("box-outside", "a.txt")
    split = load_split(path, "train")
    with pytest.raises(UserError, match=r"1 box-outside .*--fix clip,drop"):
        apply_fixes(split, [])
    assert apply_fixes(split, ["drop"]).samples[0].boxes.tolist() == [[1, 1, 11, 11]]


def test_no_dropped_box_becomes_background():
    """A picture whose only box was dropped taught that there is nothing in it."""
    cut, empty, fine = [30.0, 1, 90, 9], [5.0, 5, 5, 9], [1.0, 1, 6, 6]
    split = split_with([cut, fine])
    split.samples[0].ignore_boxes = np.array([[0, 0, 3, 3]], np.float32)
    split.samples[0].ignore_labels = np.array([-1])
    split.samples += split_with([empty]).samples + split_with([empty, fine]).samples
    split.samples += split_with([cut]).samples + split_with(np.zeros((0, 4))).samples
    fixed = apply_fixes(split, {"drop"})
    assert [len(sample.boxes) for sample in fixed.samples] == [1, 1, 0, 0]
    inside = [30, 1, 40, 9]
    assert [sample.ignore_boxes.tolist() for sample in fixed.samples] == [
        [[0, 0, 3, 3], inside], [], [inside], [],
    ]  # fmt: skip
    assert fixed.samples[0].ignore_labels.tolist() == [-1, 0]
    assert overlooked(fixed) == "pictures left out because they lost their last box: 1"


def test_training_is_refused_with_counts_and_examples(tmp_path):
    lines = {"a": "1,1,0,5,1,1,0,0\n1,1,x,5,1,1,0,0\n30,1,50,5,1,1,0,0", "b": "1,1,5,5,1,44,0,0"}
    split = load_split(visdrone_set(tmp_path, lines), "train")
    with pytest.raises(UserError) as refused:
        apply_fixes(split, ())
    message = str(refused.value)
    for part in ("1 empty-box", "1 bad-annotation", "1 box-outside", "1 unknown-class", "a.txt"):
        assert part in message
    assert "--fix clip,drop" in message and "\n" not in message
    with pytest.raises(UserError, match=r"--fix drop"):
        apply_fixes(split, {"clip"})
    fixed = apply_fixes(split, {"clip", "drop"})
    assert [s.boxes.tolist() for s in fixed.samples] == [[[30, 1, 40, 6]], []]


def test_drop_leaves_out_pictures_without_usable_labels(tmp_path):
    path = visdrone_set(tmp_path, {"a": "", "b": None, "c": "", "d": "1,1,5,5,1,1,0,0"})
    (tmp_path / "train/images/c.png").write_bytes(b"x")
    (tmp_path / "train/annotations/a.txt").write_bytes(b"\xff\xff")
    text(tmp_path / "train/annotations/e.txt", "")
    split = load_split(path, "train")
    assert len(split.samples) == 5
    assert [s.image_id for s in apply_fixes(split, {"drop"}).samples] == ["d"]


def test_duplicates_alone_do_not_stop_training(tmp_path):
    path = visdrone_set(tmp_path, {"a": "1,1,5,5,1,1,0,0\n1,1,5,5,1,1,0,0"})
    split = load_split(path, "train")
    assert [p.kind for p in split.problems] == ["duplicate-box"]
    assert len(apply_fixes(split, ()).samples[0].boxes) == 2


def test_fix_words():
    assert parse_fixes(" clip, drop,") == {"clip", "drop"}
    assert parse_fixes("") == frozenset()
    with pytest.raises(UserError, match=r"unknown 'crop'; known: clip, drop"):
        parse_fixes("crop")
