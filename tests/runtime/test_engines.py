from __future__ import annotations

import builtins
import gc
import sys
import weakref
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np
import onnxruntime
import pytest

from tests.runtime.tiny_onnx import CLASSES, write_model
from vision_heads.errors import UserError
from vision_heads.runtime import engines
from vision_heads.runtime.engines import OnnxEngine, open_engine, resolve_weights
from vision_heads.runtime.outputs import MAX_PARTS, output_names

SUFFIXES = ("boxes", "scores")


def _red_square(count, size=128):
    """Pictures with a red square at 8 * row, as the network sees them."""
    images = np.zeros((count, 3, size, size), np.float32)
    for row in range(count):
        images[row, 0, 8 * row : 8 * row + 16, :16] = 1
    return images


@pytest.mark.parametrize("fixed", [1, 3, None])
@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_any_number_of_pictures_through_any_batch(tmp_path, fixed, count):
    write_model(tmp_path / "m.onnx", batch=fixed)
    engine = OnnxEngine(tmp_path / "m.onnx", threads=1)
    assert engine.batch == fixed
    outputs = engine.run(_red_square(count))
    assert set(outputs) == {"aerial/boxes", "aerial/scores"}
    assert outputs["aerial/scores"].shape == (count, 225, 3)
    assert outputs["aerial/boxes"].shape == (count, 225, 4)
    for row in range(count):
        best = outputs["aerial/scores"][row, :, 0].argmax()
        assert outputs["aerial/boxes"][row, best].tolist() == [0, 8 * row, 16, 8 * row + 16]
        assert outputs["aerial/scores"][row, :, 1:].max() == 0


def test_only_the_heads_asked_for_are_computed(tmp_path):
    spec = write_model(tmp_path / "m.onnx", heads=("one", "two"))
    engine = OnnxEngine(tmp_path / "m.onnx")
    assert engine.spec == spec
    assert set(engine.run(_red_square(1), ["two"])) == {"two/boxes", "two/scores"}
    assert len(engine.run(_red_square(1))) == 4
    with pytest.raises(UserError, match="no head 'three'"):
        engine.run(_red_square(1), ["three"])


def test_a_part_is_cut_out_once_for_each_set_of_heads_and_few_are_kept(tmp_path, monkeypatch):
    names = tuple("abcdef")
    write_model(tmp_path / "m.onnx", heads=names)
    engine = OnnxEngine(tmp_path / "m.onnx", threads=1)
    opened = []
    original = engines._open_session

    def note(model, *others):
        opened.append(original(model, *others))
        return opened[-1]

    monkeypatch.setattr(engines, "_open_session", note)
    (tmp_path / "m.onnx").unlink()  # the model is in memory: another file would be another model
    whole = engine.run(_red_square(1))
    assert not opened
    for _ in range(2):
        for heads in (["b"], ["e", "c"], ["c", "e"]):
            part = engine.run(_red_square(1), heads)
            assert list(part) == [f"{head}/{suffix}" for head in heads for suffix in SUFFIXES]
            for name, values in part.items():
                np.testing.assert_array_equal(values, whole[name])
    assert [[output.name for output in one.session.get_outputs()] for one in opened] == [
        ["b/boxes", "b/scores"], ["c/boxes", "c/scores", "e/boxes", "e/scores"]
    ]  # fmt: skip
    for head in names:
        engine.run(_red_square(1), [head])
    assert len(engine._parts) == MAX_PARTS
    assert len(opened) == 7
    engine.run(_red_square(1), ["f"])
    assert len(opened) == 7


def test_an_engine_is_freed_with_its_last_user(tmp_path):
    write_model(tmp_path / "m.onnx", heads=("one", "two"))
    engine = OnnxEngine(tmp_path / "m.onnx", threads=1)
    engine.run(_red_square(1), ["one"])
    gone = weakref.ref(engine)
    gc.disable()  # a cycle would keep it, and its memory, until the next collection
    try:
        del engine
        assert gone() is None
    finally:
        gc.enable()


def test_threads_may_share_an_engine(tmp_path):
    write_model(tmp_path / "m.onnx", heads=("one", "two"))
    engine = OnnxEngine(tmp_path / "m.onnx", threads=1)
    inputs = [_red_square(row + 1)[row : row + 1] for row in range(8)] * 6
    expected = [engine.run(one)["one/scores"] for one in inputs]
    for heads in (None, ["one"]):
        with ThreadPoolExecutor(4) as pool:
            found = list(pool.map(lambda one, h=heads: engine.run(one, h)["one/scores"], inputs))
        for a, b in zip(expected, found, strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"metadata": ""}, "no model description"),
        ({"metadata": "{}"}, "heads"),
        ({"metadata": '{"version": 9}'}, "version"),
        ({"skip_output": "aerial/scores"}, "no output aerial/scores"),
    ],
)
def test_files_of_others_are_refused(tmp_path, options, message):
    write_model(tmp_path / "m.onnx", **options)
    with pytest.raises(UserError, match=rf"m\.onnx: .*{message}"):
        open_engine(tmp_path / "m.onnx")


def test_a_spec_that_contradicts_the_input_is_refused(tmp_path):
    other = write_model(tmp_path / "other.onnx", size=64)
    write_model(tmp_path / "m.onnx", size=128, metadata=other.to_json())
    with pytest.raises(UserError, match=r"input must be .* \(batch, 3, 64, 64\)"):
        open_engine(tmp_path / "m.onnx")


def test_what_is_no_onnx_file_is_refused_in_one_line(tmp_path):
    (tmp_path / "m.onnx").write_bytes(b"nonsense" * 50)
    with pytest.raises(UserError, match=r"m\.onnx: ONNX Runtime cannot open it") as caught:
        open_engine(tmp_path / "m.onnx")
    assert "\n" not in str(caught.value)


def test_metadata_that_is_no_text_is_damage(tmp_path):
    write_model(tmp_path / "m.onnx")
    data = (tmp_path / "m.onnx").read_bytes()
    (tmp_path / "m.onnx").write_bytes(data.replace(b"category_ids", b"category\xffids"))
    with pytest.raises(UserError, match=r"m\.onnx: is damaged: its metadata is no text"):
        open_engine(tmp_path / "m.onnx")


def test_a_file_without_an_input_is_refused(tmp_path):
    onnx = pytest.importorskip("onnx")
    write_model(tmp_path / "m.onnx")
    model = onnx.load(tmp_path / "m.onnx")
    del model.graph.input[:]
    pictures = onnx.numpy_helper.from_array(np.zeros((1, 3, 128, 128), np.float32), "images")
    model.graph.initializer.append(pictures)
    onnx.save(model, tmp_path / "m.onnx")
    with pytest.raises(UserError, match=r"input must be one float32 tensor .*, got \[\]"):
        open_engine(tmp_path / "m.onnx")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("none.onnx", "no such file"),
        ("none", "neither a file"),
        ("model.engine", "no engine of vision_heads"),
        ("none.engine", "no such file"),
        ("model.pt", r"cannot run \.pt; this version runs \.onnx, \.safetensors, \.engine, \.xml"),
    ],
)
def test_unknown_models_are_refused(tmp_path, monkeypatch, name, message):
    monkeypatch.chdir(tmp_path)
    for other in ("model.pt", "model.engine"):
        (tmp_path / other).write_bytes(b"x")
    with pytest.raises(UserError, match=message):
        open_engine(name)
    for threads in (0, 100_000):  # so many would take minutes to start, or end the process
        with pytest.raises(UserError, match="threads must be a whole number of 1 to 1024"):
            open_engine("model.onnx", threads=threads)


def test_names_mean_shipped_weights(tmp_path, monkeypatch):
    monkeypatch.setattr(engines, "assets", lambda kind: tmp_path / kind)
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "b-n.safetensors").write_bytes(b"")
    assert resolve_weights("b-n") == tmp_path / "weights" / "b-n.safetensors"
    (tmp_path / "weights" / "b-n.onnx").write_bytes(b"")
    assert resolve_weights("b-n") == tmp_path / "weights" / "b-n.onnx"
    assert resolve_weights("b-n.safetensors") == tmp_path / "weights" / "b-n.safetensors"
    with pytest.raises(UserError, match=r"neither .* nor shipped weights \(b-n\)"):
        resolve_weights("c-n")


def test_without_torch_safetensors_say_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.delitem(sys.modules, "vision_heads.torch_engine", raising=False)
    original = builtins.__import__

    def without_torch(name, *args, **kwargs):
        if name.split(".")[0] in {"torch", "ultralytics"}:
            raise ImportError(name)
        return original(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without_torch)
    (tmp_path / "m.safetensors").write_bytes(b"")
    with pytest.raises(UserError, match=r'pip install "vision-heads\[train\]"'):
        open_engine(tmp_path / "m.safetensors")


def test_class_names_and_ids_come_from_the_file(tmp_path):
    write_model(tmp_path / "m.onnx")
    head = open_engine(tmp_path / "m.onnx").spec.heads[0]
    assert head.classes == CLASSES and head.category_ids == (3, 5, 9)


def test_the_benchmark_of_slicing_really_runs_on_the_session_it_made(tmp_path, monkeypatch):
    from tools.bench.slicing import default_session

    write_model(tmp_path / "a.onnx", size=32)
    engine = OnnxEngine(tmp_path / "a.onnx", threads=1)
    names = output_names(engine.spec)
    other = SimpleNamespace(run=lambda names, feed: [np.full((1, 1), 7.0) for _ in names])
    monkeypatch.setattr(onnxruntime, "InferenceSession", lambda *a, **k: other)
    found = default_session(engine).run(np.zeros((1, 3, 32, 32), np.float32))
    assert {name: value.item() for name, value in found.items()} == dict.fromkeys(names, 7.0)
