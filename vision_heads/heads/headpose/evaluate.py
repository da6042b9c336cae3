"""How results of the kind `headpose` are scored."""

from __future__ import annotations

import math
from collections.abc import Sequence

from vision_heads.data.sample import DataSplit
from vision_heads.results import Detections


def evaluate(
    truth: DataSplit, predictions: Sequence[Detections], protocol: str
) -> dict[str, float]:
    """Score heads and their poses.

    Args:
        truth: samples with boxes in original pixels, with or without poses.
        predictions: one per sample, in original pixels.
        protocol: "headpose"; or "coco", which heads beside others in one model are validated
            by: COCO's numbers, and those of poses too.

    Returns:
        Percent, degrees and counts by name, e.g. "AP50", "recall", "mae"; what the data holds
        nothing to measure on is left out.

    Raises:
        UserError: the protocol is unknown, or results without poses match heads with poses.
    """
    # Kept out of the runtime's way: decoding needs none of evaluation.
    from vision_heads.evaluation.protocols import protocol_of, score  # noqa: PLC0415

    rules = protocol_of(protocol)
    scores = score(truth, predictions, "headpose" if rules.name == "coco" else protocol)
    numbers = dict(scores.numbers)
    if rules.name == "coco" and scores.pose is not None:
        numbers = {**scores.pose.detection, **numbers}
    return {name: value for name, value in numbers.items() if not math.isnan(value)}
