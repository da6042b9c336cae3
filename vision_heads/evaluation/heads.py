"""Several heads of a model, each scored by its own rules on its own data."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from vision_heads.data.sample import DataSplit
from vision_heads.evaluation.protocols import Protocol
from vision_heads.evaluation.records import Found, as_found
from vision_heads.evaluation.runner import Job, Run, options_for, predict_heads
from vision_heads.evaluation.scores import Scores, no_nan
from vision_heads.spec import HeadSpec

if TYPE_CHECKING:
    from vision_heads.runtime.predictor import Predictor


@dataclass(frozen=True, slots=True)
class Exam:
    """What a head is scored on, and how."""

    head: HeadSpec
    rules: Protocol
    truth: DataSplit


@dataclass(frozen=True, slots=True)
class Marked:
    """A head's results and what they are worth.

    Attributes:
        exam: what it was scored on.
        run: its results, and the pictures that could not be read.
        found: the same results as they were scored.
        scores: of the protocol.
    """

    exam: Exam
    run: Run
    found: list[Found]
    scores: Scores

    def figures(self) -> dict[str, float]:
        """Return what tables of several heads compare: AP, AP50, recall, mae; NaN for none."""
        numbers = self.scores.numbers
        return {
            "AP": numbers["AP"],
            "AP50": numbers["AP50"],
            "recall": numbers[self.exam.rules.recall],
            "mae": numbers.get("mae", float("nan")),
        }


def score_heads(
    predictor: Predictor,
    exams: Sequence[Exam],
    *,
    conf: float | None = None,
    iou: float | None = None,
    max_det: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Marked]:
    """Run a model and score its heads.

    Args:
        predictor: an opened model.
        exams: one a head; those on the same pictures share their passes.
        conf, iou, max_det: as in `options_for`.
        progress: as in `predict_heads`.

    Returns:
        By head, in the order of `exams`.

    Raises:
        UserError: see `predict_heads` and the protocols.
    """
    for exam in exams:
        # Said now, not after an hour of pictures.
        exam.rules.check_ready()
    jobs = [
        Job(
            exam.head,
            exam.truth,
            options_for(exam.rules.name, conf=conf, iou=iou, max_det=max_det),
            exam.rules.lone_class,
        )
        for exam in exams
    ]
    marked: dict[str, Marked] = {}
    for exam, run in zip(exams, predict_heads(predictor, jobs, progress=progress), strict=True):
        found = as_found(exam.truth, run.detections, lone=exam.rules.lone_class)
        scores = exam.rules.score(exam.truth, found)
        marked[exam.head.name] = Marked(exam, run, found, scores)
    return marked


def mean_ap50(marked: Mapping[str, Marked]) -> float:
    """Return the plain mean of the heads' AP50, percent; NaN when none could be measured."""
    values = np.array([one.scores.numbers["AP50"] for one in marked.values()])
    measured = values[np.isfinite(values)]
    return float(measured.mean()) if len(measured) else float("nan")


def record(scores: Scores, truth: DataSplit, source: str) -> dict[str, Any]:
    """Return a record for JSON of one head's scores, what they are of, and whose they are."""
    return {**scores.to_dict(), "data": truth.name, "split": truth.split, "source": source}


def records(marked: Mapping[str, Marked], source: str) -> dict[str, Any]:
    """Return a record for JSON: the mean, and each head's record as it would be on its own."""
    return {
        "mean": no_nan({"AP50": mean_ap50(marked)}),
        "heads": {name: record(one.scores, one.exam.truth, source) for name, one in marked.items()},
        "source": source,
    }
