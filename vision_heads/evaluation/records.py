"""What every protocol reads: predictions and ground truth as float64 arrays.

Detections carry float32 corners, which is exact for what a network gives. Results written by
other programs are decimal x, y, w, h: going through float32 corners moves a box by some 1e-5 px,
enough to flip a rounding or an overlap that lies on a threshold. So scoring works on `Found`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vision_heads.data.sample import DataSplit, Sample
from vision_heads.errors import UserError
from vision_heads.geometry.rotations import to_euler
from vision_heads.results import Detections

UNSCORED = -1
"""`Found.label` of a prediction that is of no evaluated class; it only takes up a place."""
ANY = -1
"""`Truth.label` of an ignored area that holds for every class."""


@dataclass(frozen=True, slots=True)
class Found:
    """One picture's predictions.

    Attributes:
        xywh: (N, 4) float64 x, y, width, height in absolute pixels.
        score: (N,) float64.
        label: (N,) int64 index into the data set's names, or `UNSCORED`.
        euler: (N, 3) float64 pitch, yaw, roll of heads in degrees, DirectMHP's convention, NaN
            where unknown; None: no poses.
    """

    xywh: NDArray[np.float64]
    score: NDArray[np.float64]
    label: NDArray[np.int64]
    euler: NDArray[np.float64] | None = None

    @classmethod
    def empty(cls) -> Found:
        """Return no predictions."""
        return cls(np.zeros((0, 4)), np.zeros(0), np.zeros(0, np.int64))

    @classmethod
    def from_detections(
        cls, found: Detections, names: Sequence[str], *, lone: bool = False
    ) -> Found:
        """Take a model's detections, best first, classes matched to `names` by `class_map`.

        Raises:
            UserError: not one class of the detections is in `names`.
        """
        corners = found.xyxy.astype(np.float64)
        xywh = np.hstack([corners[:, :2], corners[:, 2:] - corners[:, :2]])
        label = class_map(found.names, names, lone=lone).index[found.class_id]
        euler = None if found.rotation is None else to_euler(found.rotation)
        return cls(xywh, found.score.astype(np.float64), label, euler).best_first()

    def best_first(self) -> Found:
        """Return the same, sorted by falling score; equal scores keep their order."""
        order = np.argsort(-self.score, kind="stable")
        euler = None if self.euler is None else self.euler[order]
        return Found(self.xywh[order], self.score[order], self.label[order], euler)

    def __len__(self) -> int:
        return len(self.score)


@dataclass(frozen=True, slots=True)
class ClassMap:
    """How a head's classes map to a data set's.

    Attributes:
        index: (head's classes,) int64 index into the data set's names, or `UNSCORED`.
        only_model: classes of the head that the data set does not know.
        only_data: classes of the data set that the head cannot find.
    """

    index: NDArray[np.int64]
    only_model: tuple[str, ...]
    only_data: tuple[str, ...]


def class_map(model: Sequence[str], data: Sequence[str], *, lone: bool = False) -> ClassMap:
    """Match class names, regardless of case and of '-', '_' or ' ' between words.

    A name that is there as it is comes first: letters, say, may be of both cases.

    Args:
        model: the head's classes.
        data: the data set's.
        lone: where both sides have one class, these match whatever they are called.

    Raises:
        UserError: no name is in both.
    """
    if lone and len(model) == len(data) == 1:
        model = data
    known = {_plain(name): index for index, name in enumerate(data)}
    exact = {name: index for index, name in enumerate(data)}
    places = [exact.get(name, known.get(_plain(name), UNSCORED)) for name in model]
    index = np.array(places, np.int64)
    if not (index >= 0).any():
        raise UserError(
            f"no class in common: the model finds {', '.join(model)}; "
            f"the data set has {', '.join(data)}"
        )
    return ClassMap(
        index,
        tuple(name for name, place in zip(model, index, strict=True) if place < 0),
        tuple(name for place, name in enumerate(data) if place not in index),
    )


def _plain(name: str) -> str:
    return " ".join(name.casefold().replace("-", " ").replace("_", " ").split())


@dataclass(frozen=True, slots=True)
class FoundTable:
    """Every picture's predictions in one table, grouped by picture.

    Attributes:
        image: (N,) int64 index of the picture, rising.
        rank: (N,) int64 place in the picture's list.
        xywh, score, label, euler: as in `Found`; euler is NaN for pictures without poses.
    """

    image: NDArray[np.int64]
    rank: NDArray[np.int64]
    xywh: NDArray[np.float64]
    score: NDArray[np.float64]
    label: NDArray[np.int64]
    euler: NDArray[np.float64]

    @classmethod
    def of(cls, pictures: Sequence[Found]) -> FoundTable:
        """Stack the predictions of all pictures."""
        sizes = np.array([len(found) for found in pictures], np.int64)
        pictures = [*pictures, Found.empty()]
        return cls(
            np.repeat(np.arange(len(sizes)), sizes),
            np.concatenate([np.arange(len(found)) for found in pictures]).astype(np.int64),
            np.concatenate([found.xywh for found in pictures]),
            np.concatenate([found.score for found in pictures]),
            np.concatenate([found.label for found in pictures]).astype(np.int64),
            np.concatenate([_angles(found) for found in pictures]),
        )

    def __getitem__(self, keep: NDArray[np.bool_]) -> FoundTable:
        """Select rows by a mask."""
        return FoundTable(
            self.image[keep],
            self.rank[keep],
            self.xywh[keep],
            self.score[keep],
            self.label[keep],
            self.euler[keep],
        )

    def __len__(self) -> int:
        return len(self.score)


def _angles(found: Found) -> NDArray[np.float64]:
    return np.full((len(found), 3), np.nan) if found.euler is None else found.euler


@dataclass(frozen=True, slots=True)
class Truth:
    """Ground truth of one picture, or of all in one table.

    Attributes:
        xywh: (M, 4) float64.
        label: (M,) int64 class index; `ANY` for an ignored area of every class.
        ignore: (M,) bool, true where neither a hit nor a miss counts.
        image: (M,) int64 index of the picture, rising.
    """

    xywh: NDArray[np.float64]
    label: NDArray[np.int64]
    ignore: NDArray[np.bool_]
    image: NDArray[np.int64]

    @classmethod
    def of_sample(cls, sample: Sample, image: int) -> Truth:
        """Take a sample's objects, then its ignored areas, each in their own order."""
        objects, areas = to_xywh(sample.boxes), to_xywh(sample.ignore_boxes)
        label = np.concatenate([sample.labels, np.maximum(sample.ignore_labels, ANY)])
        ignore = np.arange(len(label)) >= len(objects)
        return cls(
            np.concatenate([objects, areas]),
            label.astype(np.int64),
            ignore,
            np.full(len(label), image, np.int64),
        )

    @classmethod
    def stack(cls, pictures: Sequence[Truth]) -> Truth:
        """Join the tables of several pictures, given in rising order."""
        if not pictures:
            none = np.zeros(0, np.int64)
            return cls(np.zeros((0, 4)), none, none.astype(bool), none)
        return cls(
            np.concatenate([truth.xywh for truth in pictures]),
            np.concatenate([truth.label for truth in pictures]),
            np.concatenate([truth.ignore for truth in pictures]),
            np.concatenate([truth.image for truth in pictures]),
        )

    def __getitem__(self, keep: NDArray[np.bool_]) -> Truth:
        """Select rows by a mask."""
        return Truth(self.xywh[keep], self.label[keep], self.ignore[keep], self.image[keep])

    def __len__(self) -> int:
        return len(self.label)


def to_xywh(corners: NDArray[np.float32]) -> NDArray[np.float64]:
    """(N, 4) xyxy to float64 xywh, exact where the corners are whole numbers."""
    boxes = np.asarray(corners, np.float64).reshape(-1, 4)
    return np.hstack([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]])


def as_found(
    split: DataSplit, predictions: Sequence[Detections | Found], *, lone: bool = False
) -> list[Found]:
    """Bring predictions, one per sample, into the form the protocols read.

    `lone` is as in `class_map`.

    Raises:
        ValueError: their number is not the number of samples.
        UserError: detections and data set have no class in common.
    """
    if len(predictions) != len(split.samples):
        raise ValueError(f"{len(predictions)} predictions for {len(split.samples)} samples")
    return [
        found if isinstance(found, Found) else Found.from_detections(found, split.names, lone=lone)
        for found in predictions
    ]
