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
