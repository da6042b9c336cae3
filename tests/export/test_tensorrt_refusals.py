"""What is refused before or by TensorRT, and how it is said."""

from __future__ import annotations

import sys

import onnx
import pytest
from onnx import helper

from tests.export.cuda_double import STATUS
from tests.export.tensorrt_double import install
from tests.export.tensorrt_graphs import build, typed
from vision_heads.errors import UserError
from vision_heads.export.tensorrt import EngineOptions, build_engine, check_ready
from vision_heads.runtime.engines import open_engine
from vision_heads.spec import METADATA_KEY


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"precision": "int4"}, "precision int4"),
        ({"method": "percentile"}, "calibrates by minmax or entropy"),
        ({"batch": (4, 2, 8)}, r"batch \(4, 2, 8\).*rising"),
        ({"batch": (0, 2, 8)}, "rising"),
        ({"batch": (1, 2, 8)}, r"fixed\.onnx: is made for 1 pictures.*--dynamic-batch"),
        ({"workspace_mib": 0}, "at least 1"),
        ({"level": 9}, "level 9"),
        ({"dla": 0, "precision": "fp32"}, "not fp32"),
        ({"dla": -1}, "dla -1"),
        ({"dla": 0}, "Orin has no DLA core that TensorRT 10.3.0 can use"),
        ({"precision": "int8"}, "needs calibration pictures"),
        ({"timing_cache": "nowhere/times"}, "nowhere: no such folder"),
    ],
)
def test_wrong_options_are_named(graphs, tmp_path, monkeypatch, options, message):
    install(monkeypatch, "10.3.0")
    with pytest.raises(UserError, match=message):
        build(graphs["fixed"], tmp_path, **options)
    assert not list(tmp_path.iterdir())


def test_version_11_has_no_calibrators(graphs, tmp_path, monkeypatch):
    install(monkeypatch, "11.4.0.106")
    with pytest.raises(UserError, match="no calibrators; give a quantized ONNX file"):
        build(graphs["fixed"], tmp_path, precision="int8")


def test_wrong_sources_and_targets_are_named(graphs, tmp_path, monkeypatch):
    trt, _ = install(monkeypatch, "10.3.0")
    trt.dla_cores = 2
    half = typed(graphs["fixed"], tmp_path / "half.onnx")
    plain = onnx.load(graphs["fixed"])
    del plain.metadata_props[:]
    onnx.save(plain, tmp_path / "plain.onnx")
    other = onnx.load(graphs["fixed"])
    spec = open_engine(graphs["fixed"]).spec
    size = spec.input.model_copy(update={"height": 64})
    helper.set_model_props(other, {METADATA_KEY: spec.model_copy(update={"input": size}).to_json()})
    onnx.save(other, tmp_path / "other.onnx")
    for source, target, options, message in [
        (graphs["fixed"], "m.plan", {}, "must end in .engine"),
        (graphs["fixed"], "none/m.engine", {}, "none: no such folder"),
        (tmp_path / "no.onnx", "m.engine", {}, "no such file"),
        (tmp_path / "plain.onnx", "m.engine", {}, "carries no model description"),
        (tmp_path / "other.onnx", "m.engine", {}, r"must be one tensor \(batch, 3, 64, 640\)"),
        (half, "m.engine", {"precision": "fp32"}, "is fp16 itself"),
        (graphs["open"], "m.engine", {"dla": 1}, r"needs one batch size, not \(1, 4, 8\)"),
        (graphs["fixed"], "m.engine", {"dla": 2}, "there are cores 0 to 1"),
    ]:
        with pytest.raises(UserError, match=message):
            build_engine(source, tmp_path / target, EngineOptions(**options), lambda _: None)
    assert not list(tmp_path.glob("*.engine*"))


def test_what_tensorrt_says_no_to_is_its_reason(graphs, tmp_path, files, monkeypatch):
    trt, _ = install(monkeypatch, "10.3.0")
    trt.refused = {"Softmax"}
    with pytest.raises(UserError, match=r"fixed\.onnx: TensorRT 10\.3\.0 cannot read it: In node"):
        build(graphs["fixed"], tmp_path)
    trt.refused, trt.build_problem = set(), "out of memory"
    with pytest.raises(
        UserError, match=r"cannot build it: .*Error Code 4: out of memory"
    ) as caught:
        build(graphs["fixed"], tmp_path)
    assert "\n" not in str(caught.value)
    trt.build_problem = None
    files[1].write_bytes(b"no picture")
    with pytest.raises(UserError, match=r"calibration stopped: .*1\.png"):
        build(graphs["fixed"], tmp_path, precision="int8", pictures=files)
    assert not list(tmp_path.glob("*.engine"))


def test_what_is_missing_is_said_before_any_work(monkeypatch, tmp_path, graphs):
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    with pytest.raises(UserError, match=r'need tensorrt .*pip install "vision-heads\[tensorrt\]"'):
        check_ready()
    _, cuda = install(monkeypatch, "10.3.0")
    assert check_ready().gpu == "Orin"
    for name in ("cuda.bindings.runtime", "cuda.cudart"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(UserError, match="need cuda-python"):
        check_ready()
    install(monkeypatch, "10.3.0", problem=STATUS.cudaErrorInsufficientDriver)
    with pytest.raises(
        UserError, match=r"no usable NVIDIA GPU or driver .*insufficient.*vh doctor"
    ):
        build(graphs["fixed"], tmp_path)
    install(monkeypatch, "8.5.2")
    with pytest.raises(UserError, match=r"8\.5\.2 is too old; 8\.6"):
        check_ready()
    assert cuda.counts["executed"] == 0


def test_without_a_driver_cuda_python_itself_is_understood(monkeypatch):
    """The real package, where it is installed and no GPU is: its way of failing is handled."""
    runtime = pytest.importorskip("cuda.bindings.runtime")
    status, *_ = runtime.cudaGetDeviceCount()
    if status == runtime.cudaError_t.cudaSuccess:
        pytest.skip("there is a GPU")
    from vision_heads.runtime.tensorrt_modules import cuda_runtime, require_gpu

    assert cuda_runtime() is runtime
    with pytest.raises(UserError, match="no usable NVIDIA GPU or driver"):
        require_gpu(runtime)
