"""PASCAL VOC labels."""

from __future__ import annotations

import numpy as np
import pytest

from tests.data.folders import card, picture, text, voc, voc_object
from vision_heads.data.card import load_split
from vision_heads.data.formats.voc import OTHER_NAME, REGION_NAME
from vision_heads.data.sample import OTHER, REGION
from vision_heads.errors import UserError


def one(root, *objects: str, names: list[str] | None = None, **size):
    picture(root / "images/a.png")
    voc(root / "xml/a.xml", *objects, **size)
    fields = {"names": names} if names else {}
    place = {"images": "images", "annotations": "xml"}
    return card(root / "c.yaml", format="voc", splits={"train": place}, **fields)


def test_coordinates_count_from_one_and_include_the_last_pixel(tmp_path):
    path = one(tmp_path, voc_object("cat", (1, 1, 40, 30)), voc_object("dog", (5, 6, 5.5, 9), 1))
    split = load_split(path, "train")
    (sample,) = split.samples
    assert split.problems == []
    assert sample.boxes.tolist() == [[0, 0, 40, 30]]
    assert sample.ignore_boxes.tolist() == [[4, 5, 5.5, 9]]
    assert sample.ignore_labels.tolist() == [1]
    assert split.names == ("cat", "dog")


@pytest.mark.parametrize(
    ("turn", "box"),
    [("0.0", [10, 10, 30, 20]), ("90", [15, 5, 25, 25]), ("x", [10, 10, 30, 20])],
)
def test_a_box_that_cvat_turned_gives_the_one_around_it(tmp_path, turn, box):
    said = f"<attribute><name>rotation</name><value>{turn}</value></attribute></attributes>"
    item = voc_object("cat", (11, 11, 30, 20)).replace("</object>", f"<attributes>{said}</object>")
    (sample,) = load_split(one(tmp_path, item), "train").samples
    assert np.allclose(sample.boxes, [box], atol=1e-4)


def test_classes_come_from_all_splits_of_the_card(tmp_path):
    for split, name in (("train", "zebra"), ("val", "ant")):
        picture(tmp_path / split / f"{split}.png")
        voc(tmp_path / split / f"{split}.xml", voc_object(name, (1, 1, 9, 9)))
    places = {s: {"images": s, "annotations": s} for s in ("train", "val")}
    path = card(tmp_path / "c.yaml", format="voc", splits=places)
    assert load_split(path, "train").names == load_split(path, "val").names == ("ant", "zebra")


def test_ids_file_chooses_the_pictures(tmp_path):
    for number, stem in enumerate("abc"):
        picture(tmp_path / f"images/{stem}.png", seed=number)
        voc(tmp_path / f"xml/{stem}.xml", voc_object("cat", (1, 1, 9, 9)))
    text(tmp_path / "ids.txt", "a\nc  1\ngone -1\n")
    place = {"images": "images", "annotations": "xml", "ids": "ids.txt"}
    path = card(tmp_path / "c.yaml", format="voc", splits={"train": [place]})
    split = load_split(path, "train")
    assert [sample.image_id for sample in split.samples] == ["a", "c", "gone"]
    assert {p.kind for p in split.problems} == {"missing-image", "missing-annotation"}


@pytest.mark.parametrize(
    ("item", "kind", "detail"),
    [
        (voc_object("cow", (1, 1, 9, 9)), "unknown-class", "object 2: name 'cow'"),
        (voc_object("cat", (1, "x", 9, 9)), "bad-annotation", "object 2: ymin is 'x'"),
        (voc_object("cat", (1, 1, "1e300", 9)), "bad-annotation", "object 2: reaches beyond"),
        ("<object><name>cat</name></object>", "bad-annotation", "object 2: no bndbox/xmin"),
    ],
)
def test_an_unreadable_object_is_named_and_the_others_are_kept(tmp_path, item, kind, detail):
    good = voc_object("cat", (1, 1, 9, 9)), voc_object("cat", (5, 6, 7, 8))
    path = one(tmp_path, good[0], item, good[1], names=["cat"])
    split = load_split(path, "train")
    (problem,) = split.problems
    assert problem.kind == kind and problem.detail.startswith(detail)
    assert problem.file.name == "a.xml"
    assert split.samples[0].boxes.tolist() == [[0, 0, 9, 9], [4, 5, 7, 8]]


def test_areas_of_no_class_are_difficult_objects(tmp_path):
    areas = [voc_object(name, (1, 1, 9, 9), 1) for name in (REGION_NAME, OTHER_NAME)]
    path = one(tmp_path, *areas, voc_object(REGION_NAME, (1, 1, 9, 9)), names=["cat"])
    split = load_split(path, "train")
    assert split.samples[0].ignore_labels.tolist() == [REGION, OTHER]
    (problem,) = split.problems
    assert (problem.kind, problem.detail) == ("unknown-class", f"object 3: name {REGION_NAME!r}")


def test_labels_are_looked_for_where_voc_has_them(tmp_path):
    picture(tmp_path / "JPEGImages/a.png")
    voc(tmp_path / "Annotations/a.xml", voc_object("cat", (1, 1, 9, 9)))
    places = {
        "train": {"images": "JPEGImages"},
        "val": {"images": "JPEGImages", "annotations": "x"},
    }
    path = card(tmp_path / "c.yaml", format="voc", names=["cat"], splits=places)
    assert load_split(path, "train").samples[0].boxes.tolist() == [[0, 0, 9, 9]]
    with pytest.raises(UserError, match="x: no such folder of VOC XML files"):
        load_split(path, "val")


def test_a_file_that_is_no_xml_is_the_picture_s_problem(tmp_path):
    path = one(tmp_path, names=["cat"])
    text(tmp_path / "xml/a.xml", "<annotation><object>")
    (problem,) = load_split(path, "train").problems
    assert (problem.kind, problem.file.name) == ("bad-annotation", "a.png")
    assert "a.xml: not XML" in problem.detail
    text(tmp_path / "xml/a.xml", "<html/>")
    (problem,) = load_split(path, "train").problems
    assert "<html>, not <annotation>" in problem.detail
    text(tmp_path / "xml/a.xml", '<?xml version="1.0" encoding="nope"?><annotation/>')
    (problem,) = load_split(path, "train").problems
    assert "a.xml: not XML: unknown encoding" in problem.detail


def test_labels_made_for_a_turned_picture_are_noticed(tmp_path):
    path = one(tmp_path, voc_object("cat", (1, 1, 9, 9)), names=["cat"], size=(30, 40))
    split = load_split(path, "train")
    (problem,) = split.problems
    assert problem.kind == "bad-annotation" and "at 30x40, the upright picture is 40x30" in (
        problem.detail
    )
    assert (split.samples[0].width, split.samples[0].height) == (40, 30)


def test_a_missing_size_is_no_mistake(tmp_path):
    path = one(tmp_path, voc_object("cat", (1, 1, 9, 9)), names=["cat"], size=None)
    assert load_split(path, "train").problems == []


def test_sizes_come_from_the_xml_without_pictures(tmp_path):
    path = one(tmp_path, voc_object("cat", (1, 1, 9, 9)), size=(640, 480))
    (tmp_path / "images/a.png").unlink()
    (sample,) = load_split(path, "train", images_needed=False).samples
    assert (sample.width, sample.height) == (640, 480)


def test_no_class_at_all_is_an_error(tmp_path):
    with pytest.raises(UserError, match=r"names: none given, and no label names a class"):
        load_split(one(tmp_path), "train")


@pytest.mark.parametrize(
    ("folder", "names"),
    [
        ("scut_head", ("head",)),
        ("voc_groups/animals", ("bird", "cat", "cow", "dog", "horse", "sheep")),
    ],
)
def test_real_voc_folders_read_without_a_problem(shared_data, tmp_path, folder, names):
    places = {s: {"images": f"{s}/images", "annotations": f"{s}/annotations"} for s in ("val",)}
    path = card(tmp_path / "r.yaml", format="voc", path=str(shared_data / folder), splits=places)
    split = load_split(path, "val")
    files = list((shared_data / folder / "val/annotations").glob("*.xml"))
    objects = sum(file.read_text().count("<object>") for file in files)
    found = sum(len(s.boxes) + len(s.ignore_boxes) for s in split.samples)
    assert (split.names, split.problems, found) == (names, [], objects)


def test_endings_in_capitals_and_spaces_around_names(tmp_path):
    picture(tmp_path / "images/a.PNG")
    voc(tmp_path / "ann/a.XML", voc_object(" cat ", (1, 1, 9, 9)))
    place = {"images": "images", "annotations": "ann"}
    for names in (None, ["cat "]):
        fields = {"names": names} if names else {}
        path = card(tmp_path / "c.yaml", format="voc", splits={"train": place}, **fields)
        split = load_split(path, "train")
        assert split.problems == []
        assert split.samples[0].labels.tolist() == [0]


def test_places_in_the_home_folder_are_searched_for_classes(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    picture(tmp_path / "images/a.png")
    voc(tmp_path / "labels/a.xml", voc_object("cat", (1, 1, 9, 9)))
    place = {"images": "~/images", "annotations": "~/labels"}
    split = load_split(card(tmp_path / "in/c.yaml", format="voc", splits={"train": place}), "train")
    assert (split.names, split.problems) == (("cat",), [])


def test_classes_that_the_files_cannot_tell_apart_are_refused(tmp_path):
    """All objects of either would be the last one's."""
    picture(tmp_path / "images/a.png")
    voc(tmp_path / "labels/a.xml", voc_object("car", (1, 1, 9, 9)))
    place = {"images": "images", "annotations": "labels"}
    splits = {"train": place}
    path = card(tmp_path / "c.yaml", format="voc", splits=splits, names=["car", "car "])
    with pytest.raises(UserError, match="names: 'car': VOC files cannot"):
        load_split(path, "train")
