"""What exported files are judged on: labelled pictures, or where there are none the torch model.

A head is scored on the labels of its card. Where those have none of its classes, or the torch
model finds next to nothing of what they label, a change of average precision would say nothing:
then the torch model's own results are taken for the truth, and 100 is full agreement with it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from vision_heads.data.card import load_split
from vision_heads.data.sample import DataSplit, Sample
from vision_heads.errors import UserError, require
from vision_heads.evaluation.coco import LIMITS
from vision_heads.evaluation.protocols import Protocol, protocol_of
from vision_heads.evaluation.records import as_found, class_map
from vision_heads.evaluation.runner import Job, predict_heads
from vision_heads.heads.base import DecodeOptions, kind_of
from vision_heads.paths import DEMO
from vision_heads.results import Detections
from vision_heads.spec import HeadSpec

if TYPE_CHECKING:
    from vision_heads.runtime.predictor import Predictor

LOWEST = 1.0
"""AP50 in percent of the torch model below which labels are no measure."""
SURE = 0.25
"""Results of the torch model at this score or more are the truth where there is no other."""

Basis = Literal["labels", "torch", "nothing"]


@dataclass(frozen=True, slots=True)
class Figures:
    """What a head reaches: percent, degrees for `mae`; NaN where there is nothing to measure."""

    ap50: float
    ap: float
    mae: float

    def minus(self, other: Figures) -> Figures:
        """Return the change from `other` to this."""
        return Figures(self.ap50 - other.ap50, self.ap - other.ap, self.mae - other.mae)


@dataclass(frozen=True, slots=True)
class Exam:
    """A head, what it is judged on, and what the torch model reaches there.

    Attributes:
        head: of the exported file.
        rules: it is scored by.
        truth: the pictures and their labels.
        basis: whose labels these are; "nothing" where the torch model finds nothing either.
        torch: the torch model's figures.
    """

    head: HeadSpec
    rules: Protocol
    truth: DataSplit
    basis: Basis
    torch: Figures


def load_truths(
    heads: Sequence[HeadSpec], cards: Mapping[str, str], every: str | None, split: str, count: int
) -> dict[str, DataSplit]:
    """Read the pictures that each head is judged on.

    Args:
        heads: of the exported file.
        cards: data-set card by head.
        every: card of the heads not in `cards`; those of `DEMO` when None.
        split: of every card but the demo sets, which have `val` alone.
        count: at most so many pictures a head, spread evenly over the split.

    Raises:
        UserError: a card cannot be read or holds no pictures, or names no head of the file.
    """
    unknown = sorted(set(cards) - {head.name for head in heads})
    require(not unknown, f"--data {', '.join(unknown)}: no such head in the exported file")
    found: dict[str, DataSplit] = {}
    read: dict[tuple[str, str], DataSplit] = {}
    for head in heads:
        named = cards.get(head.name, every)
        key = (named, split) if named else (DEMO.get(head.kind, "demo"), "val")
        if key not in read:
            read[key] = evenly(load_split(*key), count)
            require(read[key].samples, f"{key[0]}: the split {key[1]!r} holds no pictures")
        found[head.name] = read[key]
    return found


def pictures_alone(files: Sequence[Path], heads: Sequence[HeadSpec]) -> dict[str, DataSplit]:
    """Return splits of pictures without any labels, for heads that agree with torch or not."""
    samples = [Sample(file, file.stem, 0, 0) for file in files]
    return {head.name: DataSplit("pictures", "", (), (), samples) for head in heads}


def evenly(split: DataSplit, count: int) -> DataSplit:
    """Return a split of at most `count` pictures, spread evenly."""
    if len(split.samples) <= count:
        return split
    picks = np.linspace(0, len(split.samples) - 1, count).round().astype(int)
    return replace(split, samples=[split.samples[index] for index in picks])


def plan_exams(
    torch: Predictor,
    heads: Sequence[HeadSpec],
    truths: Mapping[str, DataSplit],
    options: DecodeOptions,
) -> list[Exam]:
    """Run the torch model and decide what each head is judged on.

    Args:
        torch: the reference.
        heads: of the exported file.
        truths: by head.
        options: how results are decoded, of the torch model as of every file.
    """
    labelled = [head for head in heads if _comparable(head, truths[head.name])]
    scored = score(torch, [(head, truths[head.name]) for head in labelled], options)
    exams: dict[str, Exam] = {}
    for head in labelled:
        figures = scored[head.name]
        if figures.ap50 >= LOWEST:
            rules = _rules(head)
            exams[head.name] = Exam(head, rules, truths[head.name], "labels", figures)
    rest = [head for head in heads if head.name not in exams]
    own = {head.name: _own_truth(torch, head, truths[head.name], options) for head in rest}
    seen = [head for head in rest if any(len(s.boxes) for s in own[head.name].samples)]
    scored = score(torch, [(head, own[head.name]) for head in seen], options)
    for head in rest:
        nothing = Figures(*[float("nan")] * 3)
        basis: Basis = "torch" if head in seen else "nothing"
        figures = scored.get(head.name, nothing)
        exams[head.name] = Exam(head, _rules(head), own[head.name], basis, figures)
    return [exams[head.name] for head in heads]


def score(
    predictor: Predictor, jobs: Sequence[tuple[HeadSpec, DataSplit]], options: DecodeOptions
) -> dict[str, Figures]:
    """Run a model on each head's pictures and score the head; figures by head."""
    if not jobs:
        return {}
    runs = predict_heads(
        predictor,
        [Job(head, truth, options, _rules(head).lone_class) for head, truth in jobs],
    )
    figures = {}
    for (head, truth), run in zip(jobs, runs, strict=True):
        require(not run.unread, f"{run.unread[0]}" if run.unread else "")
        rules = _rules(head)
        found = as_found(truth, run.detections, lone=rules.lone_class)
        numbers = rules.score(truth, found).numbers
        nan = float("nan")
        figures[head.name] = Figures(numbers["AP50"], numbers["AP"], numbers.get("mae", nan))
    return figures


def _rules(head: HeadSpec) -> Protocol:
    return protocol_of(kind_of(head.kind).protocol)


def _comparable(head: HeadSpec, truth: DataSplit) -> bool:
    if not truth.names:
        return False
    try:
        class_map(head.classes, truth.names, lone=_rules(head).lone_class)
    except UserError:
        return False
    return True


def _own_truth(
    torch: Predictor, head: HeadSpec, split: DataSplit, options: DecodeOptions
) -> DataSplit:
    """Return the same pictures labelled with what the torch model finds in them."""
    most = min(LIMITS[-1], options.max_det)  # scoring looks at no more results of a class
    sure = {head.name: replace(options, conf=max(SURE, options.conf), max_det=most)}
    samples = []
    results = torch.stream([sample.image for sample in split.samples], sure, merge={})
    for sample, result in zip(split.samples, results, strict=True):
        require(result, f"{sample.image}: cannot be read")
        found: Detections = result[head.name]  # type: ignore[index]
        samples.append(
            Sample(
                sample.image,
                sample.image_id,
                result.width,  # type: ignore[union-attr]
                result.height,  # type: ignore[union-attr]
                found.xyxy,
                found.class_id.astype(np.int64),
                rotations=found.rotation,
            )
        )
    return DataSplit(split.name, split.split, head.classes, head.category_ids, samples)
