"""Scripts for maintainers: mistakes are one line, and what is timed is what is said to be."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from types import SimpleNamespace

import pytest

from vision_heads.errors import UserError
from vision_heads.runtime import outputs
from vision_heads.spec import HeadSpec, ModelSpec


@pytest.mark.parametrize(
    ("script", "words", "message"),
    [
        ("ship_weights", ("none.safetensors", "--name", "x"), "none.safetensors: no such file"),
        ("soak", ("--tiny", "--video", "none.mp4"), "--video none.mp4: no such file"),
        ("bench.tracking", ("--objects", "x"), "--objects x: must be numbers"),
        ("bench.tracking", ("--frames", "5"), "--frames 5: the first 5 do not count"),
        ("bench.stream", ("--only", "speed"), "--only: no 'speed', only rate, rival, live"),
        ("bench.network", ("--model", "none.onnx"), "--model none.onnx: no such file"),
        ("compare_ultralytics", ("score",), "--models yolov8n: no runs/compare/yolov8n/weights/"),
        ("compare_ultralytics", ("score", "--models"), "nothing to score: give --models or --ours"),
        ("bench.loader", ("--data", "none"), "--data none: "),
    ],
)
def test_mistakes_are_one_line(monkeypatch, capsys, tmp_path, script, words, message):
    pytest.importorskip("torch")
    main = importlib.import_module(f"tools.{script}").main
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [script, *words])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert message in capsys.readouterr().err.splitlines()[-1]


def test_scripts_switch_telemetry_off_before_onnx_runtime_is_there(repository):
    code = "import os, sys, tools; print('onnxruntime' in sys.modules, os.environ[sys.argv[1]])"
    variable = "ORT_DISABLE_TELEMETRY"
    environment = {name: value for name, value in os.environ.items() if name != variable}
    command = [sys.executable, "-c", code, variable]
    told = subprocess.check_output(command, cwd=repository, env=environment, text=True)
    assert told == "False 1\n"


def test_a_script_ends_as_the_commands_do(capsys, monkeypatch):
    shared = importlib.import_module("tools.bench.shared")
    monkeypatch.setattr(sys, "argv", ["tools/bench/slicing.py"])

    def main():
        raise UserError("none.onnx: no such file")

    with pytest.raises(SystemExit) as ended:
        shared.start(main)
    assert ended.value.code == 2
    assert capsys.readouterr().err == "slicing: none.onnx: no such file\n"


def test_shipped_weights_need_a_size_that_networks_have():
    ship_weights = pytest.importorskip("tools.ship_weights")
    with pytest.raises(UserError, match="--imgsz 100: height: must be a multiple of 32"):
        ship_weights.resized(SimpleNamespace(), 100)


def test_weights_are_replaced_only_when_their_export_is_proved(monkeypatch, tmp_path):
    ship_weights = pytest.importorskip("tools.ship_weights")
    old = [tmp_path / "weights" / name for name in ("a.onnx", "a.safetensors", "SHA256SUMS")]
    old[0].parent.mkdir()
    for file in old:
        file.write_text("old")
    monkeypatch.setattr(ship_weights, "ROOT", tmp_path)
    monkeypatch.setattr(ship_weights, "load_network", lambda file: file)
    monkeypatch.setattr(ship_weights, "resized", lambda network, side: network)
    monkeypatch.setattr(
        ship_weights, "save_network", lambda file, network, half: file.write_text("new")
    )
    good = [False]

    def export(network, file, pictures):
        file.write_text("new")
        if not good[0]:
            raise UserError("file and network disagree")
        return SimpleNamespace(path=file, size=3, parity="proved")

    monkeypatch.setattr(ship_weights, "export_onnx", export)
    words = SimpleNamespace(name="a", weights="run.safetensors", imgsz=64)
    with pytest.raises(UserError, match="disagree"):
        ship_weights.ship(words)
    assert sorted(old) == sorted(old[0].parent.iterdir())
    assert [file.read_text() for file in old] == ["old"] * 3
    good[0] = True
    ship_weights.ship(words)
    assert sorted(old) == sorted(old[0].parent.iterdir())
    assert [file.read_text() for file in old[:2]] == ["new"] * 2
    assert old[2].read_text().count(" a.") == 2


def test_a_head_that_is_timed_is_not_cut_out_anew_each_time(monkeypatch, tmp_path):
    heads = pytest.importorskip("tools.bench.heads")
    monkeypatch.setattr(outputs, "MAX_PARTS", 4)
    exported = SimpleNamespace(path=tmp_path / "a.onnx", size=1, outputs=())
    monkeypatch.setattr(heads, "export_onnx", lambda network, file: exported)
    monkeypatch.setattr(heads, "Network", lambda spec: None)
    for name in ("OnnxEngine", "open_session"):
        monkeypatch.setattr(
            heads, name, lambda *a, **k: SimpleNamespace(run=lambda *words: outputs.MAX_PARTS)
        )
    spec = ModelSpec(heads=tuple(HeadSpec(name=name, classes=("x",)) for name in "abcdef"))
    timed, _ = heads.contestants(SimpleNamespace(spec=spec), tmp_path, 1)
    assert {run() for run in timed.values()} == {6}
