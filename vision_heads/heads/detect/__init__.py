"""The kind `detect`: anchor-free boxes with a class each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from vision_heads.heads.base import DecodeOptions, HeadKind
from vision_heads.heads.detect.decode import decode as decode_candidates
from vision_heads.heads.detect.options import DetectOptions, options_of
from vision_heads.results import Detections
from vision_heads.spec import HeadSpec

if TYPE_CHECKING:
    from torch import nn


class DetectKind:
    """Implements `HeadKind`; torch is imported by `build` alone."""

    name = "detect"
    outputs: tuple[str, ...] = ("boxes", "scores")
    protocol = "coco"

    def check(self, spec: HeadSpec) -> None:
        """Raise `UserError` naming the option that this kind does not know or accept."""
        options_of(spec, DetectOptions)

    def build(self, spec: HeadSpec, channels: Mapping[int, int]) -> nn.Module:
        """Build the torch module on levels of the given channel counts."""
        from vision_heads.heads.detect.module import DetectHead  # noqa: PLC0415

        return DetectHead(spec, channels)

    def decode(
        self, arrays: Mapping[str, NDArray[np.float32]], spec: HeadSpec, options: DecodeOptions
    ) -> Detections:
        """One picture's `boxes` (K, 4) and `scores` (K, C) to results in network pixels."""
        return decode_candidates(arrays["boxes"], arrays["scores"], spec, options)

    def evaluate(
        self, truth: Any, predictions: Sequence[Detections], protocol: str
    ) -> dict[str, float]:
        """Score predictions, one per sample of the `DataSplit` `truth`, in original pixels."""
        from vision_heads.heads.detect.evaluate import evaluate  # noqa: PLC0415

        return evaluate(truth, predictions, protocol)


KIND: HeadKind = DetectKind()
