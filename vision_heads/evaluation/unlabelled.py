"""Areas of a data set where a model finds what no label says: not to be learned as background."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from vision_heads.data.sample import DataSplit, Sample
from vision_heads.errors import UserError, require
from vision_heads.evaluation.records import ClassMap, class_map
from vision_heads.evaluation.runner import Job, Run, predict_heads
from vision_heads.geometry.boxes import iou_matrix
from vision_heads.heads.base import DecodeOptions
from vision_heads.results import Detections
from vision_heads.runtime.predictor import Predictor
from vision_heads.spec import HeadSpec

SAME = 0.3
"""IoU with a label, of whatever class, from which a find is the labelled object."""
IOU = 0.6
MAX_DET = 300


def ignore_found(
    split: DataSplit,
    predictor: Predictor,
    conf: float,
    *,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[DataSplit, tuple[str, ...]]:
    """Add an ignored area for each object that a model finds and no label or area covers.

    A data set that labels only some of its objects teaches that the others are background. Areas
    take nothing away from what is labelled, and whether a find is right matters little: nothing
    is learned there.

    Args:
        split: the data set's.
        predictor: every head of it that knows one of the data set's classes is asked.
        conf: least score of a find, 0..1.
        progress: called with (passes of pictures done, all of them).

    Returns:
        The split with more `ignore_boxes`, in absolute pixels, and why pictures without any new
        ones could not be read; nothing else differs.

    Raises:
        UserError: no head knows a class of the data set, or no picture can be read.
    """
    heads = [h for h in predictor.spec.heads if _knows(h, split)]
    known = ", ".join(dict.fromkeys(c for h in predictor.spec.heads for c in h.classes))
    require(heads, f"{split.name}: the model finds {known}; labels are of {', '.join(split.names)}")
    options = DecodeOptions(conf=conf, iou=IOU, max_det=MAX_DET)
    runs = predict_heads(predictor, [Job(h, split, options) for h in heads], progress=progress)
    samples: Sequence[Sample] = split.samples
    for run in runs:
        samples = _marked(samples, run)
    unread = dict.fromkeys(message for run in runs for message in run.unread)
    return replace(split, samples=list(samples)), tuple(unread)


def _knows(head: HeadSpec, split: DataSplit) -> bool:
    try:
        class_map(head.classes, split.names)
    except UserError:
        return False
    return True


def _marked(samples: Sequence[Sample], run: Run) -> list[Sample]:
    pairs = zip(samples, run.detections, strict=True)
    return [_with_areas(sample, found, run.classes) for sample, found in pairs]


def _with_areas(sample: Sample, found: Detections, classes: ClassMap) -> Sample:
    judged = np.concatenate([sample.boxes, sample.ignore_boxes])
    new = iou_matrix(found.xyxy, judged).max(1, initial=0) < SAME
    labels = classes.index[found.class_id[new]]
    return replace(
        sample,
        ignore_boxes=np.concatenate([sample.ignore_boxes, found.xyxy[new]]),
        ignore_labels=np.concatenate([sample.ignore_labels, labels]),
    )
