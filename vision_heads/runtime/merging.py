"""One list of the objects that several heads find, each under its own name for them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError

from vision_heads.errors import UserError, require
from vision_heads.geometry.boxes import nms
from vision_heads.results import Detections
from vision_heads.spec import MERGED, HeadSpec, Merge, check_merge, first_problem, reduce_merge
from vision_heads.yaml_file import read_yaml


@dataclass(frozen=True, slots=True)
class Merging:
    """Which classes become one, and when two boxes are one object.

    Attributes:
        names: of the classes that are made.
        labels: by head, (its classes,) int64: index into `names`, or -1 for a class that stays.
        iou: a box that overlaps a better one of its new class by more is dropped.
        max_det: most merged results a picture.
    """

    names: tuple[str, ...]
    labels: dict[str, NDArray[np.int64]]
    iou: float
    max_det: int

    def members(self, name: str) -> list[tuple[str, int]]:
        """Return head and class index of everything that goes into a merged class."""
        label = self.names.index(name)
        return [
            (head, int(index))
            for head, labels in self.labels.items()
            for index in np.flatnonzero(labels == label)
        ]

    def apply(self, heads: Mapping[str, Detections]) -> dict[str, Detections]:
        """Move what is merged out of its heads into a list of its own, each object once.

        Args:
            heads: what each head found in one picture.

        Returns:
            The heads with what is theirs alone, then `MERGED`, best first; its category ids
            count from 0.
        """
        left: dict[str, Detections] = {}
        taken, labels = [], []
        for head, found in heads.items():
            left[head] = found
            if head in self.labels:
                label = self.labels[head][found.class_id]
                left[head] = found[label < 0]
                taken.append(found[label >= 0])
                labels.append(label[label >= 0])
        boxes = np.concatenate([found.xyxy for found in taken])
        scores = np.concatenate([found.score for found in taken])
        classes = np.concatenate(labels)
        kept = nms(boxes, scores, classes, self.iou, self.max_det)
        left[MERGED] = Detections(boxes[kept], scores[kept], classes[kept], self.names)
        return left


def plan_merging(
    merge: Mapping[str, Sequence[str]],
    heads: Sequence[HeadSpec],
    wanted: Sequence[HeadSpec],
    *,
    iou: float,
    max_det: int,
) -> Merging | None:
    """Prepare a merge for the heads that run.

    Args:
        merge: as in `ModelSpec.merge`.
        heads: all of the model.
        wanted: those that run; a class of which only one head runs stays in its head.
        iou, max_det: see `Merging`.

    Returns:
        None when nothing is to be merged.

    Raises:
        UserError: names the class that cannot be merged so.
    """
    whole = check_mapping(merge, "merge")
    try:
        check_merge(whole, heads)
    except ValueError as error:
        raise UserError(str(error)) from error
    left = reduce_merge(whole, [head.name for head in wanted])
    target = {member: label for label, members in enumerate(left.values()) for member in members}
    labels = {
        head.name: np.array([target.get(f"{head.name}:{name}", -1) for name in head.classes])
        for head in wanted
    }
    used = {head: label for head, label in labels.items() if (label >= 0).any()}
    return Merging(tuple(left), used, iou, max_det) if left else None


def check_mapping(content: object, where: str) -> Merge:
    """Return `content` as a merge; `UserError` when it is no mapping of names to lists."""
    require(isinstance(content, Mapping), f"{where}: must be like car: [aerial:car, street:auto]")
    try:
        return TypeAdapter(Merge).validate_python(content)
    except ValidationError as error:
        raise UserError(f"{where}: {first_problem(error)}") from error


def read_merge(path: str | Path) -> Merge:
    """Read a merge from a YAML file, e.g. `car: [aerial:car, vehicles:automobile]`.

    Raises:
        UserError: the file is missing, no YAML, or no such mapping.
    """
    content = read_yaml(Path(path))
    return check_mapping(content, str(path))
