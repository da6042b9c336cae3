"""COCO detection JSON."""

from __future__ import annotations

import json
import unicodedata

import numpy as np
import pytest

from tests.data.folders import card, coco, picture, text
from vision_heads.data.card import load_split
from vision_heads.data.fixes import apply_fixes
from vision_heads.data.sample import OUTLINES
from vision_heads.errors import UserError

CATEGORIES = [{"id": 90, "name": "dog"}, {"id": 7, "name": "cat"}]
IMAGES = [{"id": 2**40, "file_name": "a.png", "width": 40, "height": 30}]


def one(root, annotations, images=IMAGES, categories=CATEGORIES, **fields):
    picture(root / "images/a.png")
    coco(root / "gt.json", images, annotations, categories)
    place = {"images": "images", "annotations": "gt.json"}
    return card(root / "c.yaml", format="coco", splits={"train": place}, **fields)


def box(number: int, bbox=(1, 2, 10, 8), category=7, image=2**40, **more):
    return {"id": number, "image_id": image, "category_id": category, "bbox": bbox, **more}


def test_ids_areas_and_crowds_survive(tmp_path):
    annotations = [
        box(1, (1, 2, 10, 8), 90, area=33.5),
        box(2, (0, 0, 20, 10), 7, iscrowd=1, area=9),
        box(3, (1.5, 2.5, 3, 4), 7),
    ]
    split = load_split(one(tmp_path, annotations), "train")
    (sample,) = split.samples
    assert split.problems == []
    assert (split.names, split.category_ids) == (("cat", "dog"), (7, 90))
    assert sample.image_id == 2**40
    assert sample.boxes.tolist() == [[1, 2, 11, 10], [1.5, 2.5, 4.5, 6.5]]
    assert sample.labels.tolist() == [1, 0]
    assert sample.areas.tolist() == [33.5, 12]
    assert (sample.ignore_boxes.tolist(), sample.ignore_labels.tolist()) == ([[0, 0, 20, 10]], [0])


def test_names_written_on_windows_are_found(tmp_path):
    images = [{"id": n, "file_name": f"sub\\{n}.png", "width": 40, "height": 30} for n in range(3)]
    path = one(tmp_path, [box(n + 1, image=n) for n in range(3)], images)
    picture(tmp_path / "images/sub/0.png")
    picture(tmp_path / "images/sub/1.png")
    picture(tmp_path / "images/sub\\2.png")  # this is its name here
    split = load_split(path, "train")
    assert split.problems == []
    assert [sample.image.name for sample in split.samples] == ["0.png", "1.png", "sub\\2.png"]
    text(tmp_path / "ids.txt", "sub\\1\n")
    place = {"images": "images", "annotations": "gt.json", "ids": "ids.txt"}
    (sample,) = load_split(card(path, format="coco", splits={"train": place}), "train").samples
    assert sample.image_id == 1


def test_names_written_on_macos_are_found(tmp_path):
    """Its archives hold letters and accents one by one; a service's labels hold them composed."""
    on_disk, in_labels = (unicodedata.normalize(form, "é.png") for form in ("NFD", "NFC"))
    images = [{"id": 1, "file_name": in_labels}]
    path = one(tmp_path, [box(1, image=1)], images)
    picture(tmp_path / "images" / on_disk)
    split = load_split(path, "train")
    assert split.problems == [] and split.samples[0].image.name == on_disk
    for name in (on_disk, in_labels):
        text(tmp_path / "ids.txt", name)
        place = {"images": "images", "annotations": "gt.json", "ids": "ids.txt"}
        chosen = load_split(card(tmp_path / "i.yaml", format="coco", splits={"val": place}), "val")
        assert chosen.problems == [] and len(chosen.samples) == 1


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [
        ({"rotation": 90.0}, [15, 5, 25, 25]),
        ({"rotation": -90}, [15, 5, 25, 25]),
        ({"rotation": 30.0}, [8.8397, 5.6699, 31.1603, 24.3301]),
        ({"rotation": 0.0, "occluded": True}, [10, 10, 30, 20]),
        ({"rotation": "left"}, [10, 10, 30, 20]),
        (None, [10, 10, 30, 20]),
    ],
)
def test_a_box_that_cvat_turned_gives_the_one_around_it(tmp_path, attributes, expected):
    """CVAT writes `bbox` as it was before, and the turn about its centre beside it."""
    path = one(tmp_path, [box(1, (10, 10, 20, 10), attributes=attributes)])
    split = load_split(path, "train")
    assert np.allclose(split.samples[0].boxes, [expected], atol=1e-3) and split.problems == []
    assert split.unread == ({OUTLINES: 1} if expected[0] != 10 else {})


def test_of_two_classes_of_one_name_one_may_be_without_an_object(tmp_path):
    """Roboflow's group of all classes, which it puts first, may be called as one of them."""
    group = [{"id": 0, "name": "cat"}, {"id": 7, "name": "cat"}]
    for entries, categories in (
        ([box(1)], group),
        ([box(1)], group[::-1]),
        ([], group),  # of an empty split the ids must be those of the others
    ):
        split = load_split(one(tmp_path, entries, categories=categories), "train")
        assert (split.names, split.category_ids, split.problems) == (("cat",), (7,), [])
    path = one(tmp_path, [box(1), box(2, category=0)], categories=group)
    with pytest.raises(UserError, match=r"categories\[1\]\.name: 'cat' is there twice"):
        load_split(path, "train")
    with pytest.raises(UserError, match="categories: an id is there twice"):
        load_split(one(tmp_path, [], categories=[group[0], group[0]]), "train")


def test_ids_file_chooses_the_pictures_and_their_labels(tmp_path):
    images = [{"id": n, "file_name": f"{n}.png", "width": 40, "height": 30} for n in "abc"]
    annotations = [box(n, image=key) for n, key in enumerate("abcx")]
    path = one(tmp_path, annotations, images)
    for name in "bc":
        picture(tmp_path / f"images/{name}.png")
    text(tmp_path / "ids.txt", "a\nc.png\ngone.png\n")
    place = {"images": "images", "annotations": "gt.json", "ids": "ids.txt"}
    split = load_split(card(path, format="coco", splits={"train": place}), "train")
    assert [sample.image.name for sample in split.samples] == ["a.png", "c.png"]
    assert [len(sample.boxes) for sample in split.samples] == [1, 1]
    details = [problem.detail for problem in split.problems]
    assert details[0].startswith("named by ") and "image_id 'x'" in details[1]
    (tmp_path / "ids.txt").unlink()
    with pytest.raises(UserError, match=r"ids\.txt: No such file"):
        load_split(path, "train")


def test_labels_that_are_a_folder_say_so(tmp_path):
    path = one(tmp_path, [])
    (tmp_path / "gt.json").unlink()
    (tmp_path / "gt.json").mkdir()
    with pytest.raises(UserError, match=r"gt\.json is a folder; COCO needs a \.json file"):
        load_split(path, "train")


def test_the_card_may_order_the_classes_and_leave_some_out(tmp_path):
    path = one(tmp_path, [box(1, category=90), box(2, category=7)], names=["dog"])
    split = load_split(path, "train")
    assert (split.names, split.category_ids) == (("dog",), (90,))
    assert split.samples[0].labels.tolist() == [0]
    assert [p.kind for p in split.problems] == ["unknown-class"]
    with pytest.raises(UserError, match=r"gt\.json: categories: no 'cow', which the card names"):
        load_split(one(tmp_path, [], names=["cow"]), "train")


@pytest.mark.parametrize(
    ("annotation", "kind", "detail"),
    [
        (box(5, (1, 2, 3)), "bad-annotation", "annotation id 5: bbox is [1, 2, 3]"),
        (box(5, (1, 2, 3, "4")), "bad-annotation", "annotation id 5: bbox is"),
        (box(5, (1, 2, 3, float("nan"))), "bad-annotation", "annotation id 5: bbox is"),
        (box(5, None), "bad-annotation", "annotation id 5: bbox is None"),
        (box(5, (1, 2, 1e300, 4)), "bad-annotation", "annotation id 5: bbox [1, 2, 1e+300, 4]"),
        (box(5, iscrowd="0"), "bad-annotation", "annotation id 5: iscrowd is '0', not 0 or 1"),
        (box(5, image=77), "bad-annotation", "annotation id 5: image_id 77 is no image's"),
        (box(5, image=[1]), "bad-annotation", "annotation id 5: image_id [1] is no image's"),
        (box(5, category=1), "unknown-class", "annotation id 5: category_id 1"),
        (box(5, category=[1]), "unknown-class", "annotation id 5: category_id [1]"),
        (box(5, (1, 2, 0, 4)), "empty-box", "annotation id 5 (a.png): box [1, 2, 1, 6]"),
        (box(5, (30, 2, 20, 4)), "box-outside", "annotation id 5 (a.png): box [30, 2, 50, 6]"),
        (box(5), "duplicate-box", "annotation id 5 (a.png): box [1, 2, 11, 10] of cat"),
    ],
)
def test_a_faulty_annotation_is_named(tmp_path, annotation, kind, detail):
    split = load_split(one(tmp_path, [box(4), annotation]), "train")
    (problem,) = split.problems
    assert problem.kind == kind and problem.detail.startswith(detail)
    assert problem.file.name == "gt.json"


@pytest.mark.parametrize("area", ["9", float("nan"), -5, True])
def test_an_area_that_is_none_is_named_and_its_box_s_is_used(tmp_path, area):
    annotations = [box(4, (5, 5, 3, 4)), box(5, area=area), box(6, (9, 9, 2, 3), area=None)]
    split = load_split(one(tmp_path, annotations), "train")
    (problem,) = split.problems
    assert problem.kind == "bad-annotation"
    assert problem.detail == f"annotation id 5: area is {area!r}; its box's is used"
    assert split.samples[0].areas.tolist() == [12, 80, 6]


def test_boxes_without_an_area_have_exactly_their_own(tmp_path):
    """Of float32 corners these were of 256.000004 and 255.99998 pixels²: in two bins of size."""
    boxes = [(10.7, 3.3, 16, 16), (2.9, 5.3, 16, 16)]
    path = one(tmp_path, [box(number, bbox) for number, bbox in enumerate(boxes, 1)])
    assert load_split(path, "train").samples[0].areas.tolist() == [256, 256]


def test_faulty_images_are_named(tmp_path):
    images = [
        *IMAGES,
        {"id": 3, "file_name": "gone.png", "width": 5, "height": 5},
        {"id": 3, "file_name": "again.png"},
        {"id": 4, "file_name": "a.png"},
        {"id": None, "file_name": "b.png"},
        {"id": 6},
    ]
    split = load_split(one(tmp_path, [], images), "train")
    assert [(p.kind, p.file.name) for p in split.problems] == [
        ("bad-annotation", "gone.png"),
        ("duplicate-image", "a.png"),
        ("bad-annotation", "gt.json"),
        ("bad-annotation", "gt.json"),
        ("missing-image", "gone.png"),
    ]
    assert [s.image_id for s in split.samples] == [2**40, 4, 3]
    assert (split.samples[1].width, split.samples[1].height) == (40, 30)


def test_a_stated_size_that_is_not_the_picture_s_is_noticed(tmp_path):
    images = [{"id": 1, "file_name": "a.png", "width": 30, "height": 40}]
    (problem,) = load_split(one(tmp_path, [], images), "train").problems
    assert problem.kind == "bad-annotation" and "at 30x40" in problem.detail


def test_only_the_json_is_needed_to_score_predictions(tmp_path):
    coco(tmp_path / "gt.json", IMAGES, [box(1)], CATEGORIES)
    path = card(tmp_path / "c.yaml", format="coco", splits={"val": {"annotations": "gt.json"}})
    split = load_split(path, "val", images_needed=False)
    assert (split.samples[0].width, len(split.samples[0].boxes), split.problems) == (40, 1, [])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", r"gt\.json: not JSON"),
        ("[" * 100_000, r"gt\.json: not JSON that can be read: nested too deeply"),
        ("[]", r"gt\.json: not a COCO data set"),
        ('{"images": []}', r"gt\.json: annotations: a list of objects"),
        (
            '{"images": [], "annotations": [], "categories": [{"id": "1", "name": "x"}]}',
            r"gt\.json: categories\[0\]\.id: a whole number",
        ),
        (
            '{"images": [], "annotations": [], "categories": [{"id": 1, "name": " "}]}',
            r"gt\.json: categories\[0\]\.name: is empty, ' '",
        ),
        ('{"images": [], "annotations": [], "categories": []}', r"gt\.json: categories: empty"),
    ],
)
def test_a_file_that_is_no_coco_is_refused(tmp_path, content, message):
    path = one(tmp_path, [])
    text(tmp_path / "gt.json", content)
    with pytest.raises(UserError, match=message):
        load_split(path, "train")


def test_several_files_must_not_repeat_an_image_id(tmp_path):
    one(tmp_path, [])
    coco(tmp_path / "more.json", IMAGES, [], CATEGORIES)
    parts = [{"images": "images", "annotations": f} for f in ("gt.json", "more.json")]
    path = card(tmp_path / "c.yaml", format="coco", splits={"train": parts})
    with pytest.raises(UserError, match=rf"image id {2**40} is in several"):
        load_split(path, "train")


def test_real_head_pose_labels_read_without_a_problem(shared_data, tmp_path):
    root = shared_data / "headpose"
    place = {"images": "val/images", "annotations": "val/annotations.json"}
    path = card(tmp_path / "r.yaml", format="coco", path=str(root), splits={"val": place})
    split = load_split(path, "val")
    whole = json.loads((root / "val/annotations.json").read_text())
    first = whole["annotations"][0]
    sample = next(s for s in split.samples if s.image_id == first["image_id"])
    x, y, w, h = first["bbox"]
    assert split.problems == []
    assert sum(len(s.boxes) for s in split.samples) == len(whole["annotations"])
    assert np.allclose(sample.boxes[0], [x, y, x + w, y + h], atol=1e-3)


def test_a_name_that_is_too_long_is_a_missing_picture(tmp_path):
    long = {"id": 1, "file_name": "a" * 300 + ".png", "width": 40, "height": 30}
    path = one(tmp_path, [], images=[long])
    assert [problem.kind for problem in load_split(path, "train").problems] == ["missing-image"]


def test_a_field_of_areas_on_an_object_does_not_hide_it(tmp_path):
    """Only crowds are copies of an area for each class."""
    picture(tmp_path / "a.png")
    box = {"image_id": 1, "category_id": 2, "bbox": [1, 1, 9, 9], "area_of": "other"}
    classes = [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}]
    coco(tmp_path / "gt.json", [{"id": 1, "file_name": "a.png"}], [{"id": 1, **box}], classes)
    place = {"annotations": "gt.json"}
    split = load_split(card(tmp_path / "c.yaml", format="coco", splits={"val": place}), "val")
    assert split.samples[0].labels.tolist() == [1]


def test_boxes_of_an_id_that_two_pictures_have_are_nobodys(tmp_path):
    """With --fix drop the second picture's boxes were learned in the first."""
    images = [{"id": 1, "file_name": "a.png"}, {"id": 1, "file_name": "b.png"}]
    images.append({"id": 2, "file_name": "c.png"})
    for seed, name in enumerate(("b", "c")):
        picture(tmp_path / f"images/{name}.png", seed=seed)
    path = one(tmp_path, [box(1, image=1), box(2, image=2)], images)
    split = load_split(path, "train")
    (problem,) = split.problems
    assert problem.file.name == "a.png"
    assert problem.detail == f"{tmp_path / 'gt.json'}: images[1]: 'b.png' has its id, 1, too"
    assert [s.image.name for s in apply_fixes(split, ["drop"]).samples] == ["c.png"]
