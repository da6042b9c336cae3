"""Cameras at this machine, by OpenCV."""

from __future__ import annotations

import time as clock
from collections.abc import Iterator

import cv2

from vision_heads.media.frames import End, Frame
from vision_heads.media.video import VideoSpec


class CameraSource:
    """A webcam by number or /dev/videoN; see `FrameSource`. One object is one connection.

    Times are those of arrival: drivers' own timestamps differ too much to be of use.
    """

    live = True
    damaged = 0

    def __init__(self, spec: VideoSpec) -> None:
        self.name = spec.name
        self.end: End | None = None
        self._where = spec.where
        self._stopped = False

    def stop(self) -> None:
        """End the iterator after the picture it is waiting for."""
        self._stopped = True

    def __iter__(self) -> Iterator[Frame]:
        """Yield pictures as the camera gives them."""
        device = int(self._where) if self._where.isdecimal() else self._where
        camera = cv2.VideoCapture(device)
        try:
            if not camera.isOpened():
                self.end = End("failed", f"camera {self._where}: cannot be opened")
                return
            camera.set(cv2.CAP_PROP_BUFFERSIZE, 1)
            begin, index = 0.0, 0
            while not self._stopped:
                good, image = camera.read()
                if not good:
                    self.end = End("failed", f"camera {self._where}: gives no more pictures")
                    return
                now = clock.monotonic()
                begin = begin if index else now
                yield Frame(self.name, index, now - begin, clock.time(), image)  # type: ignore[arg-type]
                index += 1
            self.end = End("stopped")
        finally:
            camera.release()
