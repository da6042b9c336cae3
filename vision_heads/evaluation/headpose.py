"""The headpose protocol: COCO's AP of the heads, and DirectMHP's errors of their poses.

DirectMHP's rules, which the reference numbers in the tests hold this to: of the results with a
score of 0.7 or more, each labelled head takes the one it overlaps most, if their IoU is above 0.5;
one result may serve several heads. Errors are differences of angles, that of yaw by the shorter
way round. A head is frontal if its labelled yaw is within 90 degrees, else backward.

Beyond those rules: a pose named by a pitch beyond 90 or a yaw or roll beyond 180 is replaced by the
angles within, of the same pose, where they are nearer; heads of unknown pose count for detection
and recall only; crowds and ignored heads do not count; of equal overlaps the better score is taken;
and every error stands beside the recall it was measured at, since leaving out difficult heads makes
any error small.
Source: DirectMHP (arXiv 2302.01110) and its published evaluation.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vision_heads.data.sample import DataSplit, Sample
from vision_heads.errors import require
from vision_heads.evaluation import coco
from vision_heads.evaluation.matching import overlaps
from vision_heads.evaluation.records import Found, to_xywh
from vision_heads.evaluation.scores import Scores, no_nan
from vision_heads.geometry.rotations import from_euler, geodesic, to_euler, upright

Floats = NDArray[np.float64]

CONFIDENCE = 0.7
"""DirectMHP's operating point: results at this score or more."""
IOU = 0.5
"""A result is a head's if they overlap by more than this."""
FRONTAL = 90.0
"""Degrees of labelled yaw up to which a head is frontal."""
BIN = 30
"""Degrees of labelled yaw in a bin."""
SIDES = (16, 24, 32, 48, 64, 96)
"""Where bins of size end: the shorter side of the labelled box, pixels of the picture."""

ERRORS = ("mae", "pitch", "yaw", "roll", "geodesic_mean", "geodesic_median")
NUMBERS = (
    "AP",
    "AP50",
    "recall",
    "total",
    "matched",
    *ERRORS[:4],
    "frontal.mae",
    "backward.mae",
    *ERRORS[4:],
)
UNITS = dict.fromkeys(NUMBERS[5:], "degrees") | {"total": "heads", "matched": "heads"}


@dataclass(frozen=True, slots=True)
class Heads:
    """Every labelled head, and the result it was matched to.

    Attributes:
        image: (T,) int64 index of the picture.
        truth_box, found_box: (T, 4) float64 xywh; NaN where not matched.
        truth, found: (T, 3) float64 pitch, yaw, roll in degrees; NaN where unknown.
        score: (T,) of the result.
        matched: (T,) bool.
    """

    image: NDArray[np.int64]
    truth_box: NDArray[np.float64]
    found_box: NDArray[np.float64]
    truth: NDArray[np.float64]
    found: NDArray[np.float64]
    score: NDArray[np.float64]
    matched: NDArray[np.bool_]

    @property
    def posed(self) -> NDArray[np.bool_]:
        """(T,) heads whose pose is labelled."""
        return np.asarray(np.isfinite(self.truth).all(1))

    @property
    def errors(self) -> NDArray[np.float64]:
        """(T, 3) absolute errors of pitch, yaw and roll, degrees; NaN where there are none."""
        return _errors(self.truth, self.found)

    @property
    def geodesic(self) -> NDArray[np.float64]:
        """(T,) angle of the turn from the labelled to the found pose, degrees; NaN likewise."""
        return geodesic(from_euler(self.truth), from_euler(self.found))


@dataclass(frozen=True, slots=True)
class PoseScores:
    """Errors of head poses.

    Attributes:
        heads: every head.
        groups: by "all", "frontal", "backward" and bins of yaw like "-30..0" (the lower end
            belongs to the bin): how many heads of known pose, how many of them matched, recall
            in percent, and `ERRORS` in degrees.
        sizes: the same by bins of size like "under 16", "16..24" (which holds 16), "96 and more".
        detection: COCO's numbers, percent.
        confidence: lowest score of the results that heads were matched to.
    """

    heads: Heads
    groups: dict[str, dict[str, float]]
    sizes: dict[str, dict[str, float]]
    detection: dict[str, float]
    confidence: float = CONFIDENCE

    def to_dict(self) -> dict[str, Any]:
        """Return a record for JSON."""
        rows = {name: no_nan(row) for name, row in self.groups.items()}
        return {
            "frontal": rows.pop("frontal"),
            "backward": rows.pop("backward"),
            "posed": rows.pop("all"),
            "yaw_bins": rows,
            "size_bins": {name: no_nan(row) for name, row in self.sizes.items()},
            "coco": no_nan(self.detection),
            "operating_point": {"confidence": self.confidence, "iou": IOU},
        }


def score(
    split: DataSplit, predictions: Sequence[Found], *, confidence: float = CONFIDENCE
) -> Scores:
    """Score heads and their poses.

    Args:
        split: ground truth; `Sample.euler` where labelled, else DirectMHP's angles of
            `Sample.rotations`.
        predictions: one per sample.
        confidence: the operating point, for recall and errors.

    Raises:
        UserError: a result that is matched to a head of known pose has none itself, or
            faster-coco-eval is not installed.
    """
    boxes = coco.score(split, predictions)
    heads = match_heads(split, predictions, confidence)
    lacking = heads.matched & heads.posed & ~np.isfinite(heads.found).all(1)
    require(
        not lacking.any(),
        f"{int(lacking.sum())} of the results have no pose although the heads they match have one",
    )
    groups, sizes = _groups(heads)
    total, matched = len(heads.image), int(heads.matched.sum())
    everyone = groups["all"]
    values = {
        "AP": boxes.numbers["AP"],
        "AP50": boxes.numbers["AP50"],
        "recall": 100 * matched / total if total else float("nan"),
        "total": total,
        "matched": matched,
        **{name: everyone[name] for name in ERRORS},
        "frontal.mae": groups["frontal"]["mae"],
        "backward.mae": groups["backward"]["mae"],
    }
    return replace(
        boxes,
        protocol="headpose",
        numbers={name: values[name] for name in NUMBERS},
        units=UNITS,
        pose=PoseScores(heads, groups, sizes, boxes.numbers, confidence),
    )


def match_heads(
    split: DataSplit, predictions: Sequence[Found], confidence: float = CONFIDENCE
) -> Heads:
    """Give every labelled head the result it overlaps most at the operating point."""
    rows = [
        _match_picture(sample, found.best_first(), number, confidence)
        for number, (sample, found) in enumerate(zip(split.samples, predictions, strict=True))
    ]
    if not rows:
        none = np.zeros((0, 4))
        empty = none[:, 0]
        flags = empty.astype(bool)
        return Heads(empty.astype(np.int64), none, none, none[:, :3], none[:, :3], empty, flags)
    return Heads(*(np.concatenate(columns) for columns in zip(*rows, strict=True)))


def _match_picture(
    sample: Sample, found: Found, image: int, confidence: float
) -> tuple[NDArray[Any], ...]:
    """Columns of `Heads` for one picture."""
    truth = to_xywh(sample.boxes)
    count = len(truth)
    usable = np.flatnonzero((found.score >= confidence) & (found.label >= 0))
    table = np.zeros((len(usable) + 1, count))  # the last row stands for no result at all
    table[:-1] = overlaps(found.xywh[usable], truth, np.zeros(count, bool))
    table[:-1][found.label[usable, None] != sample.labels] = 0
    best = table.argmax(axis=0)  # the first of equals, which has the best score
    matched = table[best, np.arange(count)] > IOU
    pick = usable[best[matched]]
    found_box, angles, scores = np.full((3, count, 4), np.nan)
    found_box[matched] = found.xywh[pick]
    scores[matched, 0] = found.score[pick]
    if found.euler is not None:
        angles[matched, :3] = found.euler[pick]
    poses = _comparable(truth_angles(sample), angles[:, :3])
    return (np.full(count, image, np.int64), truth, found_box, *poses, scores[:, 0], matched)


def _comparable(truth: Floats, found: Floats) -> tuple[Floats, Floats]:
    """(T, 3) angles as they stand, or within their ranges where that brings them nearer."""
    within = upright(truth), upright(found)
    nearer = _errors(*within).sum(1) < _errors(truth, found).sum(1)
    alone = ~np.isfinite(found).all(1)  # without a result the range alone decides the bin
    inside = (nearer | alone)[:, None]
    return np.where(inside, within[0], truth), np.where(inside, within[1], found)


def _errors(truth: Floats, found: Floats) -> Floats:
    errors = np.abs(found - truth)
    around = np.mod(errors[:, 1], 360)
    errors[:, 1] = np.minimum(around, 360 - around)
    return errors


def truth_angles(sample: Sample) -> Floats:
    """(N, 3) labelled pitch, yaw, roll of a sample's boxes in degrees, NaN where unknown."""
    if sample.euler is not None:
        return sample.euler
    if sample.rotations is not None:
        return to_euler(sample.rotations)
    return np.full((len(sample.boxes), 3), np.nan)


def _groups(heads: Heads) -> tuple[dict[str, dict[str, float]], dict[str, dict[str, float]]]:
    """Return the rows by direction and by size."""
    errors, turns = heads.errors, heads.geodesic

    def scored(groups: dict[str, NDArray[np.bool_]]) -> dict[str, dict[str, float]]:
        return {name: _row(g & heads.posed, heads, errors, turns) for name, g in groups.items()}

    return scored(_by_yaw(heads)), scored(_by_size(heads))


def _by_yaw(heads: Heads) -> dict[str, NDArray[np.bool_]]:
    around = np.mod(heads.truth[:, 1] + 180, 360) - 180  # labels may count on beyond 180
    yaw = np.abs(around)
    groups = {"all": heads.posed, "frontal": yaw <= FRONTAL, "backward": yaw > FRONTAL}
    for low in range(-180, 180, BIN):
        groups[f"{low}..{low + BIN}"] = (around >= low) & (around < low + BIN)
    return groups


def _by_size(heads: Heads) -> dict[str, NDArray[np.bool_]]:
    within = np.searchsorted(SIDES, heads.truth_box[:, 2:].min(axis=1), side="right")
    between = [f"{low}..{high}" for low, high in itertools.pairwise(SIDES)]
    names = [f"under {SIDES[0]}", *between, f"{SIDES[-1]} and more"]
    return {name: within == number for number, name in enumerate(names)}


def _row(
    rows: NDArray[np.bool_],
    heads: Heads,
    errors: NDArray[np.float64],
    turns: NDArray[np.float64],
) -> dict[str, float]:
    total = int(rows.sum())
    hit = rows & heads.matched
    matched = int(hit.sum())
    row: dict[str, float] = {
        "heads": total,
        "matched": matched,
        "recall": 100 * matched / total if total else float("nan"),
    }
    if not matched:
        return row | dict.fromkeys(ERRORS, float("nan"))
    pitch, yaw, roll = errors[hit].mean(0).tolist()
    turn = turns[hit]
    values = (float(errors[hit].mean()), pitch, yaw, roll, float(turn.mean()))
    return row | dict(zip(ERRORS, (*values, float(np.median(turn))), strict=True))
