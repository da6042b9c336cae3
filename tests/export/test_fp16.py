"""FP16 files: what is narrow, what stays wide, and that they compute the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from vision_heads.errors import UserError
from vision_heads.export.fp16 import MOVING, network_nodes, to_fp16
from vision_heads.export.gate_precision import executed_precision, file_precision, share_in
from vision_heads.export.onnx_file import load_model, tensor_types
from vision_heads.runtime.engines import OnnxEngine

DECODING = ("Softmax", "TopK", "ReduceSum", "Sqrt", "Sin", "Cos", "Exp")


@pytest.fixture
def fp32(network_onnx) -> Path:
    return network_onnx


def test_the_network_is_float16_and_decoding_is_not(posed_onnx, tmp_path):
    report = to_fp16(posed_onnx, tmp_path / "half.onnx")
    convolutions = report.precision["Conv"]
    assert set(convolutions) == {"float16"} and not report.kept
    for operator in DECODING:
        assert set(report.precision.get(operator, {"float32": 1})) == {"float32"}, operator
    model = load_model(report.path)
    types = tensor_types(model, "half.onnx")
    network = network_nodes(model.graph)
    for index, node in enumerate(model.graph.node):
        kinds = {types[name] for name in node.output if types[name].startswith("float")}
        if index not in network and node.op_type not in MOVING and node.op_type != "Cast":
            assert kinds <= {"float32"}, node.name
    assert all(v.type.tensor_type.elem_type == TensorProto.FLOAT for v in model.graph.output)
    assert model.graph.input[0].type.tensor_type.elem_type == TensorProto.FLOAT
    # A few casts at the seams, not one a layer.
    assert report.casts <= 2 + 3 * 2 * 2


def test_results_agree_within_what_ten_bits_give(fp32, pictures, tmp_path):
    half = to_fp16(fp32, tmp_path / "half.onnx").path
    images = np.random.default_rng(0).random((1, 3, 16, 24)).astype(np.float32)
    images = np.kron(images, np.ones((8, 8), np.float32))
    ours, theirs = OnnxEngine(half).run(images), OnnxEngine(fp32).run(images)
    assert OnnxEngine(half).spec == OnnxEngine(fp32).spec
    scores = [np.sort(found["aerial/scores"].max(2)[0]) for found in (ours, theirs)]
    np.testing.assert_allclose(scores[0], scores[1], atol=0.02)
    assert np.abs(scores[0] - scores[1]).max() > 0  # it is another file
    assert half.stat().st_size < 0.6 * fp32.stat().st_size


def test_a_layer_that_overflows_stays_float32(fp32, tmp_path):
    model = onnx.load(str(fp32))
    names = {t.name: t for t in model.graph.initializer}
    node = next(n for n in model.graph.node if n.op_type == "Conv")
    weight = names[node.input[1]]
    values = numpy_helper.to_array(weight).copy()
    values.flat[0] = 1e6
    weight.CopyFrom(numpy_helper.from_array(values, weight.name))
    changed = tmp_path / "large.onnx"
    onnx.save(model, str(changed))
    report = to_fp16(changed, tmp_path / "half.onnx")
    assert list(report.kept) == [node.name]
    assert "beyond float16" in report.kept[node.name]
    assert report.precision["Conv"]["float32"] == 1
    assert np.isfinite(
        OnnxEngine(report.path).run(np.zeros((1, 3, 128, 192), np.float32))["aerial/boxes"]
    ).all()


def test_activations_near_the_end_of_the_range_stay_float32(fp32, tmp_path):
    images = [np.full((1, 3, 128, 192), 3e5, np.float32)]
    report = to_fp16(fp32, tmp_path / "half.onnx", images=images)
    assert report.kept and any("its output reaches" in reason for reason in report.kept.values())
    calm = to_fp16(fp32, tmp_path / "calm.onnx", images=[images[0] / 3e5])
    assert not calm.kept


def test_small_weights_are_counted(tmp_path):
    weights = np.array([1.0, 1e-5, 1e-9, 0.0], np.float32).reshape(4, 1, 1, 1)
    graph = helper.make_graph(
        [helper.make_node("Conv", ["x", "w"], ["y"], "c")],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 1, 2, 2])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 4, 2, 2])],
        [numpy_helper.from_array(weights, "w")],
    )
    source = tmp_path / "small.onnx"
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, str(source))
    report = to_fp16(source, tmp_path / "half.onnx")
    assert (report.weights, report.subnormal, report.flushed) == (4, 2, 1)
    assert report.largest_rounding <= 2**-11


def test_what_the_cpu_really_computes_in_is_seen(fp32, tmp_path):
    half = to_fp16(fp32, tmp_path / "half.onnx").path
    layers = share_in(file_precision(half), "float16")
    assert layers[0] == layers[1] > 50
    assert share_in(executed_precision(fp32), "float32") == layers
    done, seen = share_in(executed_precision(half), "float16")
    assert seen == layers[1]
    # ONNX Runtime has no float16 convolutions for x86; elsewhere it may.
    assert done in (0, seen)


def test_files_that_are_none_are_named(tmp_path):
    with pytest.raises(UserError, match=r"none\.onnx: no such file"):
        to_fp16(tmp_path / "none.onnx", tmp_path / "x.onnx")
    (tmp_path / "broken.onnx").write_bytes(b"no protobuf at all")
    with pytest.raises(UserError, match=r"broken\.onnx"):
        to_fp16(tmp_path / "broken.onnx", tmp_path / "x.onnx")
