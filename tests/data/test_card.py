"""Data-set cards: finding, validating, and where the data lies."""

from __future__ import annotations

import os

import pytest

from tests.data.folders import card, picture, text, visdrone_set
from vision_heads.data.card import card_names, load_card, load_split
from vision_heads.errors import UserError

PLACE = {"images": "train/images", "annotations": "train/annotations"}


def test_shipped_cards_are_found_by_name():
    assert {"coco", "visdrone", "voc"} <= set(card_names())
    for name in ("coco", "visdrone", "voc"):
        shipped = load_card(name)
        assert shipped.name == name
        assert {"train", "val"} <= set(shipped.splits)
        assert shipped.terms and shipped.obtain
    assert len(load_card("voc").names) == 20
    scored = load_card("visdrone-test-dev")  # vh eval takes its split val
    assert (scored.names, list(scored.splits)) == (load_card("visdrone").names, ["val"])
    assert len(load_card("voc").splits["train"]) == 2


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(UserError, match=r"nosuch: no card of this name; shipped are .*visdrone"):
        load_card("nosuch")
    with pytest.raises(UserError, match=r"nosuch\.yaml: no such card file"):
        load_card("nosuch.yaml")


def test_files_of_other_kinds_say_what_they_are(tmp_path):
    labels = text(tmp_path / "gt.json", '{"images": [], "annotations": [], "categories": []}')
    with pytest.raises(UserError, match=r"gt\.json: COCO labels, not a card"):
        load_card(labels)
    mixed = text(tmp_path / "set/m.yaml", "format: yolo\ntrain: images/train\nnames: [car]\n")
    with pytest.raises(UserError, match=r"m\.yaml: train, val and test belong below splits"):
        load_card(mixed)
    with pytest.raises(UserError, match=r"set: a folder; name the card in it, e\.g\. .*m\.yaml"):
        load_card(tmp_path / "set")
    mixed.unlink()
    with pytest.raises(UserError, match=r"set: a folder without a card"):
        load_card(tmp_path / "set")


def test_missing_data_says_where_it_was_looked_for_and_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.delenv("VH_DATA", raising=False)
    with pytest.raises(
        UserError, match=r"VisDrone \(\$VH_DATA is not set\); get it from https"
    ) as e:
        load_split("visdrone", "val")
    assert "\n" not in str(e.value)
    monkeypatch.setenv("VH_DATA", str(tmp_path / "store"))
    with pytest.raises(UserError, match=rf"no data at .* and {tmp_path}/store/VisDrone;"):
        load_split("visdrone", "val")


def test_the_shipped_card_fits_the_data_as_it_unpacks(tmp_path, monkeypatch):
    visdrone_set(tmp_path / "VisDrone", {"a": "1,1,5,5,1,1,0,0"}, "VisDrone2019-DET-val")
    monkeypatch.setenv("VH_DATA", str(tmp_path))
    split = load_split("visdrone", "val")
    assert (split.name, len(split.samples), split.problems) == ("visdrone", 1, [])
    assert "academic" in split.terms
    with pytest.raises(UserError, match=r"splits\.train: .*VisDrone2019-DET-train"):
        load_split("visdrone", "train")


def test_path_is_relative_to_the_card_not_to_where_one_works(tmp_path, monkeypatch):
    visdrone_set(tmp_path / "sets/one", {"a": ""})
    path = card(
        tmp_path / "cards/c.yaml", format="visdrone", path="../sets/one", splits={"train": PLACE}
    )
    monkeypatch.chdir(tmp_path / "sets")
    monkeypatch.delenv("VH_DATA", raising=False)
    assert len(load_split(path, "train").samples) == 1


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"format": "kitti"}, r"c\.yaml: format: unknown format 'kitti'; known: coco, yolo"),
        ({"splits": {}}, r"c\.yaml: splits: "),
        ({"splits": {"train": []}}, r"c\.yaml: splits: train is an empty list"),
        ({"splits": {"train": {"image": "x"}}}, r"splits\.train\.0\.image: no such field"),
        ({"nmaes": ["a"]}, r"c\.yaml: nmaes: no such field"),
        ({"names": ["a", "a"]}, r"names: 'a' is there twice"),
        ({"names": ["a", ""]}, r"c\.yaml: names: class 1 has no name, only ''"),
        ({"names": {0: " \t"}}, r"c\.yaml: names: class 0 has no name, only ' .t'"),
        ({"rename": {"car": " "}}, r"c\.yaml: rename: 'car' needs a name, not ' '"),
        ({"names": {0: "a", 2: "b"}}, r"c\.yaml: names: numbers must be 0 to 1, got \[0, 2\]"),
        ({"names": [1]}, r"c\.yaml: names\.0: "),
        ({"names": "classes.txt"}, r"names: a list is needed, such as .*, not 'classes.txt'"),
        (
            {"format": "crowdhuman", "splits": {"val": {"ids": "x"}}},
            r"splits: ids: crowdhuman",
        ),
        ({"category_ids": [1]}, r"category_ids has 1 entries for 0 names"),
        ({"names": ["a"], "category_ids": [3]}, r"category_ids: visdrone has its own"),
    ],
)
def test_a_wrong_field_is_named(tmp_path, fields, message):
    good = {"format": "visdrone", "splits": {"train": PLACE}}
    path = card(tmp_path / "c.yaml", **{**good, **fields})
    with pytest.raises(UserError, match=message):
        load_card(path)


def doubled(text):
    """Make a file whose last value holds the first one 2**40 times."""
    lines = [f"k{n}: &k{n} " + text.format(f"k{n - 1}") for n in range(1, 41)]
    return "\n".join(["k0: &k0 {a: 1}", *lines])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a: [", "not YAML"),
        ("names: {0: car, 0: van}", "not YAML: '0' is there twice, again in line 1"),
        ("made: 2024-13-45", "not YAML: month must be in 1..12"),
        ("[" * 5_000, "not YAML"),
        ("a: !!bool maybe", "not YAML: a tag"),
        ("a: !!int ''", "not YAML: a tag"),
        ("a: !!timestamp soon", "not YAML: a tag"),
        ("a: &a [1, *a]", "line 1 holds itself"),
        (doubled("[*{0}, *{0}]"), "aliases make more than 1,000,000 values"),
        (doubled("{{<<: [*{0}, *{0}]}}"), "aliases make more than 1,000,000 values"),
        ("format: coco\nfile: x\n", "file: unknown field"),
        ("", "no fields"),
        ("train: x\nnames: 3\n", "names: a list or a mapping"),
        ("train: x\n", "names: missing"),
        ("train: x\nnc: 3\nnames: [a]\n", "nc: 3, but 1 are named"),
        ("train: x\nnc: '1'\nnames: [a]\n", "nc: '1', but 1 are named"),
        ("train: x\nnames: [1, on]\n", "names: True is no name; .* in quotes"),
        ("train: x\nnames: {0: a, 1: }\n", "names: None is no name; .* in quotes"),
        ("train: x\nnames: [a, '']\n", "names: class 1 has no name"),
        ("train: [1]\nnames: [a]\n", "train: 1 is no path"),
    ],
)
def test_a_card_that_is_none_is_refused(tmp_path, content, message):
    with pytest.raises(UserError, match=message):
        load_card(text(tmp_path / "c.yaml", content))


def test_a_folder_is_no_card_but_does_not_hide_a_shipped_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for folder in ("mine", "visdrone"):
        (tmp_path / folder).mkdir()
    for name in ("mine", "./mine", tmp_path / "mine"):
        with pytest.raises(UserError, match=r"mine: a folder without a card"):
            load_card(name)
    assert load_card("visdrone").format == "visdrone"


def test_a_home_that_nobody_has_is_named(tmp_path):
    with pytest.raises(UserError, match=r"^card: ~nobody-at-all/c\.yaml: "):
        load_card("~nobody-at-all/c.yaml")
    picture(tmp_path / "images/a.png")
    place = {"images": "~nobody-at-all/images"}
    path = card(tmp_path / "c.yaml", format="yolo", names=["cat"], splits={"train": place})
    with pytest.raises(UserError, match=r"c\.yaml: splits: ~nobody-at-all/images: "):
        load_split(path, "train")
    card(path, format="yolo", path="~nobody-at-all", names=["cat"], splits={"train": {}})
    with pytest.raises(UserError, match=r"c\.yaml: path: ~nobody-at-all: "):
        load_split(path, "train")


def test_a_link_back_up_is_not_followed_for_ever(tmp_path):
    path = visdrone_set(tmp_path / "set", {"a": "", "b": ""})
    images = tmp_path / "set/train/images"
    (images / "back").symlink_to(images)
    (images / "up").symlink_to(tmp_path / "set")
    picture(tmp_path / "elsewhere/c.png")
    (images / "more").symlink_to(tmp_path / "elsewhere")
    text(tmp_path / "set/train/annotations/more/c.txt", "1,1,5,5,1,1,0,0")
    split = load_split(path, "train")
    assert [sample.image_id for sample in split.samples] == ["a", "b", "c"]
    assert split.problems == []


def test_a_folder_that_cannot_be_read_is_named(tmp_path, monkeypatch):
    path = visdrone_set(tmp_path, {"a": ""})
    (tmp_path / "train/images/closed").mkdir()
    scandir = os.scandir

    def refuse(folder):
        if str(folder).endswith("closed"):
            raise PermissionError(13, "Permission denied", str(folder))
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(UserError, match=r"images/closed: Permission denied"):
        load_split(path, "train")


def test_ultralytics_own_fields_are_left_alone(tmp_path):
    picture(tmp_path / "train/images/a.png")
    path = text(
        tmp_path / "pets/data.yaml",
        "train: ../train/images\nval: ''\nnc: 2\nroboflow: {license: MIT}\ndownload: a script\n",
    )
    loaded = load_card(path)
    assert (loaded.name, loaded.format, loaded.names) == ("pets", "yolo", ("class_0", "class_1"))
    assert list(loaded.splits) == ["train"]
    assert len(load_split(loaded, "train").samples) == 1


def test_what_ultralytics_takes_in_a_data_yaml_is_taken(tmp_path):
    """Class numbers in quotes were refused, and "validation" was a split that nobody looked at."""
    for split in ("a", "b"):
        picture(tmp_path / f"images/{split}/1.png")
        text(tmp_path / f"labels/{split}/1.txt", "1 .5 .5 .2 .2\n")
    fields = 'names: {"0": cat, "1": dog}\ntrain: images/a\nvalidation: images/b\n'
    taken = load_card(text(tmp_path / "data.yaml", fields))
    assert taken.names == ("cat", "dog") and list(taken.splits) == ["train", "val"]
    assert load_split(taken, "val").samples[0].labels.tolist() == [1]
    with pytest.raises(UserError, match="names: numbers must be 0 to 1"):
        load_card(text(tmp_path / "mixed.yaml", "train: a\nnames: {'0': cat, 1: dog}\n"))


def test_ultralytics_path_that_points_beside_the_card_is_taken_as_inside(tmp_path):
    picture(tmp_path / "pets/train/images/a.png")
    path = text(tmp_path / "pets/data.yaml", "train: ../train/images\nnames: [cat]\n")
    assert len(load_split(path, "train").samples) == 1


def test_category_ids_of_a_card_are_the_split_s(tmp_path):
    picture(tmp_path / "images/a.png")
    text(tmp_path / "labels/a.txt", "1 0.5 0.5 0.5 0.5\n")
    path = card(
        tmp_path / "c.yaml",
        format="yolo",
        splits={"train": {"images": "images"}},
        names=["a", "b"],
        category_ids=[7, 90],
    )
    split = load_split(path, "train")
    assert [split.category_ids[label] for label in split.samples[0].labels] == [90]


def test_an_unknown_split_lists_the_known_ones(tmp_path):
    path = card(tmp_path / "c.yaml", format="visdrone", splits={"train": PLACE})
    with pytest.raises(UserError, match=r"splits: no 'val'; it has train"):
        load_split(path, "val")


def test_the_card_of_our_own_recipes_fits_the_shared_data(shared_data, repository):
    split = load_split(repository / "tools/cards/visdrone-mini.yaml", "val")
    assert (len(split.samples), split.problems) == (90, [])


def test_renamed_classes_may_change_places_but_not_meet(tmp_path):
    picture(tmp_path / "images/a.png")
    text(tmp_path / "labels/a.txt", "0 0.5 0.5 0.2 0.2\n")
    place = {"images": "images", "annotations": "labels"}
    fields = {"format": "yolo", "names": ["cat", "dog", "cow"], "splits": {"train": place}}
    swapped = card(tmp_path / "c.yaml", **fields, rename={"cat": "dog", "dog": "cat"})
    assert load_split(swapped, "train").names == ("dog", "cat", "cow")
    met = card(tmp_path / "c.yaml", **fields, rename={"cat": "dog"})
    with pytest.raises(UserError, match=r"c\.yaml: rename: dog would be there twice"):
        load_split(met, "train")
