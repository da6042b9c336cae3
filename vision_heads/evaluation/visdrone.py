"""The VisDrone2018-DET protocol, number for number what its MATLAB toolkit computes.

Written from what evalDET.m and its helpers do. Where they do something surprising, it is done
here too and said in docs/evaluation.md:

- ignored regions are painted into a mask of whole pixels, both ends included, while a box counts
  the pixels right of and below its corner only;
- what is at least half covered is dropped, objects and predictions alike, before anything else;
- the limit of 500 (or 100, 10, 1) predictions holds for all classes together;
- ignored objects stay in the recall's denominator;
- AP is the exact area under the precision envelope, not COCO's 101 points;
- a class weighs as much as the number of pictures that hold it.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from vision_heads.data.sample import OTHER, REGION, DataSplit, Sample
from vision_heads.errors import UserError
from vision_heads.evaluation.diagnostics import confusion, curves, falling
from vision_heads.evaluation.matching import Matches, match, overlapping
from vision_heads.evaluation.records import Found, FoundTable, Truth, to_xywh
from vision_heads.evaluation.scores import Scores

NUMBERS = ("AP", "AP50", "AP75", "AR1", "AR10", "AR100", "AR500")
LIMITS = (1, 10, 100, 500)
UNSCORED_CATEGORIES = (0, 11)
"""Official categories of no class: "ignored regions" and "others"."""

_MOST_PIXELS = 2**30  # what OpenCV reads unless told otherwise
_FAR = 2.0**30  # pixels: beyond every picture, and squared still an int64
# As Octave counts 0.5:0.05:0.95; the eighth is an ulp above 0.85.
_THRESHOLDS: NDArray[np.float64] = 0.5 + np.arange(10, dtype=np.float64) * 0.05


def score(split: DataSplit, predictions: Sequence[Found]) -> Scores:
    """Score by the official rules.

    Args:
        split: ground truth; ignored areas labelled `REGION` drop what they cover, those with a
            class are ignored objects of it, those labelled `OTHER` play no part.
        predictions: one per sample, each in its file's order.

    Raises:
        UserError: a picture with ignored regions has no size.
    """
    # The toolkit lists the annotation files; equal scores are ranked in that order.
    order = sorted(range(len(split.samples)), key=lambda i: split.samples[i].image.stem + ".txt")
    truths, founds = [], []
    for image, index in enumerate(order):
        truth, found = _without_covered(split.samples[index], predictions[index], image)
        truths.append(truth)
        founds.append(found)
    table = FoundTable.of(founds)
    table = table[(table.rank < LIMITS[-1]) & (table.label >= 0)]
    return _scores(split, table, Truth.stack(truths))


def _scores(split: DataSplit, found: FoundTable, truth: Truth) -> Scores:
    classes = len(split.names)
    objects = np.bincount(truth.label, minlength=classes)
    holding = np.unique(truth.image * classes + truth.label) % classes
    weight = np.bincount(holding, minlength=classes)
    matches, recall = _recalls(found, truth, objects)
    precision = _average_precision(found, matches.state, objects)

    def mean(table: NDArray[np.float64]) -> float:
        """Percent; every picture that holds a class adds that class's row once."""
        by_class = table.reshape(classes, -1).mean(axis=1)
        return 100 * float(by_class @ weight / weight.sum()) if weight.any() else float("nan")

    recalls = {f"AR{limit}": mean(recall[i]) for i, limit in enumerate(LIMITS)}
    numbers = {"AP": mean(precision), "AP50": mean(precision[:, 0]), "AP75": mean(precision[:, 5])}
    table = {
        name: _row(weight[i], objects[i], precision[i], recall[-1][i])
        for i, name in enumerate(split.names)
    }
    return Scores(
        "visdrone",
        {**numbers, **recalls},
        table,
        len(split.samples),
        curves(split.names, found, matches.state[0], objects),
        confusion(split.names, found, truth),
    )


def _row(
    images: np.int64,
    objects: np.int64,
    precision: NDArray[np.float64],
    recall: NDArray[np.float64],
) -> dict[str, float]:
    scale = 100.0 if objects else float("nan")
    return {
        "images": int(images),
        "objects": int(objects),
        "AP": scale * float(precision.mean()),
        "AP50": scale * float(precision[0]),
        "AP75": scale * float(precision[5]),
        "AR500": scale * float(recall.mean()),
    }


def _recalls(
    found: FoundTable, truth: Truth, objects: NDArray[np.int64]
) -> tuple[Matches, NDArray[np.float64]]:
    """Return the matches of the last limit and (limits, classes, thresholds) highest recalls.

    A limit cuts the file as it stands. The matching sorts by score only afterwards, so each
    limit is matched on its own: a file need not be sorted.
    """
    pairs = overlapping(found, truth, _THRESHOLDS[0])
    recall = np.zeros((len(LIMITS), len(objects), len(_THRESHOLDS)))
    for i, limit in enumerate(LIMITS):
        within = found.rank[pairs.found] < limit
        matches = match(found, truth, pairs[within], _THRESHOLDS)
        level, row = np.nonzero(matches.state == 1)
        np.add.at(recall[i], (found.label[row], level), 1)
        recall[i] /= np.maximum(1, objects)[:, None]
    return matches, recall


def _average_precision(
    found: FoundTable, state: NDArray[np.int8], objects: NDArray[np.int64]
) -> NDArray[np.float64]:
    """(classes, thresholds) area under the envelope of precision over recall."""
    result = np.zeros((len(objects), len(_THRESHOLDS)))
    for label, number in enumerate(objects):
        outcome = state[:, falling(found, label)]
        hits = np.cumsum(outcome == 1, axis=1)
        judged = hits + np.cumsum(outcome == 0, axis=1)
        precision = hits / np.maximum(1, judged)
        envelope = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
        steps = np.diff(hits / max(1, number), axis=1, prepend=0.0)
        result[label] = (steps * envelope).sum(axis=1)
    return result


def _without_covered(sample: Sample, found: Found, image: int) -> tuple[Truth, Found]:
    """Drop what ignored regions cover; leave out others, which no class looks at."""
    truth = Truth.of_sample(sample, image)
    kind = np.concatenate([sample.labels, sample.ignore_labels])
    objects = truth[(kind != REGION) & (kind != OTHER)]
    regions = to_xywh(sample.ignore_boxes[sample.ignore_labels == REGION])
    if not len(regions):
        return objects, found
    if sample.width < 1 or sample.height < 1:
        raise UserError(f"{sample.image}: its size is unknown; give it with --sizes")
    if sample.width * sample.height > _MOST_PIXELS:
        size = f"{sample.width}x{sample.height}"
        raise UserError(f"{sample.image}: its size, {size}, is too large to paint regions into")
    painted = _integral(regions, sample.width, sample.height)
    keep = covered(found.xywh, painted) < 0.5
    return (
        objects[covered(objects.xywh, painted) < 0.5],
        Found(found.xywh[keep], found.score[keep], found.label[keep]),
    )


def _integral(regions: NDArray[np.float64], width: int, height: int) -> NDArray[np.int32]:
    """(height + 1, width + 1) sums of the painted regions, x and y counted from 1."""
    mask = np.zeros((height, width), np.uint8)
    for x, y, w, h in _whole_pixels(regions):
        mask[y - 1 : min(height, y + h), x - 1 : min(width, x + w)] = 1
    return np.asarray(cv2.integral(mask), np.int32)


def covered(boxes: NDArray[np.float64], integral: NDArray[np.int32]) -> NDArray[np.float64]:
    """Return the share of each box that is painted, as the toolkit measures it.

    Args:
        boxes: (N, 4) xywh; the corner is clamped to the picture, the size is not, so a box that
            sticks out is covered less than its visible part.
        integral: (height + 1, width + 1) sums of the painted pixels.
    """
    height, width = integral.shape[0] - 1, integral.shape[1] - 1
    x, y, w, h = _whole_pixels(boxes).T
    x, y = np.minimum(width, x), np.minimum(height, y)
    right, bottom = np.minimum(width, x + w), np.minimum(height, y + h)
    inside = (
        integral[y, x].astype(np.int64)
        + integral[bottom, right]
        - integral[y, right]
        - integral[bottom, x]
    )
    share: NDArray[np.float64] = inside / (h * w)
    return share


def _whole_pixels(boxes: NDArray[np.float64]) -> NDArray[np.int64]:
    """Round to the nearest whole number, halves up, and no less than 1 in all four."""
    floor = np.floor(boxes)
    nearest = np.clip(floor + (boxes - floor >= 0.5), 1, _FAR)
    whole: NDArray[np.int64] = nearest.astype(np.int64)
    return whole
