"""Where the pictures of a measurement come from: each contestant has a feed of its own."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from vision_heads.errors import UserError, require
from vision_heads.media.images import read_image
from vision_heads.media.sources import VIDEO_SUFFIXES, find_pictures
from vision_heads.paths import DEMO, assets

Pixels = NDArray[np.uint8]

MOST_PICTURES = 200
"""Pictures that are used of a folder, evenly spread: a measurement takes some tens of runs."""


class Feed(Protocol):
    """An endless row of pictures."""

    def next(self) -> Pixels:
        """Read and decode the next picture, BGR uint8 (H, W, 3)."""
        ...


@dataclass(frozen=True, slots=True)
class Source:
    """What pictures are taken from.

    Attributes:
        kind: "pictures" or "video".
        name: for the report.
        files: pictures, or the one video.
    """

    kind: str
    name: str
    files: tuple[Path, ...]

    def feed(self) -> Feed:
        """Return a feed that begins at the first picture."""
        return PictureFeed(self.files) if self.kind == "pictures" else VideoFeed(self.files[0])


def demo_source(kinds: Iterable[str]) -> Source:
    """Return the shipped pictures that show what heads of these kinds look for.

    Raises:
        UserError: they are not installed.
    """
    names = [DEMO[kind] for kind in dict.fromkeys(kinds)]
    folders = [assets("datasets") / name / "images" for name in names]
    for folder in folders:
        require(folder.is_dir(), f"the demo pictures are not installed ({folder}); give --source")
    found = find_pictures(folders)
    return Source("pictures", ", ".join(names), _spread([Path(file.path) for file in found.files]))


def find_source(sources: Sequence[str]) -> Source:
    """Tell what a user means by --source: pictures as `vh detect` takes them, or one video file.

    Raises:
        UserError: it is nothing that exists, or more than one video; a video, and PyAV is not
            installed.
    """
    videos = [name for name in sources if Path(name).suffix.lower() in VIDEO_SUFFIXES]
    if videos:
        require(len(sources) == 1, f"--source {videos[0]}: a video is measured by itself")
        require(Path(videos[0]).is_file(), f"--source {videos[0]}: no such file")
        from vision_heads.media.video_av import require_av  # noqa: PLC0415

        require_av()
        return Source("video", videos[0], (Path(videos[0]),))
    files = find_pictures(list(sources)).files
    return Source("pictures", ", ".join(sources), _spread([Path(file.path) for file in files]))


class PictureFeed:
    """Pictures of files, over and over.

    Args:
        files: at least one.
    """

    def __init__(self, files: Sequence[Path]) -> None:
        self._files = list(files)
        self._at = 0

    def next(self) -> Pixels:
        """Read and decode the next file; `ImageError` names one that cannot be read."""
        file = self._files[self._at % len(self._files)]
        self._at += 1
        return read_image(file)


class VideoFeed:
    """Frames of a video file, from the start again after the last.

    FFmpeg's threads decode ahead, as they do in `vh stream`; a frame's time is what one waits for
    it, and its conversion to BGR.

    Args:
        file: that PyAV can read.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._frames: Iterator[Pixels] = iter(())

    def next(self) -> Pixels:
        """Decode the next frame.

        Raises:
            UserError: the video has no frame that can be decoded.
        """
        for _ in range(2):
            frame = next(self._frames, None)
            if frame is not None:
                return frame
            self._frames = self._open()
        raise UserError(f"--source {self._file}: no frame of it can be decoded")

    def _open(self) -> Iterator[Pixels]:
        from vision_heads.media.video import VideoSpec, open_video  # noqa: PLC0415

        source = open_video(VideoSpec(self._file.stem, "file", False, str(self._file)))
        for frame in source:
            yield frame.image


def _spread(files: list[Path]) -> tuple[Path, ...]:
    if len(files) <= MOST_PICTURES:
        return tuple(files)
    at = np.linspace(0, len(files) - 1, MOST_PICTURES).round().astype(int)
    return tuple(files[index] for index in at)
