"""What every reader of a label format takes and returns."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from vision_heads import paths
from vision_heads.data.sample import Problem, ProblemKind, Sample
from vision_heads.errors import UserError
from vision_heads.media.images import ImageError, image_size

_THREADS = 8  # reading is waiting for the disk, not computing
_CHUNK = 64

LARGEST = 1e7
"""Pixels; no picture is that wide, and float32 no longer tells one pixel from the next."""

In = TypeVar("In")
Out = TypeVar("Out")


@dataclass(frozen=True, slots=True)
class Source:
    """Where one part of a split lies.

    Attributes:
        root: the data set's folder.
        images: folder of pictures, or a .txt that lists them; None when only labels are given.
        annotations: folder of label files or one file, as the format wants; None: the format's
            own place for them.
        ids: file that names the pictures to use, one a line; None: all of them.
        names: class names of the card, () when the format names its classes itself.
        images_needed: pictures must be there; otherwise sizes may come from `sizes`.
        sizes: (width, height) by file name or stem, for pictures that are not there.
        keypoints: YOLO rows are a box followed by key points, not a polygon.
    """

    root: Path
    images: Path | None
    annotations: Path | None
    ids: Path | None = None
    names: tuple[str, ...] = ()
    images_needed: bool = True
    sizes: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    keypoints: bool = False

    def known_size(self, image: Path) -> tuple[int, int] | None:
        """Return (width, height) that `sizes` gives for a picture, by its name or stem."""
        return known_size(image, self.sizes)


def known_size(image: Path, sizes: Mapping[str, tuple[int, int]]) -> tuple[int, int] | None:
    """Return (width, height) that `sizes` gives for a picture, by its name or stem."""
    return sizes.get(image.name) or sizes.get(image.stem)


@dataclass(slots=True)
class Part:
    """One part of a split, read.

    Attributes:
        names: class names, contiguous order.
        category_ids: the data set's own id of each class.
        samples: the pictures; their image_id is the file's stem unless the format has ids.
        problems: what could not be read. Faults of boxes are found later, for all formats alike.
        files: label file of each sample.
        places: where each box of each sample stands in its label file, parallel to its boxes.
        place_word: what `places` counts: "line", "object", "annotation id".
        unlabelled: pictures without a label file that count as negatives.
        unread: as of a `DataSplit`.
    """

    names: tuple[str, ...]
    category_ids: tuple[int, ...]
    samples: list[Sample] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    files: list[Path] = field(default_factory=list)
    places: list[NDArray[np.int64]] = field(default_factory=list)
    place_word: str = "line"
    unlabelled: int = 0
    unread: Counter[str] = field(default_factory=Counter)


@dataclass(slots=True)
class Rows:
    """What one label file says.

    Attributes:
        boxes: (N, 4) float64 xyxy pixels.
        labels: (N,) class index, or `REGION`, or `OTHER`.
        ignored: (N,) bool, not to be judged.
        places: (N,) line or object number, from 1.
        problems: kind and detail of what could not be read.
        size: (width, height) the file states, None where it does not.
        euler: (N, 3) float64 [pitch, yaw, roll] in degrees of each box, DirectMHP's signs, NaN
            where unknown; None for formats without poses.
        unread: as of a `DataSplit`.
    """

    boxes: NDArray[np.float64]
    labels: NDArray[np.int64]
    ignored: NDArray[np.bool_]
    places: NDArray[np.int64]
    problems: list[tuple[ProblemKind, str]] = field(default_factory=list)
    size: tuple[int, int] | None = None
    euler: NDArray[np.float64] | None = None
    unread: Counter[str] = field(default_factory=Counter)

    @classmethod
    def of(
        cls,
        boxes: list[tuple[float, float, float, float]],
        labels: list[int],
        ignored: list[bool],
        places: list[int],
        problems: list[tuple[ProblemKind, str]],
        size: tuple[int, int] | None = None,
    ) -> Rows:
        """Build the arrays from lists of equal length."""
        return cls(
            np.array(boxes, np.float64).reshape(-1, 4),
            np.array(labels, np.int64),
            np.array(ignored, np.bool_),
            np.array(places, np.int64),
            problems,
            size,
        )

    def within_reason(self, place_word: str) -> Rows:
        """Return the rows without those beyond `LARGEST`, each of which becomes a problem."""
        beyond = ~(np.abs(self.boxes) <= LARGEST).all(1)  # NaN too
        if not beyond.any():
            return self
        problems: list[tuple[ProblemKind, str]] = [
            ("bad-annotation", f"{place_word} {place}: reaches beyond {LARGEST:,.0f} px")
            for place in self.places[beyond]
        ]
        keep = ~beyond
        return Rows(
            self.boxes[keep],
            self.labels[keep],
            self.ignored[keep],
            self.places[keep],
            self.problems + problems,
            self.size,
            None if self.euler is None else self.euler[keep],
            self.unread,
        )

    @classmethod
    def none(cls) -> Rows:
        """Return a file without boxes."""
        return cls.of([], [], [], [], [])


class BadLabelsError(Exception):
    """A label file of which nothing can be used; the message says why."""


def parallel(function: Callable[[In], Out], items: Iterable[In]) -> list[Out]:
    """Apply `function` to every item on several threads; results keep the order."""
    queue = list(items)
    chunks = [queue[start : start + _CHUNK] for start in range(0, len(queue), _CHUNK)]
    if len(chunks) < 2:
        return [function(item) for item in queue]

    def work(chunk: list[In]) -> list[Out]:
        return [function(item) for item in chunk]

    with ThreadPoolExecutor(_THREADS) as pool:
        return [result for chunk in pool.map(work, chunks) for result in chunk]


def expanded(path: str | Path, where: str) -> Path:
    """Return a path with the home folder for its "~"; `UserError` if there is no such home."""
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise UserError(f"{where}: {path}: {error}") from error


def read_json(file: Path) -> Any:
    """Return what a JSON file in UTF-8, -16 or -32 holds.

    Raises:
        UserError: it cannot be read, or is no JSON.
    """
    try:
        return json.loads(file.read_bytes())
    except OSError as error:
        raise UserError(f"{file}: {error.strerror}") from error
    except ValueError as error:
        raise UserError(f"{file}: not JSON: {error}") from error
    except RecursionError as error:
        raise UserError(f"{file}: not JSON that can be read: nested too deeply") from error


def upright(boxes: NDArray[np.float64], degrees: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the boxes around boxes that are turned about their centres.

    CVAT writes a turned box as it was before, with the attribute "rotation" beside it.

    Args:
        boxes: (N, 4) xyxy before they are turned.
        degrees: (N,) either way round; 0 leaves a box as it is, to the last bit.
    """
    turns = np.radians(degrees)
    cos, sin = np.abs(np.cos(turns)), np.abs(np.sin(turns))
    width, height = (boxes[:, 2:] - boxes[:, :2]).T
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2
    half = np.stack([width * cos + height * sin, width * sin + height * cos], 1) / 2
    around = np.concatenate([centres - half, centres + half], 1)
    return np.where((degrees == 0)[:, None], boxes, around)


def is_outline(xs: Sequence[float], ys: Sequence[float]) -> bool:
    """Say whether a polygon tells more than its box: it is no upright rectangle."""
    return len(xs) != 4 or len(set(xs)) > 2 or len(set(ys)) > 2


def decode_text(data: bytes) -> str:
    """Return the text of a label file.

    Raises:
        BadLabelsError: it is neither UTF-8 nor UTF-16 with its mark.
    """
    try:
        return paths.decode_text(data)
    except UnicodeDecodeError as error:
        raise BadLabelsError(f"not a text file (byte {error.start})") from error


def require_sizes(unsized: list[Path]) -> None:
    """Raise `UserError` if there is a picture of unknown size, naming the first."""
    if unsized:
        raise UserError(
            f"{unsized[0]}: picture not there and its size unknown ({len(unsized)} such); "
            "give the sizes as a CSV of name,width,height (--sizes FILE.csv)"
        )


def corrupt(image: Path, error: ImageError) -> Problem:
    """Return the problem of a picture that cannot be read; its name is not said twice."""
    return Problem("corrupt-image", image, str(error).removeprefix(f"{image}: "))


def picture_size(image: Path, problems: list[Problem]) -> tuple[int, int] | None:
    """Return the upright (width, height) of a picture file; None and a problem if corrupt."""
    try:
        return image_size(image)
    except ImageError as error:
        problems.append(corrupt(image, error))
        return None
