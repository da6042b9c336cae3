from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from vision_heads.cli import eval as command
from vision_heads.cli import eval_heads
from vision_heads.errors import UserError
from vision_heads.results import Detections, Failure, Result
from vision_heads.runtime import predictor
from vision_heads.spec import HeadSpec, ModelSpec


@pytest.fixture
def app():
    app = typer.Typer()
    app.callback()(lambda: None)
    command.register(app)
    return app


def run(app, *arguments):
    return CliRunner().invoke(app, ["eval", *map(str, arguments)])


@pytest.fixture
def card(tmp_path):
    """Write a VisDrone set of two pictures that are not there, and results for them."""
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations/p1.txt").write_text("10,10,20,20,1,4,0,0\n50,50,30,30,0,0,0,0\n")
    (tmp_path / "annotations/p2.txt").write_text("5,5,8,8,1,1,0,0\n")
    (tmp_path / "results").mkdir()
    (tmp_path / "results/p1.txt").write_text("55,55,10,10,0.9,4,-1,-1\n10,10,20,20,0.8,4,-1,-1\n")
    (tmp_path / "sizes.csv").write_text("name,width,height\np1,100,90\np2,100,90\n")
    file = tmp_path / "card.yaml"
    file.write_text("format: visdrone\nsplits:\n  val: {annotations: annotations}\n")
    return file


def test_scores_a_submission_without_pictures(app, card, tmp_path):
    done = run(
        app,
        *("--data", card, "--protocol", "visdrone", "--predictions", tmp_path / "results"),
        *("--sizes", tmp_path / "sizes.csv", "--json", tmp_path / "out/scores.json"),
        *("--save-predictions", tmp_path / "kept.json", "--plots", tmp_path / "plots"),
    )
    assert done.exit_code == 0, done.output
    assert "1 pictures have no results and count as empty, first p2" in done.output
    assert "AR500" in done.output
    record = json.loads((tmp_path / "out/scores.json").read_text())
    assert list(record)[:7] == ["AP", "AP50", "AP75", "AR1", "AR10", "AR100", "AR500"]
    assert record["AP"] == pytest.approx(50)  # the car is found, the pedestrian is not
    assert record["classes"]["car"]["AP"] == pytest.approx(100)
    assert record["classes"]["bus"]["AP"] is None
    assert (record["protocol"], record["split"], record["images"]) == ("visdrone", "val", 2)
    assert {file.name for file in (tmp_path / "plots").iterdir()} == {
        "pr.png",
        "f1.png",
        "confusion.png",
    }
    kept = json.loads((tmp_path / "kept.json").read_text())
    assert [one["category_id"] for one in kept] == [4, 4]


def test_coco_numbers_have_their_names(app, card, tmp_path):
    pytest.importorskip("faster_coco_eval")
    done = run(
        app,
        *("--data", card, "--predictions", tmp_path / "results"),
        *("--sizes", tmp_path / "sizes.csv", "--json", tmp_path / "scores.json"),
    )
    assert done.exit_code == 0, done.output
    record = json.loads((tmp_path / "scores.json").read_text())
    names = "AP AP50 AP75 AP_tiny AP_small AP_medium AP_large AR1 AR10 AR100"
    assert " ".join(list(record)[:10]) == names
    assert record["AP_large"] is None
    assert record["AP_tiny"] == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "give either a model or --predictions"),
        (("m.onnx", "--predictions", "x"), "give either a model or --predictions"),
        (
            ("--predictions", "results", "--protocol", "voc"),
            "unknown protocol 'voc'; known: coco, visdrone, headpose, mot",
        ),
        (("--predictions", "results"), "size unknown"),
        (("--predictions", "results", "--split", "test"), "no 'test'"),
        (("--predictions", "results", "--conf", "0.5"), "--conf goes with a model"),
        (("--predictions", "results", "--iou", "0.5"), "--iou goes with a model"),
        (("--predictions", "results", "--max-det", "9"), "--max-det goes with a model"),
        (("--predictions", "results", "--head", "x"), "--head goes with a model"),
        (("--predictions", "results", "--threads", "1"), "--threads goes with a model"),
        (("--predictions", "nowhere", "--sizes", "sizes.csv"), "nowhere: no such file"),
    ],
)
def test_mistakes_are_the_users(app, card, monkeypatch, arguments, message):
    monkeypatch.chdir(card.parent)
    done = run(app, *arguments, "--data", card)
    assert isinstance(done.exception, UserError)
    assert message in str(done.exception)


def test_runs_a_model(app, card, tmp_path, monkeypatch):
    """A model whose head finds the car and cannot read the second picture."""
    (tmp_path / "images").mkdir()
    for name in ("p1", "p2"):
        import cv2

        cv2.imwrite(str(tmp_path / f"images/{name}.jpg"), np.zeros((90, 100, 3), np.uint8))
    card.write_text(
        "format: visdrone\nsplits:\n  val: {images: images, annotations: annotations}\n"
    )

    class Fake:
        notes = ()
        spec = ModelSpec(heads=(HeadSpec(name="aerial", classes=("car", "tank")),))

        def stream(self, images, options, *, merge):
            one = options["aerial"]
            assert (one.max_det, one.conf, one.iou) == (500, 0.001, 0.5)
            first, second = images
            found = Detections(np.array([[10, 10, 30, 30]]), [0.9], [0], ("car", "tank"))
            yield Result({"aerial": found}, 100, 90, str(first))
            yield Failure(str(second), f"{second}: not a readable picture")

    monkeypatch.setattr(predictor, "load", lambda path, threads, provider: Fake())
    done = run(
        app,
        *("some.onnx", "--data", card, "--protocol", "visdrone", "--iou", 0.5),
        *("--json", tmp_path / "scores.json"),
    )
    assert done.exit_code == 0, done.output
    assert "2 of 2 pictures" in done.output
    assert "the data set lacks tank (left out)" in done.output
    assert "1 pictures cannot be read and count as empty" in done.output
    assert json.loads((tmp_path / "scores.json").read_text())["AP"] == pytest.approx(50)


@pytest.mark.parametrize("form", ["folder", "json", "object"])
def test_reproduces_the_official_toolkit(app, fixtures_dir, tmp_path, monkeypatch, form):
    """From another folder, by relative paths with a space and letters beyond ASCII."""
    place = fixtures_dir / "visdrone_eval"
    here = tmp_path / "ein Ordner für Karten"
    here.mkdir()
    monkeypatch.chdir(here)
    (here / "card.yaml").write_text(
        f"format: visdrone\npath: {place}\nsplits: {{val: {{annotations: annotations}}}}\n"
    )
    source = place / "results"
    if form != "folder":
        rows = [
            {"image_id": file.stem, "category_id": int(c), "bbox": box, "score": score}
            for file in sorted(source.iterdir())
            for *box, score, c in np.loadtxt(file, delimiter=",", usecols=range(6)).tolist()
        ]
        source = Path("resultate ü.json")
        source.write_text(json.dumps(rows if form == "json" else {"annotations": rows[::-1]}))
    done = run(
        app,
        *("--data", "card.yaml", "--predictions", source, "--sizes", place / "sizes.csv"),
        *("--protocol", "visdrone", "--json", "out ä/out.json"),
    )
    assert done.exit_code == 0, done.output
    record = json.loads((here / "out ä/out.json").read_text())
    expected = json.loads((place / "expected.json").read_text())
    del expected["source"]
    assert {name: record[name] for name in expected} == pytest.approx(expected, abs=1e-3)


def test_reproduces_pycocotools_on_the_head_pose_fixture(app, fixtures_dir, tmp_path):
    pytest.importorskip("faster_coco_eval")
    place = fixtures_dir / "headpose_eval"
    card = tmp_path / "card.yaml"
    card.write_text(f"format: coco\npath: {place}\nsplits: {{val: {{annotations: gt.json}}}}\n")
    out = tmp_path / "out.json"
    done = run(app, "--data", card, "--predictions", place / "pred.json", "--json", out)
    assert done.exit_code == 0, done.output
    names = "AP AP50 AP75 AP_small AP_medium AP_large AR1 AR10 AR100 AR_small AR_medium AR_large"
    record = json.loads(out.read_text())
    stats = json.loads((place / "expected.json").read_text())["coco_stats"]
    assert [record[name] for name in names.split()] == pytest.approx(
        [100 * one for one in stats], abs=1e-3
    )


@pytest.mark.parametrize(("name", "lost"), [("kept.json", False), ("kept", True)])
def test_poses_that_are_not_kept_are_said(app, fixtures_dir, tmp_path, name, lost):
    pytest.importorskip("faster_coco_eval")
    place = fixtures_dir / "headpose_eval"
    card = tmp_path / "card.yaml"
    card.write_text(f"format: coco\npath: {place}\nsplits: {{val: {{annotations: gt.json}}}}\n")
    words = ("--predictions", place / "pred.json", "--save-predictions", tmp_path / name)
    done = run(app, "--data", card, "--protocol", "headpose", *words)
    assert done.exit_code == 0, done.output
    assert ("submission files hold no head poses" in done.output) == lost


@pytest.mark.parametrize(
    "words",
    [
        ("--json", "results/p1.txt", "--predictions", "results/p1.txt"),
        ("--save-predictions", "results"),
        ("--json", "sizes.csv"),
        ("--json", "card.yaml"),
        ("--json", "new.json", "--save-predictions", "new.json"),
        ("--json", "results", "--protocol", "mot", "--truth", "annotations"),
    ],
)
def test_nothing_replaces_what_is_read(app, card, tmp_path, monkeypatch, words):
    monkeypatch.chdir(tmp_path)
    given = () if "mot" in words else ("--data", card, "--sizes", "sizes.csv")
    before = {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()}
    done = run(app, "--predictions", "results", *given, *words)
    assert isinstance(done.exception, UserError)
    assert f"{words[0]} {words[1]}: is read, and" in str(done.exception) or "new.json: is what" in (
        str(done.exception)
    )
    assert before == {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()}


@pytest.mark.parametrize(
    ("option", "place", "message"),
    [
        ("--json", "results", "is a folder, not a file"),
        ("--json", "card.yaml/new.json", "card.yaml is a file, not a folder"),
        ("--plots", "sizes.csv", "is a file, not a folder"),
        ("--save-predictions", "sizes.csv", "is a file, not a folder"),
        ("--save-predictions", "x" * 300 + ".json", "name too long"),
    ],
)
def test_places_that_cannot_be_written_are_found_before_the_work(
    app, card, tmp_path, monkeypatch, option, place, message
):
    monkeypatch.chdir(tmp_path)
    done = run(app, "none.onnx", "--data", "card.yaml", option, place)
    assert isinstance(done.exception, UserError)
    assert str(done.exception).startswith(f"{option} {place}: ")
    assert message in str(done.exception)


def test_what_is_odd_is_counted_on_screen(app, card, tmp_path):
    (tmp_path / "results/p1.txt").write_text(
        "10,10,20,-20,0.9,4,-1,-1\n10,10,0,20,0.9,4,-1,-1\n10,10,20,20,1.5,4\n5,5,9,9,1,11\n"
    )
    (tmp_path / "results/p3.txt").write_text("nothing")
    (tmp_path / "annotations/p2.txt").write_text("5,5,8,8,1,1,0,0\n5,5,8,8,1,99,0,0\n")
    for protocol in ("visdrone", "coco"):
        done = run(
            app,
            *("--data", card, "--predictions", tmp_path / "results", "--protocol", protocol),
            *("--sizes", tmp_path / "sizes.csv"),
        )
        assert done.exit_code == 0, done.output
        for note in (
            "problems in the data: 1 unknown-class (",
            "4 results for 2 pictures in",
            "1 results are of no evaluated class",
            "2 results have no area",
            "1 results have a score outside 0..1",
            "1 files are not read, as they are no .txt of a picture of the split, first p3.txt",
        ):
            assert note in done.output


def test_files_are_there_although_nobody_reads_the_table(app, card, tmp_path, monkeypatch):
    """`vh eval ... --json out.json | head -1` wrote no file: the table came first."""

    def unread(*_):
        raise BrokenPipeError

    monkeypatch.setattr(eval_heads, "show", unread)
    words = ("--predictions", tmp_path / "results", "--sizes", tmp_path / "sizes.csv")
    files = ("--json", tmp_path / "out.json", "--save-predictions", tmp_path / "kept.json")
    run(app, *("--data", card, "--protocol", "visdrone"), *words, *files)
    assert json.loads((tmp_path / "out.json").read_text())["images"] == 2
    assert (tmp_path / "kept.json").is_file()


def test_given_sizes_that_are_not_the_pictures_are_counted(app, card, tmp_path):
    import cv2

    (tmp_path / "images").mkdir()
    for name in ("p1", "p2"):
        cv2.imwrite(str(tmp_path / f"images/{name}.jpg"), np.zeros((90, 100, 3), np.uint8))
    place = "{images: images, annotations: annotations}"
    card.write_text(f"format: visdrone\nsplits: {{val: {place}}}\n")
    (tmp_path / "sizes.csv").write_text("p1,100,90\np2.jpg,90,100\n")
    done = run(
        app,
        *("--data", card, "--predictions", tmp_path / "results", "--protocol", "visdrone"),
        *("--sizes", tmp_path / "sizes.csv"),
    )
    assert done.exit_code == 0, done.output
    assert "1 pictures are of another size than --sizes says" in done.output
    assert "p2.jpg (100x90, not 90x100)" in done.output


def test_through_the_real_process(card, tmp_path, repository):
    """Tables on stdout, remarks on stderr, no colours in a pipe, one line for a mistake."""

    def vh(*words):
        command = [sys.executable, "-m", "vision_heads", "eval", "--data", "card.yaml", *words]
        environment = {**os.environ, "PYTHONPATH": str(repository)}
        return subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )

    words = ("--predictions", "results", "--sizes", "sizes.csv", "--protocol", "visdrone")
    done = vh(*words, "--json", "out.json")
    assert done.returncode == 0, done.stderr
    assert "AR500" in done.stdout and "visdrone, 2 pictures" in done.stdout
    assert "2 results for 2 pictures in results" in done.stderr
    assert "\x1b" not in done.stdout + done.stderr
    assert json.loads((tmp_path / "out.json").read_text())["images"] == 2

    (tmp_path / "results/p1.txt").write_text("10,10,20,20,high,4,-1,-1\n")
    done = vh(*words)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "vh: results/p1.txt: line 1: score: must be a number, got 'high'\n"


def test_a_closed_folder_is_the_users_mistake(monkeypatch, capsys):
    def closed():
        raise PermissionError(13, "Permission denied", "closed/results")

    main = import_module("vision_heads.cli.main")
    monkeypatch.setattr(main, "app", closed)
    with pytest.raises(SystemExit) as exit_code:
        main.main()
    assert exit_code.value.code == 2
    assert capsys.readouterr().err == "vh: closed/results: Permission denied\n"


def test_help_is_complete(app):
    text = run(app, "--help").output
    for option in ("--data", "--predictions", "--sizes", "--save-predictions", "vh eval"):
        assert option in text
