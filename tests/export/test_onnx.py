import copy

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from vision_heads.errors import UserError
from vision_heads.export.graph import Exported, Twofold
from vision_heads.export.inspect import read_onnx
from vision_heads.export.onnx import export_onnx
from vision_heads.export.parity import ParityError
from vision_heads.measure import METADATA_KEY as MEASURES_KEY
from vision_heads.measure import Measures, measure
from vision_heads.network import fuse
from vision_heads.spec import METADATA_KEY, ModelSpec


def test_file_agrees_with_network_and_carries_its_spec(network, pictures, tmp_path):
    file = export_onnx(network, tmp_path / "m.onnx", pictures=pictures)
    assert file.outputs == {"aerial/boxes": (1, 200, 4), "aerial/scores": (1, 200, 3)}
    assert file.parity.pictures == 3 and file.parity.candidates == 600
    assert file.parity.differences["boxes"] <= 0.01
    assert file.parity.candidates_that_score > 100  # else the proof would be about nothing
    model = onnx.load(tmp_path / "m.onnx")
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    assert ModelSpec.from_json(metadata[METADATA_KEY], "m") == network.spec
    assert Measures.from_json(metadata[MEASURES_KEY]) == measure(network.spec)
    assert [tuple(d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim)] == [
        (1, 3, 128, 192)
    ]
    assert model.opset_import[0].version == 17
    assert [path.name for path in tmp_path.iterdir()] == ["m.onnx"]


def test_exporting_leaves_the_network_as_it_was(network, tmp_path):
    before = copy.deepcopy(network.state_dict())
    export_onnx(network, tmp_path / "m.onnx")
    after = network.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize("opset", [14, 17, 20])
def test_open_batch_two_heads_and_every_opset(two_heads, pictures, tmp_path, opset):
    path = tmp_path / "m.onnx"
    file = export_onnx(two_heads, path, dynamic_batch=True, opset=opset, pictures=pictures)
    assert file.outputs["near/boxes"] == ("batch", 50, 4)
    assert file.outputs["far/scores"] == ("batch", 50, 2)
    assert file.parity.candidates == 2 * 3 * 50
    session = onnxruntime.InferenceSession(str(path))
    for count in (1, 5):
        out = session.run(None, {"images": np.zeros((count, 3, 128, 128), np.float32)})
        assert [len(values) for values in out] == [count] * 4


def test_size_and_candidates_of_choice_end_up_in_the_spec(network, pictures, tmp_path):
    file = export_onnx(
        network, tmp_path / "m.onnx", imgsz=(64, 96), candidates=20000, pictures=pictures
    )
    cells = sum((64 // stride) * (96 // stride) for stride in (4, 8, 16, 32))
    assert file.outputs["aerial/boxes"] == (1, cells, 4)
    assert (file.spec.input.height, file.spec.input.width) == (64, 96)
    assert file.spec.candidates == 20000
    assert network.spec.candidates == 200


@pytest.mark.parametrize(
    ("arguments", "name", "message"),
    [
        ({"opset": 13}, "m.onnx", "14 to 20"),
        ({"opset": 21}, "m.onnx", "14 to 20"),
        ({"imgsz": (100, 128)}, "m.onnx", "input.height: must be a multiple of 32"),
        ({"candidates": 0}, "m.onnx", "candidates"),
        ({}, "m.pt", "must end in .onnx"),
        ({}, "nowhere/m.onnx", "no such folder"),
        ({"pictures": []}, "m.onnx", "no pictures"),
    ],
)
def test_mistakes_are_named_and_leave_nothing(network, tmp_path, arguments, name, message):
    with pytest.raises(UserError, match=message):
        export_onnx(network, tmp_path / name, **arguments)
    assert not list(tmp_path.iterdir())


def test_a_file_that_disagrees_never_appears(network, pictures, tmp_path, monkeypatch):
    def off_by_little(model, spec):
        # The last box layer of P2: shifts sides by a fraction of a pixel.
        weight = next(
            i for i in model.graph.initializer if i.name.endswith("box_branches.p2.2.bias")
        )
        values = onnx.numpy_helper.to_array(weight).copy()
        values[:16] += np.linspace(0, 0.5, 16, dtype=np.float32)
        weight.CopyFrom(onnx.numpy_helper.from_array(values, weight.name))
        original(model, spec)

    from vision_heads.export import onnx as module

    original = module._describe
    monkeypatch.setattr(module, "_describe", off_by_little)
    (tmp_path / "m.onnx").write_bytes(b"the one before")
    with pytest.raises(ParityError, match="boxes by"):
        export_onnx(network, tmp_path / "m.onnx", pictures=pictures)
    assert (tmp_path / "m.onnx").read_bytes() == b"the one before"
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("which", ["network", "two_heads"])
def test_rearranging_changes_nothing_but_the_last_bits(request, which):
    network = request.getfixturevalue(which)
    exported = Exported(network, network.spec).eval()
    fused = fuse(copy.deepcopy(network))
    assert sum(isinstance(module, Twofold) for module in exported.modules()) >= 7
    images = torch.rand(1, 3, network.spec.input.height, network.spec.input.width)
    with torch.inference_mode():
        features, rearranged = fused.features(images), exported.network.features(images)
    for name, maps in features.items():
        for level, values in maps.items():
            torch.testing.assert_close(rearranged[name][level], values, atol=1e-5, rtol=1e-5)


def test_graph_has_no_split_and_no_shape_arithmetic(network, tmp_path):
    content = read_onnx(export_onnx(network, tmp_path / "m.onnx").path)
    assert not {"Split", "Shape", "ConstantOfShape", "Range", "BatchNormalization", "If"} & set(
        content.operators
    )
    assert content.operators["TopK"] == 1


def test_head_poses_agree_within_a_tenth_of_a_degree(posed, pictures, tmp_path):
    file = export_onnx(posed, tmp_path / "m.onnx", dynamic_batch=True, pictures=pictures)
    assert file.outputs["pose/rotation"] == ("batch", 80, 3, 3)
    assert file.parity.differences["rotation"] < 0.1
    assert list(file.outputs) == [
        "pose/boxes", "pose/scores", "pose/rotation", "car/boxes", "car/scores"
    ]  # fmt: skip
    session = onnxruntime.InferenceSession(str(tmp_path / "m.onnx"))
    (rotation,) = session.run(["pose/rotation"], {"images": np.zeros((1, 3, 128, 160), np.float32)})
    assert rotation.dtype == np.float32 and rotation.std() > 0.1
    eye = np.broadcast_to(np.eye(3), rotation.shape)
    np.testing.assert_allclose(rotation.swapaxes(2, 3) @ rotation, eye, atol=1e-5)
