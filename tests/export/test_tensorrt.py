"""Builds of engines, up to TensorRT itself: a stand-in takes its place (tensorrt_double.py)."""

from __future__ import annotations

import json
import sys

import cv2
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from tests.export.tensorrt_double import install
from tests.export.tensorrt_graphs import build, flags, quantized, typed
from tests.runtime.tiny_onnx import picture, write_model
from vision_heads.errors import UserError
from vision_heads.export.nodes import decode_nodes, read_graph
from vision_heads.export.tensorrt.layers import engine_layers
from vision_heads.runtime.engines import OnnxEngine, open_engine
from vision_heads.runtime.tensorrt_file import read_engine, read_facts


def test_fp16_by_flags_keeps_decoding_in_fp32(graphs, tmp_path, monkeypatch):
    trt, _ = install(monkeypatch, "10.3.0")
    report, lines = build(graphs["fixed"], tmp_path)
    assert flags(trt) == {"FP16", "OBEY_PRECISION_CONSTRAINTS"}
    network, config = trt.last
    assert network.flags == 0 and not config.profiles
    tail, last = decode_nodes(read_graph(graphs["fixed"]))
    pinned = {layer.name for layer in network.layers if layer.pinned == trt.float32}
    floats = {layer.name for layer in network.layers if layer.get_output(0).dtype == trt.float32}
    assert pinned == tail & floats and len(pinned) == report.kept_fp32 > 10
    softmax = next(layer for layer in network.layers if layer.operator == "Softmax")
    assert softmax.pinned_outputs == {0: trt.float32}
    # TopK's second output is whole numbers, which have no precision to choose.
    top = next(layer for layer in network.layers if layer.operator == "TopK")
    assert top.pinned_outputs == {0: trt.float32}
    assert not last & pinned
    assert report.used and set(report.precisions["Conv"]) == {"float16"}
    assert report.precisions["Softmax"] == {"float32": 1}
    assert any("TensorRT: a warning of two lines" in line for line in lines)
    assert lines[-1] == str(report) and "float16" in lines[-1]


def test_the_engine_says_what_it_is_inside_and_beside(graphs, tmp_path, monkeypatch):
    install(monkeypatch, "10.13.3.9", name="NVIDIA Thor", capability=(11, 0))
    report, _ = build(graphs["fixed"], tmp_path, level=2, workspace_mib=256)
    facts, plan = read_engine(report.path)
    assert facts == report.facts == read_facts(report.path)
    beside = json.loads((tmp_path / "m.engine.json").read_text())
    assert beside == json.loads(facts.model_dump_json())
    assert facts.spec == open_engine(graphs["fixed"]).spec
    assert (facts.gpu, facts.capability) == ("NVIDIA Thor", "11.0")
    assert (facts.tensorrt, facts.driver, facts.cuda) == ("10.13.3.9", "12.6", "12.6")
    assert facts.batch == (1, 1, 1) and facts.precision == "fp16" and not facts.strongly_typed
    assert facts.rebuild == (
        "vh export fixed.onnx --format engine --precision fp16 --output m.engine"
    )
    assert plan[:4] == b"PLAN" and report.size == report.path.stat().st_size
    _, config = sys.modules["tensorrt"].last
    assert list(config.limits.values()) == [256 << 20] and config.builder_optimization_level == 2
    assert not list(tmp_path.glob(".engine-*"))


def test_version_8_is_told_of_the_batch_dimension(graphs, tmp_path, monkeypatch):
    trt, _ = install(monkeypatch, "8.6.1")
    build(graphs["fixed"], tmp_path)
    assert trt.last[0].flags == 1 and "FP16" in flags(trt)


def test_fp32_sets_no_flags(graphs, tmp_path, monkeypatch):
    trt, _ = install(monkeypatch, "10.3.0")
    report, _ = build(graphs["fixed"], tmp_path, precision="fp32")
    assert flags(trt) == set() and report.used
    assert set(report.precisions["Conv"]) == {"float32"}


def test_a_typed_graph_keeps_its_types(graphs, tmp_path, monkeypatch):
    source = typed(graphs["fixed"], tmp_path / "half.onnx")
    for version, network_flags in (("10.3.0", 2), ("11.4.0.106", 0)):
        trt, _ = install(monkeypatch, version)
        report, _ = build(source, tmp_path)
        assert trt.last[0].flags == network_flags and flags(trt) == set()
        assert report.facts.strongly_typed and report.kept_fp32 == 0
        assert set(report.precisions["Conv"]) == {"float16"}, version


def test_version_11_converts_an_fp32_graph(graphs, tmp_path, monkeypatch):
    trt, _ = install(monkeypatch, "11.4.0.106")
    report, lines = build(graphs["fixed"], tmp_path)
    assert flags(trt) == set() and report.used
    assert any("converting to fp16" in line for line in lines)
    assert report.facts.source == "fixed.onnx" and report.facts.strongly_typed
    assert "float32" not in report.precisions["Conv"]


def test_an_open_batch_gets_a_profile(graphs, tmp_path, monkeypatch):
    trt, _ = install(monkeypatch, "10.3.0")
    report, _ = build(graphs["open"], tmp_path, batch=(1, 2, 6))
    (profile,) = trt.last[1].profiles
    assert profile.shapes == {"images": tuple((count, 3, 128, 160) for count in (1, 2, 6))}
    assert report.facts.batch == (1, 2, 6)
    # Formats of an open batch are known only of a context that is set to a size.
    assert report.used
    report, _ = build(graphs["open"], tmp_path)
    assert report.facts.batch == (1, 4, 8)


def test_int8_is_calibrated_on_pictures_and_cached(graphs, tmp_path, files, monkeypatch):
    trt, cuda = install(monkeypatch, "10.3.0")
    options = {
        "precision": "int8",
        "batch": (1, 2, 2),
        "pictures": files,
        "calibration_cache": tmp_path / "ranges",
    }
    report, _ = build(graphs["open"], tmp_path, **options)
    assert flags(trt) == {"FP16", "INT8", "OBEY_PRECISION_CONSTRAINTS"}
    assert report.calibrated_on == 3 and report.used
    # Two batches of two: the last is filled up from the first picture, scaled as the network's.
    firsts = [round(float(row[0]) * 255) for batch in trt.calibrated for row in batch]
    assert firsts == [0, 50, 100, 0]
    config = trt.last[1]
    assert isinstance(config.int8_calibrator, trt.IInt8MinMaxCalibrator)
    assert config.calibration_profile is config.profiles[0]
    tail, last = decode_nodes(read_graph(graphs["open"]))
    kinds = {layer.name: layer.precision for layer in report.facts.layers}
    assert {kinds[name] for name in last} == {"float16"}  # the heads' last layers
    assert "int8" not in {kinds[name] for name in tail if name in kinds}
    assert report.precisions["Conv"]["int8"] > report.precisions["Conv"]["float16"]

    report, _ = build(graphs["open"], tmp_path, **options)
    assert report.calibrated_on == 0 and trt.calibrated == []
    report, _ = build(graphs["open"], tmp_path, **options | {"pictures": ()})
    assert report.calibrated_on == 0
    report, lines = build(graphs["open"], tmp_path, **options | {"method": "entropy"})
    assert report.calibrated_on == 3
    assert isinstance(trt.last[1].int8_calibrator, trt.IInt8EntropyCalibrator2)
    assert any("ranges: of another model, pictures, method" in line for line in lines)
    del config, trt.last, report
    assert not cuda.memory["device"] and not cuda.memory["host"] and not cuda.streams


def test_a_quantized_graph_needs_no_calibration(graphs, tmp_path, monkeypatch):
    source = quantized(graphs["fixed"], tmp_path / "q.onnx")
    trt, _ = install(monkeypatch, "10.3.0")
    report, _ = build(source, tmp_path, precision="int8")
    assert "INT8" in flags(trt) and not hasattr(trt.last[1], "int8_calibrator")
    assert report.used and report.calibrated_on == 0
    trt, _ = install(monkeypatch, "11.4.0.106")
    report, _ = build(source, tmp_path, precision="int8")
    assert flags(trt) == set() and report.used and report.facts.strongly_typed


def test_a_precision_that_was_silently_not_used_shows(graphs, tmp_path, monkeypatch):
    trt, _ = install(monkeypatch, "10.3.0")
    trt.ignores_flags, trt.fast = True, False
    report, lines = build(graphs["fixed"], tmp_path)
    assert not report.used and set(report.precisions["Conv"]) == {"float32"}
    assert any("no fast FP16" in line for line in lines)


def test_what_the_accelerator_cannot_do_is_reported(graphs, tmp_path, monkeypatch):
    trt, _ = install(monkeypatch, "10.3.0")
    trt.dla_cores = 2
    report, lines = build(graphs["fixed"], tmp_path, dla=1)
    config = trt.last[1]
    assert config.default_device_type == trt.DeviceType.DLA and config.DLA_core == 1
    assert "GPU_FALLBACK" in flags(trt)
    left = {layer.name for layer in trt.last[0].layers if layer.device == trt.DeviceType.GPU}
    assert set(report.facts.on_gpu) == left and any("Softmax" in name for name in left)
    assert report.facts.dla == 1
    assert any(f"dla 1: {len(left)} of" in line for line in lines)
    assert f"{len(left)} layers off the DLA" in str(report)


def test_kernel_times_are_kept_for_the_next_build(graphs, tmp_path, monkeypatch):
    trt, _ = install(monkeypatch, "10.3.0")
    cache = tmp_path / "times"
    cache.write_bytes(trt.timing_key)
    _, lines = build(graphs["fixed"], tmp_path, timing_cache=cache)
    assert cache.read_bytes() == trt.timing_key + b" more"
    assert not any("begun anew" in line for line in lines)
    cache.write_bytes(b"of another GPU")
    _, lines = build(graphs["fixed"], tmp_path, timing_cache=cache)
    assert cache.read_bytes() == b" more"
    assert any("times: a timing cache of another GPU" in line for line in lines)


def test_undocumented_operators_are_mentioned(tmp_path, monkeypatch):
    install(monkeypatch, "10.3.0")
    write_model(tmp_path / "m.onnx")
    model = onnx.load(tmp_path / "m.onnx")
    model.graph.node.append(helper.make_node("Det", ["images"], ["determinant"], "det"))
    onnx.save(model, tmp_path / "m.onnx")
    _, lines = build(tmp_path / "m.onnx", tmp_path, precision="fp32")
    assert "TensorRT 10.3.0 is not documented to take Det (det): not among the operators" in str(
        lines
    )


def test_the_inspectors_words_of_each_version_are_understood():
    node = helper.make_node("Conv", ["x", "w"], ["y"], "/conv")
    sum_node = helper.make_node("Add", ["y", "y"], ["z"], "/add")
    graph = helper.make_graph(
        [node, sum_node],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 8, 8])],
        [helper.make_tensor_value_info("z", TensorProto.FLOAT, [1, 3, 8, 8])],
    )
    model = helper.make_model(graph)
    read = read_graph_of(model)
    ten = {
        "Name": "/add + /conv",
        "LayerType": "CaskConvolution",
        "Inputs": [{"Name": "x", "Format/Datatype": "Channel major FP16 format where channel % 8"}],
        "Weights": {"Type": "Int8", "Count": 9},
    }
    eleven = {
        "Name": "n",
        "LayerType": "kgen",
        "Metadata": "[ONNX Layer: /add]\x1e[ONNX Layer: /other]",
        "Inputs": [{"Format": "Row major linear FP32 format (kLINEAR)", "DataType": "BFloat16"}],
    }
    reformat = {"Name": "Reformatting CopyNode", "LayerType": "Reformat", "Inputs": []}
    layers = engine_layers(json.dumps({"Layers": [ten, eleven, reformat, "a name"]}), read)
    assert [(one.operator, one.precision) for one in layers] == [
        ("Conv", "int8"), ("Add", "bfloat16"), ("", ""), ("", "")
    ]  # fmt: skip
    assert layers[3].name == "a name"
    for broken in ("", "{}", "no json", "[1]"):
        with pytest.raises(UserError, match="engine inspector"):
            engine_layers(broken, read)


def read_graph_of(model):
    import tempfile
    from pathlib import Path

    with tempfile.TemporaryDirectory() as folder:
        onnx.save(model, str(Path(folder) / "m.onnx"))
        return read_graph(Path(folder) / "m.onnx")


def test_an_engine_finds_what_its_onnx_finds(tmp_path, monkeypatch):
    """From build to boxes, on pictures."""
    install(monkeypatch, "10.3.0")
    write_model(tmp_path / "m.onnx", batch=None)
    build(tmp_path / "m.onnx", tmp_path, precision="fp32", batch=(1, 2, 4))
    from vision_heads.runtime.predictor import Predictor

    image = picture(300, 200, {"red": [(40, 48, 32)], "blue": [(160, 80, 40)]})
    engine = open_engine(tmp_path / "m.engine")
    found = Predictor(engine)([image] * 3, conf=0.5, batch=2)
    expected = Predictor(OnnxEngine(tmp_path / "m.onnx"))([image] * 3, conf=0.5, batch=2)
    assert len(expected[0]["aerial"]) > 0
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one["aerial"].xyxy, other["aerial"].xyxy)
        np.testing.assert_array_equal(one["aerial"].score, other["aerial"].score)


def test_commands_build_inspect_and_run_an_engine_without_torch(tmp_path, files, monkeypatch):
    from typer.testing import CliRunner

    from vision_heads.cli.main import app

    trt, _ = install(monkeypatch, "10.3.0")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["vh", "export", "m.onnx", "--format", "engine"])
    monkeypatch.setitem(sys.modules, "vision_heads.network", None)  # which is all of torch
    write_model(tmp_path / "m.onnx", batch=None)
    run = CliRunner().invoke
    command = ["export", "m.onnx", "--format", "engine", "--batch", "4", "--precision"]
    built = run(app, [*command, "fp32", "--workspace", "64", "--timing-cache", "times"])
    assert isinstance(built.exception, UserError)  # the tiny network has no convolution
    assert "was to be fp32, but no convolution is" in str(built.exception)
    for line in ("AveragePool          1 float32", "written: m.engine and m.engine.json"):
        assert line in built.output
    facts = read_facts("m.engine")
    assert facts.batch == (1, 4, 4) and facts.rebuild == "vh export m.onnx --format engine"
    assert list(trt.last[1].limits.values()) == [64 << 20] and (tmp_path / "times").is_file()
    cv2.imwrite("a.png", picture(128, 128, {"red": [(40, 48, 32)]}))
    found = {}
    for name in ("m.engine", "m.onnx"):
        done = run(app, ["detect", "a.png", "--weights", name, "--json", f"{name}.json", "-v"])
        assert done.exit_code == 0, done.output
        found[name] = json.loads((tmp_path / f"{name}.json").read_text()), done.output
    assert found["m.engine"][0] == found["m.onnx"][0]
    assert "vh: running by tensorrt" in found["m.engine"][1]
    failed = run(app, [*command, "int8"])
    assert "needs calibration pictures" in str(failed.exception)
    card = tmp_path / "card.yaml"
    card.write_text("format: yolo\nsplits: {train: {images: .}}\nnames: [red]\n")
    run(app, [*command, "int8", "--calib-data", str(card), "--calib-count", "2"])
    assert read_facts("m.engine").precision == "int8" and len(trt.calibrated) == 1
    assert trt.calibrated[0].shape == (4, 3 * 128 * 128)


def test_int8_for_version_11_is_what_it_takes(graphs, tmp_path, files, monkeypatch):
    """Quantized symmetrically: TensorRT knows no other way."""
    trt, _ = install(monkeypatch, "11.4.0.106")
    report, lines = build(graphs["euler"], tmp_path, precision="int8", pictures=files)
    assert flags(trt) == set() and report.used and report.facts.strongly_typed
    assert not any("not documented to take" in line for line in lines)
    assert any("quantizing on 3 pictures" in line for line in lines)
    tail, last = decode_nodes(read_graph(graphs["euler"]))
    kinds = {layer.name: layer.precision for layer in report.facts.layers}
    assert "int8" not in {kinds.get(name) for name in tail | last}
