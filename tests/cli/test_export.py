from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from typer.testing import CliRunner, Result

from tests.export.conftest import lively
from tests.export.tensorrt_double import install
from vision_heads.cli.export_report import report
from vision_heads.cli.export_run import Outcome
from vision_heads.cli.main import app
from vision_heads.errors import UserError
from vision_heads.export import onnx as exporter
from vision_heads.export.formats import Made, Recipe, make
from vision_heads.export.inspect import read_onnx
from vision_heads.network import Network, save_network
from vision_heads.runtime.engines import open_engine
from vision_heads.runtime.tensorrt_file import read_facts
from vision_heads.spec import HeadSpec, InputSpec, ModelSpec

QUICK = ("--gate-count", "2", "--count", "1", "--rounds", "5", "--threads", "1")
"""Little of everything that takes time."""


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    head = HeadSpec(name="aerial", classes=("car", "van"), category_ids=(4, 5))
    network = Network(ModelSpec(input=InputSpec(height=96, width=128), heads=(head,)))
    file = tmp_path_factory.mktemp("weights") / "small.safetensors"
    save_network(file, network)
    return file


def run(*words: str, quick: Sequence[str] = QUICK) -> Result:
    done = CliRunner().invoke(app, ["export", *quick, *map(str, words)], env={"COLUMNS": "200"})
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
        "1 pictures, 1000 candidates",
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
        "--dynamic-batch", "--pictures", pictures
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
        (("--imgsz", "100"), "--imgsz 100: must be multiples of 32 up to 8192, such as 96 or 128"),
        (("--imgsz", "384x650"), "such as 384x640 or 384x672"),
        (("--imgsz", "9999"), "such as 8192"),
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


def lines(done: Result) -> list[str]:
    return done.output.splitlines()


@pytest.fixture(scope="module")
def lively_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of a model that finds things, untrained as it is."""
    head = HeadSpec(name="aerial", classes=("red", "green"))
    spec = ModelSpec(input=InputSpec(height=64, width=96), heads=(head,), candidates=60)
    file = tmp_path_factory.mktemp("lively") / "m.safetensors"
    save_network(file, lively(spec))
    return file


def test_several_formats_go_through_the_gate_into_one_folder(lively_weights, tmp_path):
    record = tmp_path / "gate.json"
    done = run(
        lively_weights, "--format", "onnx,onnx-fp16", "-f", "triton", "-o", tmp_path,
        "--latency-gate", "off", "--max-drop", "100", "--nms", "--max-det", "20", "--json", record,

    )  # fmt: skip
    assert done.exit_code == 0, done.output
    assert {path.name for path in tmp_path.iterdir()} == {
        "m.onnx", "m-fp16.onnx", "m-triton", "gate.json"
    }  # fmt: skip
    table = [line.split() for line in lines(done)]
    assert any(row[:1] == ["torch"] for row in table)
    for name in ("onnx", "onnx-fp16", "triton"):
        assert any(row[:1] == [name] and row[-1] == "passed" for row in table), done.output
    content = json.loads(record.read_text())
    assert content["passed"] and list(content["formats"]) == ["onnx", "onnx-fp16", "triton"]
    half = content["formats"]["onnx-fp16"]
    assert set(half["stored"]["Conv"]) == {"float16"}
    assert half["latency"]["rounds"] >= 5 and half["size"] < content["formats"]["onnx"]["size"]
    engine = open_engine(tmp_path / "m-fp16.onnx")
    assert engine.spec.nms is not None and engine.spec.nms.max_det == 20
    assert (tmp_path / "m-triton" / "m" / "config.pbtxt").is_file()


def test_the_report_is_of_the_file_with_nms(lively_weights, tmp_path):
    target = tmp_path / "m.onnx"
    done = run(lively_weights, "-o", target, "--nms", "--max-det", "20", "--no-gate")
    assert "aerial/boxes (1, 20, 4)" in done.output and "aerial/count (1, 1)" in done.output
    assert "NonMaxSuppression" in done.output and "(1, 60, " not in done.output
    told = CliRunner().invoke(app, ["info", str(target)], env={"COLUMNS": "200"})
    assert "nms          in the file: conf 0.25, iou 0.6, at most 20 a head" in told.output


def test_a_refused_file_is_not_left_and_the_exit_code_is_1(lively_weights, tmp_path, monkeypatch):
    from vision_heads.export import gate

    widened = ({"Conv": {"float32": 117}}, "ONNX Runtime (CPUExecutionProvider)")
    monkeypatch.setattr(gate, "executed_by", lambda engine, path: widened)
    done = run(lively_weights, "-f", "onnx-fp16", "-o", tmp_path / "half.onnx")
    assert done.exit_code == 1
    assert "vh: onnx-fp16: not written: " in done.output
    assert "0 of 117 layers with weights in float16 on this machine" in done.output
    assert "written: " + str(tmp_path) not in done.output
    assert not list(tmp_path.iterdir())


def test_without_the_gate_only_the_proof_is_left(lively_weights, tmp_path):
    done = run(lively_weights, "-o", tmp_path / "m.onnx", "--batch", "3", "--no-gate")
    assert done.exit_code == 0, done.output
    assert "passed" not in done.output and "proved on" in done.output
    assert open_engine(tmp_path / "m.onnx").batch == 3


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("-f", "onnx,tflite"), "--format tflite: unknown; there are onnx, onnx-fp16, onnx-int8"),
        (("-f", ","), "--format: none given"),
        (("-f", "onnx,triton", "-o", "new"), "new: no such folder; with several formats"),
        (("-f", "openvino", "-o", "m.onnx"), r"m\.onnx: the file's name must end in \.xml"),
        (("-f", "openvino", "--precision", "int4"), "--precision int4: openvino takes fp32, fp16"),
        (
            ("-f", "engine", "--precision", "bf16"),
            "--precision bf16: engine takes fp16, fp32, int8",
        ),
        (("--latency-gate", "never"), "--latency-gate never: must be here, off, auto"),
        (("--calib-method", "mean"), "--calib-method mean: must be minmax, entropy, percentile"),
        (("--data", "other=demo"), "--data other: no such head"),
        (("--precision", "fp16"), "--precision fp16: is of engine and openvino; onnx has one only"),
        (("--json", "nowhere/found.json"), "--json nowhere/found.json: no such folder"),
    ],
)
def test_mistakes_about_formats_are_named(lively_weights, tmp_path, monkeypatch, words, message):
    monkeypatch.chdir(tmp_path)
    before = set(lively_weights.parent.iterdir())
    with pytest.raises(UserError, match=message) as caught:
        run(lively_weights, *words)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir()) and set(lively_weights.parent.iterdir()) == before


def test_an_engine_of_an_exported_file_takes_no_options_of_weights(tmp_path):
    """They would be dropped: the file is as it is."""
    with pytest.raises(UserError, match=r"--imgsz, --nms: not for an engine of .*m\.onnx"):
        run(tmp_path / "m.onnx", "-f", "engine", "--nms", "--imgsz", "64", quick=())
    with pytest.raises(UserError, match=r"--threads: not for an engine of"):
        run(tmp_path / "m.onnx", "-f", "engine", "--threads", "1", quick=())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--conf", "0.5", "--max-det", "9"), "--conf, --max-det: of --nms, which is not asked"),
        (("--no-gate", "--max-drop", "1"), "--max-drop: of the gate, which is not asked for"),
        (("--split", "test"), "--split: of --data, which is not asked for"),
        (("--dla", "0", "--calib-cache", "c"), "--dla, --calib-cache: of --format engine, which"),
        (("-f", "onnx-fp16", "--exclude", "a"), "--exclude: of INT8, which is not asked for"),
        (("--sensitivity",), "--sensitivity: of INT8, which is not asked for"),
        (("--threads", "100000"), "--threads 100000: must be at most 1024"),
    ],
)
def test_options_that_would_do_nothing_are_refused(weights, tmp_path, words, message):
    with pytest.raises(UserError, match=message):
        run(weights, "-o", tmp_path / "m.onnx", *words)
    assert not list(tmp_path.iterdir())


def test_an_engine_of_a_file_of_fixed_batch_takes_no_dynamic_batch(repository):
    file = repository / "weights" / "aerial-n.onnx"
    with pytest.raises(UserError, match=r"--dynamic-batch: .*n\.onnx takes 1 pictures a call"):
        run(file, "-f", "engine", "--dynamic-batch", quick=())


def test_what_int8_has_to_say_is_said_without_the_gate_too(tmp_path, capsys):
    rows = [{"name": "stem", "kind": "Conv", "sqnr": 12.0}]
    details = {"sensitivity": rows, "kept_float": []}
    notes = ["calibrated on 12 pictures; 100 were asked for"]
    made = Made("onnx-int8", tmp_path / "m.onnx", [], "int8", details, notes)
    spec = ModelSpec(heads=(HeadSpec(name="a", classes=("x",)),))
    file = exporter.OnnxFile(tmp_path / "m.onnx", spec, 17, {"a/boxes": (1, 2, 4)}, {}, 1, None)
    report(Outcome(file, {"onnx-int8": made}))
    shown = capsys.readouterr().out
    assert f"onnx-int8: {notes[0]}" in shown
    assert "layers by signal to noise in INT8" in shown


def test_int8_of_tensorrt_10_is_calibrated_on_as_many_pictures_as_asked(tmp_path, monkeypatch):
    asked = []

    def build(source, target, options, log):
        asked.append(options)
        raise UserError("enough")

    install(monkeypatch, "10.3.0")
    monkeypatch.setattr("vision_heads.export.tensorrt.build_engine", build)
    fp32 = tmp_path / "m.onnx"
    fp32.touch()
    files = [Path(f"{number}.jpg") for number in range(9)]
    recipe = Recipe(precision="int8", calibration=files, count=3)
    for one in (recipe, recipe, replace(recipe, seed=5)):
        with pytest.raises(UserError, match="enough"):
            make("engine", fp32, tmp_path, "m.engine", one, lambda _: True)
    first, again, other = (options.pictures for options in asked)
    assert len(first) == 3 and first == again and set(first) != set(other)
    with pytest.raises(UserError, match="--exclude, --sensitivity: not in TensorRT 10"):
        odd = replace(recipe, sensitivity=True)
        make("engine", fp32, tmp_path, "m.engine", odd, lambda _: True)


def test_a_full_disk_is_named(weights, tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(exporter, "_trace", full)
    with pytest.raises(UserError, match=f"{tmp_path}: cannot be written .No space left"):
        run(weights, "-o", tmp_path / "m.onnx")
    assert not list(tmp_path.iterdir())


def test_what_is_not_installed_is_said_before_any_work(lively_weights, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(UserError, match=r'pip install "vision-heads\[openvino\]"'):
        run(lively_weights, "-f", "openvino", "-o", tmp_path / "m.xml")
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    with pytest.raises(UserError, match=r"(?i)tensorrt"):
        run(lively_weights, "-f", "engine", "-o", tmp_path / "m.engine")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("version", ["10.3.0", "11.4.0"])
def test_an_engine_goes_from_weights_through_the_gate(
    lively_weights, tmp_path, monkeypatch, version
):
    """With TensorRT's stand-in, whose engines compute by ONNX Runtime; its time means nothing."""
    install(monkeypatch, version)
    target = tmp_path / "m.engine"
    done = run(
        lively_weights, "--format", "engine", "--precision", "fp16", "--output", target,
        "--latency-gate", "off"
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    facts = read_facts(target)
    assert facts.tensorrt.startswith(version) and facts.rebuild.startswith("vh")
    assert open_engine(target).spec.heads[0].classes == ("red", "green")
    assert "AP50" in done.output and target.with_name("m.engine.json").is_file()


def test_without_torch_an_engine_of_shipped_weights_is_built_from_their_onnx_file(monkeypatch):
    def fail(name: str) -> None:
        raise ImportError(name, name="safetensors")

    monkeypatch.setattr("vision_heads.cli.models.import_module", fail)
    result = CliRunner().invoke(app, ["export", "aerial-n", "--format", "engine"])
    message = str(result.exception)
    assert message.startswith("this needs safetensors: ")
    assert message.endswith("aerial-n.onnx --format engine")
    onnx = CliRunner().invoke(app, ["export", "aerial-n"])
    assert "or without it" not in str(onnx.exception)
