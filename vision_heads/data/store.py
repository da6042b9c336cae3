"""Decoded pictures of a training run: the most recent, or all of them, shared by the workers."""

from __future__ import annotations

import mmap
import multiprocessing
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from vision_heads.data.sample import Sample
from vision_heads.data.warp import Picture
from vision_heads.errors import UserError, require
from vision_heads.geometry.letterbox import plan
from vision_heads.media.images import read_image

GIB = 2**30


class PictureStore:
    """Gives samples' pictures, shrunk to what training needs and kept for the next use.

    A picture is what `letterbox` would put inside its border, at `detail` times the network's
    size, never enlarged. It depends on nothing but the file, so that what is kept where changes
    no training sample.

    The memory is shared with every process forked from the one that made the store: a picture
    is decoded once for all workers. Where workers are spawned instead, each has its own.

    Args:
        samples: every picture that will be asked for.
        height, width: of the network's input.
        detail: see `AugmentConfig.detail`.
        recent: how many pictures are kept, the latest decoded; None: all.

    Raises:
        UserError: all are to be kept and the memory does not suffice.
    """

    def __init__(
        self,
        samples: Iterable[Sample],
        height: int,
        width: int,
        detail: float,
        recent: int | None,
    ) -> None:
        self._box = (round(height * detail), round(width * detail))
        unique = {sample.image: sample for sample in samples}
        self._number = {file: i for i, file in enumerate(unique)}
        sizes = [3 * w * h for w, h in map(self.size_of, unique.values())]
        self._all = recent is None or recent >= len(sizes)
        if recent is None:
            _check_memory(len(sizes), sum(sizes))
        # One place a picture, or a ring of equal places.
        places = sizes if self._all else [max(sizes)] * (recent or 0)
        self._start = np.concatenate([[0], np.cumsum(places, dtype=np.int64)])
        self._allocate()

    def _allocate(self) -> None:
        """Reserve the memory; pages cost nothing until they are written to."""
        self._pixels = np.frombuffer(mmap.mmap(-1, max(int(self._start[-1]), 1)), np.uint8)
        places, pictures = len(self._start) - 1, len(self._number)
        table = np.frombuffer(mmap.mmap(-1, 8 * (pictures + 2 * places + 1)), np.int64)
        # Place of each picture; picture in each place; writes to each place so far; writes at
        # all. Numbers count from 1, 0 is none, as fresh memory is.
        cuts = np.cumsum([pictures, places, places])
        self._place, self._holds, self._stamp, self._writes = np.split(table, cuts)
        self._lock = multiprocessing.Lock()

    def __call__(self, sample: Sample) -> Picture:
        """Return a sample's picture, BGR uint8 (h, w, 3), not to be written to.

        Raises:
            UserError: it cannot be read, or has another size than its labels say.
        """
        number = self._number[sample.image]
        width, height = self.size_of(sample)
        picture = self._find(number, (height, width, 3))
        if picture is None:
            picture = self._read(sample)
            self._keep(number, picture)
        return picture

    def size_of(self, sample: Sample) -> tuple[int, int]:
        """Return the (width, height) at which a sample's picture is kept."""
        fit = plan(sample.width, sample.height, *self._box)
        if fit.resized_width >= sample.width or fit.resized_height >= sample.height:
            return sample.width, sample.height
        return fit.resized_width, fit.resized_height

    def _find(self, number: int, shape: tuple[int, int, int]) -> Picture | None:
        with self._lock:
            place = int(self._place[number]) - 1
            stamp = self._stamp[place]
        if place < 0:
            return None
        start = int(self._start[place])
        kept = self._pixels[start : start + shape[0] * shape[1] * shape[2]].reshape(shape)
        if self._all:
            return kept
        # Another process may take the place for another picture at any time.
        copy = kept.copy()
        with self._lock:
            return copy if self._stamp[place] == stamp else None

    def _keep(self, number: int, picture: Picture) -> None:
        with self._lock:
            if self._place[number]:
                return
            place = number if self._all else int(self._writes[0]) % len(self._holds)
            before = int(self._holds[place])
            if before:
                self._place[before - 1] = 0
            start = int(self._start[place])
            self._stamp[place] += 1
            self._pixels[start : start + picture.size] = picture.reshape(-1)
            self._holds[place], self._place[number] = number + 1, place + 1
            self._writes[0] += 1

    def _read(self, sample: Sample) -> Picture:
        picture = read_image(sample.image)
        height, width = picture.shape[:2]
        if (width, height) != (sample.width, sample.height):
            raise UserError(
                f"{sample.image}: is {width}x{height}, its labels are for"
                f" {sample.width}x{sample.height}"
            )
        size = self.size_of(sample)
        if size == (width, height):
            return picture
        return cv2.resize(picture, size, interpolation=cv2.INTER_LINEAR)  # type: ignore[return-value]

    def __getstate__(self) -> dict[str, Any]:
        """Leave the memory behind: only forked processes can share it."""
        shared = ("_pixels", "_place", "_holds", "_stamp", "_writes", "_lock")
        return {key: value for key, value in self.__dict__.items() if key not in shared}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._allocate()


def _check_memory(count: int, needed: int) -> None:
    free = available_memory()
    require(
        free is None or needed < 0.9 * free,
        f"augment.cache: {count} pictures need {needed / GIB:.1f} GiB of memory and"
        f" {(free or 0) / GIB:.1f} GiB are free; use cache: none",
    )


def available_memory() -> int | None:
    """Return the bytes that can be allocated without swapping, None where that is unknown."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    for line in lines:
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return None
