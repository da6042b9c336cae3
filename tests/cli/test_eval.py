from __future__ import annotations

import json

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from vision_heads.cli import eval as command
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
        (("--predictions", "results", "--protocol", "voc"), "unknown protocol 'voc'"),
        (("--predictions", "results"), "size unknown"),
        (("--predictions", "results", "--split", "test"), "no 'test'"),
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
        spec = ModelSpec(heads=(HeadSpec(name="aerial", classes=("car", "tank")),))

        def stream(self, images, options=None, *, heads=None):
            assert (options.max_det, options.conf, options.iou) == (500, 0.001, 0.5)
            first, second = images
            found = Detections(np.array([[10, 10, 30, 30]]), [0.9], [0], ("car", "tank"))
            yield Result({"aerial": found}, 100, 90, str(first))
            yield Failure(str(second), f"{second}: not a readable picture")

    monkeypatch.setattr(predictor, "load", lambda path, threads: Fake())
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


def test_help_is_complete(app):
    text = run(app, "--help").output
    for option in ("--data", "--predictions", "--sizes", "--save-predictions", "vh eval"):
        assert option in text
