"""YOLO labels, as folders and by ultralytics' data.yaml."""

from __future__ import annotations

import os
import unicodedata

import numpy as np
import pytest

from tests.data.folders import card, picture, text
from vision_heads.data.card import load_split
from vision_heads.data.fixes import apply_fixes
from vision_heads.errors import UserError


def folder(root, labels: str | None, split: str = "train"):
    picture(root / f"images/{split}/a.png")
    if labels is not None:
        text(root / f"labels/{split}/a.txt", labels)
    return card(root / "data.yaml", train="images/train", names=["cat", "dog"])


def test_boxes_are_parts_of_the_picture(tmp_path):
    split = load_split(folder(tmp_path, "1 0.5 0.5 0.25 0.2\n0 0.1 0.1 0.1 0.2\n"), "train")
    (sample,) = split.samples
    assert np.allclose(sample.boxes, [[15, 12, 25, 18], [2, 0, 6, 6]], atol=1e-5)
    assert sample.labels.tolist() == [1, 0]
    assert split.problems == []
    assert (split.names, split.category_ids) == (("cat", "dog"), (0, 1))


def test_a_polygon_gives_its_bounding_box(tmp_path):
    split = load_split(folder(tmp_path, "0 0.1 0.2 0.5 0.1 0.3 0.9\n"), "train")
    assert np.allclose(split.samples[0].boxes, [[4, 3, 20, 27]], atol=1e-5)


def test_key_points_after_a_box_are_no_polygon(tmp_path):
    folder(tmp_path, "0 0.5 0.5 0.5 0.5 0.9 0.9 2 0.1 0.1 2\n")
    fields = {"train": "images/train", "names": ["cat"], "kpt_shape": [2, 3]}
    split = load_split(card(tmp_path / "pose.yaml", **fields), "train")
    assert np.allclose(split.samples[0].boxes, [[10, 7.5, 30, 22.5]], atol=1e-5)


@pytest.mark.parametrize(
    ("line", "kind", "detail"),
    [
        ("0 0.5 0.5 0.2", "bad-annotation", "line 1: 4 columns"),
        ("0 0.5 0.5 0.2 0.2 0.9", "bad-annotation", "line 1: 6 columns"),
        ("0 0.5 0.5", "bad-annotation", "line 1: 3 columns"),
        ("0 0.1 0.1 0.2 0.2 0.3 0.3 0.4", "bad-annotation", "line 1: 8 columns"),
        ("0 0.5 x 0.2 0.2", "bad-annotation", "line 1: column 3 is 'x', not a number"),
        ("0 0.5 inf 0.2 0.2", "bad-annotation", "line 1: column 3 is 'inf', not a number"),
        ("0.5 0.5 0.5 0.2 0.2", "bad-annotation", "line 1: class is '0.5', not a whole number"),
        ("0 0.5 1e300 0.2 0.2", "bad-annotation", "line 1: reaches beyond 10,000,000 px"),
        ("2 0.5 0.5 0.2 0.2", "unknown-class", "line 1: class 2 of 2, counted from 0"),
        ("-1 0.5 0.5 0.2 0.2", "unknown-class", "line 1: class -1 of 2, counted from 0"),
    ],
)
def test_an_unreadable_line_is_named(tmp_path, line, kind, detail):
    split = load_split(folder(tmp_path, f"{line}\n1 0.5 0.5 0.2 0.2\n"), "train")
    (problem,) = split.problems
    assert problem.kind == kind and problem.detail.startswith(detail)
    assert split.samples[0].labels.tolist() == [1]


def test_a_picture_without_labels_is_a_counted_negative(tmp_path):
    picture(tmp_path / "images/train/b.png")
    split = load_split(folder(tmp_path, "0 0.5 0.5 0.2 0.2\n"), "train")
    assert split.problems == [] and split.unlabelled == 1
    assert [len(sample.boxes) for sample in split.samples] == [1, 0]


def test_a_split_without_any_label_file_is_broken_not_all_negatives(tmp_path):
    """Labels were looked for in the wrong place: training would learn that nothing is there."""
    path = folder(tmp_path, None)
    picture(tmp_path / "images/more/b.png", seed=1)
    places = ["images/train", "images/more"]
    split = load_split(card(path, train=places, names=["cat"]), "train")
    assert [(p.kind, p.file.name) for p in split.problems] == [
        ("missing-annotation", "a.png"),
        ("missing-annotation", "b.png"),
    ]
    label = tmp_path / "labels/train/a.txt"
    assert split.problems[0].detail == f"no {label}, nor one for any other picture"
    with pytest.raises(UserError, match="2 missing-annotation"):
        apply_fixes(split, ())
    text(label, "")
    assert load_split(path, "train").problems == []


def test_labels_without_a_picture_are_named(tmp_path):
    path = folder(tmp_path, "0 0.5 0.5 0.2 0.2\n")
    text(tmp_path / "labels/train/gone.txt", "0 0.5 0.5 0.2 0.2\n")
    text(tmp_path / "labels/train/classes.txt", "cat\ndog\n")
    split = load_split(path, "train")
    kinds = [(p.kind, p.file.name) for p in split.problems]
    assert ("missing-image", "gone.jpg") in kinds
    assert not any(name == "classes.jpg" for _, name in kinds)
    assert len(split.samples) == 2


def test_labels_that_are_no_text_are_the_picture_s_problem(tmp_path):
    path = folder(tmp_path, "")
    (tmp_path / "labels/train/a.txt").write_bytes(b"\xff\xfe\x00")
    (problem,) = load_split(path, "train").problems
    assert problem.kind == "bad-annotation" and problem.file.name == "a.png"


def test_ultralytics_forms_of_a_split(tmp_path):
    for number, name in enumerate(("one/images/a.png", "two/images/b.png", "one/images/c.png")):
        file = picture(tmp_path / name, seed=number)
        text(tmp_path / name.split("/")[0] / "labels" / f"{file.stem}.txt", "0 0.5 0.5 0.5 0.5")
    text(tmp_path / "list.txt", "./one/images/a.png\ntwo/images/b.png\n\n")
    names = {0: "cat", 1: "dog"}
    fields = {"train": ["one/images", "two/images"], "val": "list.txt", "test": None}
    path = card(tmp_path / "sub" / "data.yaml", path="..", **fields, names=names, nc=2)
    train, val = load_split(path, "train"), load_split(path, "val")
    assert [s.image_id for s in train.samples] == ["a", "c", "b"]
    assert [s.image_id for s in val.samples] == ["a", "b"]
    assert all(len(s.boxes) == 1 for s in (*train.samples, *val.samples))
    with pytest.raises(UserError, match=r"splits: no 'test'; it has train, val"):
        load_split(path, "test")


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_list_written_on_windows(tmp_path, encoding):
    folder(tmp_path, "0 0.5 0.5 0.2 0.2\n")
    (tmp_path / "list.txt").write_bytes(".\\images\\train\\a.png\r\n".encode(encoding))
    path = card(tmp_path / "data.yaml", train="list.txt", names=["cat", "dog"])
    split = load_split(path, "train")
    assert split.problems == [] and len(split.samples[0].boxes) == 1


def test_a_card_written_on_windows(tmp_path):
    folder(tmp_path / "set", "0 0.5 0.5 0.2 0.2\n")
    fields = {"path": ".\\set", "names": ["cat", "dog"]}
    path = card(tmp_path / "data.yaml", **fields, train="images\\train", val="..\\images\\train")
    for name in ("train", "val"):
        split = load_split(path, name)
        assert split.problems == [] and len(split.samples[0].boxes) == 1
    path = card(tmp_path / "data.yaml", **fields, train="images\\none")
    with pytest.raises(UserError, match="images/none: no such folder of pictures"):
        load_split(path, "train")


def test_labels_and_cards_in_utf_16(tmp_path):
    path = folder(tmp_path, "0 0.5 0.5 0.2 0.2\n")
    for file in (path, tmp_path / "labels/train/a.txt"):
        file.write_bytes(file.read_text().encode("utf-16"))
    split = load_split(path, "train")
    assert split.problems == [] and len(split.samples[0].boxes) == 1


@pytest.mark.parametrize(("of_picture", "of_label"), [("NFD", "NFC"), ("NFC", "NFD")])
def test_names_written_on_macos_find_their_labels(tmp_path, of_picture, of_label):
    name = unicodedata.normalize(of_picture, "é")
    picture(tmp_path / f"images/{name}.png")
    label = text(tmp_path / "labels/é.txt", "0 0.5 0.5 0.2 0.2\n")
    label.rename(label.with_stem(unicodedata.normalize(of_label, "é")))
    text(tmp_path / "list.txt", f"images/{unicodedata.normalize(of_label, 'é')}.png\n")
    path = card(tmp_path / "data.yaml", train="images", val="list.txt", names=["cat"])
    for split in (load_split(path, "train"), load_split(path, "val")):
        (sample,) = split.samples
        assert split.problems == [] and len(sample.boxes) == 1 and sample.image.stem == name


def test_a_list_names_a_picture_that_is_not_there(tmp_path):
    path = folder(tmp_path, "0 0.5 0.5 0.2 0.2\n")
    text(tmp_path / "list.txt", "images/train/a.png\nimages/train/none.png\n")
    path = card(tmp_path / "data.yaml", train="list.txt", names=["cat", "dog"])
    split = load_split(path, "train")
    assert [(p.kind, p.file.name) for p in split.problems] == [("missing-image", "none.png")]


def test_equal_names_in_two_folders_get_different_ids(tmp_path):
    for number, name in enumerate(("x/a.png", "y/a.png", "y/a.jpg", "y/b.png")):
        picture(tmp_path / "images" / name, seed=number)
    path = card(tmp_path / "data.yaml", train="images", names=["cat"])
    ids = [sample.image_id for sample in load_split(path, "train").samples]
    assert ids == ["images/x/a", "images/y/a.jpg", "images/y/a.png", "b"]


def test_copies_in_hidden_folders_are_no_negatives(tmp_path):
    path = folder(tmp_path, "0 0.5 0.5 0.2 0.2\n")
    picture(tmp_path / "images/train/.ipynb_checkpoints/a-checkpoint.png")
    text(tmp_path / "labels/train/.old/b.txt", "0 0.5 0.5 0.2 0.2\n")
    split = load_split(path, "train")
    assert [sample.image.name for sample in split.samples] == ["a.png"]
    assert (split.unlabelled, split.problems) == (0, [])


def test_names_are_needed(tmp_path):
    picture(tmp_path / "images/a.png")
    path = card(tmp_path / "c.yaml", format="yolo", splits={"train": {"images": "images"}})
    with pytest.raises(UserError, match="names: YOLO labels hold only numbers"):
        load_split(path, "train")


def test_endings_in_capitals_are_endings(tmp_path):
    picture(tmp_path / "images/a.PNG")
    text(tmp_path / "labels/a.TXT", "0 0.5 0.5 0.5 0.5")
    path = card(tmp_path / "data.yaml", train="images", names=["cat"])
    split = load_split(path, "train")
    assert (split.unlabelled, split.problems) == (0, [])
    assert len(split.samples[0].boxes) == 1


def test_a_number_at_the_end_of_a_picture_s_name_is_no_flag(tmp_path):
    for seed, stem in enumerate(("photo", "photo 0", "photo 1", "other")):
        picture(tmp_path / f"images/{stem}.png", seed=seed)
    text(tmp_path / "ids.txt", "photo 1\nother -1\n")
    text(tmp_path / "labels/other.txt", "")
    place = {"images": "images", "ids": "ids.txt"}
    path = card(tmp_path / "c.yaml", format="yolo", names=["cat"], splits={"train": place})
    split = load_split(path, "train")
    assert [sample.image_id for sample in split.samples] == ["other", "photo 1"]
    assert split.problems == []


@pytest.mark.parametrize("again", ["images/a.png", "./images/a.png"])
def test_a_picture_that_is_listed_twice_is_named_once(tmp_path, again):
    picture(tmp_path / "images/a.png")
    text(tmp_path / "labels/a.txt", "")
    text(tmp_path / "list.txt", f"images/a.png\n{again}\n")
    split = load_split(card(tmp_path / "data.yaml", train="list.txt", names=["cat"]), "train")
    (problem,) = split.problems
    assert (problem.kind, problem.detail) == ("duplicate-image", "is in the split 2 times")
    assert problem.file == tmp_path / "images/a.png"


def test_listed_pictures_of_two_folders_do_not_share_labels(tmp_path):
    for seed, place in enumerate("ab"):
        picture(tmp_path / f"images/{place}/1.png", seed=seed)
        text(tmp_path / f"labels/{place}/1.txt", "0 0.5 0.5 0.5 0.5")
    text(tmp_path / "labels/1.txt", "0 0.5 0.5 0.5 0.5")
    text(tmp_path / "list.txt", "images/a/1.png\nimages/b/1.png\n")
    place = {"images": "list.txt"}
    path = card(tmp_path / "c.yaml", format="yolo", names=["cat"], splits={"train": place})
    assert [len(sample.boxes) for sample in load_split(path, "train").samples] == [1, 1]
    place["annotations"] = "labels"
    card(path, format="yolo", names=["cat"], splits={"train": place})
    with pytest.raises(UserError, match=r"1\.png and .*1\.png would both have the labels"):
        load_split(path, "train")


def test_a_line_that_is_too_long_for_a_name_is_a_missing_picture(tmp_path):
    text(tmp_path / "list.txt", "a.png " + "10,20,30,40,0 " * 40)
    split = load_split(card(tmp_path / "data.yaml", train="list.txt", names=["cat"]), "train")
    assert [problem.kind for problem in split.problems] == ["missing-image"]


def test_pipes_and_devices_named_like_pictures_are_left_out(tmp_path):
    """To read one may never end."""
    path = folder(tmp_path, "0 0.5 0.5 0.2 0.2\n")
    os.mkfifo(tmp_path / "images/train/pipe.png")
    (tmp_path / "images/train/zero.png").symlink_to("/dev/zero")
    (tmp_path / "images/train/loop.png").symlink_to("loop.png")
    (tmp_path / "images/train/lost.png").symlink_to("nowhere.png")
    problems = load_split(path, "train").problems
    assert [problem.kind for problem in problems] == ["corrupt-image"] * 2
    assert [problem.file.name for problem in problems] == ["loop.png", "lost.png"]
