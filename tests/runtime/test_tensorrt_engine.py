"""TensorRT engines run, on a stand-in for TensorRT and CUDA that computes by ONNX Runtime."""

from __future__ import annotations

import gc
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import onnx
import pytest
from onnx import helper

from tests.export.cuda_double import STATUS
from tests.export.tensorrt_double import install
from tests.runtime.tiny_onnx import write_model
from vision_heads.errors import UserError
from vision_heads.export.tensorrt import EngineOptions, build_engine
from vision_heads.runtime.engines import OnnxEngine, describe_run, open_engine, provider_of
from vision_heads.runtime.tensorrt_engine import TensorRTEngine
from vision_heads.runtime.tensorrt_file import read_engine, write_engine
from vision_heads.runtime.tensorrt_modules import CudaError


@pytest.fixture
def gpu(monkeypatch):
    return install(monkeypatch, "10.3.0")


def build(folder, *, batch=None, heads=("aerial",), most=(1, 2, 4)):
    """Write the tiny network and an engine of it; return the engine's path."""
    write_model(folder / "m.onnx", batch=batch, heads=heads)
    options = EngineOptions(precision="fp32", batch=None if batch else most)
    build_engine(folder / "m.onnx", folder / "m.engine", options, lambda _: None)
    return folder / "m.engine"


def images(count, seed=0):
    return np.random.default_rng(seed).random((count, 3, 128, 128), np.float32)


def same(found, expected):
    assert list(found) == list(expected)
    for name, values in expected.items():
        assert found[name].dtype == np.float32
        np.testing.assert_array_equal(found[name], values)


@pytest.mark.parametrize("batch", [1, 3, None])
@pytest.mark.parametrize("count", [1, 2, 3, 9])
def test_any_number_of_pictures_through_any_batch(tmp_path, gpu, batch, count):
    engine = open_engine(build(tmp_path, batch=batch))
    assert isinstance(engine, TensorRTEngine)
    assert engine.batch == batch and not engine.any_size and provider_of(engine) == "tensorrt"
    assert describe_run(engine) == [] and describe_run(engine, always=True)
    given = images(count)
    same(engine.run(given), OnnxEngine(tmp_path / "m.onnx", threads=1).run(given))


def test_outputs_are_found_by_name_and_only_wanted_ones_given(tmp_path, gpu):
    """The stand-in lists outputs backwards, as TensorRT may."""
    engine = open_engine(build(tmp_path, heads=("one", "two")))
    reference = OnnxEngine(tmp_path / "m.onnx", threads=1)
    for heads in (None, ["two"], ["two", "one"]):
        same(engine.run(images(2), heads), reference.run(images(2), heads))
    with pytest.raises(UserError, match="no head 'three'"):
        engine.run(images(1), ["three"])


def test_calls_of_one_size_are_recorded_and_launched_as_one(tmp_path, gpu):
    _, cuda = gpu
    engine = open_engine(build(tmp_path))
    reference = OnnxEngine(tmp_path / "m.onnx", threads=1)
    launched = []
    for seed, count in enumerate([2, 2, 2, 2, 1, 1, 1, 3, 1]):
        same(engine.run(images(count, seed)), reference.run(images(count, seed)))
        launched.append(cuda.counts["launched"])
    # The second call of a size records, the third launches; another size begins anew.
    assert launched == [0, 0, 1, 2, 2, 2, 3, 3, 3]
    assert cuda.counts["executed"] == 9 and cuda.counts["captured"] == 2


def test_without_recording_it_runs_too(tmp_path, gpu):
    _, cuda = gpu
    engine = TensorRTEngine(build(tmp_path), graphs=False)
    for seed in range(4):
        same(engine.run(images(2, seed)), OnnxEngine(tmp_path / "m.onnx").run(images(2, seed)))
    assert cuda.counts["captured"] == 0


def test_what_cannot_be_recorded_runs_without(tmp_path, gpu):
    """NMS in the graph: how much there is to do is known on the GPU alone."""
    _, cuda = gpu
    write_model(tmp_path / "m.onnx")
    model = onnx.load(tmp_path / "m.onnx")
    nms = helper.make_node("NonMaxSuppression", ["grid", "flat_scores"], ["kept"], "/nms")
    flat = helper.make_node("Transpose", ["scores"], ["flat_scores"], "/flat", perm=[0, 2, 1])
    model.graph.node.extend([flat, nms])
    onnx.save(model, tmp_path / "m.onnx")
    options = EngineOptions(precision="fp32")
    build_engine(tmp_path / "m.onnx", tmp_path / "m.engine", options, lambda _: None)
    engine = open_engine(tmp_path / "m.engine")
    for seed in range(4):
        same(engine.run(images(1, seed)), OnnxEngine(tmp_path / "m.onnx").run(images(1, seed)))
    assert cuda.counts["captured"] == cuda.counts["launched"] == 0
    assert cuda.counts["executed"] == 4


def test_threads_have_contexts_of_their_own_and_leave_them_to_the_next(tmp_path, gpu):
    _, cuda = gpu
    engine = open_engine(build(tmp_path))
    reference = OnnxEngine(tmp_path / "m.onnx", threads=1)
    inputs = [images(1 + seed % 3, seed) for seed in range(24)]
    expected = [reference.run(one) for one in inputs]
    for _ in range(2):  # a second pool of threads takes over the first one's
        with ThreadPoolExecutor(4) as pool:
            for found, wanted in zip(pool.map(engine.run, inputs), expected, strict=True):
                same(found, wanted)
    assert len(cuda.streams) <= 4
    assert len(cuda.memory["device"]) == 3 * len(cuda.streams)


def test_results_are_not_overwritten_by_the_next_call(tmp_path, gpu):
    engine = open_engine(build(tmp_path))
    first = engine.run(images(1, 1))
    kept = {name: values.copy() for name, values in first.items()}
    engine.run(images(1, 2))
    same(first, kept)


def test_everything_is_given_back(tmp_path, gpu):
    _, cuda = gpu
    engine = open_engine(build(tmp_path))
    for _ in range(3):
        engine.run(images(1))
    assert cuda.memory["device"] and cuda.memory["host"] and cuda.streams
    del engine
    gc.collect()
    assert not cuda.memory["device"] and not cuda.memory["host"] and not cuda.streams


def test_layers_and_their_precision_are_told(tmp_path, gpu):
    engine = open_engine(build(tmp_path))
    layers, who = engine.executed_precision()
    assert who == "TensorRT 10.3.0 on Orin"
    assert layers["AveragePool"] == {"float32": 1}
    assert sum(sum(row.values()) for row in layers.values()) == len(engine.facts.layers)


def test_an_engine_of_another_machine_is_refused_with_the_way_out(tmp_path, gpu, monkeypatch):
    path = build(tmp_path)
    install(monkeypatch, "11.4.0.106", name="NVIDIA Thor", capability=(11, 0))
    with pytest.raises(UserError, match=r"built for Orin .*Build it here: vh export m\.onnx "):
        open_engine(path)


@pytest.mark.parametrize("name", ["tensorrt", "cuda", "gpu"])
def test_what_is_missing_is_named(tmp_path, gpu, monkeypatch, name):
    path = build(tmp_path)
    if name == "gpu":
        gpu[1].problem = STATUS.cudaErrorNoDevice
    for module in {"tensorrt": ["tensorrt"], "cuda": ["cuda.bindings.runtime", "cuda.cudart"]}.get(
        name, []
    ):
        monkeypatch.setitem(__import__("sys").modules, module, None)
    message = {
        "tensorrt": r'pip install "vision-heads\[tensorrt\]" \(on a Jetson: sudo apt install',
        "cuda": r'need cuda-python: pip install "vision-heads\[tensorrt\]"',
        "gpu": "no usable NVIDIA GPU or driver .*no CUDA-capable device",
    }[name]
    with pytest.raises(UserError, match=message):
        open_engine(path)


def test_a_plan_that_tensorrt_does_not_take_is_refused(tmp_path, gpu):
    facts, _ = read_engine(build(tmp_path))
    write_engine(tmp_path / "m.engine", facts, b"no plan at all")
    with pytest.raises(UserError, match=r"m\.engine: TensorRT cannot load it: Error Code 1"):
        open_engine(tmp_path / "m.engine")


def test_an_engine_that_contradicts_its_description_is_refused(tmp_path, gpu):
    facts, plan = read_engine(build(tmp_path))
    size = facts.spec.input.model_copy(update={"height": 64})
    head = facts.spec.heads[0].model_copy(update={"name": "other"})
    for update, message in [
        ({"input": size}, r"input must be one float tensor \(batch, 3, 64, 128\), got"),
        ({"heads": (head,)}, "has no output other/boxes, other/scores"),
    ]:
        wrong = facts.model_copy(update={"spec": facts.spec.model_copy(update=update)})
        write_engine(tmp_path / "m.engine", wrong, plan)
        with pytest.raises(UserError, match=message):
            open_engine(tmp_path / "m.engine")


def test_too_little_memory_is_said(tmp_path, gpu):
    trt, cuda = gpu
    engine = open_engine(build(tmp_path))
    trt.no_context = True
    with pytest.raises(UserError, match="not enough GPU memory for another execution context"):
        engine.run(images(1))
    trt.no_context, cuda.most_bytes = False, 1000
    with pytest.raises(CudaError, match="cudaMalloc: out of memory"):
        engine.run(images(1))
    cuda.most_bytes = 1 << 40
    same(engine.run(images(1)), OnnxEngine(tmp_path / "m.onnx").run(images(1)))
    gc.collect()
    assert len(cuda.streams) == 1  # what failed halfway has given back what it took


def test_other_providers_are_not_for_engines(tmp_path, gpu):
    path = build(tmp_path)
    with pytest.raises(UserError, match=r"--provider cuda: .*m\.engine runs by tensorrt"):
        open_engine(path, provider="cuda")
    assert open_engine(path, provider="tensorrt").batch is None
