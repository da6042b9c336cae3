"""The ROS 2 node on stand-ins for ROS: messages are plain objects with the fields of the real ones.

Nothing here runs ROS. The stand-ins have the fields of sensor_msgs, vision_msgs 4 and
geometry_msgs, and refuse any other, as ROS's own classes do.
"""

from __future__ import annotations

import ast
import sys
from dataclasses import dataclass, field
from types import ModuleType, SimpleNamespace
from typing import ClassVar
from xml.etree import ElementTree

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.deploy.scripts import DEPLOY
from tests.runtime.tiny_onnx import picture, write_model
from vision_heads.errors import UserError
from vision_heads.geometry.rotations import direction, from_euler
from vision_heads.results import Detections, Result

PACKAGE = DEPLOY / "ros2"


@dataclass(slots=True)
class Header:
    stamp: float = 0.0
    frame_id: str = ""


@dataclass(slots=True)
class Image:
    header: Header = field(default_factory=Header)
    height: int = 0
    width: int = 0
    encoding: str = ""
    is_bigendian: int = 0
    step: int = 0
    data: bytes = b""


@dataclass(slots=True)
class Point:
    x: float = 0.0
    y: float = 0.0
    z: float = 0.0


@dataclass(slots=True)
class Quaternion:
    x: float = 0.0
    y: float = 0.0
    z: float = 0.0
    w: float = 1.0


@dataclass(slots=True)
class Pose:
    position: Point = field(default_factory=Point)
    orientation: Quaternion = field(default_factory=Quaternion)


@dataclass(slots=True)
class PoseWithCovariance:
    pose: Pose = field(default_factory=Pose)
    covariance: list = field(default_factory=lambda: [0.0] * 36)


@dataclass(slots=True)
class ObjectHypothesis:
    class_id: str = ""
    score: float = 0.0


@dataclass(slots=True)
class ObjectHypothesisWithPose:
    hypothesis: ObjectHypothesis = field(default_factory=ObjectHypothesis)
    pose: PoseWithCovariance = field(default_factory=PoseWithCovariance)


@dataclass(slots=True)
class Point2D:
    x: float = 0.0
    y: float = 0.0


@dataclass(slots=True)
class Pose2D:
    position: Point2D = field(default_factory=Point2D)
    theta: float = 0.0


@dataclass(slots=True)
class BoundingBox2D:
    center: Pose2D = field(default_factory=Pose2D)
    size_x: float = 0.0
    size_y: float = 0.0


@dataclass(slots=True)
class Detection2D:
    header: Header = field(default_factory=Header)
    results: list = field(default_factory=list)
    bbox: BoundingBox2D = field(default_factory=BoundingBox2D)
    id: str = ""


@dataclass(slots=True)
class Detection2DArray:
    header: Header = field(default_factory=Header)
    detections: list = field(default_factory=list)


class Node:
    """What the node uses of rclpy.node.Node; `given` are its parameters."""

    given: ClassVar[dict] = {}

    def __init__(self, name):
        self.name, self.published, self.logged, self.callbacks = name, [], [], {}

    def declare_parameter(self, name, default, descriptor=None):
        value = type(self).given.get(name, default)
        free = getattr(descriptor, "dynamic_typing", False)
        assert free or type(value) is type(default), f"{name}: rclpy keeps a parameter's type"
        return SimpleNamespace(value=value)

    def create_publisher(self, kind, topic, depth):
        assert (kind, topic) == (Detection2DArray, "detections")
        return SimpleNamespace(publish=self.published.append)

    def create_subscription(self, kind, topic, callback, quality):
        assert kind is Image and quality.depth == 1
        self.callbacks[topic] = callback

    def get_logger(self):
        return SimpleNamespace(
            info=self.logged.append, error=lambda text, **_: self.logged.append(text)
        )


@pytest.fixture
def ros(monkeypatch):
    """Put stand-ins where `import rclpy` and its like look, and the package on the path."""
    modules = {
        "rclpy": {}, "rclpy.node": {"Node": Node},
        "rclpy.executors": {"ExternalShutdownException": type("Ended", (Exception,), {})},
        "rclpy.qos": {
            "QoSProfile": SimpleNamespace,
            "QoSReliabilityPolicy": SimpleNamespace(BEST_EFFORT="best effort"),
        },
        "rcl_interfaces": {}, "rcl_interfaces.msg": {"ParameterDescriptor": SimpleNamespace},
        "sensor_msgs": {}, "sensor_msgs.msg": {"Image": Image},
        "vision_msgs": {},
        "vision_msgs.msg": {
            "Detection2D": Detection2D, "Detection2DArray": Detection2DArray,
            "ObjectHypothesisWithPose": ObjectHypothesisWithPose,
        },
    }  # fmt: skip
    for name, content in modules.items():
        module = ModuleType(name)
        module.__dict__.update(content)
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr(Node, "given", {})
    monkeypatch.syspath_prepend(str(PACKAGE))
    yield sys.modules["rclpy"]
    for name in [name for name in sys.modules if name.partition(".")[0] == "vision_heads_ros"]:
        del sys.modules[name]


@pytest.fixture
def conversion(ros):
    from vision_heads_ros import conversion

    return conversion


def sent(image, encoding="bgr8", padding=0, header=None):
    """Return a message of a BGR picture, its rows padded with 77."""
    codes = {
        "bgr8": None, "8UC3": None, "rgb8": cv2.COLOR_BGR2RGB, "mono8": cv2.COLOR_BGR2GRAY,
        "8UC1": cv2.COLOR_BGR2GRAY, "bgra8": cv2.COLOR_BGR2BGRA, "rgba8": cv2.COLOR_BGR2RGBA,
    }  # fmt: skip
    code = codes[encoding]
    pixels = image if code is None else cv2.cvtColor(image, code)
    rows = pixels.reshape(len(image), -1)
    padded = np.pad(rows, ((0, 0), (0, padding)), constant_values=77)
    return Image(
        header or Header(), *image.shape[:2], encoding, 0, padded.shape[1], padded.tobytes()
    )


@pytest.mark.parametrize("padding", [0, 5])
@pytest.mark.parametrize("encoding", ["bgr8", "8UC3", "rgb8", "bgra8", "rgba8", "mono8", "8UC1"])
def test_every_encoding_gives_the_same_bgr_picture(conversion, encoding, padding):
    image = np.random.default_rng(0).integers(0, 256, (7, 5, 3), np.uint8)
    found = conversion.picture_of(sent(image, encoding, padding))
    expected = image
    if encoding in ("mono8", "8UC1"):
        expected = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), cv2.COLOR_GRAY2BGR)
    np.testing.assert_array_equal(found, expected)
    assert found.flags.c_contiguous and found.dtype == np.uint8


def test_pictures_that_cannot_be_read_are_named(conversion):
    good = sent(np.zeros((4, 6, 3), np.uint8))
    for change, message in (
        ({"encoding": "bayer_rggb8"}, "encoding 'bayer_rggb8'; there are bgr8"),
        ({"data": good.data[:-1]}, "does not fit 71 bytes"),
        ({"step": 17}, "a step of 17 does not fit"),
        ({"width": 0, "step": 0}, "0 x 4 bgr8"),
    ):
        broken = Image(**({name: getattr(good, name) for name in Image.__slots__} | change))
        with pytest.raises(UserError, match=message):
            conversion.picture_of(broken)


@given(st.tuples(*[st.floats(-180, 180)] * 3))
def test_quaternions_turn_the_nose_where_it_points(angles):
    sys.path.insert(0, str(PACKAGE))
    try:
        from vision_heads_ros.conversion import quaternion_of
    finally:
        sys.path.remove(str(PACKAGE))
    rotation = from_euler(angles)
    x, y, z, w = quaternion_of(rotation)
    assert abs(x * x + y * y + z * z + w * w - 1) < 1e-9
    # Minus z of a frame turned by the quaternion, by the textbook's third column.
    nose = -np.array([2 * (x * z + w * y), 2 * (y * z - w * x), 1 - 2 * (x * x + y * y)])
    # The optical frame looks into the picture, our image axes out of it.
    np.testing.assert_allclose(nose * (1, 1, -1), direction(rotation), atol=1e-6)


def test_results_fill_the_fields_of_the_messages(conversion):
    rotation = from_euler([[0, 0, 0], [0, 90, 0]])
    result = Result(
        {
            "cars": Detections([[10, 20, 50, 40]], [0.75], [1], ("van", "car"), track=[7]),
            "pose": Detections([[0, 0, 8, 8]] * 2, [0.5, 0.25], [0, 0], ("head",), (), rotation),
        },
        64,
        48,
    )
    header = Header(12.5, "camera_optical")
    messages = conversion.Messages(Detection2DArray, Detection2D, ObjectHypothesisWithPose)
    array = conversion.message_of(result, header, messages)
    assert array.header is header and len(array.detections) == 3
    car, ahead, aside = array.detections
    assert car.header is header and car.id == "7" and ahead.id == ""
    assert (car.bbox.center.position, car.bbox.size_x, car.bbox.size_y) == (Point2D(30, 30), 40, 20)
    assert car.results[0].hypothesis == ObjectHypothesis("cars:car", 0.75)
    assert car.results[0].pose == PoseWithCovariance()
    assert ahead.results[0].hypothesis == ObjectHypothesis("pose:head", 0.5)
    assert ahead.results[0].pose.pose.orientation == Quaternion()
    turned = aside.results[0].pose.pose.orientation
    # The nose points to the picture's left: a quarter about the axis that points down.
    np.testing.assert_allclose(
        (turned.x, turned.y, turned.z, turned.w), (0, 0.5**0.5, 0, 0.5**0.5), atol=1e-6
    )
    del result.heads["pose"]
    (alone,) = conversion.message_of(result, header, messages).detections
    assert alone.results[0].hypothesis.class_id == "car"


def test_the_node_publishes_what_the_model_finds(ros, tmp_path):
    from vision_heads_ros.node import Detector

    write_model(tmp_path / "tiny.onnx")
    Node.given = {"weights": str(tmp_path / "tiny.onnx"), "classes": "red, green", "threads": 1}
    node = Detector()
    assert node.logged == ["ready, heads: aerial"]
    image = picture(128, 128, {"red": [(16, 32, 16)], "blue": [(64, 64, 16)]})
    header = Header(1.0, "camera")
    node.callbacks["image"](sent(image, "rgb8", padding=2, header=header))
    (array,) = node.published
    (found,) = array.detections
    assert array.header is header
    assert found.results[0].hypothesis == ObjectHypothesis("red", 1.0)
    assert (found.bbox.center.position, found.bbox.size_x) == (Point2D(24, 40), 16)
    node.callbacks["image"](Image(encoding="yuv422", height=2, width=2, step=4, data=b"12345678"))
    assert len(node.published) == 1 and "encoding 'yuv422'" in node.logged[-1]


def test_wrong_parameters_end_the_program_with_one_line(ros, tmp_path):
    from vision_heads_ros import node

    ended = []
    ros.init = lambda: None
    ros.try_shutdown = lambda: ended.append(True)
    ros.spin = lambda running: None
    write_model(tmp_path / "tiny.onnx")
    for chosen, message in (
        ({"weights": "nothing.onnx"}, r"detector: nothing\.onnx: no such file"),
        ({"weights": str(tmp_path / "tiny.onnx"), "classes": "cow"}, "detector: classes: no class"),
        ({"weights": str(tmp_path / "tiny.onnx"), "conf": 7.0}, "detector: conf must be in 0..1"),
        ({"weights": str(tmp_path / "tiny.onnx"), "conf": 7}, "detector: conf must be in 0..1"),
        ({"conf": "high"}, "detector: conf must be a number, got 'high'"),
        ({"slice": 0.5}, r"detector: slice must be a whole number, got 0\.5"),
        ({"max_det": True}, "detector: max_det must be a whole number, got True"),
        ({"classes": 3}, "detector: classes must be a text, got 3"),
    ):
        Node.given = chosen
        with pytest.raises(SystemExit, match=message):
            node.main()
    assert ended == [True] * 8


def test_the_package_is_whole(ros):
    tree = ElementTree.parse(PACKAGE / "package.xml").getroot()
    name = tree.findtext("name")
    assert name == "vision_heads_ros" and tree.get("format") == "3"
    assert tree.findtext("export/build_type") == "ament_python"
    assert (PACKAGE / "resource" / name).is_file()
    needed = {element.text for element in tree.findall("exec_depend")}
    imported = {
        node.module.partition(".")[0]
        for node in ast.walk(ast.parse((PACKAGE / name / "node.py").read_text()))
        if isinstance(node, ast.ImportFrom) and node.module
    }
    ours = {"__future__", "sys", "typing", "numpy", name, "vision_heads"}
    assert "vision_msgs" in imported and imported - ours <= needed
    setup = (PACKAGE / "setup.py").read_text()
    assert f'NAME = "{name}"' in setup and "detector = {NAME}.node:main" in setup
    assert tree.findtext("version") in setup
    for file in ("launch/detector.launch.py", "package.xml", f"resource/{name}"):
        assert (PACKAGE / file).is_file() and file.replace(name, "{NAME}") in setup
    cfg = (PACKAGE / "setup.cfg").read_text()
    assert cfg.count(f"$base/lib/{name}") == 2


def test_the_launch_file_sets_parameters_the_node_has(ros):
    from vision_heads_ros.node import DEFAULTS

    made = []

    def module(name, **content):
        found = ModuleType(name)
        found.__dict__.update(content)
        sys.modules[name] = found

    def remember(kind):
        return lambda *args, **given: made.append((kind, args, given)) or (kind, args, given)

    names = ("launch", "launch.actions", "launch.substitutions", "launch_ros",
             "launch_ros.actions", "launch_ros.parameter_descriptions")  # fmt: skip
    try:
        module("launch", LaunchDescription=lambda entries: entries)
        module("launch.actions", DeclareLaunchArgument=remember("argument"))
        module("launch.substitutions", LaunchConfiguration=lambda name: f"$({name})")
        module("launch_ros")
        module("launch_ros.actions", Node=remember("node"))
        module("launch_ros.parameter_descriptions", ParameterValue=lambda v, value_type: v)
        scope: dict = {}
        code = (PACKAGE / "launch" / "detector.launch.py").read_text()
        exec(compile(code, "detector.launch.py", "exec"), scope)
        scope["generate_launch_description"]()
    finally:
        for name in names:
            sys.modules.pop(name, None)
    (node,) = [given for kind, _, given in made if kind == "node"]
    assert set(node["parameters"][0]) <= set(DEFAULTS)
    assert (node["package"], node["executable"]) == ("vision_heads_ros", "detector")
    assert dict(node["remappings"]) == {"image": "$(image)", "detections": "$(detections)"}
    declared = {args[0]: given["default_value"] for kind, args, given in made if kind == "argument"}
    assert declared["weights"] == DEFAULTS["weights"]
    assert float(declared["conf"]) == DEFAULTS["conf"]
