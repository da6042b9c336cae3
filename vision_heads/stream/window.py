"""A window a source on this machine's screen."""

from __future__ import annotations

import os
import sys
import threading

import cv2

from vision_heads.errors import require
from vision_heads.media.frames import Pixels
from vision_heads.stream.seen import Event, Seen

_QUIT = (27, ord("q"))


class Windows:
    """Shows the newest frame of each source; `refresh` belongs to the main thread.

    Raises:
        UserError: there is no screen, or OpenCV was built without windows.
    """

    name = "the screen"

    def __init__(self) -> None:
        screen = sys.platform != "linux" or any(
            os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY")
        )
        require(screen, "--show: there is no screen (DISPLAY is not set)")
        gui = [line for line in cv2.getBuildInformation().splitlines() if " GUI:" in line]
        require(
            not any("NONE" in line for line in gui),
            "--show: this OpenCV has no windows; opencv-python-headless is installed over it",
        )
        self._newest: dict[str, Pixels] = {}
        self._ended: list[str] = []
        self._lock = threading.Lock()

    def frame(self, seen: Seen) -> None:
        """Keep a frame until it is shown, or a newer one comes."""
        picture = seen.drawn()
        with self._lock:
            self._newest[seen.frame.source] = picture

    def event(self, event: Event, image: Pixels | None) -> None:
        """Leave events out."""

    def end(self, source: str) -> None:
        """Close the source's window when the main thread comes by."""
        with self._lock:
            self._ended.append(source)

    def close(self) -> None:
        """Close every window."""
        cv2.destroyAllWindows()

    def refresh(self) -> bool:
        """Show what is new; returns False when somebody pressed q or Escape."""
        with self._lock:
            newest, self._newest = self._newest, {}
            ended, self._ended = self._ended, []
        for source, picture in newest.items():
            cv2.imshow(source, picture)
        for source in ended:
            if cv2.getWindowProperty(source, cv2.WND_PROP_VISIBLE) >= 0:
                cv2.destroyWindow(source)
        return (cv2.waitKey(1) & 0xFF) not in _QUIT
