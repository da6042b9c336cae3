"""Native VisDrone labels."""

from __future__ import annotations

import numpy as np
import pytest

from tests.data.folders import card, picture, text, visdrone_set
from vision_heads.data.card import load_split
from vision_heads.data.sample import OTHER, REGION
from vision_heads.errors import UserError


def test_rows_become_objects_and_areas_that_are_not_judged(tmp_path):
    lines = (
        "1,2,10,8,1,4,0,0\n"
        "3,3,5,5,0,1,0,0,\n"  # score 0, and the trailing comma real files have
        "0,0,40,10,0,0,0,0\n"
        "5,5,4,4,0,11,0,0\n"
        "\n"
        "6,7,3,3,1,10,0,2\r\n"
    )
    split = load_split(visdrone_set(tmp_path, {"a": lines}), "train")
    (sample,) = split.samples
    assert split.problems == []
    assert sample.boxes.tolist() == [[1, 2, 11, 10], [6, 7, 9, 10]]
    assert [split.names[label] for label in sample.labels] == ["car", "motor"]
    assert [split.category_ids[label] for label in sample.labels] == [4, 10]
    assert sample.ignore_labels.tolist() == [0, REGION, OTHER]
    assert sample.ignore_boxes.tolist() == [[3, 3, 8, 8], [0, 0, 40, 10], [5, 5, 9, 9]]
    assert (sample.width, sample.height, sample.image_id) == (40, 30, "a")
    assert sample.boxes.dtype == np.float32 and sample.labels.dtype == np.int64


@pytest.mark.parametrize(
    ("line", "kind", "detail"),
    [
        ("1,2,ten,8,1,4,0,0", "bad-annotation", "line 2: width is 'ten', not a number"),
        ("1,2,nan,8,1,4,0,0", "bad-annotation", "line 2: width is 'nan', not a number"),
        ("1,2,9,1e39,0,0", "bad-annotation", "line 2: reaches beyond 10,000,000 px"),
        ("1,2,3", "bad-annotation", "line 2: 3 fields, at least 6 are needed"),
        ("1,2,3,4,1,12,0,0", "unknown-class", "line 2: category 12"),
        ("1,2,3,4,1,2.5,0,0", "unknown-class", "line 2: category 2.5"),
    ],
)
def test_an_unreadable_line_is_named_and_the_others_are_kept(tmp_path, line, kind, detail):
    path = visdrone_set(tmp_path, {"a": f"1,1,5,5,1,1,0,0\n{line}\n2,2,5,5,1,2,0,0\n"})
    split = load_split(path, "train")
    (problem,) = split.problems
    assert (problem.kind, problem.detail) == (kind, detail)
    assert problem.file.name == "a.txt"
    assert split.samples[0].labels.tolist() == [0, 1]


def test_places_and_names_of_a_card(tmp_path):
    picture(tmp_path / "images/a.png")
    text(tmp_path / "annotations/a.txt", "1,1,5,5,1,1,0,0\n")
    places = {"train": {"images": "images"}, "val": {"images": "images", "annotations": "x"}}
    path = card(tmp_path / "c.yaml", format="visdrone", splits=places)
    assert load_split(path, "train").samples[0].labels.tolist() == [0]
    with pytest.raises(UserError, match="x: no such folder of VisDrone txt files"):
        load_split(path, "val")
    names = [f"n{number}" for number in range(10)]
    path = card(tmp_path / "c.yaml", format="visdrone", splits=places, names=names)
    assert load_split(path, "train").names == tuple(names)
    path = card(tmp_path / "c.yaml", format="visdrone", splits=places, names=names[1:])
    with pytest.raises(UserError, match="VisDrone has 10 classes, the card names 9"):
        load_split(path, "train")


def test_faulty_boxes_are_kept_and_named(tmp_path):
    lines = "1,1,0,5,1,1,0,0\n35,1,8,5,1,1,0,0\n5,5,6,6,1,3,0,0\n5,5,6,6,1,3,0,0\n36,1,5,5,1,1,0,0"
    split = load_split(visdrone_set(tmp_path, {"a": lines}), "train")
    assert len(split.samples[0].boxes) == 5
    assert [(p.kind, p.detail.split(":")[0]) for p in split.problems] == [
        ("empty-box", "line 1"),
        ("box-outside", "line 2"),  # 3 px; line 5 overhangs 1 px, which is rounding
        ("duplicate-box", "line 4"),
    ]
    assert "reaches 3 px out of the 40x30 picture" in split.problems[1].detail


def test_pictures_and_labels_without_their_other_half(tmp_path):
    path = visdrone_set(tmp_path, {"a": "1,1,5,5,1,1,0,0", "b": None, "empty": ""})
    text(tmp_path / "train/annotations/lost.txt", "1,1,5,5,1,1,0,0")
    picture(tmp_path / "train/images/bad.png").write_bytes(b"no picture")
    text(tmp_path / "train/annotations/bad.txt", "1,1,5,5,1,1,0,0")
    split = load_split(path, "train")
    found = {(p.kind, p.file.name) for p in split.problems}
    assert found == {
        ("missing-annotation", "b.png"),
        ("missing-image", "lost.jpg"),
        ("corrupt-image", "bad.png"),
    }
    assert [s.image_id for s in split.samples] == ["a", "b", "bad", "empty", "lost"]
    assert [len(s.boxes) for s in split.samples] == [1, 0, 1, 0, 1]


def test_sizes_stand_in_for_pictures_when_only_predictions_are_scored(tmp_path):
    text(tmp_path / "gt/a.txt", "1,1,5,5,1,1,0,0")
    text(tmp_path / "gt/b.txt", "")
    path = card(tmp_path / "c.yaml", format="visdrone", splits={"val": {"annotations": "gt"}})
    with pytest.raises(UserError, match=r"images: the card names no folder of pictures"):
        load_split(path, "val")
    with pytest.raises(UserError, match=r"b\.jpg: picture not there .*1 such.*--sizes"):
        load_split(path, "val", images_needed=False, sizes={"a": (960, 540)})
    sizes = {"a": (960, 540), "b.jpg": (1360, 765)}
    split = load_split(path, "val", images_needed=False, sizes=sizes)
    assert [(s.width, s.height) for s in split.samples] == [(960, 540), (1360, 765)]
    assert split.problems == []


def test_real_visdrone_pictures_read_without_a_problem(shared_data, tmp_path):
    place = {"images": "val/images", "annotations": "val/annotations"}
    path = card(
        tmp_path / "real.yaml",
        format="visdrone",
        path=str(shared_data / "visdrone"),
        splits={"val": place},
    )
    split = load_split(path, "val")
    rows = [
        line.split(",")
        for file in (shared_data / "visdrone/val/annotations").glob("*.txt")
        for line in file.read_text().splitlines()
    ]
    judged = [row for row in rows if row[4] != "0" and row[5] not in {"0", "11"}]
    assert split.problems == []
    assert len(split.samples) == 90
    assert sum(len(s.boxes) for s in split.samples) == len(judged)
    assert sum(len(s.ignore_boxes) for s in split.samples) == len(rows) - len(judged)
