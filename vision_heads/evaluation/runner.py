"""Runs a model over a split, so that its results can be scored."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from vision_heads.data.sample import DataSplit
from vision_heads.errors import UserError
from vision_heads.evaluation.protocols import protocol_of
from vision_heads.evaluation.records import ClassMap, class_map
from vision_heads.heads.base import DecodeOptions
from vision_heads.results import Detections, Failure, Result
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


@dataclass(frozen=True, slots=True)
class Job:
    """A head and what it is to be run on.

    Attributes:
        head: of the model.
        split: its samples name the pictures.
        options: how to decode; classes the data set lacks are left out, so that they take no
            place among the `max_det` results.
        lone: as in `class_map`.
    """

    head: HeadSpec
    split: DataSplit
    options: DecodeOptions
    lone: bool = False


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
        raise UserError(
            "several heads fit; give each its data with --data HEAD=CARD, "
            f"or choose one with --head: {names}"
        )
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
    """Run one head over every picture of a split; see `predict_heads`."""
    return predict_heads(predictor, [Job(head, split, options, lone)], progress=progress)[0]


def predict_heads(
    predictor: Predictor,
    jobs: Sequence[Job],
    *,
    progress: Callable[[int, int], None] | None = None,
) -> list[Run]:
    """Run heads over every picture of their splits.

    Splits of the same pictures go through the network once, for all of their heads together.

    Args:
        predictor: an opened model.
        jobs: a head at most once.
        progress: called with (pictures done, all pictures) after each pass of a picture.

    Returns:
        A run for each job; classes are never merged across heads.

    Raises:
        UserError: a head and its data set have no class in common, or of a data set not one
            picture can be read.
    """
    prepared = [_prepare(job) for job in jobs]
    passes: dict[tuple[Path, ...], list[int]] = defaultdict(list)
    for number, job in enumerate(jobs):
        passes[tuple(sorted(sample.image.resolve() for sample in job.split.samples))].append(number)
    total = sum(map(len, passes))
    runs: dict[int, Run] = {}
    done = 0

    def step() -> None:
        nonlocal done
        done += 1
        if progress:
            progress(done, total)

    for numbers in passes.values():
        options = {jobs[number].head.name: prepared[number][1] for number in numbers}
        files = [sample.image for sample in jobs[numbers[0]].split.samples]
        found: dict[Path, Result | Failure] = {}
        for file, result in zip(
            files, predictor.stream(files, options, merge={}) if files else (), strict=True
        ):
            found[file.resolve()] = result
            step()
        for number in numbers:
            runs[number] = _run(jobs[number], prepared[number][0], found)
    return [runs[number] for number in range(len(jobs))]


def _prepare(job: Job) -> tuple[ClassMap, DecodeOptions]:
    """Match classes; those the data set lacks must not take places among the `max_det`."""
    try:
        classes = class_map(job.head.classes, job.split.names, lone=job.lone)
    except UserError as error:
        raise UserError(f"head {job.head.name}: {error}") from error
    if not classes.only_model:
        return classes, job.options
    known = tuple(int(index) for index in (classes.index >= 0).nonzero()[0])
    return classes, replace(job.options, classes=known)


def _run(job: Job, classes: ClassMap, found: Mapping[Path, Result | Failure]) -> Run:
    head, split = job.head, job.split
    detections: list[Detections] = []
    unread: list[str] = []
    for sample in split.samples:
        result = found[sample.image.resolve()]
        if isinstance(result, Failure):
            unread.append(result.message)
            detections.append(Detections.empty(head.classes, head.category_ids))
        else:
            detections.append(result[head.name])
    if unread and len(unread) == len(split.samples):
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


def said_unread(run: Run) -> str:
    """Say in one line that pictures could not be read, and that they were scored all the same."""
    return f"{len(run.unread)} pictures cannot be read and count as empty: {run.unread[0]}"
