import json
from pathlib import Path

import cv2
import numpy as np
import onnx
import onnxruntime
import pytest

from tests.export.conftest import lively
from vision_heads.errors import UserError
from vision_heads.export.calibration import Tally, calibrate, least_loss
from vision_heads.export.onnx import export_onnx
from vision_heads.export.quantize import (
    METADATA_KEY,
    quantize,
    quantize_until,
    quantize_with,
)
from vision_heads.export.quantize_graph import OnnxGraph, open_float
from vision_heads.export.sensitivity import layers, round_weight, steps
from vision_heads.runtime.engines import OnnxEngine
from vision_heads.spec import METADATA_KEY as SPEC_KEY
from vision_heads.spec import HeadSpec, InputSpec, ModelSpec


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> list[Path]:
    folder = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(0)
    found = []
    for number in range(5):
        coarse = rng.integers(0, 255, (8, 10, 3), dtype=np.uint8)
        found.append(folder / f"{number}.png")
        cv2.imwrite(str(found[-1]), np.kron(coarse, np.ones((12, 12, 1), np.uint8)))
    (folder / "bad.jpg").write_bytes(b"no picture")
    return found


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    spec = ModelSpec(
        input=InputSpec(height=64, width=96),
        heads=(
            HeadSpec(name="aerial", classes=("car", "van", "bus"), levels=(2, 3, 4)),
            HeadSpec(name="pose", kind="headpose", classes=("head",), levels=(3, 4)),
        ),
        candidates=20,
    )
    path = tmp_path_factory.mktemp("model") / "m.onnx"
    return export_onnx(lively(spec), path).path


@pytest.fixture(scope="module")
def calibration(source, files):
    return calibrate(source, files, count=4)


@pytest.fixture(scope="module")
def quantized(source, calibration, tmp_path_factory) -> Path:
    return quantize_with(source, tmp_path_factory.mktemp("int8") / "q.onnx", calibration).path


def kernels(path: Path, tmp_path: Path) -> dict[str, list[str]]:
    """Operators that ONNX Runtime really runs, and on which types."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    # The layout changes are this machine's; without them the file can be written anywhere.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    found: dict[str, list[str]] = {}
    for node in onnx.load(tmp_path / "optimized.onnx").graph.node:
        found.setdefault(node.op_type, []).append(node.name)
    return found


def test_every_layer_runs_in_int8_and_the_heads_last_ones_in_float(source, quantized, tmp_path):
    graph = open_float(source)
    found = kernels(quantized, tmp_path)
    assert len(found["QLinearConv"]) == len(graph.layers()) > 60
    assert len(found["QLinearSigmoid"]) == len(found["QLinearMul"]) > 50
    # Convolutions: 5 box branches, projected for the chosen cells alone, and 2 rotation branches,
    # whose neighbours have a say. Class branches are matrix products.
    assert len(found["Conv"]) == 5 + 2
    assert len(found["Gemm"]) == 5
    assert "Resize" not in found and "QuickGelu" not in found
    # From the picture in, and to the heads' ends out: nothing in between.
    assert len(found["QuantizeLinear"]) == 1
    assert len(found["DequantizeLinear"]) == 5 + 5 + 2


def test_outputs_stay_near_the_float_ones(source, quantized):
    images = np.random.default_rng(1).random((1, 3, 8, 12), np.float32)
    images = images.repeat(8, 2).repeat(8, 3)
    exact, rounded = OnnxEngine(source).run(images), OnnxEngine(quantized).run(images)
    for name, values in exact.items():
        assert rounded[name].shape == values.shape and rounded[name].dtype == np.float32
    for head in ("aerial", "pose"):
        best, found = exact[f"{head}/scores"].max(2), rounded[f"{head}/scores"].max(2)
        assert np.abs(best - found).mean() < 0.05
        assert best.std() > 0.01  # else all is alike, and near for that reason
    turns = rounded["pose/rotation"]
    eye = np.broadcast_to(np.eye(3), turns.shape)
    np.testing.assert_allclose(turns.swapaxes(2, 3) @ turns, eye, atol=1e-5)


def test_file_says_how_it_was_made(source, calibration, quantized):
    metadata = {entry.key: entry.value for entry in onnx.load(quantized).metadata_props}
    before = {entry.key: entry.value for entry in onnx.load(source).metadata_props}
    assert metadata[SPEC_KEY] == before[SPEC_KEY]
    record = json.loads(metadata[METADATA_KEY])
    assert record["method"] == "minmax" and record["seed"] == 0
    assert record["pictures"] == record["asked"] == 4
    assert record["excluded"] == []
    assert quantized.stat().st_size < source.stat().st_size / 2


def test_excluded_layers_run_in_float(source, calibration, tmp_path):
    names = [layer.name for layer in open_float(source).layers()]
    last = [name for name in names if "aerial/p2" in name][-1]
    report = quantize_with(source, tmp_path / "q.onnx", calibration, exclude=[names[0], last])
    assert report.excluded == (names[0], last)
    assert report.layers == len(names)
    found = kernels(tmp_path / "q.onnx", tmp_path)
    assert len(found["QLinearConv"]) == len(names) - 2
    assert len(found["QuickGelu"]) == 2  # their SiLU is float with them
    with pytest.raises(UserError, match="no layer 'nothing'"):
        quantize_with(source, tmp_path / "q.onnx", calibration, exclude=["nothing"])


def test_open_batch_and_other_activations(files, tmp_path):
    spec = ModelSpec(
        fusion="irdcb",
        activation="hardswish",
        input=InputSpec(height=64, width=64),
        heads=(HeadSpec(name="near", classes=("a", "b"), levels=(2, 3)),),
        candidates=2000,  # more than cells: nothing to choose, so no late projection
    )
    source = export_onnx(lively(spec), tmp_path / "m.onnx", dynamic_batch=True, opset=20).path
    report = quantize(source, tmp_path / "q.onnx", files, count=2, seed=3)
    images = np.random.default_rng(1).random((3, 3, 64, 64), np.float32)
    found = OnnxEngine(report.path).run(images)
    assert found["near/boxes"].shape == (3, 320, 4)
    one = OnnxEngine(report.path).run(images[1:2])
    np.testing.assert_allclose(found["near/scores"][1], one["near/scores"][0], atol=1e-5)
    assert len(kernels(report.path, tmp_path)["QLinearConv"]) == report.layers


def test_form_for_tensorrt_is_signed_around_zero(source, calibration, tmp_path):
    report = quantize_with(source, tmp_path / "q.onnx", calibration, scheme="tensorrt")
    model = onnx.load(report.path)
    constants = {entry.name: onnx.numpy_helper.to_array(entry) for entry in model.graph.initializer}
    nodes = [n for n in model.graph.node if n.op_type in ("QuantizeLinear", "DequantizeLinear")]
    assert len(nodes) > 100
    for node in nodes:
        zero = constants[node.input[2]]
        assert zero.dtype == np.int8 and not zero.any()
    # A convolution and its SiLU stay next to each other, for TensorRT to make one of them.
    graph = OnnxGraph(model)
    for node in model.graph.node:
        if node.op_type == "Sigmoid" and node.input[0] in graph.producers:
            kinds = {reader.op_type for reader in graph.consumers[node.input[0]]}
            assert "QuantizeLinear" not in kinds


def test_pictures_are_counted(source, files, tmp_path):
    bad = files[0].parent / "bad.jpg"
    seen = []
    report = quantize(
        source, tmp_path / "q.onnx", [bad, *files[:2]], count=10, method="percentile",
        step=lambda done, all_: seen.append((done, all_)),
    )  # fmt: skip
    assert (report.used, report.asked, len(report.unreadable)) == (2, 10, 1)
    assert seen == [(1, 3), (2, 3)]
    assert "bad.jpg" in report.notes[0] and "2 pictures; 10 were asked for" in report.notes[1]
    for pictures, message in (([bad], "none of 1 pictures can be read"), ([], "no pictures")):
        with pytest.raises(UserError, match=message):
            quantize(source, tmp_path / "none.onnx", pictures)
    assert not (tmp_path / "none.onnx").exists()


def test_pictures_are_chosen_by_the_seed(source, files, monkeypatch):
    from vision_heads.export import calibration as module

    monkeypatch.setattr(module, "_measure", lambda *given: list(given[2]) and {})
    chosen = [calibrate(source, files, count=2, seed=seed).files for seed in (0, 0, 1, 2)]
    assert chosen[0] == chosen[1] and len(chosen[0]) == 2
    assert len(set(chosen)) > 1


@pytest.mark.parametrize("method", ["percentile", "entropy"])
def test_methods_that_cut_stay_within_what_was_seen(source, files, calibration, method):
    cut = calibrate(source, files, count=4, method=method).ranges
    assert cut.keys() == calibration.ranges.keys()
    for name, (low, high) in calibration.ranges.items():
        slack = 1e-4 * (high - low) + 1e-6
        assert low - slack <= cut[name][0] <= cut[name][1] <= high + slack
    if method == "entropy":  # a share of so few values is less than one
        assert any(cut[name] != seen for name, seen in calibration.ranges.items())


def test_tally_grows_and_counts_all():
    rng = np.random.default_rng(0)
    parts = [rng.normal(0, scale, 5000).astype(np.float32) for scale in (1e-6, 0.1, 7, 1)]
    tally = Tally(True)
    for part in parts:
        tally.add(part)
    every = np.concatenate(parts)
    assert tally.widest() == (every.min(), every.max())
    assert tally.counts.sum() == every.size and tally.limit >= np.abs(every).max()
    whole = np.histogram(every, tally.edges)[0]
    # A value on an edge may fall to either side.
    assert np.abs(np.cumsum(whole) - np.cumsum(tally.counts)).max() <= 2
    far = np.append(np.zeros(10_000_000, np.float32), np.float32(9))
    lone = Tally(True)
    lone.add(far)
    assert lone.widest() == (0, 9) and lone.usual()[1] < 0.1


def test_entropy_cuts_off_a_few_far_values_and_nothing_else():
    rng = np.random.default_rng(0)
    near = rng.normal(0, 1, 100_000)
    far = np.append(near, [40.0])
    counts, edges = np.histogram(far, 2048, range=(-40, 40))
    low, high = least_loss(counts, edges, far.min(), far.max())
    assert low == far.min() and 3.5 < high < 12
    flat = rng.uniform(-1, 3, 100_000)
    counts, edges = np.histogram(flat, 2048, range=(-3, 3))
    low, high = least_loss(counts, edges, flat.min(), flat.max())
    assert low == flat.min() and high > 2.9
    assert least_loss(np.zeros(2048, int), edges, 0.0, 0.0) == (0.0, 0.0)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path, _: path, "no such file"),
        (lambda path, _: (path.write_bytes(b"text"), path)[1], "not a readable ONNX"),
        (lambda _, quantized: quantized, "is quantized already"),
    ],
)
def test_wrong_sources_are_named(quantized, files, tmp_path, make, message):
    with pytest.raises(UserError, match=message):
        quantize(make(tmp_path / "x.onnx", quantized), tmp_path / "q.onnx", files)


def test_unknown_method_and_scheme(source, files, calibration, tmp_path):
    with pytest.raises(UserError, match="'median'"):
        calibrate(source, files, method="median")
    with pytest.raises(UserError, match="'phone'"):
        quantize_with(source, tmp_path / "q.onnx", calibration, scheme="phone")


def test_a_ruined_layer_is_the_most_sensitive(source, calibration):
    every = open_float(source).layers()
    victim = every[10]
    # A range a thousand times too wide leaves it hardly a step.
    spoiled = dict(calibration.ranges)
    low, high = spoiled[victim.output]
    spoiled[victim.output] = (1000 * low, 1000 * high)
    found = layers(source, type(calibration)(
        spoiled, "minmax", 0, 4, calibration.files), pictures=2)  # fmt: skip
    assert sorted(one.name for one in found) == sorted(layer.name for layer in every)
    # Whoever reads it is measured with the same bad range.
    readers = {layer.name for layer in every if victim.output in layer.inputs}
    assert {one.name for one in found[: 1 + len(readers)]} == {victim.name} | readers
    assert found[0].sqnr < 5
    assert np.median([one.sqnr for one in found]) > 15
    assert {one.kind for one in found} >= {"depthwise", "1x1", "3x3"}


@pytest.mark.parametrize("needed", [0, 1, 3, 6, None])
def test_layers_are_left_in_float_until_the_file_is_accepted(
    source, files, tmp_path, monkeypatch, needed
):
    from vision_heads.export import quantize as module
    from vision_heads.export.sensitivity import Sensitivity

    names = [layer.name for layer in open_float(source).layers()][:9]
    order = [Sensitivity(name, "1x1", float(at)) for at, name in enumerate(names)]
    monkeypatch.setattr(module, "layers", lambda *_: order)
    made = []

    def write(source, target, calibration, *, exclude=(), scheme="cpu"):
        target.write_text(str(len(exclude)))
        made.append(len(exclude))
        return module.QuantizeReport(target, "minmax", 0, 1, 1, (), 9, tuple(exclude))

    monkeypatch.setattr(module, "calibrate", lambda *_, **__: None)
    monkeypatch.setattr(module, "quantize_with", write)
    report = quantize_until(
        source, tmp_path / "q.onnx", files,
        accept=lambda path: needed is not None and int(path.read_text()) >= needed,
    )  # fmt: skip
    assert report.accepted == (needed is not None)
    assert report.excluded == tuple(names[: 8 if needed is None else needed])
    assert (tmp_path / "q.onnx").read_text() == str(len(report.excluded))
    assert report.sensitivity == (tuple(order) if needed != 0 else ())
    assert report.tries <= len(made) <= 8


def test_steps_hold_zero_and_weights_round_by_channel():
    assert steps((0.0, 1.0)) == (pytest.approx(1 / 255), 0)
    scale, zero = steps((0.5, 2.0))  # 0 is padding's value and must be exact
    assert zero == 0 and scale == pytest.approx(2 / 255)
    assert steps((0.0, 0.0))[0] > 0
    weight = np.array([[1.0, 0.3], [100.0, 0.0]], np.float32)[..., None, None]
    rounded = round_weight(weight)
    np.testing.assert_allclose(rounded[0, :, 0, 0], [1, 38 / 127], rtol=1e-6)
    np.testing.assert_allclose(rounded[1, :, 0, 0], [100, 0])
