"""Head poses on the command line: `vh data synth --what heads` and `vh detect --attention`."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from vision_heads.cli import data, detect
from vision_heads.cli import eval as evaluate
from vision_heads.data.card import load_split
from vision_heads.errors import UserError
from vision_heads.spec import HeadSpec, InputSpec, ModelSpec

app = typer.Typer()
data.register(app)
detect.register(app)
evaluate.register(app)


def _vh(*arguments):
    return CliRunner().invoke(app, [*map(str, arguments)])


@pytest.fixture(scope="module")
def people(tmp_path_factory):
    """Two synthetic pictures of people."""
    folder = tmp_path_factory.mktemp("synth") / "people"
    done = _vh("data", "synth", folder, "--what", "heads", "--kind", "few", "--count", 2,
               "--size", "192x128", "--seed", 5)  # fmt: skip
    assert done.exit_code == 0, done.output
    return folder


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """An untrained head-pose model whose scores are high enough to find something."""
    torch = pytest.importorskip("torch")
    from vision_heads.export.onnx import export_onnx
    from vision_heads.network import Network

    torch.manual_seed(0)
    head = HeadSpec(name="pose", kind="headpose", classes=("head",), levels=(4, 5))
    size = InputSpec(height=96, width=96)
    network = Network(ModelSpec(input=size, heads=(head,), candidates=30))
    with torch.no_grad():
        for branch in network.heads["pose"].class_branches.values():
            branch[-1].bias.fill_(0.5)
    path = tmp_path_factory.mktemp("model") / "pose.onnx"
    return export_onnx(network, path).path


def test_synthetic_people_are_a_data_set(people):
    split = load_split(people / "card.yaml", "train")
    assert len(split.samples) == 2 and split.names == ("head",)
    assert all(sample.rotations is not None for sample in split.samples)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--what", "hats"], "--what"),
        (["--what", "heads", "--kind", "street"], "--kind: one of portrait"),
        (["--kind", "crowd"], "--kind: one of street"),
        (["--what", "heads", "--tilt", "20"], "only of --what streets"),
    ],
)
def test_mistakes_of_synth_are_named(tmp_path, arguments, message):
    done = _vh("data", "synth", tmp_path / "new", "--count", 1, *arguments)
    assert isinstance(done.exception, UserError) and message in str(done.exception)
    assert not (tmp_path / "new").exists()


def test_a_full_disk_under_synthetic_pictures_is_named(tmp_path, monkeypatch):
    """It was "the output cannot be written", which is what standard output is called."""

    def full(self, data):
        raise OSError(28, "No space left on device")  # as a write says it, without a name

    monkeypatch.setattr(Path, "write_bytes", full)
    done = _vh("data", "synth", tmp_path / "new", "--count", 1)
    assert isinstance(done.exception, UserError)
    assert f"{tmp_path / 'new'}: cannot be written (No space" in str(done.exception)


def test_attention_is_reported_and_every_file_has_poses(people, model, tmp_path):
    done = _vh("detect", people / "train" / "images", "--weights", model, "--attention",
               "--within", "25", "--csv", tmp_path / "a.csv", "--json", tmp_path / "a.json",
               "--save-images", "--out", tmp_path / "out")  # fmt: skip
    assert done.exit_code == 0, done.output
    assert "within 25 degrees" in done.output and "not of eyes" in " ".join(done.output.split())
    with (tmp_path / "out" / "attention.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    with (tmp_path / "a.csv").open(newline="") as file:
        found = list(csv.DictReader(file))
    assert len(rows) == len(found) > 0
    assert all(row["yaw"] and row["r33"] for row in found)
    records = json.loads((tmp_path / "a.json").read_text())
    assert all("rotation" in one for record in records for one in record["heads"]["pose"])
    # The camera's angle follows from the matrix alone.
    import math

    for row, one in zip(rows, found, strict=True):
        angle = math.degrees(math.acos(min(1, max(-1, float(one["r33"])))))
        assert float(row["camera_degrees"]) == pytest.approx(angle, abs=0.2)


def test_attention_needs_poses(people, tmp_path):
    from tests.runtime.tiny_onnx import write_model

    write_model(tmp_path / "m.onnx")
    done = _vh("detect", people / "train" / "images", "--weights", tmp_path / "m.onnx",
               "--attention", "--out", tmp_path / "out")  # fmt: skip
    assert isinstance(done.exception, UserError) and "no head that finds poses" in str(
        done.exception
    )
    assert not (tmp_path / "out").exists()


def test_rules_follow_the_head_unless_they_are_named(people, model, tmp_path):
    figures = tmp_path / "scores.json"
    asked = ("eval", model, "--data", people / "card.yaml", "--split", "train", "--json", figures)
    assert _vh(*asked).exit_code == 0
    assert "mae" in json.loads(figures.read_text())
    assert _vh(*asked, "--protocol", "coco").exit_code == 0
    assert "mae" not in json.loads(figures.read_text())
