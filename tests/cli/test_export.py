from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from typer.testing import CliRunner, Result

from vision_heads.cli.main import app
from vision_heads.errors import UserError
from vision_heads.export import onnx as exporter
from vision_heads.export.inspect import read_onnx
from vision_heads.network import Network, save_network
from vision_heads.runtime.engines import open_engine
from vision_heads.spec import HeadSpec, InputSpec, ModelSpec


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    head = HeadSpec(name="aerial", classes=("car", "van"), category_ids=(4, 5))
    network = Network(ModelSpec(input=InputSpec(height=96, width=128), heads=(head,)))
    file = tmp_path_factory.mktemp("weights") / "small.safetensors"
    save_network(file, network)
    return file


def run(*words: str) -> Result:
    done = CliRunner().invoke(app, ["export", *map(str, words)], env={"COLUMNS": "200"})
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done


def test_exports_beside_the_weights_and_reports_the_proof(weights):
    done = run(weights)
    file = weights.with_suffix(".onnx")
    assert done.exit_code == 0, done.output
    for text in (
        "images (1, 3, 96, 128)",
        "aerial/boxes (1, 1000, 4)",
        "4 pictures, 4000 candidates",
        "largest boxes difference",
        "largest scores difference",
        str(file),
    ):
        assert text in done.output
    engine = open_engine(file)
    assert engine.spec.heads[0].category_ids == (4, 5)
    assert engine.run(np.zeros((1, 3, 96, 128), np.float32))["aerial/scores"].shape == (1, 1000, 2)


def test_options_reach_the_file(weights, tmp_path):
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    cv2.imwrite(str(pictures / "a.png"), np.full((50, 70, 3), 90, np.uint8))
    (pictures / "notes.txt").write_text("not a picture")
    target = tmp_path / "out.onnx"
    done = run(
        weights, "-o", target, "--imgsz", "64x96", "--candidates", "7", "--opset", "15",
        "--dynamic-batch", "--pictures", pictures,
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    assert "1 pictures, 7 candidates" in done.output
    assert "aerial/boxes (batch, 7, 4)" in done.output
    assert read_onnx(target).opset == 15
    assert open_engine(target).batch is None


def test_proves_on_a_data_set(weights, tmp_path):
    done = run(weights, "-o", tmp_path / "m.onnx", "--data", "demo", "--count", "2")
    assert done.exit_code == 0, done.output
    assert "2 pictures" in done.output


def test_disagreement_exits_with_1_and_writes_nothing(weights, tmp_path, monkeypatch):
    class Shifted(exporter.Exported):
        def forward(self, images):
            boxes, scores = super().forward(images)
            return boxes + 0.06, scores

    monkeypatch.setattr(exporter, "Exported", Shifted)
    done = run(weights, "-o", tmp_path / "m.onnx")
    assert done.exit_code == 1
    assert "disagrees with its network" in done.output
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--opset", "9"), "--opset 9: must be 14 to 20"),
        (("--imgsz", "100"), "multiple of 32"),
        (("--imgsz", "large"), "--imgsz large"),
        (("--candidates", "0"), "candidates"),
        (("--output", "m.pb"), "must end in .onnx"),
        (("--pictures", "nowhere"), "nowhere: no such file or folder"),
        (("--pictures", ".", "--data", "demo"), "give one of them"),
        (("--data", "demo", "--split", "train"), "train"),
    ],
)
def test_mistakes_are_named(weights, tmp_path, monkeypatch, words, message):
    monkeypatch.chdir(tmp_path)
    target = () if "--output" in words else ("--output", tmp_path / "m.onnx")
    with pytest.raises(UserError, match=message):
        run(weights, *target, *words)
    assert not list(tmp_path.iterdir())


def test_a_file_already_exported_is_refused(weights):
    run(weights)
    with pytest.raises(UserError, match="needs the weights it was made from"):
        run(weights.with_suffix(".onnx"))


def test_some_heads_go_to_a_file_named_after_them(tmp_path):
    torch.manual_seed(0)
    heads = tuple(HeadSpec(name=name, classes=("x",), levels=(4, 5)) for name in ("one", "two"))
    weights = tmp_path / "both.safetensors"
    save_network(weights, Network(ModelSpec(input=InputSpec(height=64, width=64), heads=heads)))
    done = run(weights, "--heads", "two")
    assert done.exit_code == 0, done.output
    assert "two/boxes" in done.output and "one/boxes" not in done.output
    assert [head.name for head in open_engine(tmp_path / "both-two.onnx").spec.heads] == ["two"]
    with pytest.raises(UserError, match="no head 'three'; this model has"):
        run(weights, "--heads", "two,three")
    with pytest.raises(UserError, match="--heads: none given"):
        run(weights, "--heads", ",")
    assert {path.name for path in tmp_path.iterdir()} == {"both.safetensors", "both-two.onnx"}
