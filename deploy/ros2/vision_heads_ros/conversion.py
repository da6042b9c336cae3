"""Between ROS messages and vision_heads. Imports nothing of ROS: message classes are handed in.

Fields are those of sensor_msgs/Image and of vision_msgs 4 (ROS 2 Humble and later).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from vision_heads.errors import require
from vision_heads.geometry.rotations import to_euler
from vision_heads.results import Detections, Result

_CHANNELS = {"bgr8": 3, "8UC3": 3, "rgb8": 3, "mono8": 1, "8UC1": 1, "bgra8": 4, "rgba8": 4}
_TO_BGR = {
    "rgb8": cv2.COLOR_RGB2BGR,
    "mono8": cv2.COLOR_GRAY2BGR,
    "8UC1": cv2.COLOR_GRAY2BGR,
    "bgra8": cv2.COLOR_BGRA2BGR,
    "rgba8": cv2.COLOR_RGBA2BGR,
}


@dataclass(frozen=True, slots=True)
class Messages:
    """Classes of vision_msgs.msg, called without arguments."""

    Detection2DArray: Callable[[], Any]
    Detection2D: Callable[[], Any]
    ObjectHypothesisWithPose: Callable[[], Any]


def picture_of(message: Any) -> NDArray[np.uint8]:
    """Return the BGR picture (height, width, 3) of a sensor_msgs/Image.

    Args:
        message: its encoding bgr8, rgb8, mono8, bgra8, rgba8, 8UC3 (taken as BGR) or 8UC1; rows
            may be longer than their pixels (`step`).

    Raises:
        UserError: another encoding, or less data than height and step promise.
    """
    encoding, height, width = message.encoding, message.height, message.width
    require(
        encoding in _CHANNELS,
        f"image: encoding {encoding!r}; there are {', '.join(_CHANNELS)}. image_proc or "
        "image_transport can convert others",
    )
    channels, step = _CHANNELS[encoding], message.step
    data = np.frombuffer(message.data, np.uint8)
    require(
        height > 0 and width > 0 and step >= width * channels and data.size >= height * step,
        f"image: {width} x {height} {encoding} with a step of {step} does not fit "
        f"{data.size} bytes",
    )
    rows = data[: height * step].reshape(height, step)[:, : width * channels]
    picture = rows.reshape(height, width, channels)
    if encoding in _TO_BGR:
        return np.asarray(cv2.cvtColor(picture, _TO_BGR[encoding]), np.uint8)
    return np.ascontiguousarray(picture)


def message_of(result: Result, header: Any, messages: Messages) -> Any:
    """Return a vision_msgs/Detection2DArray of everything found in one picture.

    Args:
        result: of the picture.
        header: the picture's own std_msgs/Header: time and frame of the results.
        messages: classes to make.

    Returns:
        Each detection with one hypothesis: `class_id` is the class's name, "head:class" where
        the model has several heads; boxes are in pixels of the picture; the orientation of a
        head pose is in `pose.pose.orientation`, see `quaternion_of`.
    """
    several = len(result.heads) > 1
    array = messages.Detection2DArray()
    array.header = header
    array.detections = [
        _detection(found, row, f"{name}:" if several else "", header, messages)
        for name, found in result.heads.items()
        for row in range(len(found))
    ]
    return array


def quaternion_of(rotation: ArrayLike) -> tuple[float, float, float, float]:
    """Return a head's orientation as x, y, z, w, in the camera's optical frame (REP 103).

    That frame has x to the right, y down, z into the picture. (0, 0, 0, 1) looks straight into
    the camera: the nose is along minus z of the turned frame.

    Args:
        rotation: (3, 3) in image axes, as in `Detections.rotation`.
    """
    vector = to_euler(rotation, "opencv")
    angle = float(np.linalg.norm(vector))
    # np.sinc(x) is sin(pi x) / (pi x), exact at 0.
    x, y, z = (vector * np.sinc(angle / (2 * np.pi)) / 2).tolist()
    return x, y, z, float(np.cos(angle / 2))


def _detection(found: Detections, row: int, prefix: str, header: Any, messages: Messages) -> Any:
    detection = messages.Detection2D()
    detection.header = header
    x1, y1, x2, y2 = found.xyxy[row].astype(float).tolist()
    detection.bbox.center.position.x = (x1 + x2) / 2
    detection.bbox.center.position.y = (y1 + y2) / 2
    detection.bbox.size_x, detection.bbox.size_y = x2 - x1, y2 - y1
    if found.track is not None and found.track[row] >= 0:
        detection.id = str(found.track[row])
    hypothesis = messages.ObjectHypothesisWithPose()
    hypothesis.hypothesis.class_id = prefix + found.names[found.class_id[row]]
    hypothesis.hypothesis.score = float(found.score[row])
    if found.rotation is not None and np.isfinite(found.rotation[row]).all():
        orientation = hypothesis.pose.pose.orientation
        orientation.x, orientation.y, orientation.z, orientation.w = quaternion_of(
            found.rotation[row]
        )
    detection.results = [hypothesis]
    return detection
