"""Candidates of one picture to heads with poses; boxes are chosen exactly as `detect` does."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vision_heads.heads.base import DecodeOptions
from vision_heads.heads.detect.decode import choose
from vision_heads.results import Detections
from vision_heads.spec import HeadSpec

Floats = NDArray[np.float32]


def decode(
    boxes: Floats, scores: Floats, rotation: Floats, spec: HeadSpec, options: DecodeOptions
) -> Detections:
    """Turn candidates into detections, each with the rotation of its own candidate.

    Rotations are never averaged over the candidates that NMS drops. A letterbox scales both
    axes alike, so a rotation is the same in network and in original pixels.

    Args:
        boxes: (K, 4) xyxy, network pixels.
        scores: (K, C) probabilities.
        rotation: (K, 3, 3) orthonormal, image axes.
        spec: the head, for its names.
        options: see `vision_heads.heads.detect.decode.decode`.

    Returns:
        At most `options.max_det` detections in network pixels, best first.
    """
    chosen = choose(boxes, scores, options)
    return Detections(
        boxes[chosen.rows],
        chosen.scores,
        chosen.labels,
        spec.classes,
        spec.category_ids,
        rotation[chosen.rows],
    )
