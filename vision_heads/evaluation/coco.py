"""The COCO protocol: faster-coco-eval's counting under COCO's settings, plus a bin under 16 px."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vision_heads.data.sample import DataSplit, by_id
from vision_heads.errors import UserError
from vision_heads.evaluation.diagnostics import confusion, curves
from vision_heads.evaluation.matching import match, overlapping
from vision_heads.evaluation.records import ANY, Found, FoundTable, Truth, to_xywh
from vision_heads.evaluation.scores import Scores

LIMITS = (1, 10, 100)
AREAS: dict[str, tuple[float, float]] = {
    "all": (0.0, 1e10),
    "tiny": (0.0, float(np.nextafter(16.0**2, 0))),
    "small": (0.0, 32.0**2),
    "medium": (32.0**2, 96.0**2),
    "large": (96.0**2, 1e10),
}
"""Pixels², both ends included as COCO does; "tiny" ends just below 16²."""

SIZES = tuple(AREAS)[1:]
MOST = 200_000
"""Boxes, and pairs of picture and class, that faster-coco-eval is given at a time: 0.5 GB of it."""
NUMBERS = (
    "AP",
    "AP50",
    "AP75",
    *(f"AP_{size}" for size in SIZES),
    *(f"AR{limit}" for limit in LIMITS),
    *(f"AR_{size}" for size in SIZES),
)


def score(split: DataSplit, predictions: Sequence[Found]) -> Scores:
    """Score by COCO's rules.

    Args:
        split: ground truth; ignored areas with a class are crowds of it, all others crowds of
            every class. Sizes are binned by `Sample.areas` where given.
        predictions: one per sample.

    Raises:
        UserError: faster-coco-eval is not installed.
    """
    split, predictions = _by_id(split, predictions)
    found = FoundTable.of([picture.best_first() for picture in predictions])
    found = found[found.label >= 0]
    judged = _judged(found)
    truth = Truth.stack([Truth.of_sample(s, i) for i, s in enumerate(split.samples)])
    precision, recall = _count(split, judged, truth)
    objects = np.bincount(truth.label[~truth.ignore], minlength=len(split.names))
    return Scores(
        "coco",
        _numbers(precision, recall),
        {
            name: _row(precision[:, :, i : i + 1], recall[:, i : i + 1], truth, i)
            for i, name in enumerate(split.names)
        },
        len(split.samples),
        curves(split.names, judged, _outcome(judged, truth), objects),
        confusion(split.names, found, truth),
    )


def _by_id(split: DataSplit, predictions: Sequence[Found]) -> tuple[DataSplit, Sequence[Found]]:
    """Bring pictures into the order of their ids: it ranks equal scores."""
    order = by_id(split.samples)
    samples = [split.samples[i] for i in order]
    return replace(split, samples=samples), [predictions[i] for i in order]


def _judged(found: FoundTable) -> FoundTable:
    """Return each picture's and class's 100 best predictions, in their order."""
    order = np.lexsort((found.rank, found.label, found.image))
    new = np.diff(found.image[order], prepend=-1) != 0
    new |= np.diff(found.label[order], prepend=-1) != 0
    starts = np.flatnonzero(new)
    place = np.empty(len(found), np.int64)
    place[order] = np.arange(len(found)) - np.repeat(starts, np.diff(starts, append=len(found)))
    return found[place < LIMITS[-1]]


def _outcome(found: FoundTable, truth: Truth) -> NDArray[np.int8]:
    """Return the outcome of each prediction at IoU 0.5."""
    pairs = overlapping(found, truth, 0.5)
    state: NDArray[np.int8] = match(found, truth, pairs, np.array([0.5])).state[0]
    return state


def _numbers(precision: NDArray[np.float64], recall: NDArray[np.float64]) -> dict[str, float]:
    """Means over what was measured.

    Args:
        precision: (10 IoU, 101 recall, classes, areas, limits), -1 where there is no object.
        recall: (10 IoU, classes, areas, limits).
    """
    result = {
        "AP": _mean(precision[..., 0, -1]),
        "AP50": _mean(precision[0, ..., 0, -1]),
        "AP75": _mean(precision[5, ..., 0, -1]),
    }
    for area, size in enumerate(SIZES, 1):
        result[f"AP_{size}"] = _mean(precision[..., area, -1])
    for place, limit in enumerate(LIMITS):
        result[f"AR{limit}"] = _mean(recall[..., 0, place])
    for area, size in enumerate(SIZES, 1):
        result[f"AR_{size}"] = _mean(recall[..., area, -1])
    return result


def _mean(table: NDArray[np.float64]) -> float:
    valid = table[table > -1]
    return 100 * float(valid.mean()) if valid.size else float("nan")


def _row(
    precision: NDArray[np.float64],
    recall: NDArray[np.float64],
    truth: Truth,
    label: int,
) -> dict[str, float]:
    mine = (truth.label == label) & ~truth.ignore
    numbers = _numbers(precision, recall)
    kept = ("AP", "AP50", "AP75", *(f"AP_{size}" for size in SIZES), "AR100")
    return {
        "objects": int(mine.sum()),
        **{name: numbers[name] for name in kept},
    }


def check_ready() -> None:
    """Raise `UserError` where the library that counts is not installed."""
    try:
        import faster_coco_eval  # noqa: F401, PLC0415
    except ImportError as error:
        raise UserError(
            "COCO's numbers need faster-coco-eval: pip install faster-coco-eval"
        ) from error


def _count(
    split: DataSplit, found: FoundTable, truth: Truth
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Count some classes at a time, which do not depend on each other; see `_numbers`.

    faster-coco-eval keeps Python objects for each box, and for each picture with each class.
    """
    check_ready()
    areas = _areas(split)
    precision = np.full((10, 101, len(split.names), len(AREAS), len(LIMITS)), -1.0)
    recall = np.full((10, *precision.shape[2:]), -1.0)
    for classes in _lots(len(split.samples), len(split.names), found, truth):
        mine = found[np.isin(found.label, classes)]
        theirs = np.isin(truth.label, [*classes, ANY])
        annotations = _annotations(truth[theirs], areas[theirs], classes)
        counted = _count_classes(mine, annotations, classes)
        precision[:, :, classes], recall[:, classes] = counted
    return precision, recall


def _lots(pictures: int, classes: int, found: FoundTable, truth: Truth) -> list[list[int]]:
    """Share out the classes that have objects, so that a lot is of `MOST` records or one class."""
    boxes = np.bincount(found.label, minlength=classes) + np.count_nonzero(truth.label == ANY)
    boxes += np.bincount(truth.label[truth.label >= 0], minlength=classes)
    lots: list[list[int]] = []
    room = 0
    for label in np.unique(truth.label[~truth.ignore]).tolist():
        records = int(boxes[label]) + pictures
        if records > room:
            lots.append([])
            room = MOST
        lots[-1].append(label)
        room -= records
    return lots


def _count_classes(
    found: FoundTable, annotations: list[dict[str, Any]], classes: Sequence[int]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Let faster-coco-eval match and accumulate; its summary assumes fixed bins and is not used."""
    from faster_coco_eval import COCO, COCOeval_faster  # noqa: PLC0415

    results = _results(found)
    held = {record["image_id"] for record in (*annotations, *results)}
    head = {
        "images": [{"id": image} for image in sorted(held)],
        "categories": [{"id": label + 1} for label in classes],
    }
    truth = COCO({**head, "annotations": annotations})
    result = COCO({**head, "annotations": results})
    evaluation = COCOeval_faster(truth, result, "bbox")
    evaluation.params.maxDets = list(LIMITS)
    evaluation.params.areaRng = [list(area) for area in AREAS.values()]
    evaluation.params.areaRngLbl = list(AREAS)
    evaluation.evaluate()
    evaluation.accumulate()
    return np.asarray(evaluation.eval["precision"]), np.asarray(evaluation.eval["recall"])


def coco_annotations(split: DataSplit) -> list[dict[str, Any]]:
    """Return a split's ground truth as COCO annotations.

    Ids of pictures and classes are their index + 1; annotation ids start at 1, because 0 means
    "unmatched" to COCO's code.
    """
    truth = Truth.stack([Truth.of_sample(s, i) for i, s in enumerate(split.samples)])
    return _annotations(truth, _areas(split), range(len(split.names)))


def _areas(split: DataSplit) -> NDArray[np.float64]:
    """(M,) areas of all objects and ignored areas, in the order of `Truth`, pixels²."""
    areas = [np.zeros(0)]
    for sample in split.samples:
        objects, ignored = to_xywh(sample.boxes), to_xywh(sample.ignore_boxes)
        own = sample.areas
        areas.append(objects[:, 2] * objects[:, 3] if own is None else own.astype(np.float64))
        areas.append(ignored[:, 2] * ignored[:, 3])
    return np.concatenate(areas)


def _annotations(
    truth: Truth, areas: NDArray[np.float64], classes: Sequence[int]
) -> list[dict[str, Any]]:
    """Return records of boxes, one for each of `classes` where a box holds for any."""
    records: list[dict[str, Any]] = []
    rows = zip(
        (truth.image + 1).tolist(),
        truth.label.tolist(),
        truth.xywh.tolist(),
        areas.tolist(),
        truth.ignore.tolist(),
        strict=True,
    )
    for image, label, box, area, ignored in rows:
        for one in classes if label == ANY else (label,):
            records.append(
                {
                    "id": len(records) + 1,
                    "image_id": image,
                    "category_id": one + 1,
                    "bbox": box,
                    "area": area,
                    "iscrowd": int(ignored),
                }
            )
    return records


def _results(found: FoundTable) -> list[dict[str, Any]]:
    rows = zip(
        (found.image + 1).tolist(),
        (found.label + 1).tolist(),
        found.xywh.tolist(),
        found.score.tolist(),
        strict=True,
    )
    return [
        {
            "id": index,
            "image_id": image,
            "category_id": label,
            "bbox": box,
            "area": box[2] * box[3],
            "score": confidence,
            "iscrowd": 0,
        }
        for index, (image, label, box, confidence) in enumerate(rows, 1)
    ]
