"""Decoded pictures of a training run: the most recent, or all of them in memory."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2

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

    Args:
        height, width: of the network's input.
        detail: see `AugmentConfig.detail`.
        recent: how many pictures are kept when not all are.
    """

    def __init__(self, height: int, width: int, detail: float, recent: int) -> None:
        self._box = (round(height * detail), round(width * detail))
        self._recent = recent
        self._seen: OrderedDict[Path, Picture] = OrderedDict()
        self._all: dict[Path, Picture] | None = None

    def __call__(self, sample: Sample) -> Picture:
        """Return a sample's picture, BGR uint8 (h, w, 3), not to be written to.

        Raises:
            UserError: it cannot be read, or has another size than its labels say.
        """
        if self._all is not None:
            if sample.image not in self._all:
                self._all[sample.image] = self._read(sample)
            return self._all[sample.image]
        picture = self._seen.pop(sample.image, None)
        if picture is None:
            picture = self._read(sample)
        self._seen[sample.image] = picture
        if len(self._seen) > self._recent:
            self._seen.popitem(last=False)
        return picture

    def size_of(self, sample: Sample) -> tuple[int, int]:
        """Return the (width, height) at which a sample's picture is kept."""
        fit = plan(sample.width, sample.height, *self._box)
        if fit.resized_width >= sample.width or fit.resized_height >= sample.height:
            return sample.width, sample.height
        return fit.resized_width, fit.resized_height

    def keep_all(self, samples: Iterable[Sample], threads: int) -> None:
        """Read every picture now and keep it; do this before workers are forked.

        Raises:
            UserError: a picture cannot be read, or memory does not suffice.
        """
        if self._all is not None:
            return
        unique = list({sample.image: sample for sample in samples}.values())
        needed = sum(3 * w * h for w, h in map(self.size_of, unique))
        free = available_memory()
        require(
            free is None or needed < 0.9 * free,
            f"augment.cache: {len(unique)} pictures need {needed / GIB:.1f} GiB of memory and"
            f" {(free or 0) / GIB:.1f} GiB are free; use cache: none",
        )
        with ThreadPoolExecutor(max(threads, 1)) as pool:
            pictures = list(pool.map(self._read, unique))
        self._all = {s.image: picture for s, picture in zip(unique, pictures, strict=True)}

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
        """Leave pictures behind where workers are spawned: each reads what it needs."""
        kept: dict[Path, Picture] | None = None if self._all is None else {}
        return {**self.__dict__, "_seen": OrderedDict(), "_all": kept}


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
