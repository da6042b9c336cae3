"""The node: sensor_msgs/Image on `image` in, vision_msgs/Detection2DArray on `detections` out."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import rclpy
from rcl_interfaces.msg import ParameterDescriptor
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node
from rclpy.qos import QoSProfile, QoSReliabilityPolicy
from sensor_msgs.msg import Image
from vision_msgs.msg import Detection2D, Detection2DArray, ObjectHypothesisWithPose

from vision_heads.errors import UserError, require
from vision_heads.runtime.predictor import load
from vision_heads_ros.conversion import Messages, message_of, picture_of

MESSAGES = Messages(Detection2DArray, Detection2D, ObjectHypothesisWithPose)
DEFAULTS: dict[str, Any] = {
    "weights": "aerial-n",  # a model file or the name of shipped weights
    "conf": 0.25,
    "iou": 0.6,
    "max_det": 1000,
    "classes": "",  # comma-separated; all when empty
    "heads": "",
    "slice": 0,  # tile size in pixels; 0 for whole pictures
    "threads": 0,  # of the network; 0 for all cores
}


class Detector(Node):  # type: ignore[misc]
    """Looks at the newest picture; those that arrive meanwhile are left out, so delay never grows.

    Raises:
        UserError: a parameter is wrong; the message names it.
    """

    def __init__(self) -> None:
        super().__init__("detector")
        given = {name: self._parameter(name, default) for name, default in DEFAULTS.items()}
        self._predictor = load(given.pop("weights"), threads=given.pop("threads") or None)
        self._options = {
            "classes": _listed(given.pop("classes")),
            "heads": _listed(given.pop("heads")),
            "slicing": given.pop("slice") or None,
            **given,
        }
        # A wrong parameter ends the node here, and the first picture need not wait.
        self._predictor(np.zeros((32, 32, 3), np.uint8), keep_image=False, **self._options)
        self._publisher = self.create_publisher(Detection2DArray, "detections", 10)
        newest = QoSProfile(depth=1, reliability=QoSReliabilityPolicy.BEST_EFFORT)
        self.create_subscription(Image, "image", self._look, newest)
        heads = ", ".join(head.name for head in self._predictor.spec.heads)
        self.get_logger().info(f"ready, heads: {heads}")

    def _parameter(self, name: str, default: Any) -> Any:
        # Checked here: rclpy refuses conf:=1, as it is no float, and by a traceback.
        any_type = ParameterDescriptor(dynamic_typing=True)
        value = self.declare_parameter(name, default, any_type).value
        if isinstance(default, float) and type(value) is int:
            return float(value)
        kind = {float: "a number", int: "a whole number", str: "a text"}[type(default)]
        require(type(value) is type(default), f"{name} must be {kind}, got {value!r}")
        return value

    def _look(self, message: Image) -> None:
        try:
            picture = picture_of(message)
            result = self._predictor(picture, keep_image=False, **self._options)
        except UserError as error:
            # A camera that sends what we cannot read sends it thirty times a second.
            self.get_logger().error(str(error), throttle_duration_sec=5.0)
            return
        self._publisher.publish(message_of(result, message.header, MESSAGES))


def _listed(text: str) -> list[str] | None:
    return [part.strip() for part in text.split(",") if part.strip()] or None


def main() -> None:
    """Run until ROS shuts down."""
    rclpy.init()
    try:
        rclpy.spin(Detector())
    except (KeyboardInterrupt, ExternalShutdownException):
        return
    except UserError as error:
        sys.exit(f"detector: {error}")
    finally:
        rclpy.try_shutdown()
