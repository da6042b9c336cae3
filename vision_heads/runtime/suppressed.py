"""Files that do NMS themselves: what they give, and how it is read without doing it twice."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vision_heads.errors import require
from vision_heads.heads.base import DecodeOptions, kind_of
from vision_heads.spec import HeadSpec, ModelSpec

SUPPRESSED = ("labels", "count")
"""Outputs that a head has besides those of its kind where NMS is in the file."""


def output_suffixes(spec: ModelSpec, head: HeadSpec) -> tuple[str, ...]:
    """Return the suffixes of a head's outputs in a file of this description."""
    outputs = kind_of(head.kind).outputs
    return outputs if spec.nms is None else (*outputs, *SUPPRESSED)


def arrays_of(
    spec: ModelSpec,
    head: HeadSpec,
    outputs: Mapping[str, NDArray[Any]],
    row: int,
    options: DecodeOptions,
) -> tuple[dict[str, NDArray[np.float32]], DecodeOptions]:
    """Return one picture's arrays and options for the `decode` of a head's kind.

    Where the file has done NMS, its results become candidates with one class each, and the
    options let all of them through NMS; thresholds and limits that are stricter still hold.

    Args:
        spec: of the file.
        head: one of its heads.
        outputs: of `Engine.run`.
        row: the picture's place in the batch.
        options: that were asked for.
    """
    arrays = {
        suffix: outputs[f"{head.name}/{suffix}"][row] for suffix in kind_of(head.kind).outputs
    }
    if spec.nms is None:
        return arrays, options
    count = int(outputs[f"{head.name}/count"][row].item())
    labels = outputs[f"{head.name}/labels"][row][:count].astype(np.int64)
    arrays = {suffix: values[:count] for suffix, values in arrays.items()}
    scores = np.zeros((count, len(head.classes)), np.float32)
    scores[np.arange(count), labels] = arrays["scores"]
    arrays["scores"] = scores
    return arrays, replace(options, iou=1.0, multi_label=False)


def require_possible(spec: ModelSpec, options: DecodeOptions) -> None:
    """Raise `UserError` if a file that does NMS itself cannot give what is asked for."""
    if spec.nms is None:
        return
    require(
        options.conf >= spec.nms.conf,
        f"conf {options.conf:g}: this file's own NMS gives no scores below {spec.nms.conf:g}",
    )
    require(
        options.iou == spec.nms.iou,
        f"iou {options.iou:g}: this file's own NMS is made for {spec.nms.iou:g}; give that, or "
        "export without --nms",
    )
