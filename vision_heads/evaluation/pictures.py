"""Which picture of a split is meant by the name that results give it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import Any

from vision_heads.data.sample import Sample
from vision_heads.errors import UserError
from vision_heads.media.images import IMAGE_SUFFIXES


class Pictures:
    """Finds a sample by its id, or else by its file name, stem, number or the end of its path."""

    def __init__(self, samples: Sequence[Sample]) -> None:
        self._files = [sample.image for sample in samples]
        count = Counter(sample.image_id for sample in samples)
        # A picture that is in the split twice has no id of its own.
        self._by_id = {_key(s.image_id): i for i, s in enumerate(samples) if count[s.image_id] == 1}
        self._by_name: dict[int | str, set[int]] = {}
        for i, sample in enumerate(samples):
            for name in (sample.image.name, sample.image.stem, str(sample.image_id)):
                self._by_name.setdefault(name, set()).add(i)
            if sample.image.stem.isdecimal():
                self._by_name.setdefault(int(sample.image.stem), set()).add(i)
        self._by_end: dict[int, dict[tuple[str, ...], set[int]]] = {}
        self._asked: dict[str, set[int]] = {}  # a picture's rows all ask the same

    def index(self, image_id: Any, where: str) -> int:
        """Return the sample's place; `UserError` starts with `where`."""
        named = self.named(image_id)
        if not named:
            raise UserError(f"{where}: the data set has no picture {image_id!r}")
        if len(named) > 1:
            raise UserError(f"{where}: {len(named)} pictures are called {image_id!r}")
        return next(iter(named))

    def named(self, image_id: Any) -> set[int]:
        """Return the places of the samples that may be meant."""
        key = _key(image_id)
        if key is None:
            return set()
        if key in self._by_id:
            return {self._by_id[key]}
        if key in self._by_name or not isinstance(key, str):
            return self._by_name.get(key, set())
        if key not in self._asked:
            self._asked[key] = self._by_path(key)
        return self._asked[key]

    def _by_path(self, name: str) -> set[int]:
        """Find the end of a path, whatever the suffix: a missing picture's is a guess."""
        path = PurePosixPath(name.replace("\\", "/"))
        parts = (path.with_suffix("") if path.suffix.lower() in IMAGE_SUFFIXES else path).parts
        if not parts:
            return set()
        if len(parts) not in self._by_end:
            self._by_end[len(parts)] = self._ends(len(parts))
        return self._by_end[len(parts)].get(parts, set())

    def _ends(self, length: int) -> dict[tuple[str, ...], set[int]]:
        """Places of the samples by the last parts of their paths, suffixes left out."""
        ends: dict[tuple[str, ...], set[int]] = {}
        for i, file in enumerate(self._files):
            ends.setdefault(file.with_suffix("").parts[-length:], set()).add(i)
        return ends


def _key(image_id: Any) -> int | str | None:
    if isinstance(image_id, float) and image_id.is_integer():
        return int(image_id)
    return image_id if isinstance(image_id, (int, str)) else None
