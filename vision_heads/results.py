"""What a model found: `Detections` of one head, `Result` of one picture, `Failure`. No torch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from vision_heads.errors import UserError
from vision_heads.geometry.rotations import to_euler

if TYPE_CHECKING:
    import supervision


POSE_FIELDS = ("pitch", "yaw", "roll", "rotation")
"""What records of head poses have beyond those of boxes."""


@dataclass(slots=True, eq=False)  # arrays have no one answer to whether they are equal
class Detections:
    """Results of one head on one picture, best first.

    Attributes:
        xyxy: (N, 4) float32 boxes in absolute pixels of the original picture.
        score: (N,) float32 in 0..1.
        class_id: (N,) int64 indices into `names`.
        names: the head's class names.
        category_ids: the data set's own id of each class.
        rotation: (N, 3, 3) float32 head rotations in image axes (x right, y down, third column
            = where the nose points), or None for kinds without a pose.
        track: (N,) int64 ids of the objects over time, from 1; -1 where not yet known. None
            where nothing is tracked.
    """

    xyxy: NDArray[np.float32]
    score: NDArray[np.float32]
    class_id: NDArray[np.int64]
    names: tuple[str, ...]
    category_ids: tuple[int, ...] = ()
    rotation: NDArray[np.float32] | None = None
    track: NDArray[np.int64] | None = None

    def __post_init__(self) -> None:
        self.xyxy = np.asarray(self.xyxy, np.float32).reshape(-1, 4)
        self.score = np.asarray(self.score, np.float32).reshape(-1)
        self.class_id = np.asarray(self.class_id, np.int64).reshape(-1)
        if not self.category_ids:
            self.category_ids = tuple(range(len(self.names)))
        if not len(self.xyxy) == len(self.score) == len(self.class_id):
            raise ValueError("xyxy, score and class_id differ in length")
        if self.rotation is not None:
            self.rotation = np.asarray(self.rotation, np.float32).reshape(-1, 3, 3)
            if len(self.rotation) != len(self.score):
                raise ValueError("xyxy and rotation differ in length")
        if self.track is not None:
            self.track = np.asarray(self.track, np.int64).reshape(-1)
            if len(self.track) != len(self.score):
                raise ValueError("xyxy and track differ in length")

    @classmethod
    def empty(cls, names: tuple[str, ...], category_ids: tuple[int, ...] = ()) -> Detections:
        """Return no detections of a head with these classes."""
        return cls(
            np.zeros((0, 4), np.float32),
            np.zeros(0, np.float32),
            np.zeros(0, np.int64),
            names,
            category_ids,
        )

    def __len__(self) -> int:
        return len(self.score)

    def __getitem__(self, index: Any) -> Detections:
        """Select rows by a slice, a boolean mask or an index array."""
        if isinstance(index, (int, np.integer)):
            index = [index]
        return Detections(
            self.xyxy[index],
            self.score[index],
            self.class_id[index],
            self.names,
            self.category_ids,
            None if self.rotation is None else self.rotation[index],
            None if self.track is None else self.track[index],
        )

    def __iter__(self) -> Iterator[tuple[NDArray[np.float32], float, str]]:
        """Yield (xyxy, score, class name) for each detection."""
        for box, score, label in zip(self.xyxy, self.score, self.class_id, strict=True):
            yield box, float(score), self.names[label]

    def counts(self) -> dict[str, int]:
        """Return how many of each class were found, classes without any left out."""
        number = np.bincount(self.class_id, minlength=len(self.names))
        return {name: int(n) for name, n in zip(self.names, number, strict=True) if n}

    def euler(self, convention: str = "directmhp") -> NDArray[np.float64]:
        """Return each head's angles.

        Args:
            convention: one of `vision_heads.geometry.rotations`, which says the order and the unit
                of its numbers: "300w-lp" is in radians, "opencv" a rotation vector.

        Returns:
            (N, 3), of "directmhp" [pitch, yaw, roll] in degrees; NaN where the rotation is
            unknown.

        Raises:
            UserError: these detections have no poses, or the convention is unknown.
        """
        if self.rotation is None:
            raise UserError("euler(): these detections have no rotation; their head finds no poses")
        return to_euler(self.rotation, convention)

    def to_dicts(self) -> list[dict[str, Any]]:
        """Return plain Python records: class, category_id, score, box (xyxy).

        Of head poses also pitch, yaw, roll (degrees, DirectMHP's convention) and rotation (3
        rows); None where unknown. Where objects are tracked, track; None where not yet known.
        """
        # Rounded as float64: a rounded float32 would still print all its digits.
        boxes = self.xyxy.astype(np.float64).round(2).tolist()
        scores = self.score.astype(np.float64).round(5).tolist()
        return [
            {
                "class": self.names[label],
                "category_id": self.category_ids[label],
                "score": score,
                "box": box,
            }
            | pose
            | track
            for box, score, label, pose, track in zip(
                boxes, scores, self.class_id.tolist(), self._poses(), self._tracks(), strict=True
            )
        ]

    def _tracks(self) -> list[dict[str, Any]]:
        """Each row's track id; empty records where nothing is tracked."""
        if self.track is None:
            return [{} for _ in range(len(self))]
        return [{"track": number if number >= 0 else None} for number in self.track.tolist()]

    def _poses(self) -> list[dict[str, Any]]:
        """Each row's pose as plain numbers; empty records for a kind without poses."""
        if self.rotation is None:
            return [{} for _ in range(len(self))]
        angles = self.euler().round(3).tolist()
        matrices = self.rotation.astype(np.float64).round(6).tolist()
        return [
            dict(zip(POSE_FIELDS, (*angle, matrix), strict=True))
            if np.isfinite(angle).all()
            else dict.fromkeys(POSE_FIELDS)
            for angle, matrix in zip(angles, matrices, strict=True)
        ]

    def to_coco(self, image_id: int | str) -> list[dict[str, Any]]:
        """Return COCO results: bbox is x, y, width, height; ids are the data set's own.

        Head poses are added as pitch, yaw, roll and rotation, as in `to_dicts`.
        """
        corners = self.xyxy.astype(np.float64)
        boxes = np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], axis=1)
        scores = self.score.astype(np.float64).round(6).tolist()
        labels = self.class_id.tolist()
        return [
            {
                "image_id": image_id,
                "category_id": self.category_ids[label],
                "bbox": box,
                "score": score,
            }
            | pose
            for box, score, label, pose in zip(
                boxes.round(3).tolist(), scores, labels, self._poses(), strict=True
            )
        ]

    def to_supervision(self) -> supervision.Detections:
        """Return `supervision.Detections`; `UserError` says how to install it if it is not.

        Track ids are its `tracker_id`, -1 where not yet known. It has no place for rotations.
        """
        try:
            import supervision as sv  # noqa: PLC0415
        except ImportError as error:
            raise UserError(
                f"to_supervision() needs supervision ({error}): pip install supervision"
            ) from error
        names = np.array([self.names[label] for label in self.class_id], dtype=str)
        return sv.Detections(
            xyxy=self.xyxy,
            confidence=self.score,
            class_id=self.class_id.astype(int),
            tracker_id=None if self.track is None else self.track.astype(int),
            data={"class_name": names},
        )


@dataclass(slots=True, eq=False)
class Result:
    """Everything found in one picture.

    Attributes:
        heads: Detections by head name, in the model's order.
        width, height: of the original picture, pixels.
        source: file or stream the picture came from, "" when it was an array.
        image: the original BGR uint8 picture, (height, width, 3); None when not kept.
    """

    heads: dict[str, Detections]
    width: int
    height: int
    source: str = ""
    image: NDArray[np.uint8] | None = field(default=None, repr=False)

    def __getitem__(self, head: str) -> Detections:
        """Return the detections of the head called `head`."""
        if head not in self.heads:
            raise KeyError(f"no head {head!r}; this result has {list(self.heads)}")
        return self.heads[head]

    def __contains__(self, head: object) -> bool:
        """Whether the result is of a head called `head`."""
        return head in self.heads

    # Its heads, or what they found? Without this, Python would try result[0].
    __iter__ = None

    def __bool__(self) -> bool:
        """Return True, also when nothing was found; a `Failure` is False."""
        return True

    def __len__(self) -> int:
        """Return the number of detections over all heads."""
        return sum(len(detections) for detections in self.heads.values())

    def draw(self, image: NDArray[np.uint8] | None = None) -> NDArray[np.uint8]:
        """Return a BGR copy of the picture with every detection drawn.

        Args:
            image: BGR uint8 (height, width, 3); the picture the result came from when None.

        Raises:
            UserError: the picture was not kept and none is given, or the one that is given is
                no such array or of another size than the boxes are for.
        """
        from vision_heads.media.draw import draw_result  # noqa: PLC0415

        picture = self.image if image is None else image
        if picture is None:
            raise UserError("draw() needs the picture: pass it, or predict with keep_image=True")
        shape = (self.height, self.width, 3)
        # Others would be drawn on too, but come out black or with boxes in other places.
        if np.shape(picture) != shape or np.asarray(picture).dtype != np.uint8:
            raise UserError(
                f"draw(): expected the picture as a uint8 BGR array {shape}, "
                f"got {getattr(picture, 'dtype', type(picture).__name__)} {np.shape(picture)}"
            )
        return draw_result(picture, self)

    def to_dict(self) -> dict[str, Any]:
        """Return a plain record for JSON: source, width, height, heads."""
        return {
            "source": self.source,
            "width": self.width,
            "height": self.height,
            "heads": {name: found.to_dicts() for name, found in self.heads.items()},
        }

    def to_coco(self, image_id: int | str | None = None) -> dict[str, list[dict[str, Any]]]:
        """Return COCO results of each head; `image_id` defaults to the source."""
        key = self.source if image_id is None else image_id
        return {name: found.to_coco(key) for name, found in self.heads.items()}

    def to_supervision(self) -> dict[str, supervision.Detections]:
        """Return `supervision.Detections` of each head."""
        return {name: found.to_supervision() for name, found in self.heads.items()}


@dataclass(frozen=True, slots=True)
class Failure:
    """A picture among many that could not be read; false in a condition, as a result is not.

    Attributes:
        source: file of the picture.
        message: one line that names the file and says what is wrong.
    """

    source: str
    message: str

    def __bool__(self) -> bool:
        """Return False: `if result:` tells results, also empty ones, from failures."""
        return False
