"""Runs a model over a split, so that its results can be scored."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from vision_heads.data.sample import DataSplit
from vision_heads.errors import UserError
from vision_heads.evaluation.protocols import protocol_of
from vision_heads.evaluation.records import ClassMap, class_map
from vision_heads.heads.base import DecodeOptions
from vision_heads.results import Detections, Failure
from vision_heads.spec import HeadSpec, ModelSpec

if TYPE_CHECKING:
    from vision_heads.runtime.predictor import Predictor

CONFIDENCE = 0.001
"""Results below it change no average precision that can be seen, but cost time."""
IOU = 0.7
"""NMS threshold; looser than for detection, because a second box of a pair may be the hit."""


@dataclass(frozen=True, slots=True)
class Run:
    """A model's results on a split.

    Attributes:
        detections: one per sample.
        classes: how the head's classes map to the data set's.
        unread: pictures that could not be read, with the reason; they have no detections.
    """

    detections: list[Detections]
    classes: ClassMap
    unread: tuple[str, ...]


def options_for(
    protocol: str,
    *,
    conf: float | None = None,
    iou: float | None = None,
    max_det: int | None = None,
) -> DecodeOptions:
    """Return how to decode for a protocol: low confidence, several classes a candidate.

    Args:
        protocol: its name.
        conf, iou, max_det: as in `DecodeOptions`; None for `CONFIDENCE`, `IOU` and the
            protocol's own limit.

    Raises:
        UserError: there is no such protocol.
    """
    return DecodeOptions(
        conf=CONFIDENCE if conf is None else conf,
        iou=IOU if iou is None else iou,
        max_det=protocol_of(protocol).max_det if max_det is None else max_det,
        multi_label=True,
    )


def choose_head(spec: ModelSpec, protocol: str, name: str | None = None) -> HeadSpec:
    """Return the head to score.

    Args:
        spec: the model's.
        protocol: the head's kind must be one of those it scores.
        name: the head's; may be None when only one head fits.

    Raises:
        UserError: no head fits, several do and none is named, or the named one does not.
    """
    kinds = protocol_of(protocol).kinds
    if name is not None:
        head = spec.head(name)
        if head.kind not in kinds:
            raise UserError(f"head {name!r} is of kind {head.kind}; {protocol} scores {kinds}")
        return head
    fitting = [head for head in spec.heads if head.kind in kinds]
    if not fitting:
        raise UserError(f"no head of this model is of a kind that {protocol} scores: {kinds}")
    if len(fitting) > 1:
        names = ", ".join(head.name for head in fitting)
        raise UserError(f"several heads fit; choose one with --head: {names}")
    return fitting[0]


def predict_split(
    predictor: Predictor,
    split: DataSplit,
    options: DecodeOptions,
    *,
    head: HeadSpec,
    lone: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Run:
    """Run a predictor over every picture of a split.

    Args:
        predictor: an opened model.
        split: its samples name the pictures.
        options: how to decode; classes the data set lacks are left out, so that they take no
            place among the `max_det` results.
        head: the head to keep results of.
        lone: as in `class_map`.
        progress: called with (pictures done, all pictures) after each.

    Raises:
        UserError: head and data set have no class in common, or not one picture can be read.
    """
    classes = class_map(head.classes, split.names, lone=lone)
    known = tuple(int(i) for i in (classes.index >= 0).nonzero()[0])
    if classes.only_model:
        options = replace(options, classes=known)
    detections: list[Detections] = []
    unread: list[str] = []
    files = [sample.image for sample in split.samples]
    for result in predictor.stream(files, options, heads=[head.name]):
        if isinstance(result, Failure):
            unread.append(result.message)
            detections.append(Detections.empty(head.classes, head.category_ids))
        else:
            detections.append(result[head.name])
        if progress:
            progress(len(detections), len(files))
    if files and len(unread) == len(files):
        raise UserError(f"no picture of {split.name} {split.split} can be read: {unread[0]}")
    return Run(detections, classes, tuple(unread))


def describe(classes: ClassMap, data: Sequence[str]) -> str | None:
    """Say in one line which classes are not compared, or None when all match."""
    parts = []
    if classes.only_data:
        parts.append(f"the model cannot find {', '.join(classes.only_data)} (scored as missed)")
    if classes.only_model:
        parts.append(f"the data set lacks {', '.join(classes.only_model)} (left out)")
    if not parts:
        return None
    matched = len(data) - len(classes.only_data)
    return f"{matched} of {len(data)} classes match: " + "; ".join(parts)
