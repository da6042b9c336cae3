"""Conversion between label formats: what can survive does, what cannot is counted."""

from __future__ import annotations

import errno
import json
import os
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.calls import counted
from tests.data.folders import card, coco, picture, text, visdrone_set
from vision_heads.data.card import load_card, load_split
from vision_heads.data.convert import convert, target_names
from vision_heads.data.sample import OTHER, OUTLINES, POINTS, REGION, Sample
from vision_heads.errors import UserError

WIDTH, HEIGHT = 40, 30
NAMES = ("cat", "a <b> & 'c'", "dög")
IDS = (3, 17, 90)

coordinate = st.floats(-5, 60, width=32).map(lambda value: round(value, 3))
boxes = st.tuples(coordinate, coordinate, coordinate, coordinate)
objects = st.lists(st.tuples(boxes, st.sampled_from(IDS), st.booleans()), max_size=5)


def rows(samples, ignored=False):
    """Labels and boxes of each picture, by stem, sorted so that order does not matter."""
    found = {}
    for sample in samples:
        corners = sample.ignore_boxes if ignored else sample.boxes
        labels = sample.ignore_labels if ignored else sample.labels
        found[sample.image.stem] = sorted(
            [int(label), *map(float, box)] for label, box in zip(labels, corners, strict=True)
        )
    return found


def same(one, other, tolerance=1e-3):
    """Hold that every row has its own partner: rounding may change the order of equals."""
    assert one.keys() == other.keys()
    for stem, expected in one.items():
        left = np.array(other[stem]).reshape(-1, 5)
        assert len(left) == len(expected)
        for row in expected:
            distance = np.abs(left - row).max(1)
            assert distance.min() < tolerance
            left = np.delete(left, distance.argmin(), axis=0)


def source(root, pictures):
    images, annotations = [], []
    for number, content in enumerate(pictures):
        name = f"p{number}.png"
        picture(root / "images" / name, WIDTH, HEIGHT, seed=number)
        images.append({"id": 5 + 10 * number, "file_name": name})
        for (x1, y1, x2, y2), key, crowd in content:
            bbox = [x1, y1, x2 - x1, y2 - y1]
            annotations.append(
                {"image_id": images[-1]["id"], "category_id": key, "bbox": bbox, "iscrowd": crowd}
            )
    categories = [{"id": key, "name": name} for key, name in zip(IDS, NAMES, strict=True)]
    for number, annotation in enumerate(annotations, 1):
        annotation["id"] = number
    coco(root / "gt.json", images, annotations, categories)
    place = {"images": "images", "annotations": "gt.json"}
    return card(root / "c.yaml", format="coco", splits={"train": place}, terms="ours")


@pytest.mark.parametrize("to", ["coco", "yolo", "voc"])
@settings(max_examples=15, deadline=None)
@given(pictures=st.lists(objects, min_size=1, max_size=3))
def test_round_trip(to, pictures):
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        path = source(root / "in", pictures)
        before = load_split(path, "train")
        first = convert(load_card(path), root / "mid", to, link=True)
        middle = load_split(first.card, "train")
        second = convert(load_card(first.card), root / "out", "coco", link=True)
        after = load_split(second.card, "train")
    for split in (middle, after):
        assert (split.names, split.category_ids, split.terms) == (NAMES, IDS, "ours")
        same(rows(before.samples), rows(split.samples))
        if to != "yolo":
            same(rows(before.samples, True), rows(split.samples, True))
    if to == "coco":
        assert [s.image_id for s in after.samples] == [s.image_id for s in before.samples]
        assert second.lost == {}
    crowds = sum(crowd for content in pictures for _, _, crowd in content)
    assert first.lost.get("ignored areas", 0) == (crowds if to == "yolo" else 0)


@pytest.mark.parametrize("to", ["coco", "voc"])
def test_areas_without_a_class_survive(tmp_path, to):
    lines = "1,1,9,9,0,0,0,0\n2,2,9,9,0,11,0,0\n3,3,9,9,0,4,0,0\n4,4,9,9,1,5,0,0\n"
    path = visdrone_set(tmp_path / "in", {"a": lines, "empty": ""})
    report = convert(load_card(path), tmp_path / "out", to)
    split = load_split(report.card, "train")
    labels = split.samples[0].ignore_labels.tolist()
    assert sorted(labels) == [OTHER, REGION, 3]
    assert split.category_ids == tuple(range(1, 11))
    assert (report.pictures, report.boxes, report.ignored) == (
        {"train": 2},
        {"train": 1},
        {"train": 3},
    )
    again = load_split(convert(load_card(report.card), tmp_path / "again", "voc").card, "train")
    same(rows(split.samples, True), rows(again.samples, True))
    assert [s.image_id for s in again.samples] == ["a", "empty"]


def test_coco_written_for_other_programs(tmp_path):
    path = visdrone_set(tmp_path / "in", {"a": "1,1,9,9,0,0,0,0\n4,4,9,9,1,5,0,0\n"})
    convert(load_card(path), tmp_path / "out", "coco")
    whole = json.loads((tmp_path / "out/annotations/train.json").read_text())
    ids = [entry["id"] for entry in whole["annotations"]]
    assert ids == list(range(1, 12))  # from 1: pycocotools takes 0 for unmatched
    crowds = [entry for entry in whole["annotations"] if entry["iscrowd"]]
    # COCO judges class by class, so an area of no class must be one of each.
    assert sorted(entry["category_id"] for entry in crowds) == list(range(1, 11))
    assert whole["images"] == [{"id": 1, "file_name": "a.png", "width": 40, "height": 30}]
    assert [e["bbox"] for e in whole["annotations"] if not e["iscrowd"]] == [[4, 4, 9, 9]]


def test_new_ids_rank_pictures_as_their_texts_did(tmp_path):
    """Equal scores are ranked by id, so a converted set must give the numbers it gave before."""
    names = {"z": "1.png", "Z": "3.png", "10": "2.png"}
    for seed, name in enumerate(names.values()):
        picture(tmp_path / name, seed=seed)
    images = [{"id": key, "file_name": name} for key, name in names.items()]
    coco(tmp_path / "gt.json", images, [], [{"id": 1, "name": "car"}])
    path = card(tmp_path / "c.yaml", format="coco", splits={"val": {"annotations": "gt.json"}})
    split = load_split(convert(load_card(path), tmp_path / "out", "coco").card, "val")
    assert {s.image.name: s.image_id for s in split.samples} == {"2.png": 1, "3.png": 2, "1.png": 3}


def test_yolo_written_for_other_programs(tmp_path):
    path = visdrone_set(tmp_path / "in", {"a": "4,3,8,12,1,5,0,0\n"}, "val")
    report = convert(load_card(path), tmp_path / "out", "yolo")
    content = yaml.safe_load(report.card.read_text())
    assert report.card.name == "data.yaml"
    assert content["val"] == "images/val" and content["names"][4] == "van" and "path" not in content
    assert (tmp_path / "out/labels/val/a.txt").read_text() == "4 0.2 0.3 0.2 0.4\n"


def test_yolo_with_a_split_ultralytics_does_not_know(tmp_path):
    path = visdrone_set(tmp_path / "in", {"a": "4,3,8,12,1,5,0,0\n"}, "extra")
    report = convert(load_card(path), tmp_path / "out", "yolo")
    assert report.card.name == "card.yaml"
    assert load_split(report.card, "extra").samples[0].boxes.tolist() == [[4, 3, 12, 15]]


def test_pictures_are_copied_or_linked(tmp_path):
    path = visdrone_set(tmp_path / "in", {"a": ""})
    convert(load_card(path), tmp_path / "copied", "voc")
    convert(load_card(path), tmp_path / "linked", "voc", link=True)
    copied, linked = (tmp_path / f"{how}/images/train/a.png" for how in ("copied", "linked"))
    assert not copied.is_symlink() and linked.is_symlink()
    assert (
        copied.read_bytes()
        == linked.read_bytes()
        == (tmp_path / "in/train/images/a.png").read_bytes()
    )


def test_a_full_disk_is_that_of_the_new_folder(tmp_path, monkeypatch):
    """Python names the picture that it reads when there is no room for the copy."""
    path = visdrone_set(tmp_path / "in", {"a": ""})

    def full(source, target):
        raise OSError(errno.ENOSPC, "No space left on device", str(source), None, str(target))

    monkeypatch.setattr(shutil, "copyfile", full)
    with pytest.raises(UserError, match=r"/out: No space left on device"):
        convert(load_card(path), tmp_path / "out", "yolo")


def test_what_cannot_be_carried_over_is_refused_unless_told(tmp_path):
    lines = {"a": "1,1,9,9,1,99,0,0\n1,1,0,9,1,2,0,0\n", "b": "1,1,99,9,1,1,0,0"}
    path = visdrone_set(tmp_path / "in", lines)
    with pytest.raises(UserError, match=r"1 unknown-class .*--fix drop"):
        convert(load_card(path), tmp_path / "out", "coco")
    assert not (tmp_path / "out").exists()
    report = convert(load_card(path), tmp_path / "out", "coco", fixes={"clip", "drop"})
    boxes = [sample.boxes.tolist() for sample in load_split(report.card, "train").samples]
    assert boxes == [[[1, 1, 40, 10]]]
    assert report.fixed["train"].startswith("mended or left out: 1 unknown-class, ")
    assert report.fixed["train"].endswith("left out because they lost their last box: 1")


def test_faulty_boxes_are_carried_over_as_they_are(tmp_path):
    path = visdrone_set(tmp_path / "in", {"a": "1,1,0,9,1,2,0,0\n30,1,99,9,1,1,0,0"})
    report = convert(load_card(path), tmp_path / "out", "voc")
    split = load_split(report.card, "train")
    assert split.samples[0].boxes.tolist() == [[1, 1, 1, 10], [30, 1, 129, 10]]
    assert [p.kind for p in split.problems] == ["empty-box", "box-outside"]


def test_a_folder_in_use_is_left_alone(tmp_path):
    path = visdrone_set(tmp_path / "in", {"a": ""})
    with pytest.raises(UserError, match="not an empty folder"):
        convert(load_card(path), tmp_path / "in", "voc")


def test_stems_are_made_unique():
    files = ["x/a.png", "y/a.jpg", "y/A.png", "z/b.png", "q/y_a.png", "y/a.bmp"]
    samples = [Sample(Path(file), 1, 1, 1) for file in files]
    names = target_names(samples)
    assert names[3:5] == ["b.png", "y_a.png"] and names[0] == "x_a.png"
    stems = [Path(name).stem.lower() for name in names]
    assert len(set(stems)) == len(stems)
    assert [Path(name).suffix for name in names] == [Path(file).suffix for file in files]


def test_numbers_of_like_stems_are_not_tried_again_and_again():
    samples = [Sample(Path(f"{number}/rgb/frame.jpg"), number, 9, 9) for number in range(60)]
    with counted("lower") as calls:
        names = target_names(samples)
    assert names == ["rgb_frame.jpg", *(f"rgb_frame_{n}.jpg" for n in range(2, 61))]
    assert 0 < calls[0] <= 8 * 60


def test_real_voc_labels_survive_as_yolo_and_coco(shared_data, tmp_path):
    root = shared_data / "voc_groups/vehicles"
    place = {"images": "val/images", "annotations": "val/annotations"}
    path = card(tmp_path / "r.yaml", format="voc", path=str(root), splits={"val": place})
    before = load_split(path, "val")
    yolo = convert(load_card(path), tmp_path / "yolo", "yolo", link=True)
    again = convert(load_card(yolo.card), tmp_path / "coco", "coco", link=True)
    same(rows(before.samples), rows(load_split(again.card, "val").samples))
    assert yolo.lost["ignored areas"] == sum(len(s.ignore_boxes) for s in before.samples) > 0


def test_the_area_of_a_box_turned_inside_out_is_its_own(tmp_path):
    path = set_of(tmp_path / "in")
    inside_out = {"id": 1, "image_id": 1, "category_id": 0, "bbox": [30, 5, -20, 10]}
    inside_out["area"] = -200
    whole = json.loads((tmp_path / "in/gt.json").read_text())
    (tmp_path / "in/gt.json").write_text(json.dumps({**whole, "annotations": [inside_out]}))
    assert not convert(load_card(path), tmp_path / "out", "yolo").lost


def test_outlines_and_key_points_that_are_not_in_the_copy_are_counted(tmp_path):
    picture(tmp_path / "a.png")
    box = {"image_id": 1, "category_id": 3, "bbox": [1, 2, 8, 9], "iscrowd": 0}
    said: list[dict] = [
        {"segmentation": [[1, 2, 9, 2, 9, 11]], "keypoints": [1, 2, 2]},
        {"segmentation": [[1, 2, 9, 2, 9, 11, 1, 11]]},  # the box itself
        {"segmentation": {"counts": [3, 4], "size": [30, 40]}, "keypoints": [0, 0, 0]},
        {"segmentation": [], "keypoints": []},
        {"segmentation": None},
        {},
    ]
    entries = [{"id": number, **box, **more} for number, more in enumerate(said, 1)]
    coco(tmp_path / "a.json", [{"id": 1, "file_name": "a.png"}], entries, [{"id": 3, "name": "x"}])
    place = {"images": ".", "annotations": "a.json"}
    path = card(tmp_path / "c.yaml", format="coco", splits={"train": place, "val": place})
    report = convert(load_card(path), tmp_path / "out", "coco", ["train"])
    assert report.unread == {OUTLINES: 2, POINTS: 1} and report.lost == {}
    assert convert(load_card(path), tmp_path / "two", "voc").unread == {OUTLINES: 4, POINTS: 2}


@pytest.mark.parametrize(("more", "what"), [({}, OUTLINES), ({"kpt_shape": [1, 2]}, POINTS)])
def test_polygons_and_key_points_of_yolo_are_counted(tmp_path, more, what):
    picture(tmp_path / "images/train/a.png")
    line = "0 0.5 0.5 0.2 0.2"
    text(tmp_path / "labels/train/a.txt", f"{line}\n{line} 0.4 0.6\n")
    path = card(tmp_path / "data.yaml", train="images/train", names=["cat"], **more)
    report = convert(load_card(path), tmp_path / "out", "yolo")
    assert report.unread == {what: 1} and report.boxes == {"train": 2}


def set_of(root, file="a.png", split="train", names=("car",)):
    picture(root / "a.png").rename(root / file)
    classes = [{"id": number, "name": name} for number, name in enumerate(names)]
    coco(root / "gt.json", [{"id": 1, "file_name": file}], [], classes)
    return card(root / "c.yaml", format="coco", splits={split: {"annotations": "gt.json"}})


@pytest.mark.parametrize("name", ["../../evil", "a/b", "/tmp/vh-evil", "..", "."])
def test_nothing_is_written_beside_the_folder_that_was_named(tmp_path, name):
    path = set_of(tmp_path / "in", split=name)
    with pytest.raises(UserError, match="cannot be the name of a folder"):
        convert(load_card(path), tmp_path / "a/out", "coco")
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize("to", ["yolo", "voc"])
def test_pictures_that_the_new_format_would_not_find_are_refused(tmp_path, to):
    path = set_of(tmp_path / "in", "a.jp2")
    with pytest.raises(UserError, match=rf"a\.jp2: {to} finds pictures by their endings"):
        convert(load_card(path), tmp_path / "out", to)
    assert convert(load_card(path), tmp_path / "out", "coco").pictures == {"train": 1}


@pytest.mark.parametrize("names", [("car", "car "), ("a\nb",)])
def test_classes_that_voc_cannot_hold_are_refused(tmp_path, names):
    path = set_of(tmp_path / "in", names=names)
    with pytest.raises(UserError, match="VOC files cannot hold it or tell it from another"):
        convert(load_card(path), tmp_path / "out", "voc")
    assert not (tmp_path / "out").exists()


def test_names_that_are_no_utf_8_are_converted(tmp_path):
    """Old archives have them; XML cannot hold such bytes."""
    path = set_of(tmp_path / "in", os.fsdecode(b"caf\xe9.png"))
    split = load_split(convert(load_card(path), tmp_path / "out", "voc").card, "train")
    assert split.problems == [] and os.fsencode(split.samples[0].image.name) == b"caf\xe9.png"
