"""The kind `headpose`: boxes of heads, each with its rotation over the full range, in one pass."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from vision_heads.heads.base import DecodeOptions, HeadKind
from vision_heads.heads.detect.options import options_of
from vision_heads.heads.headpose.decode import decode as decode_candidates
from vision_heads.heads.headpose.options import HeadPoseOptions
from vision_heads.results import Detections
from vision_heads.spec import HeadSpec

if TYPE_CHECKING:
    from torch import nn


class HeadPoseKind:
    """Implements `HeadKind`; torch is imported by `build` alone."""

    name = "headpose"
    outputs: tuple[str, ...] = ("boxes", "scores", "rotation")
    protocol = "headpose"

    def check(self, spec: HeadSpec) -> None:
        """Raise `UserError` naming the option that this kind does not know or accept."""
        options_of(spec, HeadPoseOptions)

    def build(self, spec: HeadSpec, channels: Mapping[int, int]) -> nn.Module:
        """Build the torch module on levels of the given channel counts."""
        from vision_heads.heads.headpose.module import HeadPoseHead  # noqa: PLC0415

        return HeadPoseHead(spec, channels)

    def decode(
        self, arrays: Mapping[str, NDArray[np.float32]], spec: HeadSpec, options: DecodeOptions
    ) -> Detections:
        """One picture's `boxes`, `scores` and `rotation` (K, 3, 3) to results with poses."""
        return decode_candidates(
            arrays["boxes"], arrays["scores"], arrays["rotation"], spec, options
        )

    def evaluate(
        self, truth: Any, predictions: Sequence[Detections], protocol: str
    ) -> dict[str, float]:
        """Score predictions, one per sample of the `DataSplit` `truth`, in original pixels."""
        from vision_heads.heads.headpose.evaluate import evaluate  # noqa: PLC0415

        return evaluate(truth, predictions, protocol)


KIND: HeadKind = HeadPoseKind()
