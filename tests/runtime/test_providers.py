"""The choice of ONNX Runtime's execution provider: in order, visible, and not changed silently."""

from __future__ import annotations

import sys

import numpy as np
import onnxruntime
import pytest
from typer.testing import CliRunner

from tests.runtime.tiny_onnx import picture, write_model
from vision_heads.errors import UserError
from vision_heads.runtime import engines, providers
from vision_heads.runtime.engines import OnnxEngine, describe_run, open_engine, shares_cores
from vision_heads.runtime.predictor import load
from vision_heads.runtime.providers import Choice, available, choose, open_session

EVERY = [provider.onnxruntime for provider in providers.PROVIDERS]
CUDA, CPU = "CUDAExecutionProvider", "CPUExecutionProvider"


@pytest.fixture(autouse=True)
def all_wanted(monkeypatch):
    """TensorRT counts as installed: whether it is shall not matter here."""
    monkeypatch.setattr(providers, "_wanted", lambda provider: True)


class Session:
    """What ONNX Runtime gives back: it says what it really runs on."""

    def __init__(self, *names):
        self._names = list(names)

    def get_providers(self):
        return self._names


def test_the_order_is_the_documented_one():
    assert providers.NAMES == (
        "tensorrt", "cuda", "migraphx", "openvino", "coreml", "directml", "cpu"
    )  # fmt: skip
    assert choose(None, list(reversed(EVERY))).names == providers.NAMES
    assert choose(None, [CPU, "AzureExecutionProvider"]) == Choice(("cpu",))
    assert choose(None, [CPU, CUDA]) == Choice(("cuda", "cpu"))
    assert choose(None, []).names == ("cpu",)


def test_asking_for_one_leaves_no_other():
    assert choose("CUDA", [CUDA, CPU]) == Choice(("cuda",), requested=True)
    with pytest.raises(UserError, match=r"--provider gpu: must be one of tensorrt, cuda, .*cpu"):
        choose("gpu", EVERY)
    with pytest.raises(
        UserError, match=r"--provider cuda: this ONNX Runtime has cpu; pip install onnxruntime-gpu"
    ):
        choose("cuda", [CPU])


def test_tensorrt_is_not_tried_where_it_is_not_installed(monkeypatch):
    monkeypatch.undo()
    monkeypatch.setattr(providers.ctypes.util, "find_library", lambda name: None)
    monkeypatch.setattr(providers, "versions", lambda packages: {})
    providers._wanted.cache_clear()
    try:
        assert "tensorrt" not in choose(None, EVERY).names
        assert choose("tensorrt", EVERY).names == ("tensorrt",)
    finally:
        providers._wanted.cache_clear()


def test_the_first_that_really_takes_the_session_is_used():
    asked = []

    def make(names):
        asked.append(list(names))
        if names[0] == "TensorrtExecutionProvider":
            raise RuntimeError("no engine could be built\nmore")
        if names[0] == CUDA:
            sys.stdout.write("*************** EP Error ***************")
            sys.stdout.write("\nlibcudnn.so.9: cannot open shared object file\n")
            return Session(CPU)  # what ONNX Runtime does when a library is missing
        return Session(*names)

    opened = open_session(Choice(("tensorrt", "cuda", "openvino", "cpu")), make)
    assert opened.name == "openvino"
    assert opened.notes == (
        "tensorrt: ONNX Runtime cannot use it here: no engine could be built",
        "cuda: ONNX Runtime cannot use it here: EP Error",
    )
    assert asked == [
        ["TensorrtExecutionProvider", CPU], [CUDA, CPU], ["OpenVINOExecutionProvider", CPU]
    ]  # fmt: skip


def test_falling_back_is_an_error_where_one_was_asked_for():
    with pytest.raises(UserError, match="--provider cuda: ONNX Runtime cannot use it here: it run"):
        open_session(Choice(("cuda",), requested=True), lambda names: Session(CPU))
    with pytest.raises(UserError, match=r"--provider cuda: .*: no device"):
        open_session(Choice(("cuda",), requested=True), _fails)


def _fails(names):
    raise RuntimeError("no device")


def test_an_error_of_the_last_one_is_the_files():
    with pytest.raises(RuntimeError, match="no device"):
        open_session(Choice(("cpu",)), _fails)


def test_what_is_there_is_told_with_versions():
    found = {one.name: one for one in available()}
    assert list(found) == list(providers.NAMES)
    assert found["cpu"].present and onnxruntime.__version__ in found["cpu"].versions.values()
    present = set(onnxruntime.get_available_providers())
    assert all(one.present == (one.onnxruntime in present) for one in found.values())
    assert all(one.install for one in found.values())


def test_models_say_what_they_run_on(tmp_path):
    write_model(tmp_path / "m.onnx")
    predictor = load(tmp_path / "m.onnx", threads=1, provider="cpu")
    assert predictor.provider == "cpu"
    engine = open_engine(tmp_path / "m.onnx", threads=1)
    assert engine.provider == "cpu" and engine.providers == (CPU,)
    assert describe_run(engine) == []
    assert describe_run(engine, always=True) == ["running by cpu"]
    for name in ("cuda", "nonsense"):
        with pytest.raises(UserError, match=f"--provider {name}"):
            open_engine(tmp_path / "m.onnx", provider=name)
    (tmp_path / "m.safetensors").write_bytes(b"")
    with pytest.raises(UserError, match=r"--provider cuda: .* runs by torch"):
        open_engine(tmp_path / "m.safetensors", provider="cuda")


def test_weights_that_need_torch_say_what_is_missing(tmp_path, monkeypatch):
    (tmp_path / "m.safetensors").write_bytes(b"")

    def fail(name):
        raise ImportError("No module named 'safetensors'", name="safetensors")

    monkeypatch.setattr(engines, "import_module", fail)
    with pytest.raises(UserError, match=r"m\.safetensors: needs safetensors: pip install"):
        open_engine(tmp_path / "m.safetensors")


def test_cores_are_shared_among_calls_on_a_cpu_alone(tmp_path, monkeypatch):
    assert shares_cores(tmp_path / "m.onnx", None) and shares_cores(tmp_path / "m.onnx", "cpu")
    assert not shares_cores(tmp_path / "m.engine", None)
    monkeypatch.setattr(engines, "_available", lambda: [CUDA, CPU])
    assert not shares_cores(tmp_path / "m.onnx", None)


def test_a_gpu_that_is_not_there_is_reported_and_the_cpu_used(tmp_path, monkeypatch):
    """An ONNX Runtime that has CUDA built in, on a machine without: the real one, so dressed up."""
    monkeypatch.setattr(engines, "_available", lambda: [CUDA, CPU])
    write_model(tmp_path / "m.onnx", heads=("one", "two"))
    engine = OnnxEngine(tmp_path / "m.onnx", threads=1)
    assert engine.provider == "cpu" and len(engine.notes) == 1
    lines = describe_run(engine)
    assert lines[0].startswith("cuda: ONNX Runtime cannot use it here")
    assert lines[1] == "running by cpu"
    images = np.random.default_rng(0).random((1, 3, 128, 128), np.float32)
    assert set(engine.run(images, ["two"])) == {"two/boxes", "two/scores"}
    with pytest.raises(UserError, match=r"m\.onnx: --provider cuda: ONNX Runtime cannot use it"):
        OnnxEngine(tmp_path / "m.onnx", provider="cuda")


def test_io_binding_gives_the_same(tmp_path):
    write_model(tmp_path / "m.onnx", batch=None, heads=("one", "two"))
    images = np.random.default_rng(0).random((5, 3, 128, 128), np.float32)
    plain = open_engine(tmp_path / "m.onnx", threads=1)
    bound = open_engine(tmp_path / "m.onnx", threads=1, io_binding=True)
    for heads in (None, ["two"]):
        for given in (images, images[:, :, ::-1, ::-1]):  # not contiguous
            expected, found = plain.run(given, heads), bound.run(given, heads)
            assert list(found) == list(expected)
            for name, values in expected.items():
                np.testing.assert_array_equal(found[name], values)


def test_directml_is_opened_and_called_as_it_wants():
    assert providers.session_settings(["DmlExecutionProvider"]) == {"enable_mem_pattern": False}
    assert providers.session_settings([CPU]) == {}
    assert providers.one_call_at_a_time("directml") and not providers.one_call_at_a_time("cuda")


def test_commands_report_it_and_exit_with_2(tmp_path, monkeypatch):
    import cv2

    from vision_heads.cli.main import app

    monkeypatch.chdir(tmp_path)
    write_model(tmp_path / "m.onnx")
    cv2.imwrite("a.png", picture(128, 128, {"red": [(40, 48, 32)]}))
    command = ["detect", "a.png", "--weights", "m.onnx", "--threads", "1"]
    run = CliRunner().invoke
    quiet = run(app, command)
    assert quiet.exit_code == 0 and "running by" not in quiet.output
    said = run(app, [*command, "-v", "--provider", "cpu"])
    assert said.exit_code == 0 and "vh: running by cpu" in said.output
    monkeypatch.setattr(engines, "_available", lambda: [CUDA, CPU])
    fallen = run(app, command)
    assert fallen.exit_code == 0 and "vh: cuda: ONNX Runtime cannot use it" in fallen.output
    for words in (command, ["eval", "m.onnx", "--data", "demo"], ["stream", "a.png"], ["serve"]):
        extra = [] if words[0] in ("detect", "eval") else ["--weights", "m.onnx"]
        failed = run(app, [*words, *extra, "--provider", "cuda"])
        assert isinstance(failed.exception, UserError), words
        assert "--provider cuda: ONNX Runtime cannot use it" in str(failed.exception)
