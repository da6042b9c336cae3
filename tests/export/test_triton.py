"""Triton model repositories, read back as Triton reads them: by a parser of protobuf text."""

from __future__ import annotations

import onnxruntime
import pytest

from tests.runtime.tiny_onnx import CLASSES, write_model
from vision_heads.errors import UserError
from vision_heads.export.triton import write_repository
from vision_heads.spec import METADATA_KEY, ModelSpec

# The parts of Triton's model_config.proto that are written, by its own field numbers.
# label 1 optional, 3 repeated; type 3 int64, 5 int32, 9 string, 11 message, 14 enum.
SUBSET = """
name: "subset.proto" package: "t" syntax: "proto3"
enum_type { name: "DataType"
  value { name: "TYPE_INVALID" number: 0 } value { name: "TYPE_BOOL" number: 1 }
  value { name: "TYPE_UINT8" number: 2 } value { name: "TYPE_FP16" number: 10 }
  value { name: "TYPE_FP32" number: 11 } }
message_type { name: "ModelInput"
  field { name: "name" number: 1 label: 1 type: 9 }
  field { name: "data_type" number: 2 label: 1 type: 14 type_name: ".t.DataType" }
  field { name: "dims" number: 4 label: 3 type: 3 } }
message_type { name: "ModelOutput"
  field { name: "name" number: 1 label: 1 type: 9 }
  field { name: "data_type" number: 2 label: 1 type: 14 type_name: ".t.DataType" }
  field { name: "dims" number: 3 label: 3 type: 3 } }
message_type { name: "ModelDynamicBatching" }
message_type { name: "ModelParameter"
  field { name: "string_value" number: 1 label: 1 type: 9 } }
message_type { name: "ModelConfig"
  field { name: "name" number: 1 label: 1 type: 9 }
  field { name: "platform" number: 2 label: 1 type: 9 }
  field { name: "max_batch_size" number: 4 label: 1 type: 5 }
  field { name: "input" number: 5 label: 3 type: 11 type_name: ".t.ModelInput" }
  field { name: "output" number: 6 label: 3 type: 11 type_name: ".t.ModelOutput" }
  field { name: "dynamic_batching" number: 11 label: 1 type: 11
          type_name: ".t.ModelDynamicBatching" }
  field { name: "parameters" number: 14 label: 3 type: 11
          type_name: ".t.ModelConfig.ParametersEntry" }
  nested_type { name: "ParametersEntry" options { map_entry: true }
    field { name: "key" number: 1 label: 1 type: 9 }
    field { name: "value" number: 2 label: 1 type: 11 type_name: ".t.ModelParameter" } } }
"""


@pytest.fixture(scope="module")
def parse():
    """Return a function from a model's folder to its parsed configuration."""
    pytest.importorskip("google.protobuf")
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format

    pool = descriptor_pool.DescriptorPool()
    pool.Add(text_format.Parse(SUBSET, descriptor_pb2.FileDescriptorProto()))
    message = message_factory.GetMessageClass(pool.FindMessageTypeByName("t.ModelConfig"))
    return lambda model: text_format.Parse((model / "config.pbtxt").read_text("ascii"), message())


def check_against_session(found, file, skip: int) -> None:
    """Every name, type and size of the configuration is the one ONNX Runtime reports."""
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    for listed, real in (
        (found.input, session.get_inputs()),
        (found.output, session.get_outputs()),
    ):
        assert [entry.name for entry in listed] == [value.name for value in real]
        for entry, value in zip(listed, real, strict=True):
            assert value.type == "tensor(float)" and entry.data_type == 11
            sizes = [side if isinstance(side, int) else -1 for side in value.shape]
            assert list(entry.dims) == sizes[skip:]


def test_the_shipped_model_is_served_with_all_its_axes(parse, repository, tmp_path):
    file = repository / "weights" / "aerial-n.onnx"
    model = write_repository(file, tmp_path / "models")
    assert model == tmp_path / "models" / "aerial-n"
    found = parse(model)
    assert (found.name, found.platform) == ("aerial-n", "onnxruntime_onnx")
    assert found.max_batch_size == 0 and not found.HasField("dynamic_batching")
    check_against_session(found, model / "1" / "model.onnx", skip=0)
    assert list(found.input[0].dims) == [1, 3, 640, 640]
    assert (model / "1" / "model.onnx").read_bytes() == file.read_bytes()
    (head,) = ModelSpec.from_json(found.parameters[METADATA_KEY].string_value, "config").heads
    assert (model / "aerial_labels.txt").read_text().splitlines() == list(head.classes)
    assert sorted(path.name for path in model.rglob("*") if path.is_file()) == [
        "aerial_labels.txt", "config.pbtxt", "model.onnx"
    ]  # fmt: skip


def test_a_class_is_one_line_of_the_labels(tmp_path):
    spec = write_model(tmp_path / "m.onnx")
    head = spec.heads[0].model_copy(update={"classes": ("a\nb", "green", "blue")})
    text = spec.model_copy(update={"heads": (head,)}).to_json()
    write_model(tmp_path / "m.onnx", metadata=text)
    model = write_repository(tmp_path / "m.onnx", tmp_path / "models")
    assert (model / "aerial_labels.txt").read_text() == "a\\nb\ngreen\nblue\n"


def test_batching_drops_the_batch_axis_and_needs_an_open_one(parse, tmp_path):
    file = tmp_path / "near-far.onnx"
    write_model(file, size=64, batch=None, heads=("near", "far"))
    found = parse(write_repository(file, tmp_path / "models", max_batch=8))
    assert found.max_batch_size == 8 and found.HasField("dynamic_batching")
    check_against_session(found, file, skip=1)
    assert {entry.name: list(entry.dims) for entry in found.output} == {
        "near/boxes": [49, 4], "near/scores": [49, 3],
        "far/boxes": [49, 4], "far/scores": [49, 3],
    }  # fmt: skip
    open_batch = parse(write_repository(file, tmp_path / "models"))
    assert list(open_batch.input[0].dims) == [-1, 3, 64, 64]
    check_against_session(open_batch, file, skip=0)
    write_model(tmp_path / "fixed.onnx", size=64)
    with pytest.raises(UserError, match=r"fixed.onnx: images has the shape .*--dynamic-batch"):
        write_repository(tmp_path / "fixed.onnx", tmp_path / "other", max_batch=2)
    assert not (tmp_path / "other").exists()


def test_names_and_text_that_need_quoting_survive(parse, tmp_path):
    spec = write_model(tmp_path / "odd.onnx", size=64)
    text = spec.model_copy(update={"provenance": {"data": 'a "quoted" \\ näme\nline'}}).to_json()
    write_model(tmp_path / "odd.onnx", size=64, metadata=text)
    found = parse(write_repository(tmp_path / "odd.onnx", tmp_path / "models"))
    assert found.parameters[METADATA_KEY].string_value == text


def test_a_model_is_replaced_and_others_are_left_alone(parse, tmp_path):
    models = tmp_path / "models"
    write_model(tmp_path / "a.onnx", size=64)
    write_model(tmp_path / "b.onnx", size=64)
    write_repository(tmp_path / "b.onnx", models)
    before = (models / "b" / "config.pbtxt").read_bytes()
    write_repository(tmp_path / "a.onnx", models)
    write_model(tmp_path / "a.onnx", size=96)
    model = write_repository(tmp_path / "a.onnx", models)
    assert list(parse(model).input[0].dims) == [1, 3, 96, 96]
    assert (model / "aerial_labels.txt").read_text().split() == list(CLASSES)
    assert (models / "b" / "config.pbtxt").read_bytes() == before


def test_what_cannot_be_served_is_refused_in_one_line(tmp_path):
    write_model(tmp_path / "plain.onnx", size=64, metadata="")
    (tmp_path / "torn.onnx").write_bytes(b"no graph")
    write_model(tmp_path / "a name.onnx", size=64)
    write_model(tmp_path / "good.onnx", size=64)
    (tmp_path / "file").write_text("")
    for file, folder, batch, message in (
        ("plain.onnx", "m", 0, "plain.onnx: carries no model description"),
        ("torn.onnx", "m", 0, "torn.onnx: ONNX Runtime cannot open it"),
        ("a name.onnx", "m", 0, "Triton names the model after the file"),
        ("none.onnx", "m", 0, "none.onnx: no such file"),
        ("good.engine", "m", 0, "made from a .onnx file"),
        ("good.onnx", "m", -1, "max_batch must be 0 or more, got -1"),
        ("good.onnx", "file", 0, "good: cannot be written"),
    ):
        with pytest.raises(UserError, match=message) as caught:
            write_repository(tmp_path / file, tmp_path / folder, max_batch=batch)
        assert "\n" not in str(caught.value)
