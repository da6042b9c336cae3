"""Files and runs with some heads of a model, against those with all."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from tests.export.conftest import lively
from vision_heads.errors import UserError
from vision_heads.export.inspect import read_onnx
from vision_heads.export.onnx import export_onnx
from vision_heads.runtime.engines import OnnxEngine
from vision_heads.spec import InputSpec, ModelSpec

SUBSETS = [
    ["aerial"], ["pose"], ["animals"], ["vehicles", "pose", "aerial"], ["aerial", "pose"],
    ["animals", "aerial"], ["vehicles"],
]  # fmt: skip


@pytest.fixture(scope="module")
def whole(four_heads, tmp_path_factory):
    """Export all heads, open for any number of pictures."""
    path = tmp_path_factory.mktemp("whole") / "all.onnx"
    return export_onnx(four_heads, path, dynamic_batch=True).path


@pytest.fixture(scope="module")
def images():
    rng = np.random.default_rng(0)
    return np.kron(rng.random((3, 3, 8, 10)), np.ones((16, 16))).astype(np.float32)


def test_every_head_is_proved(four_heads, pictures, tmp_path):
    file = export_onnx(four_heads, tmp_path / "m.onnx", pictures=pictures)
    assert file.parity.candidates == len(pictures) * 4 * 60
    assert set(file.parity.differences) == {"boxes", "scores", "rotation"}
    assert len(file.outputs) == 9


@pytest.mark.parametrize("heads", SUBSETS[2:5], ids=",".join)
def test_a_file_of_some_heads_gives_what_the_whole_file_gives(
    four_heads, whole, images, pictures, tmp_path, heads
):
    file = export_onnx(
        four_heads, tmp_path / "part.onnx", heads=heads, dynamic_batch=True, pictures=pictures
    )
    assert [head.name for head in file.spec.heads] == [
        head.name for head in four_heads.spec.heads if head.name in heads
    ]
    part, all_heads = OnnxEngine(file.path), OnnxEngine(whole)
    assert part.spec == file.spec
    found, expected = part.run(images), all_heads.run(images)
    assert set(found) == {name for name in expected if name.partition("/")[0] in heads}
    for name, values in found.items():
        np.testing.assert_allclose(values, expected[name], atol=2e-4, err_msg=name)
    assert file.size < whole.stat().st_size
    assert file.parity.candidates == len(pictures) * len(heads) * 60


def test_branches_of_other_heads_are_not_in_the_file(four_heads, tmp_path):
    """As many numbers as a network of that head with the same neck has."""
    file = export_onnx(four_heads, tmp_path / "part.onnx", heads=["animals"])
    alone = lively(
        ModelSpec(
            input=InputSpec(height=128, width=160),
            heads=(four_heads.spec.head("animals"),),
            lowest=2,
            candidates=60,
        )
    )
    fresh = export_onnx(alone, tmp_path / "alone.onnx")
    assert read_onnx(file.path).numbers == read_onnx(fresh.path).numbers
    assert file.operators == fresh.operators
    assert file.spec.branches == {} and file.spec.lowest == 2 and file.spec.merge == {}


@pytest.mark.parametrize("heads", SUBSETS, ids=",".join)
def test_a_run_of_some_heads_computes_what_the_whole_run_does_and_nothing_more(
    whole, images, heads, tmp_path
):
    engine = OnnxEngine(whole, threads=1)
    expected, found = engine.run(images), engine.run(images, heads)
    assert list(found) == [
        f"{head}/{suffix}" for head in heads for suffix in _suffixes(engine.spec, head)
    ]
    for name, values in found.items():
        np.testing.assert_array_equal(values, expected[name], err_msg=name)


def test_a_run_of_one_head_has_the_nodes_of_a_file_of_that_head(four_heads, whole, tmp_path):
    """Cutting the graph leaves no more than leaving the heads out before the export."""
    from vision_heads.runtime.prune import keep_outputs

    for head in ("aerial", "pose"):
        outputs = [f"{head}/{suffix}" for suffix in _suffixes(four_heads.spec, head)]
        part = onnx.load_from_string(keep_outputs(whole.read_bytes(), outputs))
        file = export_onnx(four_heads, tmp_path / "m.onnx", heads=[head], dynamic_batch=True)
        assert len(part.graph.node) == sum(file.operators.values())
        assert _numbers(part) == _numbers(onnx.load(file.path))


def test_onnx_runtime_itself_computes_everything(whole, images, tmp_path):
    """The reason for cutting graphs; were it otherwise one day, `prune` could go."""
    options = onnxruntime.SessionOptions()
    options.enable_profiling = True
    options.profile_file_prefix = str(tmp_path / "profile")
    counts = []
    for names in (None, ["animals/boxes"]):
        session = onnxruntime.InferenceSession(str(whole), options)
        session.run(names, {"images": images})
        counts.append(Path(session.end_profiling()).read_text().count("_kernel_time"))
    assert counts[0] == counts[1] > 100


@pytest.mark.parametrize(
    ("heads", "message"),
    [([], "--heads: none given"), (["animals", "plants"], "no head 'plants'; this model has")],
)
def test_unknown_heads_are_named(four_heads, tmp_path, heads, message):
    with pytest.raises(UserError, match=message):
        export_onnx(four_heads, tmp_path / "m.onnx", heads=heads)
    assert not list(tmp_path.iterdir())


def _suffixes(spec, head):
    more = ("rotation",) if spec.head(head).kind == "headpose" else ()
    return ("boxes", "scores", *more)


def _numbers(model):
    return sum(np.prod(constant.dims) for constant in model.graph.initializer)
