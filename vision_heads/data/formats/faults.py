"""What can be wrong with a box that was read, looked at for a whole split at once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vision_heads.data.formats.base import Part
from vision_heads.data.sample import Problem, Sample

TOLERANCE = 1.0
"""Pixels a box may reach over the picture's border without being called outside.

Whole-pixel labelling, counting pixels from 1 or from 0, and normalised coordinates written with
few digits all give such boxes, and cutting them off there changes no label's meaning. Training
cuts them off silently; `vh data check` counts them.
"""
_SLACK = 1e-3  # float32 coordinates of large pictures


@dataclass(slots=True)
class Faults:
    """Faults of all boxes of some samples, concatenated in order.

    Attributes:
        owner: (N,) index of each box's sample.
        index: (N,) index of each box in its sample.
        overhang: (N,) pixels by which it reaches over the border, 0 inside. Unknown (0) for
            pictures of unknown size.
        empty: (N,) bool, no width or no height.
        outside: (N,) bool, overhang above `TOLERANCE`, or nothing of it inside; not empty.
        repeated: (N,) bool, same picture, class and coordinates as an earlier box.
    """

    owner: NDArray[np.int64]
    index: NDArray[np.int64]
    overhang: NDArray[np.float32]
    empty: NDArray[np.bool_]
    outside: NDArray[np.bool_]
    repeated: NDArray[np.bool_]


def find_faults(samples: Sequence[Sample]) -> Faults:
    """Look at every box of `samples`; ignore areas are not objects and may overhang freely."""
    counts = np.array([len(sample.boxes) for sample in samples], np.int64)
    owner = np.repeat(np.arange(len(samples)), counts)
    index = np.arange(len(owner)) - np.repeat(np.cumsum(counts) - counts, counts)
    none = np.zeros((0, 4), np.float32)
    boxes = np.concatenate([none, *(sample.boxes for sample in samples)])
    labels = np.concatenate([none[:, 0].astype(np.int64), *(s.labels for s in samples)])
    sizes = np.array([(s.width, s.height) for s in samples], np.float32).reshape(-1, 2)[owner]
    over = np.maximum(-boxes[:, :2], boxes[:, 2:] - sizes).max(1, initial=0)
    known = sizes.min(1, initial=np.inf) > 0
    overhang = np.where(known, over, 0).astype(np.float32)
    inside = np.minimum(boxes[:, 2:], sizes) - np.maximum(boxes[:, :2], 0)
    gone = known & (inside <= 0).any(1)
    empty = np.asarray((boxes[:, 2:] <= boxes[:, :2]).any(1))
    return Faults(
        owner,
        index,
        overhang,
        empty,
        ((overhang > TOLERANCE + _SLACK) | gone) & ~empty,
        _repeated(owner, labels, boxes),
    )


def _repeated(
    owner: NDArray[np.int64], labels: NDArray[np.int64], boxes: NDArray[np.float32]
) -> NDArray[np.bool_]:
    repeated = np.zeros(len(owner), np.bool_)
    # lexsort keeps equal rows in their order, so the first of them stays unmarked.
    order = np.lexsort((*boxes.T, labels, owner))
    same = (owner[order[1:]] == owner[order[:-1]]) & (labels[order[1:]] == labels[order[:-1]])
    same &= (boxes[order[1:]] == boxes[order[:-1]]).all(1)
    repeated[order[1:][same]] = True
    return repeated


def listed_again(samples: Sequence[Sample], problems: list[Problem]) -> list[Problem]:
    """Return the problems, with one more for each picture that a split names twice unreported."""
    known = {problem.file for problem in problems if problem.kind == "duplicate-image"}
    count = Counter(sample.image for sample in samples)
    return problems + [
        Problem("duplicate-image", image, f"is in the split {number} times")
        for image, number in count.items()
        if number > 1 and image not in known
    ]


def never_labelled(parts: Sequence[Part]) -> list[Problem]:
    """Return a problem for each picture of a split of which not one has a label file.

    Single pictures without one are negatives; without any, labels were looked for elsewhere
    than they lie.
    """
    if sum(part.unlabelled for part in parts) < sum(len(part.samples) for part in parts):
        return []
    lost = {p.file for part in parts for p in part.problems if p.kind == "missing-image"}
    labels = {s.image: file for p in parts for s, file in zip(p.samples, p.files, strict=True)}
    return [
        Problem("missing-annotation", image, f"no {file}, nor one for any other picture")
        for image, file in labels.items()
        if image not in lost
    ]


def box_problems(part: Part) -> list[Problem]:
    """Name every empty, outside and repeated box of a part by its place in its label file."""
    faults = find_faults(part.samples)
    found = []
    for at in np.flatnonzero(faults.empty | faults.outside | faults.repeated):
        number, row = int(faults.owner[at]), int(faults.index[at])
        sample, file = part.samples[number], part.files[number]
        box = ", ".join(f"{value:g}" for value in sample.boxes[row])
        where = f"{part.place_word} {part.places[number][row]}"
        if sample.image.stem != file.stem:
            where += f" ({sample.image.name})"
        where += f": box [{box}]"
        if faults.empty[at]:
            found.append(Problem("empty-box", file, f"{where} has no area"))
        if faults.outside[at]:
            size = f"{sample.width}x{sample.height}"
            detail = f"{where} reaches {faults.overhang[at]:g} px out of the {size} picture"
            found.append(Problem("box-outside", file, detail))
        if faults.repeated[at]:
            name = part.names[sample.labels[row]]
            found.append(Problem("duplicate-box", file, f"{where} of {name} is there twice"))
    return found
