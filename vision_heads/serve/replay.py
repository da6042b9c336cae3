"""Video files as if they were cameras: at their own speed, over and over."""

from __future__ import annotations

import threading
import time as clock
from collections.abc import Callable, Iterator
from functools import partial

from vision_heads.media.frames import End, Frame, FrameSource, Pixels


class Replay:
    """A file that never ends; see `FrameSource`.

    Args:
        opener: makes the file's source, once for each time it is played.

    Attributes:
        damaged: frames so far that could not be decoded.
    """

    live = True

    def __init__(self, opener: Callable[[], FrameSource]) -> None:
        self._opener = opener
        self._inner = opener()
        self._stopped = threading.Event()
        self.damaged = 0
        self.name = self._inner.name
        self.end: End | None = None

    def stop(self) -> None:
        """End before the next frame."""
        self._stopped.set()
        self._inner.stop()

    def __iter__(self) -> Iterator[Frame]:
        """Yield frames when they are due; numbers and times go on over the repeats."""
        index, begin, offset = 0, clock.monotonic(), 0.0
        while True:
            last, count = 0.0, 0
            before = self.damaged
            for frame in self._inner:
                count += 1
                self.damaged = before + self._inner.damaged
                step = max(frame.time - last, 0.0)
                last = frame.time
                if self._stopped.wait(max(begin + offset + frame.time - clock.monotonic(), 0)):
                    break
                # When the machine was asleep or too slow, the lost time is not made up for.
                begin = max(begin, clock.monotonic() - offset - frame.time - 1.0)
                received = clock.time()
                # Its pixels are made when somebody asks for them.
                pixels = partial(_image_of, frame)
                yield Frame(self.name, index, offset + frame.time, received, pixels)
                index += 1
            if self._finished(count):
                return
            offset += last + (step if count > 1 else 0.04)
            self.damaged = before + self._inner.damaged
            self._inner = self._opener()

    def _finished(self, count: int) -> bool:
        """Note why there is no further round, if there is none."""
        end = self._inner.end
        if self._stopped.is_set():
            self.end = End("stopped")
        elif end is not None and end.reason == "failed":
            self.end = end
        elif not count:
            self.end = End("failed", f"{self.name}: has no pictures")
        return self.end is not None


def _image_of(frame: Frame) -> Pixels:
    return frame.image
