"""Scenes for trackers and counters: frames with known objects, drawn up or filmed."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np

from vision_heads.media.frames import Frame
from vision_heads.results import Detections, Result
from vision_heads.stream.seen import Seen

NAMES = ("car", "van", "truck")
SIZE = (640, 480)
FILMED = (256, 144)


def found(boxes, labels=None, scores=None, names=NAMES, rotation=None, track=None):
    """Detections of boxes (N, 4); cars of score 0.9 unless said otherwise."""
    boxes = np.asarray(boxes, np.float32).reshape(-1, 4)
    number = len(boxes)
    return Detections(
        boxes,
        np.full(number, 0.9) if scores is None else scores,
        np.zeros(number, np.int64) if labels is None else labels,
        names,
        rotation=rotation,
        track=track,
    )


def seen(detections, index=0, time=None, source="a", image=None, size=SIZE):
    """A frame with what was found in it, by head; one head called "vehicles" if not a dict."""
    heads = detections if isinstance(detections, dict) else {"vehicles": detections}
    picture = np.zeros((size[1], size[0], 3), np.uint8) if image is None else image
    frame = Frame(source, index, index / 25 if time is None else time, 0.0, picture)
    return Seen(frame, Result(dict(heads), picture.shape[1], picture.shape[0]))


def around(x, y, side=24):
    """A square box with this centre."""
    return [x - side / 2, y - side / 2, x + side / 2, y + side / 2]


@lru_cache(maxsize=1)
def parking(folder: Path):
    """Frames (BGR, 256 x 144) of a real car park, and the moving cars in each, found by their
    difference to the empty ground. 12.5 frames a second; two cars drive up, two drive down.
    """
    video = cv2.VideoCapture(str(folder / "video" / "car-detection.mp4"))
    frames = []
    while True:
        there, frame = video.read()
        if not there:
            break
        frames.append(cv2.resize(frame, FILMED, interpolation=cv2.INTER_AREA))
    video.release()
    ground = np.median(np.stack(frames[::12]), axis=0)
    return frames, [found(_moving(frame, ground), names=("car",)) for frame in frames]


def _moving(frame, ground):
    # The camera's exposure answers to white cars: compare at equal brightness.
    gain = np.median(frame) / np.median(ground)
    apart = np.abs(frame - ground * gain).max(axis=2) > 28
    mask = cv2.morphologyEx(apart.astype(np.uint8), cv2.MORPH_CLOSE, np.ones((9, 9)))
    _, _, blobs, _ = cv2.connectedComponentsWithStats(mask)
    return [[x, y, x + w, y + h] for x, y, w, h, area in blobs[1:] if area > 250]
