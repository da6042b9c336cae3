"""`vh data check` and `vh data convert`: exit codes, what is printed, what is written."""

from __future__ import annotations

import json
import os
import re

import cv2
import pytest
import typer
from typer.testing import CliRunner

from tests.data.folders import card, picture, text, visdrone_set
from vision_heads.cli import data
from vision_heads.data.card import load_split
from vision_heads.errors import UserError


@pytest.fixture
def vh():
    """Return a function that runs `vh data ...` and gives its result."""
    app = typer.Typer()
    data.register(app)
    app.command("other")(lambda: None)  # a second command keeps `data` a group

    def run(*arguments):
        return CliRunner().invoke(app, ["data", *map(str, arguments)])

    return run


def test_a_clean_set_exits_0_and_writes_what_was_asked_for(vh, tmp_path):
    path = visdrone_set(tmp_path / "in", {"a": "1,1,10,10,1,1,0,0", "b": ""})
    sheet, report = tmp_path / "out/sheet.png", tmp_path / "out/report.json"
    result = vh("check", path, "--json", report, "--sheet", sheet)
    assert result.exit_code == 0, result.output
    assert result.output.rstrip().endswith("clean")
    whole = json.loads(report.read_text())
    assert whole["clean"] and whole["splits"]["train"]["boxes"] == 1
    assert cv2.imread(str(sheet)) is not None


def test_a_report_may_lie_in_a_folder_named_in_brackets(vh, tmp_path):
    path = visdrone_set(tmp_path / "in", {"a": "1,1,10,10,1,1,0,0"})
    place = tmp_path / "run [old] [/b]"
    result = vh("check", path, "--json", place / "r.json", "--sheet", place / "s.png")
    assert result.exit_code == 0, result.output
    assert f"report: {place / 'r.json'}\ncontact sheet: {place / 's.png'}\n" in result.output


def test_broken_labels_exit_2_counted_and_named(vh, tmp_path):
    lines = {"a": "1,1,10,0,1,1,0,0\n1,1,x,1,1,1,0,0", "b": "".join(["1,1,2,2,1,[99],0,0\n"] * 3)}
    path = visdrone_set(tmp_path / "in", lines)
    report = tmp_path / "report.json"
    result = vh("check", path, "--json", report, "--examples", "1")
    assert result.exit_code == 2
    for words in ("1 empty-box", "4 bad-annotation", "a.txt: line 2: width", "... and 3 more"):
        assert words in result.output
    assert "--fix clip,drop" in result.output
    assert len(json.loads(report.read_text())["splits"]["train"]["problems"]) == 5


def test_a_split_without_a_picture_exits_2(vh, tmp_path):
    path = visdrone_set(tmp_path / "in", {"a": ""})
    for file in tmp_path.glob("in/train/*/*"):
        file.unlink()
    result = vh("check", path)
    assert result.exit_code == 2
    assert "train: not a single picture" in result.output


def test_only_the_split_that_is_asked_for(vh, tmp_path):
    path = visdrone_set(tmp_path / "in", {"a": ""})
    assert vh("check", path, "--split", "train").exit_code == 0
    result = vh("check", path, "-s", "val")
    assert isinstance(result.exception, UserError)
    assert "no 'val'" in str(result.exception)


def test_a_sheet_without_anything_to_draw_is_an_error(vh, tmp_path):
    path = visdrone_set(tmp_path / "in", {"a": ""})
    result = vh("check", path, "--sheet", tmp_path / "s.png")
    assert isinstance(result.exception, UserError)


def test_convert_prints_what_was_kept_and_what_was_not(vh, tmp_path):
    path = visdrone_set(tmp_path / "in", {"a": "1,1,9,9,1,1,0,0\n2,2,9,9,0,0,0,0"})
    result = vh("convert", path, tmp_path / "yolo", "--to", "yolo")
    assert result.exit_code == 0, result.output
    assert "train: 1 pictures, 1 boxes\n" in result.output
    assert "not kept, since yolo cannot hold them: 1 ignored areas" in result.output
    assert vh("check", tmp_path / "yolo/data.yaml").exit_code == 0
    result = vh("convert", path, tmp_path / "coco", "--to", "coco", "--link")
    assert "1 boxes, 1 ignored areas" in result.output
    assert vh("check", tmp_path / "coco/card.yaml").exit_code == 0


def test_convert_says_what_it_took_for_negatives_or_twice(vh, tmp_path):
    """In the new set nothing shows it: each picture has its label file."""
    for name, seed in (("a", 0), ("b", 1), ("c", 2)):
        picture(tmp_path / f"images/{name}.png", seed=seed)
    text(tmp_path / "labels/a.txt", "0 .5 .5 .2 .2\n0 .5 .5 .2 .2\n")
    path = card(tmp_path / "data.yaml", train="images", names=["x"])
    result = vh("convert", path, tmp_path / "out", "--to", "coco")
    assert result.exit_code == 0, result.output
    assert "train: 2 pictures have no label file and count as negatives\n" in result.output
    assert "train: used as they are: 1 duplicate-box (" in result.output


@pytest.mark.parametrize("arguments", [("--to", "kitti"), ("--to", "voc", "--fix", "mend")])
def test_convert_refuses_unknown_words(vh, tmp_path, arguments):
    path = visdrone_set(tmp_path / "in", {"a": ""})
    result = vh("convert", path, tmp_path / "out", *arguments)
    assert isinstance(result.exception, UserError) and "known: " in str(result.exception)


def heads_without_labels(folder):
    """Write a card of synthetic people whose split train lacks every label."""
    split = load_split("demo-heads", "val")
    images = [
        {"id": i, "file_name": s.image.name, "width": s.width, "height": s.height}
        for i, s in enumerate(split.samples[:2])
    ]
    whole = {"images": images, "annotations": [], "categories": [{"id": 1, "name": "head"}]}
    for name in ("train", "val"):
        text(folder / f"{name}.json", json.dumps(whole))
    splits = {
        name: {"images": str(split.samples[0].image.parent), "annotations": f"{name}.json"}
        for name in ("train", "val")
    }
    return card(folder / "card.yaml", format="coco", path=".", splits=splits)


def test_convert_ignores_what_a_model_finds_in_train_alone(vh, tmp_path):
    path = heads_without_labels(tmp_path / "in")
    options = ("--to", "coco", "--ignore-found", "headpose-n", "--found-conf", "0.3")
    result = vh("convert", path, tmp_path / "out", *options)
    assert result.exit_code == 0, result.output
    found = re.search(r"train: (\d+) finds of headpose-n that no label has", result.output)
    assert found and int(found[1]) > 4
    assert f"train: 2 pictures, 0 boxes, {found[1]} ignored areas\n" in result.output
    assert "val: 2 pictures, 0 boxes\n" in result.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--to", "yolo"), "yolo cannot hold ignored areas"),
        (("--to", "coco", "--split", "val"), "changes the split train alone"),
    ],
)
def test_convert_says_where_nothing_can_be_ignored(vh, tmp_path, arguments, message):
    path = heads_without_labels(tmp_path / "in")
    result = vh("convert", path, tmp_path / "out", *arguments, "--ignore-found", "headpose-n")
    assert isinstance(result.exception, UserError) and message in str(result.exception)
    assert not (tmp_path / "out").exists()


def test_a_score_of_finds_needs_a_model(vh, tmp_path):
    path = visdrone_set(tmp_path / "in", {"a": ""})
    result = vh("convert", path, tmp_path / "out", "--to", "coco", "--found-conf", "0.3")
    assert isinstance(result.exception, UserError)
    assert str(result.exception) == "--found-conf: goes with --ignore-found WEIGHTS"


@pytest.mark.parametrize("command", ["check", "convert"])
def test_help_has_examples(vh, command):
    result = vh(command, "--help")
    assert result.exit_code == 0
    assert f"vh data {command} visdrone" in result.output


def test_a_name_of_a_file_stays_on_one_line_that_can_be_printed(vh, tmp_path):
    path = visdrone_set(tmp_path / "in", {os.fsdecode(b"a\nb\xe9"): None})
    result = vh("check", path)
    assert result.exit_code == 2, result.output
    assert r"a\nb\udce9.png: no " in result.output


def test_a_report_in_the_place_of_the_card_is_refused(vh, tmp_path):
    path = visdrone_set(tmp_path / "in", {"a": "1,1,10,10,1,1,0,0"})
    before = path.read_text()
    result = vh("check", path, "--json", path)
    assert "is read, and would be replaced" in str(result.exception)
    both = vh("check", path, "--json", tmp_path / "r", "--sheet", tmp_path / "r")
    assert "is what --json writes" in str(both.exception)
    dash = vh("check", path, "--json", "-")
    assert "--json -: is no file" in str(dash.exception)
    assert path.read_text() == before and not (tmp_path / "r").exists()
