"""Which mistakes of a data set training refuses, and the two ways to go on despite them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np

from vision_heads.data.formats.faults import find_faults
from vision_heads.data.sample import DataSplit, Problem, ProblemKind, Sample
from vision_heads.errors import UserError

Fix = Literal["clip", "drop"]
FIXES: tuple[Fix, ...] = ("clip", "drop")

REFUSED: tuple[ProblemKind, ...] = (
    "missing-image",
    "corrupt-image",
    "missing-annotation",
    "bad-annotation",
    "unknown-class",
    "empty-box",
    "box-outside",
)
"""Kinds that mean a label or a picture is broken. The others, `duplicate-image` and
`duplicate-box`, are reported, but every picture and box of them is usable."""

_OF_PICTURES: tuple[ProblemKind, ...] = (
    "missing-image",
    "corrupt-image",
    "missing-annotation",
    "bad-annotation",
)
_EXAMPLES = 3


def parse_fixes(text: str) -> frozenset[Fix]:
    """Read "clip,drop" as given on the command line; `UserError` names an unknown word."""
    words = [word.strip() for word in text.split(",") if word.strip()]
    for word in words:
        if word not in FIXES:
            raise UserError(f"--fix: unknown {word!r}; known: {', '.join(FIXES)}")
    return frozenset(words)  # type: ignore[arg-type]


def broken(problems: Iterable[Problem]) -> list[Problem]:
    """Return the problems that training refuses."""
    return [problem for problem in problems if problem.kind in REFUSED]


def summary(problems: Sequence[Problem], examples: int = _EXAMPLES) -> str:
    """Say in one line how many problems of each kind there are, and name the first few."""
    counts = Counter(problem.kind for problem in problems)
    numbers = ", ".join(f"{count} {kind}" for kind, count in counts.most_common())
    first = "; ".join(f"{p.file}: {p.detail}" for p in problems[:examples])
    return f"{numbers} ({first}{'; ...' if len(problems) > examples else ''})"


def overlooked(split: DataSplit) -> str:
    """Say what was broken in a split that `apply_fixes` has mended; "" where nothing was."""
    left = broken(split.problems)
    said = [f"mended or left out: {summary(left)}"] if left else []
    if split.emptied:
        said.append(f"pictures left out because they lost their last box: {split.emptied}")
    return "; ".join(said)


def doubts(split: DataSplit) -> list[str]:
    """Say in lines what of a split is used as it is, although it may be a mistake."""
    said = []
    if split.unlabelled:
        said.append(f"{split.unlabelled} pictures have no label file and count as negatives")
    usable = [problem for problem in split.problems if problem.kind not in REFUSED]
    if usable:
        said.append(f"used as they are: {summary(usable, 1)}; see: vh data check")
    return said


def apply_fixes(split: DataSplit, fixes: Collection[Fix]) -> DataSplit:
    """Make a split fit for training, or refuse it.

    Boxes that overhang the picture by no more than `TOLERANCE` pixels are always cut off at the
    border. The input is not changed.

    Args:
        split: as read.
        fixes: "clip" cuts boxes off at the picture's border; "drop" leaves out empty boxes,
            accepts that lines which could not be read give no box, and leaves out pictures that
            are missing or corrupt or whose labels are missing or unreadable as a whole. A box
            that is wholly outside is empty once clipped; with "drop" alone it is left out, as
            is every box that is outside; what the picture shows of it is then an area without
            loss. A picture that loses its last box without leaving such an area is left out: its
            object would be learned as background.

    Returns:
        A split whose boxes all lie inside their pictures; `problems` keeps what was found.

    Raises:
        UserError: broken labels or pictures remain; counts them and names the first.
    """
    unknown = set(fixes) - set(FIXES)
    if unknown:
        raise UserError(f"fix: unknown {sorted(unknown)[0]!r}; known: {', '.join(FIXES)}")
    left = broken(split.problems)
    if "drop" in fixes:
        left = []
    elif "clip" in fixes:
        left = [problem for problem in left if problem.kind != "box-outside"]
    if left:
        wanted = "clip,drop" if any(p.kind == "box-outside" for p in left) else "drop"
        raise UserError(
            f"{split.name}/{split.split} has broken labels: {summary(left)}. Mend them, or go on "
            f"without them by --fix {wanted}; `vh data check` lists them all"
        )
    read = _usable(split)
    samples, faults = list(read), find_faults(read)
    keep = ~faults.empty if "clip" in fixes else ~(faults.empty | faults.outside)
    touched = set(faults.owner[(faults.overhang > 0) | ~keep].tolist())
    starts = np.searchsorted(faults.owner, np.arange(len(samples) + 1))
    for number in touched:
        mine = keep[starts[number] : starts[number + 1]]
        samples[number] = _mended(samples[number], mine)
    if "drop" not in fixes:
        _refuse_vanished(split, samples, touched)
    else:
        for number in touched:
            samples[number] = _without_empty(samples[number])
    emptied = {number for number in touched if _emptied(read[number], samples[number])}
    samples = [sample for number, sample in enumerate(samples) if number not in emptied]
    return replace(split, samples=samples, emptied=len(emptied))


def _usable(split: DataSplit) -> list[Sample]:
    """Return the samples whose picture and labels as a whole can be used.

    Readers report faults of a whole picture with the picture as the file, faults of one label
    with the label file.
    """
    unusable = {p.file for p in split.problems if p.kind in _OF_PICTURES}
    return [sample for sample in split.samples if sample.image not in unusable]


def _mended(sample: Sample, keep: np.ndarray) -> Sample:
    """Clip a sample's boxes to the picture and keep the chosen ones; others are not judged."""
    clipped = sample.boxes.copy()
    if sample.width > 0 and sample.height > 0:
        limit = np.array([sample.width, sample.height] * 2, np.float32)
        clipped = np.clip(clipped, 0, limit)
    boxes = clipped[keep]
    seen = ~keep & (clipped[:, 2:] > clipped[:, :2]).all(1)
    areas = sample.areas
    if areas is not None:
        inside = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
        cut = (boxes != sample.boxes[keep]).any(1)
        areas = np.where(cut, np.minimum(areas[keep], inside), areas[keep])
    rotations = None if sample.rotations is None else sample.rotations[keep]
    euler = None if sample.euler is None else sample.euler[keep]
    return replace(
        sample,
        boxes=boxes,
        labels=sample.labels[keep],
        areas=areas,
        rotations=rotations,
        euler=euler,
        ignore_boxes=np.concatenate([sample.ignore_boxes, clipped[seen]]),
        ignore_labels=np.concatenate([sample.ignore_labels, sample.labels[seen]]),
    )


def _without_empty(sample: Sample) -> Sample:
    return _mended(sample, np.asarray((sample.boxes[:, 2:] > sample.boxes[:, :2]).all(1)))


def _emptied(before: Sample, after: Sample) -> bool:
    """Whether mending took a picture's last box and left nothing where it was."""
    return not len(after.boxes) and len(after.ignore_boxes) == len(before.ignore_boxes)


def _refuse_vanished(split: DataSplit, samples: Sequence[Sample], touched: Collection[int]) -> None:
    """Refuse boxes that clipping has emptied: they lay wholly outside their picture."""
    gone: list[Path] = [
        samples[number].image
        for number in sorted(touched)
        if not (samples[number].boxes[:, 2:] > samples[number].boxes[:, :2]).all()
    ]
    if gone:
        raise UserError(
            f"{split.name}/{split.split}: {len(gone)} pictures have boxes wholly outside them, "
            f"first {gone[0]}; add drop to --fix"
        )
