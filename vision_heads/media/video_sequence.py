"""Folders and patterns of pictures as a video of a given rate."""

from __future__ import annotations

import time as clock
from collections.abc import Iterator

from vision_heads.errors import UserError
from vision_heads.media.frames import End, Frame, Reason
from vision_heads.media.images import ImageError, read_image
from vision_heads.media.video import OpenOptions, VideoSpec, pictures_of
from vision_heads.paths import is_device


class SequenceSource:
    """Pictures in the order of their names, 2 before 10; see `FrameSource`.

    A picture that cannot be read is left out; its number and time are not given to another.

    Attributes:
        damaged: pictures that could not be read.
    """

    live = False

    def __init__(self, spec: VideoSpec, options: OpenOptions) -> None:
        self.name = spec.name
        self.end: End | None = None
        self.damaged = 0
        self._where = spec.where
        self._fps = options.fps
        self._stopped = False

    def stop(self) -> None:
        """End the iterator before its next frame."""
        self._stopped = True

    def __iter__(self) -> Iterator[Frame]:
        """Yield every picture that can be read."""
        try:
            files = pictures_of(self._where)
        except UserError as error:
            self.end = End("failed", str(error))
            return
        first = ""
        for index, path in enumerate(files):
            if self._stopped:
                self.end = End("stopped")
                return
            try:
                if is_device(path):
                    raise ImageError(f"{path}: a pipe or device, no picture")
                image = read_image(path)
            except ImageError as error:
                self.damaged += 1
                first = first or str(error)
                continue
            yield Frame(self.name, index, index / self._fps, clock.time(), image)
        if not self.damaged:
            self.end = End("finished")
            return
        reason: Reason = "failed" if self.damaged == len(files) else "finished"
        message = f"{self._where}: {self.damaged} of {len(files)} pictures cannot be read: {first}"
        self.end = End(reason, message)
