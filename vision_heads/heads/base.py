"""The contract between a head kind and everything else, and the registry of kinds.

A kind is a folder `vision_heads/heads/<kind>/` whose `__init__` holds `KIND: HeadKind`. Nothing
outside that folder knows what a kind computes, except by this contract. No torch here: a kind
imports its torch module only inside `build`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from vision_heads.errors import UserError
from vision_heads.results import Detections
from vision_heads.spec import HeadSpec

if TYPE_CHECKING:
    from torch import Tensor, nn

KINDS = ("detect", "headpose")
"""Registered kinds; each names a sub-package of `vision_heads.heads`."""


@dataclass(frozen=True, slots=True)
class DecodeOptions:
    """How candidates become results.

    Attributes:
        conf: lowest score that is kept, strictly above.
        iou: NMS threshold; a box that overlaps a better one of its class by more is dropped.
        max_det: most results a picture and head.
        classes: class indices to keep, None for all.
        multi_label: one candidate may give a result for each class above `conf` (used by
            evaluation), instead of its best class only.
    """

    conf: float = 0.25
    iou: float = 0.6
    max_det: int = 1000
    classes: tuple[int, ...] | None = None
    multi_label: bool = False


@dataclass(slots=True)
class Targets:
    """Labels of a batch's rows that belong to one head; torch tensors, network pixels.

    Attributes:
        boxes: (M, 4) xyxy.
        labels: (M,) int64 class indices.
        rows: (M,) int64 row of the head's own rows (0..B-1) that each box belongs to.
        ignore_boxes: (K, 4) xyxy areas without loss.
        ignore_rows: (K,) int64.
        rotations: (M, 3, 3), NaN where unknown; None when the data has no poses.
    """

    boxes: Tensor
    labels: Tensor
    rows: Tensor
    ignore_boxes: Tensor
    ignore_rows: Tensor
    rotations: Tensor | None = None


class HeadModule(Protocol):
    """What a kind's torch module offers besides being an `nn.Module`.

    `features` maps a level to (B, C, H, W). `forward` gives raw predictions by name, which are
    differentiable and the only input of `loss` and `export`.

    A kind that can be taught by another network has one method more,
    `distil(raw, teacher) -> dict[str, Tensor]`: both raw predictions of the same rows to named,
    weighted scalar losses, scaled as those of `loss`.
    """

    def __call__(self, features: Mapping[int, Tensor]) -> dict[str, Tensor]:
        """Features to raw predictions."""
        ...

    def loss(self, raw: Mapping[str, Tensor], targets: Targets) -> dict[str, Tensor]:
        """Return named, weighted scalar losses; their sum is the head's loss.

        Scaled as a mean over the head's rows, so that it does not depend on the batch size.
        """
        ...

    def export(self, raw: Mapping[str, Tensor], candidates: int) -> dict[str, Tensor]:
        """Return the exported tensors without the head's prefix, e.g. "boxes", "scores"."""
        ...


class HeadKind(Protocol):
    """One kind of head; a kind's package exposes an instance named `KIND`."""

    name: str
    outputs: tuple[str, ...]
    """Suffixes of the exported tensors, in order; `<head>/<suffix>` in files."""
    protocol: str
    """Rules by which results of this kind are scored when nobody asks for others."""

    def check(self, spec: HeadSpec) -> None:
        """Raise `UserError` if `spec.options` holds what this kind does not know."""
        ...

    def build(self, spec: HeadSpec, channels: Mapping[int, int]) -> nn.Module:
        """Build the torch module (a `HeadModule`) on levels of the given channel counts."""
        ...

    def decode(
        self, arrays: Mapping[str, NDArray[np.float32]], spec: HeadSpec, options: DecodeOptions
    ) -> Detections:
        """One picture's exported arrays (no batch axis) to results in network pixels."""
        ...

    def evaluate(
        self, truth: Any, predictions: Sequence[Detections], protocol: str
    ) -> dict[str, float]:
        """Score predictions, one per sample of the `DataSplit` `truth`, in original pixels."""
        ...


def kind_of(name: str) -> HeadKind:
    """Return the registered kind called `name`; `UserError` lists them when unknown."""
    if name not in KINDS:
        raise UserError(f"unknown head kind {name!r}; known: {', '.join(KINDS)}")
    kind: HeadKind = import_module(f"vision_heads.heads.{name}").KIND
    return kind
