"""How results of the kind `detect` are scored."""

from __future__ import annotations

import math
from collections.abc import Sequence

from vision_heads.data.sample import DataSplit
from vision_heads.results import Detections


def evaluate(
    truth: DataSplit, predictions: Sequence[Detections], protocol: str
) -> dict[str, float]:
    """Score detections by a box protocol.

    Args:
        truth: samples with boxes in original pixels.
        predictions: one per sample, in original pixels.
        protocol: "coco" or "visdrone".

    Returns:
        Percent by name, e.g. "AP50"; what the data holds nothing to measure on is left out.

    Raises:
        UserError: the protocol is unknown or does not score boxes.
    """
    # Kept out of the runtime's way: decoding needs none of evaluation.
    from vision_heads.evaluation.protocols import score  # noqa: PLC0415

    numbers = score(truth, predictions, protocol).numbers
    return {name: value for name, value in numbers.items() if not math.isnan(value)}
