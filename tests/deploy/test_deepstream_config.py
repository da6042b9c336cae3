"""The Gst-nvinfer configuration: known keys, and values that agree with model and letterbox."""

from __future__ import annotations

import configparser
import hashlib
import re
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from tests.deploy.scripts import DEPLOY, load
from tests.runtime.tiny_onnx import write_model
from vision_heads.errors import UserError
from vision_heads.export.inspect import read_onnx
from vision_heads.geometry.letterbox import plan
from vision_heads.geometry.rotations import from_euler
from vision_heads.heads.base import DecodeOptions
from vision_heads.runtime.tensorrt_file import EngineFacts, write_engine
from vision_heads.spec import METADATA_KEY, HeadSpec, ModelSpec, NmsSpec

FOLDER = DEPLOY / "deepstream"
configure = load("deepstream/configure.py")
pose_probe = load("deepstream/pose_probe.py")

# Keys of the groups [property] and [class-attrs-...], by NVIDIA's API reference of DeepStream 7
# (gstnvinfer_property_parser.h) and the page "Gst-nvinfer" of its developer guide.
PROPERTY_KEYS = """
    batch-size classifier-async-mode classifier-threshold classifier-type cluster-mode
    crop-objects-to-roi-boundary custom-lib-path custom-network-config disable-output-host-copy
    dump-input-tensor dump-output-tensor enable-dbscan enable-dla engine-create-func-name
    filter-out-class-ids force-implicit-batch-dim gie-unique-id gpu-id infer-dims
    input-object-max-height input-object-max-width input-object-min-height input-object-min-width
    input-tensor-from-meta int8-calib-file interval labelfile-path layer-device-precision
    maintain-aspect-ratio mean-file model-color-format model-engine-file model-file
    net-scale-factor network-input-order network-mode network-type num-detected-classes offsets
    onnx-file operate-on-class-ids operate-on-gie-id output-blob-names output-instance-mask
    output-io-formats output-tensor-meta parse-bbox-func-name
    parse-bbox-instance-mask-func-name parse-classifier-func-name process-mode proto-file
    scaling-compute-hw scaling-filter secondary-reinfer-interval segmentation-output-order
    segmentation-threshold symmetric-padding tensor-meta-pool-size tlt-encoded-model
    tlt-model-key uff-file uff-input-blob-name uff-input-dims uff-input-order use-dla-core
    workspace-size
"""
CLASS_KEYS = """
    bg-color border-color dbscan-min-score detected-max-h detected-max-w detected-min-h
    detected-min-w eps group-threshold minBoxes nms-iou-threshold post-cluster-threshold
    pre-cluster-threshold roi-bottom-offset roi-top-offset threshold topk
"""
PROPERTIES, CLASS_ATTRIBUTES = set(PROPERTY_KEYS.split()), set(CLASS_KEYS.split())


def read(path):
    parser = configparser.RawConfigParser(delimiters=("=",), strict=True)
    parser.optionxform = str
    with path.open(encoding="utf-8") as file:
        parser.read_file(file)
    return {name: dict(parser[name]) for name in parser.sections()}


@pytest.fixture(scope="module")
def shipped():
    return read(FOLDER / configure.CONFIG)


@pytest.fixture(scope="module")
def model(repository):
    content = read_onnx(repository / "weights" / "aerial-n.onnx")
    return ModelSpec.from_json(content.metadata[METADATA_KEY], "aerial-n.onnx")


def test_every_key_is_one_of_nvinfers(shipped):
    assert set(shipped) == {"property", "class-attrs-all"}
    assert set(shipped["property"]) <= PROPERTIES
    assert set(shipped["class-attrs-all"]) <= CLASS_ATTRIBUTES


def test_pictures_are_prepared_as_the_network_was_trained(shipped, model):
    found, size = shipped["property"], model.input
    assert float(found["net-scale-factor"]) == size.scale == 1 / 255
    assert "offsets" not in found and "mean-file" not in found
    assert size.color == "rgb" and found["model-color-format"] == "0"  # 0 RGB, 1 BGR, 2 grey
    assert found["infer-dims"] == f"3;{size.height};{size.width}"
    assert found["maintain-aspect-ratio"] == "1" and found["scaling-filter"] == "1"  # bilinear
    # nvinfer pads on both sides only when told to; our letterbox is centred.
    fit = plan(1920, 1080, size.height, size.width)
    assert found["symmetric-padding"] == "1" and fit.top == (size.height - 360) // 2 > 0


def test_results_are_read_as_the_model_gives_them(shipped, model):
    found, every = shipped["property"], shipped["class-attrs-all"]
    (head,) = model.heads
    assert found["network-type"] == "0" and found["cluster-mode"] == "2"  # detector, NMS
    assert int(found["num-detected-classes"]) == len(head.classes)
    assert (FOLDER / found["labelfile-path"]).read_text().splitlines() == list(head.classes)
    assert found["output-blob-names"].split(";") == ["aerial/boxes", "aerial/scores"]
    parser = (FOLDER / "nvdsinfer_vision_heads.cpp").read_text()
    assert f"bool {found['parse-bbox-func-name']}(" in parser
    assert f"{found['custom-lib-path']}:" in (FOLDER / "Makefile").read_text()
    assert float(every["pre-cluster-threshold"]) == DecodeOptions().conf
    assert float(every["nms-iou-threshold"]) == DecodeOptions().iou
    assert found["network-mode"] == "0"


def test_the_shipped_files_are_what_configure_writes(repository, tmp_path):
    onnx = tmp_path / "aerial-n.onnx"
    onnx.write_bytes((repository / "weights" / "aerial-n.onnx").read_bytes())
    done = subprocess.run(
        [sys.executable, FOLDER / "configure.py", onnx],
        env={"PYTHONPATH": str(repository), "PATH": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    for name in (configure.CONFIG, configure.LABELS):
        assert (tmp_path / name).read_text() == (FOLDER / name).read_text()


def test_a_model_with_poses_gets_the_parser_of_poses():
    pose = HeadSpec(name="pose", kind="headpose", classes=("head",))
    cars = HeadSpec(name="cars", classes=("car", "van"))
    spec = ModelSpec(heads=(pose, cars))
    groups = configure.settings(spec, "m.onnx", batch=4, precision="fp16", engine="m.engine")
    found = groups["property"]
    assert set(found) <= PROPERTIES and set(groups["class-attrs-all"]) <= CLASS_ATTRIBUTES
    # nvinfer takes no other cluster mode where objects have masks.
    assert (found["network-type"], found["cluster-mode"]) == ("3", "4")
    assert found["parse-bbox-instance-mask-func-name"] == "NvDsInferParseCustomVisionHeadsPose"
    assert found["output-instance-mask"] == "1" and "parse-bbox-func-name" not in found
    assert found["output-blob-names"].split(";") == [
        "cars/boxes", "cars/scores", "pose/boxes", "pose/scores", "pose/rotation"
    ]  # fmt: skip
    assert (found["batch-size"], found["network-mode"]) == ("4", "2")
    assert found["model-engine-file"] == "m.engine" and found["num-detected-classes"] == "3"
    # In the order in which the parser counts classes.
    assert configure.labels(spec) == "cars:car\ncars:van\npose:head\n"
    broken = HeadSpec(name="cars", classes=("a\nb", "van"))  # a line more would shift the others
    assert configure.labels(spec.model_copy(update={"heads": (broken,)})) == "a\\nb\nvan\n"


def test_a_batch_that_the_file_does_not_take_is_refused(tmp_path):
    write_model(tmp_path / "m.onnx", size=64, batch=2)
    with pytest.raises(UserError, match=re.escape("takes 2 frames a call, not 1")):
        configure.configure(tmp_path / "m.onnx")
    with pytest.raises(UserError, match="batch must be at least 1, got 0"):
        configure.configure(tmp_path / "m.onnx", batch=0)
    configure.configure(tmp_path / "m.onnx", batch=2)
    assert read(tmp_path / configure.CONFIG)["property"]["batch-size"] == "2"


def test_the_plan_of_an_engine_is_unpacked_for_nvinfer(tmp_path):
    onnx, engine = tmp_path / "m.onnx", tmp_path / "m.engine"
    spec = write_model(onnx, size=64, batch=None)
    facts = EngineFacts(
        spec=spec, source="m.onnx", precision="fp16", strongly_typed=True, batch=(1, 2, 4),
        source_sha256=hashlib.sha256(onnx.read_bytes()).hexdigest(), tensorrt="10.3.0",
        gpu="Orin", capability="8.7", driver="12.6", cuda="12.6", rebuild="vh export",
    )  # fmt: skip
    write_engine(engine, facts, b"a plan of TensorRT's")
    configure.configure(onnx, batch=4, engine=engine)
    found = read(tmp_path / configure.CONFIG)["property"]
    assert found["model-engine-file"] == "m.plan"
    assert (tmp_path / "m.plan").read_bytes() == b"a plan of TensorRT's"
    with pytest.raises(UserError, match=r"m\.engine: takes 1 to 4 frames a call, not 8"):
        configure.configure(onnx, batch=8, engine=engine)
    write_model(onnx, size=96, batch=None)
    with pytest.raises(UserError, match=r"was built from m\.onnx, which is another file"):
        configure.configure(onnx, batch=4, engine=engine)


def test_a_file_that_does_nms_itself_is_refused(tmp_path):
    spec = write_model(tmp_path / "m.onnx", size=64)
    text = spec.model_copy(update={"nms": NmsSpec(conf=0.25, iou=0.6, max_det=9)}).to_json()
    model = onnx_of(tmp_path / "m.onnx", text)
    with pytest.raises(UserError, match="does NMS itself; export it without --nms"):
        configure.configure(model)


def onnx_of(path, text):
    """Add the outputs of a file that does NMS, and its description."""
    onnx = pytest.importorskip("onnx")
    model = onnx.load(str(path))
    for suffix, kind in (("labels", onnx.TensorProto.INT32), ("count", onnx.TensorProto.INT32)):
        shape = [1, 9] if suffix == "labels" else [1, 1]
        constant = onnx.helper.make_tensor(f"{suffix}_of", kind, shape, [0] * shape[1])
        model.graph.initializer.append(constant)
        model.graph.node.append(
            onnx.helper.make_node("Identity", [f"{suffix}_of"], [f"aerial/{suffix}"])
        )
        model.graph.output.append(
            onnx.helper.make_tensor_value_info(f"aerial/{suffix}", kind, shape)
        )
    onnx.helper.set_model_props(model, {METADATA_KEY: text})
    onnx.save(model, str(path))
    return path


class Chain:
    """A node of DeepStream's linked lists."""

    def __init__(self, *items):
        self.data = items[0]
        self.next = Chain(*items[1:]) if len(items) > 1 else None


def test_the_probe_reads_rotations_from_the_objects(capsys):
    rotation = from_euler([10, -120, 5]).astype(np.float32)
    rect = SimpleNamespace(left=1.0, top=2.0, width=30.0, height=40.0)

    def found(label, values):
        mask = SimpleNamespace(size=4 * values.size, get_mask_array=lambda: values)
        return SimpleNamespace(obj_label=label, confidence=0.5, rect_params=rect, mask_params=mask)

    objects = Chain(found("head", rotation), found("car", np.zeros(0, np.float32)))
    frames = Chain(
        SimpleNamespace(frame_num=7, obj_meta_list=objects),
        SimpleNamespace(frame_num=8, obj_meta_list=None),
    )
    batch = SimpleNamespace(frame_meta_list=frames)
    as_it_is = SimpleNamespace(cast=lambda data: data)
    pyds = SimpleNamespace(
        gst_buffer_get_nvds_batch_meta=lambda _: batch,
        NvDsFrameMeta=as_it_is,
        NvDsObjectMeta=as_it_is,
    )
    pose_probe.probe(pyds, object())
    assert capsys.readouterr().out.splitlines() == [
        "7 head 0.500 1.0 2.0 30.0 40.0 pitch 10.0 yaw -120.0 roll 5.0",
        "7 car 0.500 1.0 2.0 30.0 40.0",
    ]
    np.testing.assert_array_equal(pose_probe.rotation_of(rotation.ravel()), rotation)
