"""Scores of tracks: HOTA, CLEAR (MOTA) and identity (IDF1) on MOTChallenge files.

The measures are computed by the package `trackers`; this module prepares what they are computed
on, by MOTChallenge's rules. Sources: Luiten et al., HOTA (IJCV 2021); Bernardin and Stiefelhagen,
CLEAR MOT (2008); Ristani et al., IDF1 (2016).
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vision_heads.errors import UserError, require
from vision_heads.evaluation.mot_files import MotPair, MotTable, pair_up, read_mot
from vision_heads.evaluation.scores import no_nan

IOU = 0.5
"""Overlap from which a box counts as found, for MOTA, IDF1 and what is not scored."""

BESIDE = (2, 7, 8, 12)
"""MOTChallenge's classes of people that are not to be tracked: on vehicles, standing still,
hardly people, reflected. Who finds them is neither rewarded nor punished."""

PERCENT = ("HOTA", "DetA", "AssA", "LocA", "MOTA", "MOTP", "IDF1", "IDP", "IDR")
"""Numbers in percent."""
COUNTS = ("IDSW", "Frag", "MT", "PT", "ML", "FP", "FN", "objects", "tracks", "found_tracks")
"""Numbers that are counts."""
NUMBERS = PERCENT + COUNTS

_OURS = {"FP": "CLR_FP", "FN": "CLR_FN"}


@dataclass(frozen=True, slots=True)
class MotScores:
    """What was scored.

    Attributes:
        numbers: over all sequences, by `NUMBERS`; NaN where there is nothing to measure.
        sequences: the same for each sequence.
        frames: frames of all sequences.
        untracked: results without a track (id below 0); they are left out.
        flat: results without an area; they count as false ones.
        other_files: files of results that belong to no sequence.
    """

    numbers: dict[str, float]
    sequences: dict[str, dict[str, float]]
    frames: int
    untracked: int
    flat: int
    other_files: list[Path] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """Return a record for JSON; what could not be measured is None."""
        return {
            **no_nan(self.numbers),
            "protocol": "mot",
            "frames": self.frames,
            "untracked": self.untracked,
            "sequences": {name: no_nan(row) for name, row in self.sequences.items()},
        }


@dataclass(frozen=True, slots=True)
class _Sequence:
    """What the measures are computed on, frame by frame; empty frames change none of them.

    Attributes:
        truth, found: ids 0, 1, 2, ... of each frame that holds anything, without gaps.
        overlap: (truths, founds) IoU of each of these frames.
        frames: all of them, the empty ones too.
        untracked, flat: see `MotScores`.
    """

    truth: list[NDArray[np.int64]]
    found: list[NDArray[np.int64]]
    overlap: list[NDArray[np.float64]]
    frames: int
    untracked: int
    flat: int


def score_mot(found: Path, truth: Path, classes: Collection[int] = ()) -> MotScores:
    """Score tracks against ground truth.

    Args:
        found, truth: files or folders, see `mot_files.pair_up`.
        classes: numbers of the truth's classes that count; every class when empty. Results that
            carry a class number themselves count only if it is one of these.

    Raises:
        UserError: the package is missing, a file is wrong, or there is nothing to score.
    """
    package = _package()
    pairs, others = pair_up(found, truth)
    sequences = {pair.name: _prepare(pair, classes, package) for pair in pairs}
    require(
        any(len(ids) for one in sequences.values() for ids in one.truth),
        f"{truth}: no object of the ground truth counts",
    )
    raw = {name: _measure(one, package) for name, one in sequences.items()}
    return MotScores(
        _numbers(_combine(list(raw.values()), package), list(sequences.values())),
        {name: _numbers(raw[name], [one]) for name, one in sequences.items()},
        sum(one.frames for one in sequences.values()),
        sum(one.untracked for one in sequences.values()),
        sum(one.flat for one in sequences.values()),
        others,
    )


def _package() -> Any:
    try:
        import trackers.eval as package  # noqa: PLC0415
    except ImportError as error:
        raise UserError(
            f'--protocol mot needs more packages ({error}): pip install "vision-heads[track]"'
        ) from error
    return package


def _prepare(pair: MotPair, classes: Collection[int], package: Any) -> _Sequence:
    truth, found = read_mot(pair.truth), read_mot(pair.found)
    require(len(truth), f"{pair.truth}: holds no objects")
    for table in (truth, found):
        _check_length(table, pair.frames)
    counts = truth.score != 0
    if classes:
        counts &= np.isin(truth.label, list(classes))
    _check_truth(truth[counts])
    untracked = int((found.track < 0).sum())
    known = found.track >= 0
    require(
        known.any() or not untracked,
        f"{pair.found}: no result has a track (all ids are below 0); vh stream --track gives them",
    )
    if classes:
        known &= (found.label < 1) | np.isin(found.label, list(classes))
    found = found[known]
    beside = ~counts & np.isin(truth.label, BESIDE)
    frames = pair.frames or int(max(truth.frame.max(), found.frame.max(initial=1)))
    truth_ids, found_ids = np.unique(truth.track[counts]), np.unique(found.track)
    flat = int((found.xywh[:, 2:] <= 0).any(axis=1).sum())
    one = _Sequence([], [], [], frames, untracked, flat)
    held = np.union1d(truth.frame, found.frame)
    truth_rows, found_rows = _by_frame(truth.frame, held), _by_frame(found.frame, held)
    for here, there in zip(truth_rows, found_rows, strict=True):
        overlap = package.box_iou(truth.xywh[here], found.xywh[there], box_format="xywh")
        kept = _not_beside(overlap, beside[here])
        scored = counts[here]
        one.truth.append(np.searchsorted(truth_ids, truth.track[here][scored]))
        one.found.append(np.searchsorted(found_ids, found.track[there][kept]))
        one.overlap.append(overlap[scored][:, kept])
    return one


def _check_length(table: MotTable, frames: int | None) -> None:
    last = int(table.frame.max(initial=0))
    require(
        frames is None or last <= frames,
        f"{table.file}: frame {last}: the sequence has {frames} (seqinfo.ini)",
    )


def _check_truth(truth: MotTable) -> None:
    for wrong, what in (
        (truth.track < 0, "an id below 0"),
        ((truth.xywh[:, 2:] <= 0).any(axis=1), "no area"),
    ):
        frame = truth.frame[wrong][0] if wrong.any() else 0
        require(not wrong.any(), f"{truth.file}: frame {frame}: an object that counts has {what}")


def _by_frame(frame: NDArray[np.int64], held: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """Rows of each frame of `held`, which is rising and names every frame there is."""
    order = np.argsort(frame, kind="stable")
    edges = np.append(np.searchsorted(frame[order], held), len(order))
    return [order[low:high] for low, high in pairwise(edges)]


def _not_beside(overlap: NDArray[np.float64], beside: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Which results are not of objects that are not to be tracked.

    All objects of the frame are matched with the results, as well as possible; results that fall
    to an object beside are left out.
    """
    from scipy.optimize import linear_sum_assignment  # noqa: PLC0415

    kept = np.ones(overlap.shape[1], np.bool_)
    if beside.any():
        close = np.where(overlap >= IOU - np.finfo(float).eps, overlap, 0.0)
        rows, columns = linear_sum_assignment(close, maximize=True)
        kept[columns[(close[rows, columns] > 0) & beside[rows]]] = False
    return kept


def _measure(one: _Sequence, package: Any) -> dict[str, dict[str, Any]]:
    given = (one.truth, one.found, one.overlap)
    return {
        "hota": package.compute_hota_metrics(*given),
        "clear": package.compute_clear_metrics(*given, threshold=IOU),
        "identity": package.compute_identity_metrics(*given, threshold=IOU),
    }


def _combine(parts: Sequence[dict[str, dict[str, Any]]], package: Any) -> dict[str, dict[str, Any]]:
    return {
        "hota": package.aggregate_hota_metrics([part["hota"] for part in parts]),
        "clear": package.aggregate_clear_metrics([part["clear"] for part in parts]),
        "identity": package.aggregate_identity_metrics([part["identity"] for part in parts]),
    }


def _numbers(raw: dict[str, dict[str, Any]], sequences: Sequence[_Sequence]) -> dict[str, float]:
    flat = {**raw["hota"], **raw["clear"], **raw["identity"]}
    flat["objects"] = sum(len(ids) for one in sequences for ids in one.truth)
    flat["tracks"] = sum(_distinct(one.truth) for one in sequences)
    flat["found_tracks"] = sum(_distinct(one.found) for one in sequences)
    numbers = {
        name: float(flat[_OURS.get(name, name)]) * (100 if name in PERCENT else 1)
        for name in NUMBERS
    }
    if not flat["objects"]:
        # Without objects there is no share of them: only false alarms can be counted.
        numbers |= dict.fromkeys(PERCENT, math.nan)
    if not flat["HOTA_TP"]:
        numbers["LocA"] = math.nan
    if not flat["CLR_TP"]:
        numbers["MOTP"] = math.nan
    return numbers


def _distinct(ids: Sequence[NDArray[np.int64]]) -> int:
    return len(np.unique(np.concatenate(ids))) if ids else 0
