from __future__ import annotations

import json

import pytest
import typer
from typer.testing import CliRunner

from vision_heads.cli import eval as command
from vision_heads.errors import UserError

BOX = "100,100,50,50"


@pytest.fixture
def app():
    made = typer.Typer()
    command.register(made)

    @made.callback()
    def nothing():
        """Make `eval` a word of its own."""

    return made


def run(app, *words):
    return CliRunner().invoke(app, ["eval", *map(str, words)], env={"COLUMNS": "200"})


@pytest.fixture
def tracks(tmp_path):
    """Two sequences: one perfect, one with a miss, a change of ids and a box without a track."""
    for name, found in (
        ("a", [f"{t},1,{BOX},0.9,-1,-1,-1" for t in (1, 2, 3, 4)]),
        (
            "b",
            [f"{t},{t // 3},{BOX},0.9,-1,-1,-1" for t in (1, 3, 4)] + [f"1,-1,{BOX},0.2,-1,-1,-1"],
        ),
    ):
        truth = tmp_path / "gt" / name / "gt" / "gt.txt"
        truth.parent.mkdir(parents=True)
        truth.write_text("".join(f"{t},1,{BOX},1,1,1\n" for t in (1, 2, 3, 4)))
        (tmp_path / "found").mkdir(exist_ok=True)
        (tmp_path / "found" / f"{name}.txt").write_text("\n".join(found))
    return "--protocol", "mot", "--predictions", tmp_path / "found", "--truth", tmp_path / "gt"


def test_a_table_a_file_and_remarks(app, tracks, tmp_path):
    pytest.importorskip("trackers")
    (tmp_path / "found" / "old.txt").write_text("")
    done = run(app, *tracks, "--json", tmp_path / "new" / "scores.json")
    assert done.exit_code == 0, done.output
    rows = {line.split()[0]: line.split()[1:] for line in done.output.splitlines() if line.split()}
    assert rows["sequence"][:5] == ["HOTA", "DetA", "AssA", "MOTA", "IDF1"]
    assert rows["a"][:5] == ["100.00"] * 5
    assert rows["b"][3] == "50.00"  # 1 - (1 missed + 1 switch) / 4
    assert rows["all"][3] == "75.00"
    assert "1 results have no track (id below 0) and are left out" in done.output
    assert "1 files are not read, as they are of no sequence, first old.txt" in done.output
    record = json.loads((tmp_path / "new" / "scores.json").read_text())
    assert record["MOTA"] == 75 and record["sequences"]["b"]["IDSW"] == 1
    assert record["source"] == str(tmp_path / "found")


def test_one_file_has_one_row(app, tracks, tmp_path):
    pytest.importorskip("trackers")
    words = ("--predictions", tmp_path / "found/a.txt", "--truth", tmp_path / "gt/a/gt/gt.txt")
    done = run(app, "--protocol", "mot", *words)
    assert done.exit_code == 0, done.output
    assert " a " in done.output and " all " not in done.output


def test_names_of_sequences_are_no_markup(app, tmp_path):
    pytest.importorskip("trackers")
    for folder in ("gt", "found"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "street [red].txt").write_text(f"1,1,{BOX},1,1,1\n")
    words = ("--predictions", tmp_path / "found", "--truth", tmp_path / "gt")
    assert "street [red]" in run(app, "--protocol", "mot", *words).output


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("aerial-n",), "a model does not go with --protocol mot"),
        (("--data", "visdrone"), "--data does not go with --protocol mot"),
        (("--conf", "0.5"), "--conf does not go with"),
        (("--threads", "2"), "--threads does not go with"),
        (("--provider", "cpu"), "--provider does not go with"),
        (("--protocol", "coco"), "--protocol mot: scores tracks only"),
        (("--classes", "car"), "--classes: 'car' is not a class number of the truth's"),
    ],
)
def test_options_that_do_not_go_together(app, tracks, words, message):
    done = run(app, *words, *tracks)
    assert isinstance(done.exception, UserError) and message in str(done.exception)


@pytest.mark.parametrize("left_out", ["--predictions", "--truth"])
def test_both_sides_are_needed(app, tracks, left_out):
    place = tracks.index(left_out)
    done = run(app, *tracks[:place], *tracks[place + 2 :])
    assert "give --predictions PATH and --truth PATH" in str(done.exception)


def test_other_rules_need_a_card_and_no_truth(app, tmp_path):
    done = run(app, "--predictions", tmp_path)
    assert str(done.exception) == "give --data CARD"
    done = run(app, "--predictions", tmp_path, "--data", "visdrone", "--truth", tmp_path)
    assert str(done.exception) == "--truth goes with --protocol mot"
