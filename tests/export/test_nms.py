"""NMS in the graph: the runtime's results, once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from tests.export.conftest import lively
from vision_heads.errors import UserError
from vision_heads.export import nms as module
from vision_heads.export.fp16 import to_fp16
from vision_heads.export.nms import NmsError, add_nms, prove_nms
from vision_heads.export.onnx import export_onnx
from vision_heads.export.parity import batches
from vision_heads.runtime.engines import open_engine
from vision_heads.runtime.predictor import load
from vision_heads.spec import InputSpec, ModelSpec, NmsSpec

NMS = NmsSpec(conf=0.2, iou=0.5, max_det=40)


@pytest.fixture
def plain(posed_onnx) -> Path:
    return posed_onnx


@pytest.fixture(scope="module")
def file(posed_onnx, tmp_path_factory) -> Path:
    target = tmp_path_factory.mktemp("nms") / "nms.onnx"
    add_nms(posed_onnx, target, NMS)
    return target


def test_the_graph_finds_what_the_runtime_finds(plain, file, pictures):
    size = open_engine(plain).spec.input
    found, different = prove_nms(plain, file, batches(pictures, size, 2))
    assert found > 20 and different == 0


def test_outputs_have_fixed_shapes_and_the_spec_says_so(file):
    engine = open_engine(file)
    assert engine.spec.nms == NMS
    found = engine.run(np.zeros((2, 3, 128, 160), np.float32))
    assert {name: values.shape for name, values in found.items()} == {
        "pose/boxes": (2, 40, 4), "pose/scores": (2, 40), "pose/rotation": (2, 40, 3, 3),
        "pose/labels": (2, 40), "pose/count": (2, 1),
        "car/boxes": (2, 40, 4), "car/scores": (2, 40), "car/labels": (2, 40), "car/count": (2, 1),
    }  # fmt: skip
    assert found["pose/count"].dtype == found["pose/labels"].dtype == np.int32


def test_predictions_are_equal_and_nms_is_done_once(plain, file, pictures, monkeypatch):
    before, after = load(plain), load(file)
    options = {"conf": 0.2, "iou": 0.5, "max_det": 40}
    for picture in pictures:
        expected, found = before(picture, **options), after(picture, **options)
        for head in ("pose", "car"):
            np.testing.assert_allclose(found[head].xyxy, expected[head].xyxy, atol=1e-3)
            np.testing.assert_array_equal(found[head].class_id, expected[head].class_id)
        np.testing.assert_allclose(found["pose"].rotation, expected["pose"].rotation, atol=1e-5)
    seen = []
    import vision_heads.heads.detect.decode as decoding

    real = decoding.nms

    def watched(boxes, values, labels, iou, limit):
        seen.append(iou)
        return real(boxes, values, labels, iou, limit)

    monkeypatch.setattr(decoding, "nms", watched)
    after(pictures[0], **options)
    assert set(seen) == {1.0}  # no box can overlap another by more than that


def test_several_classes_are_judged_each_for_itself(two_heads_onnx, pictures, tmp_path):
    plain = two_heads_onnx
    add_nms(plain, tmp_path / "n.onnx", NmsSpec(conf=0.1, iou=0.3, max_det=300))
    engine = open_engine(tmp_path / "n.onnx")
    assert engine.spec.nms.max_det == 50  # no more than there are candidates
    found, different = prove_nms(
        plain, tmp_path / "n.onnx", batches(pictures, engine.spec.input, 1)
    )
    assert found > 20 and different == 0


def test_each_head_gives_as_many_as_it_has_candidates(four_heads, pictures, tmp_path):
    """In a small network a head without P2 has fewer cells than the limit, and than another."""
    spec = four_heads.spec.model_copy(update={"input": InputSpec(height=64, width=64)})
    plain = export_onnx(lively(spec), tmp_path / "four.onnx").path
    add_nms(plain, tmp_path / "n.onnx", NmsSpec(conf=0.1, iou=0.5, max_det=40))
    engine = open_engine(tmp_path / "n.onnx")
    size = engine.spec.input
    most = {
        head.name: min(40, sum(size.height * size.width // 4**level for level in head.levels))
        for head in engine.spec.heads
    }
    assert most["animals"] < most["aerial"] == engine.spec.nms.max_det
    found = engine.run(np.zeros((1, 3, size.height, size.width), np.float32))
    assert {name: found[f"{name}/boxes"].shape[1] for name in most} == most
    total, different = prove_nms(plain, tmp_path / "n.onnx", batches(pictures, size, 1))
    assert total > 20 and different == 0


def test_an_fp16_file_takes_it_too_and_a_file_with_nms_can_become_fp16(plain, file, tmp_path):
    to_fp16(plain, tmp_path / "half.onnx")
    add_nms(tmp_path / "half.onnx", tmp_path / "half-nms.onnx", NMS)
    to_fp16(file, tmp_path / "nms-half.onnx")
    images = np.random.default_rng(0).random((1, 3, 128, 160)).astype(np.float32)
    first, second = (
        open_engine(tmp_path / name).run(images) for name in ("half-nms.onnx", "nms-half.onnx")
    )
    np.testing.assert_array_equal(first["car/boxes"], second["car/boxes"])


def test_what_the_file_cannot_give_is_refused(file, pictures):
    predictor = load(file)
    with pytest.raises(UserError, match=r"gives no scores below 0\.2"):
        predictor(pictures[0], conf=0.1, iou=0.5)
    with pytest.raises(UserError, match=r"NMS is made for 0\.5"):
        predictor(pictures[0], conf=0.3, iou=0.7)
    with pytest.raises(UserError, match="has NMS in its graph already"):
        add_nms(file, file.with_name("twice.onnx"), NMS)


def test_disagreement_is_a_fault(plain, file, pictures, monkeypatch):
    def off_by_a_pixel(spec, head, outputs, row, options):
        arrays, options = real(spec, head, outputs, row, options)
        if spec.nms:
            arrays["boxes"] = arrays["boxes"] + 1
        return arrays, options

    real = module.arrays_of
    monkeypatch.setattr(module, "arrays_of", off_by_a_pixel)
    with pytest.raises(NmsError, match="disagrees"):
        prove_nms(plain, file, batches(pictures, open_engine(plain).spec.input, 2))


def test_engines_get_the_plugin_where_it_can_tell_all(plain, two_heads_onnx, tmp_path):
    add_nms(two_heads_onnx, tmp_path / "trt.onnx", NMS, way="tensorrt")
    model = onnx.load(str(tmp_path / "trt.onnx"))
    plugins = [node for node in model.graph.node if node.op_type == "EfficientNMS_TRT"]
    assert [list(node.output) for node in plugins] == [
        [f"{head}/{name}" for name in ("count", "boxes", "scores", "labels")]
        for head in ("near", "far")
    ]
    settings = {a.name: onnx.helper.get_attribute_value(a) for a in plugins[0].attribute}
    assert settings["max_output_boxes"] == 40
    assert settings["iou_threshold"] == pytest.approx(0.5)
    assert settings["score_threshold"] == pytest.approx(0.2)
    assert (settings["box_coding"], settings["background_class"]) == (0, -1)
    assert "NonMaxSuppression" not in {node.op_type for node in model.graph.node}
    # The plugin does not say which candidate a box was: poses need the standard operator.
    add_nms(plain, tmp_path / "posed.onnx", NMS, way="tensorrt")
    names = [node.op_type for node in onnx.load(str(tmp_path / "posed.onnx")).graph.node]
    assert names.count("NonMaxSuppression") == names.count("EfficientNMS_TRT") == 1


def test_equal_scores_and_empty_pictures(file):
    found = open_engine(file).run(np.zeros((1, 3, 128, 160), np.float32))
    count = found["car/count"].item()
    assert 0 <= count <= 40
    assert (found["car/scores"][0, count:] == 0).all()
    kept = found["car/scores"][0, :count]
    assert (np.diff(kept) <= 0).all()


def test_descriptions_without_nms_read_as_before(plain):
    spec = open_engine(plain).spec
    assert "nms" not in spec.to_json()
    described = spec.model_copy(update={"nms": NMS})
    assert ModelSpec.from_json(described.to_json(), "test").nms == NMS
