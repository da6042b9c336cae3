"""What the engines share: which outputs a model must have, batches, and parts of a model."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from vision_heads.errors import require
from vision_heads.runtime.suppressed import output_suffixes
from vision_heads.spec import ModelSpec

Floats = NDArray[np.float32]
T = TypeVar("T")

MAX_PARTS = 4
"""Sets of heads, besides all of them, that are kept ready at a time: each holds its weights."""


def output_names(spec: ModelSpec, heads: Collection[str] | None = None) -> list[str]:
    """Return the names of these heads' outputs, None for all heads, in the heads' order.

    Raises:
        UserError: the model has no such head.
    """
    wanted = [head.name for head in spec.heads] if heads is None else heads
    return [f"{name}/{end}" for name in wanted for end in output_suffixes(spec, spec.head(name))]


def check_outputs(spec: ModelSpec, present: Collection[str], path: Path) -> None:
    """Refuse a file without an output that its description promises.

    Raises:
        UserError: names what is missing.
    """
    missing = [name for name in output_names(spec) if name not in present]
    require(not missing, f"{path}: has no output {', '.join(missing)}")


def in_batches(
    images: Floats, size: int | None, run: Callable[[Floats], dict[str, Floats]]
) -> dict[str, Floats]:
    """Run pictures in batches of at most `size`, None for any, and join what comes back.

    Args:
        images: (B, 3, H, W); B may be 0.
        size: most pictures that `run` takes.
        run: of one batch.
    """
    count = max(len(images), 1)
    step = size or count
    parts = [run(images[start : start + step]) for start in range(0, count, step)]
    if len(parts) == 1:
        return parts[0]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def filled(images: Floats, size: int | None) -> Floats:
    """Return a batch filled up with zeros to `size` pictures; None leaves it as it is."""
    if size is None or len(images) >= size:
        return images
    padding = np.zeros((size - len(images), *images.shape[1:]), np.float32)
    return np.concatenate([images, padding])


class Parts(Generic[T]):
    """Whatever runs some heads of a model alone, made when first wanted, the latest few kept.

    Args:
        spec: of the model.
        whole: runs all heads.
    """

    def __init__(self, spec: ModelSpec, whole: T) -> None:
        self._spec, self._whole = spec, whole
        self._kept: OrderedDict[frozenset[str], T] = OrderedDict()
        self._making = threading.Lock()

    def __len__(self) -> int:
        """Return how many are kept, without the whole."""
        return len(self._kept)

    def of(self, heads: Sequence[str] | None, make: Callable[[set[str]], T]) -> T:
        """Return what computes these heads and nothing else; None is all of them.

        Args:
            heads: their names.
            make: makes it, of the names of the wanted outputs. Not kept: an engine that refers to
                itself would be freed whenever Python tidies up, in whichever thread.
        """
        wanted = None if heads is None else frozenset(heads)
        if wanted is None or len(wanted) == len(self._spec.heads):
            return self._whole
        with self._making:
            if wanted not in self._kept:
                self._kept[wanted] = make(set(output_names(self._spec, wanted)))
            self._kept.move_to_end(wanted)
            if len(self._kept) > MAX_PARTS:
                self._kept.popitem(last=False)
            return self._kept[wanted]
