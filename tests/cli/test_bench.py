"""`vh bench`: what it writes, and its mistakes."""

from __future__ import annotations

import json

import cv2
import pytest
from typer.testing import CliRunner

from tests.runtime.tiny_onnx import picture, write_model
from vision_heads.cli.main import app
from vision_heads.errors import UserError


@pytest.fixture
def model(tmp_path):
    write_model(tmp_path / "m.onnx", size=64, batch=None)
    cv2.imwrite(str(tmp_path / "p.png"), picture(64, 64, {"red": [(16, 16, 16)]}))
    return str(tmp_path / "m.onnx")


def run(*words: str):
    return CliRunner().invoke(app, ["bench", *words], catch_exceptions=False)


def test_tables_json_and_plot(model, tmp_path):
    done = run(
        *(model, model, "--source", str(tmp_path / "p.png"), "--runs", "10", "--no-memory"),
        *("--threads", "1", "--batch", "1,2", "--provider", "cpu"),
        *("--markdown", str(tmp_path / "s.md"), "--json", str(tmp_path / "s.json")),
        *("--plot", str(tmp_path / "s.png")),
    )
    assert done.exit_code == 0
    assert done.stdout == (tmp_path / "s.md").read_text()
    record = json.loads((tmp_path / "s.json").read_text())
    assert [one["batch"] for one in record["models"]] == [1, 2, 1, 2]
    assert record["threads"] == 1 and record["models"][0]["runs_on"] == "cpu"
    assert cv2.imread(str(tmp_path / "s.png")) is not None


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--batch", "1,x"), "--batch 1,x"),
        (("--batch", ","), "--batch ,"),
        (("--runs", "3"), "at least 10"),
        (("--imgsz", "ab"), "--imgsz ab"),
        (("--provider", "nothing"), "--provider nothing"),
        (("--json", "none/s.json"), "--json none/s.json: No such file"),
        (("--json", "other.onnx"), r"--json other\.onnx: is the name of a model file"),
        (("--source", "p.png", "--plot", "p.png"), r"--plot p\.png: is read"),
        (("--json", "a", "--markdown", "./a"), "--json a: is what --markdown writes"),
        (("--plot", "speed.txt"), r"--plot speed\.txt: cannot write \.txt pictures"),
        (("--source", "none.png"), "none.png"),
    ],
)
def test_mistakes_are_one_line(model, words, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = {file: file.read_bytes() for file in tmp_path.iterdir()}
    with pytest.raises(UserError, match=message):
        run(model, *words)
    assert {file: file.read_bytes() for file in tmp_path.iterdir()} == before


def test_a_mistake_leaves_no_empty_files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "old.md").write_text("kept")
    with pytest.raises(UserError, match="neither a file"):
        run("none", "--json", "new.json", "--markdown", "old.md")
    assert [file.name for file in tmp_path.iterdir()] == ["old.md"]
    assert (tmp_path / "old.md").read_text() == "kept"


def test_a_model_is_needed():
    assert CliRunner().invoke(app, ["bench"]).exit_code == 2
