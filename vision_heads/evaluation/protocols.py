"""The protocols by which results are scored, and the one function that applies them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

from vision_heads.data.sample import DataSplit
from vision_heads.errors import UserError
from vision_heads.evaluation import coco, headpose, visdrone
from vision_heads.evaluation.records import Found, as_found
from vision_heads.evaluation.scores import Confusion, Curves, Scores
from vision_heads.results import Detections

__all__ = [
    "PROTOCOLS",
    "Confusion",
    "Curves",
    "Found",
    "Protocol",
    "Scores",
    "at_confidence",
    "protocol_of",
    "score",
]


@dataclass(frozen=True, slots=True)
class Protocol:
    """One set of rules.

    Attributes:
        name: as `--protocol` takes it.
        about: one line for the help.
        kinds: head kinds it can score.
        numbers: names of its numbers, in the order of its table.
        max_det: most results a picture that are worth predicting for it.
        unscored: category ids that results may carry although no class has them.
        score: (split, predictions) to `Scores`; raises `UserError`.
        recall: which of its numbers says how much is found when as much as counts is taken.
        lone_class: a model's and a data set's only class match whatever they are called.
        poses: it reads head poses.
        check_ready: raises `UserError` where something it needs is not installed.
    """

    name: str
    about: str
    kinds: tuple[str, ...]
    numbers: tuple[str, ...]
    max_det: int
    unscored: tuple[int, ...]
    score: Callable[[DataSplit, Sequence[Found]], Scores]
    recall: str
    lone_class: bool = False
    poses: bool = False
    check_ready: Callable[[], None] = lambda: None


PROTOCOLS: dict[str, Protocol] = {
    protocol.name: protocol
    for protocol in (
        # COCO takes 100 results of each class, so a limit over all classes must not bind first.
        Protocol(
            "coco",
            "COCO's twelve box numbers and a bin under 16 px",
            ("detect", "headpose"),
            coco.NUMBERS,
            1000,
            (),
            coco.score,
            "AR100",
            check_ready=coco.check_ready,
        ),
        Protocol(
            "visdrone",
            "the official VisDrone2018-DET toolkit's seven numbers",
            ("detect",),
            visdrone.NUMBERS,
            500,
            visdrone.UNSCORED_CATEGORIES,
            visdrone.score,
            "AR500",
        ),
        Protocol(
            "headpose",
            "detection AP, recall, and DirectMHP's errors of pitch, yaw and roll",
            ("headpose",),
            headpose.NUMBERS,
            1000,
            (),
            headpose.score,
            "recall",
            lone_class=True,  # DirectMHP's labels call a head "person"
            poses=True,
            check_ready=coco.check_ready,
        ),
    )
}
"""Protocols by name."""


def protocol_of(name: str, others: Sequence[str] = ()) -> Protocol:
    """Return the protocol called `name`; `UserError` lists them when there is none.

    Args:
        name: of a protocol for pictures.
        others: what else the user may write in its place; listed too.
    """
    if name not in PROTOCOLS:
        raise UserError(f"unknown protocol {name!r}; known: {', '.join((*PROTOCOLS, *others))}")
    return PROTOCOLS[name]


def at_confidence(rules: Protocol, confidence: float) -> Protocol:
    """Return a protocol of poses with another operating point than DirectMHP's 0.7.

    Args:
        rules: a protocol that reads poses.
        confidence: lowest score of the results whose poses are judged.

    Raises:
        UserError: the protocol has no operating point.
    """
    if not rules.poses:
        raise UserError(f"--pose-conf: {rules.name} judges no poses; it goes with headpose")
    return replace(rules, score=partial(headpose.score, confidence=confidence))


def score(split: DataSplit, predictions: Sequence[Detections | Found], protocol: str) -> Scores:
    """Score predictions against a split's ground truth.

    Args:
        split: samples with boxes in original pixels.
        predictions: predictions[i] belongs to split.samples[i], original pixels. Classes of
            `Detections` are matched to the data set's by name; those it lacks are not scored.
        protocol: "coco", "visdrone" or "headpose".

    Raises:
        UserError: the protocol is unknown, or detections and data have no class in common.
        ValueError: there is not one prediction for each sample.
    """
    rules = protocol_of(protocol)
    return rules.score(split, as_found(split, predictions, lone=rules.lone_class))
