"""Where results go: JSON, CSV, label files, drawn pictures, crops.

Every sink writes as results come, so that memory does not grow with their number, and what is
written is of use even when the run is interrupted.
"""

from __future__ import annotations

import csv
import errno
import io
import json
import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from vision_heads.errors import UserError, require
from vision_heads.geometry.boxes import xyxy_to_xywh
from vision_heads.media.images import IMAGE_SUFFIXES
from vision_heads.media.sources import OUTPUT_MARK, VIDEO_SUFFIXES
from vision_heads.paths import write_whole, writing_mode
from vision_heads.results import Failure, Result

JPEG_QUALITY = 90
JPEG_SIDE = 65_500
"""Most pixels that OpenCV writes a side of a JPEG."""
CSV_COLUMNS = ("source", "head", "class", "category_id", "score", "x1", "y1", "x2", "y2")
CSV_POSE_COLUMNS = (
    *("pitch", "yaw", "roll"),
    *(f"r{row}{column}" for row in (1, 2, 3) for column in (1, 2, 3)),
)


class Sink(Protocol):
    """Takes results one by one.

    Attributes:
        needs_image: whether `Result.image` must be there.
    """

    needs_image: bool

    def write(self, name: str, result: Result | Failure) -> None:
        """Take one picture's result, or the reason why there is none.

        Args:
            name: unique, without suffix, possibly with folders ("a/b/0001").
            result: what was found.

        Raises:
            UserError: the disk is full or the place cannot be written to.
        """
        ...

    def close(self) -> None:
        """Finish the file; harmless when called twice."""
        ...


class JsonSink:
    """One JSON array with a record a picture (`Result.to_dict`).

    A picture that could not be read has the record {"source": ..., "error": ...}. The array is
    closed properly also when the run is interrupted, or the disk is full.
    """

    needs_image = False

    def __init__(self, path: Path) -> None:
        self._file = TextFile(path)
        self._empty = True

    def write(self, name: str, result: Result | Failure) -> None:
        """Append a record."""
        if isinstance(result, Failure):
            record = {"source": result.source, "error": result.message}
        else:
            record = result.to_dict()
        text = json.dumps(record, ensure_ascii=False, separators=(",", ":"))
        self._file.write(("[\n" if self._empty else ",\n") + text)
        self._empty = False

    def close(self) -> None:
        """Close the array."""
        if not self._file.closed:
            try:
                self._file.write("[]\n" if self._empty else "\n]\n")
            finally:
                self._file.close()


class CsvSink:
    """One row a detection: source, head, class, category_id, score, x1, y1, x2, y2 in pixels.

    Where a head finds poses, pitch, yaw, roll in degrees (DirectMHP's convention) and the matrix
    r11..r33, row by row, follow; they are empty for other heads and unknown poses.
    """

    needs_image = False

    def __init__(self, path: Path) -> None:
        self._file = TextFile(path)
        self._columns: tuple[str, ...] = ()

    def write(self, name: str, result: Result | Failure) -> None:
        """Append a picture's rows; a failure has none."""
        if isinstance(result, Failure):
            return
        rows = self._head(any(found.rotation is not None for found in result.heads.values()))
        for head, found in result.heads.items():
            for record in found.to_dicts():
                row = _flat_record(record) | {"source": result.source, "head": head}
                rows.append([row.get(column, "") for column in self._columns])
        self._file.write(csv_text(rows))

    def close(self) -> None:
        """Close the file; without any result it holds the plain header."""
        if not self._file.closed:
            try:
                self._file.write(csv_text(self._head(False)))
            finally:
                self._file.close()

    def _head(self, posed: bool) -> list[Sequence[Any]]:
        """Return the header before the first row: only then it is known what heads there are."""
        if self._columns:
            return []
        self._columns = CSV_COLUMNS + (CSV_POSE_COLUMNS if posed else ())
        return [self._columns]


def csv_text(rows: Iterable[Sequence[Any]]) -> str:
    """Return rows as lines of CSV."""
    text = io.StringIO(newline="")
    csv.writer(text).writerows(rows)
    return text.getvalue()


def _flat_record(record: dict[str, Any]) -> dict[str, Any]:
    """Give each number of a record's box and rotation a column of its own."""
    flat = record | dict(zip(("x1", "y1", "x2", "y2"), record["box"], strict=True))
    if record.get("rotation") is not None:
        flat |= {
            f"r{row}{column}": value
            for row, values in enumerate(record["rotation"], 1)
            for column, value in enumerate(values, 1)
        }
    return flat


class TextSink:
    """A label file a picture in YOLO's format, in a folder a head where there are several.

    Lines are `class cx cy w h conf`: class index, centre and size as shares of the picture.
    A picture without detections has an empty file.
    """

    needs_image = False

    def __init__(self, folder: Path) -> None:
        self._folder = _make(folder)

    def write(self, name: str, result: Result | Failure) -> None:
        """Write a picture's files; a failure has none."""
        if isinstance(result, Failure):
            return
        _require_kept(self._folder)
        for head, found in result.heads.items():
            folder = self._folder / head if len(result.heads) > 1 else self._folder
            boxes = xyxy_to_xywh(found.xyxy.astype(np.float64))
            boxes[:, :2] += boxes[:, 2:] / 2
            boxes /= np.array([result.width, result.height] * 2)
            lines = (
                f"{label} {' '.join(f'{value:.6f}' for value in box)} {score:.6f}\n"
                for label, box, score in zip(
                    found.class_id.tolist(), boxes.tolist(), found.score.tolist(), strict=True
                )
            )
            path = folder / f"{name}.txt"
            with named_errors(path):
                path.parent.mkdir(parents=True, exist_ok=True)
                write_whole(path, "".join(lines).encode())

    def close(self) -> None:
        """Nothing is open between pictures."""


class ImageSink:
    """The picture as JPEG with every detection drawn."""

    needs_image = True

    def __init__(self, folder: Path) -> None:
        self._folder = _make(folder)

    def write(self, name: str, result: Result | Failure) -> None:
        """Draw and save a picture; a failure has none."""
        if not isinstance(result, Failure):
            _require_kept(self._folder)
            save_jpeg(self._folder / f"{name}.jpg", result.draw())

    def close(self) -> None:
        """Nothing is open between pictures."""


class CropSink:
    """Every detection cut out of its picture: `<head>/<class>/<name>-<number>.jpg`.

    Numbers count a picture's detections of the head, best first, from 0.
    """

    needs_image = True

    def __init__(self, folder: Path) -> None:
        self._folder = _make(folder)

    def write(self, name: str, result: Result | Failure) -> None:
        """Save a picture's crops; a failure has none."""
        if isinstance(result, Failure) or result.image is None:
            return
        _require_kept(self._folder)
        for head, found in result.heads.items():
            for number, (box, _, label) in enumerate(found):
                # Whole pixels around the box; at least one, however thin it is.
                x1, y1 = np.floor(box[:2]).astype(int)
                x2, y2 = np.maximum(np.ceil(box[2:]).astype(int), (x1 + 1, y1 + 1))
                crop = result.image[y1:y2, x1:x2]
                if crop.size:
                    folder = self._folder / head / _file_name(label)
                    save_jpeg(folder / f"{name}-{number}.jpg", crop)

    def close(self) -> None:
        """Nothing is open between pictures."""


def save_jpeg(path: Path, image: NDArray[np.uint8]) -> None:
    """Write a BGR picture as JPEG, folders included; `UserError` when it cannot be written.

    The file appears whole or not at all, as whoever watches the folder expects.
    A picture too long for a JPEG is shrunk: refusing it would cost all pictures after it.
    OpenCV's own writer reports a full disk as False or not at all, and cannot write to every
    Unicode name on every system.
    """
    image = jpeg_sized(image)
    good, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    if not good:
        raise UserError(f"{path}: a picture of {image.shape} cannot be written as JPEG")
    with named_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, data.tobytes())


def jpeg_sized(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return a picture no side of which is too long for a JPEG, shrunk where need be."""
    shrink = JPEG_SIDE / max(image.shape[:2])
    if shrink >= 1:
        return image
    height, width = (max(int(side * shrink), 1) for side in image.shape[:2])
    return np.asarray(cv2.resize(image, (width, height)), np.uint8)


def _file_name(label: str) -> str:
    """Make a class name safe as a folder's name."""
    return "".join(c if c.isalnum() or c in " ._-" else "_" for c in label).strip(". ") or "_"


def _make(folder: Path) -> Path:
    """Make a folder for pictures or labels, or take one that was made here before.

    Anything else that is in the way may be somebody's own pictures or labels.
    """
    mark = folder / OUTPUT_MARK
    with named_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        require(
            mark.exists() or next(folder.iterdir(), None) is None,
            f"{folder}: holds files that vh detect did not write; name another folder",
        )
        # Finds out now, not after an hour's work, that nothing can be written here.
        mark.write_text("Written by vh detect; searches for pictures leave this folder out.\n")
    return folder


def _require_kept(folder: Path) -> None:
    """Raise `UserError` if a folder that `_make` gave is not there any more.

    Made anew without its mark, it would be taken for somebody's own pictures or labels.
    """
    kept = (folder / OUTPUT_MARK).exists()
    require(
        kept, f"{folder}: cannot be written: it was deleted or replaced ({OUTPUT_MARK} is gone)"
    )


class TextFile:
    """A text file of results. Of each text, all is written or, on a full disk, nothing.

    Every text is handed to the system at once, so that it can be watched and survives a crash.
    File names need not be Unicode: bytes that are none come out as JSON's own escapes.

    Args:
        path: of the file, which is replaced; folders are made.

    Raises:
        UserError: it cannot be written, or has a picture's or video's name.
    """

    def __init__(self, path: Path) -> None:
        require(str(path) != "-", "-: results are written to files; /dev/stdout is one")
        require(
            path.suffix.lower() not in IMAGE_SUFFIXES | VIDEO_SUFFIXES,
            f"{path}: is a picture's name; results would replace it",
        )
        self._path = path
        with named_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = path.open(writing_mode(path), buffering=0)
            self._regular = stat.S_ISREG(os.fstat(self._file.fileno()).st_mode)

    @property
    def closed(self) -> bool:
        """Whether it was closed."""
        return self._file.closed

    def write(self, text: str) -> None:
        """Append a text.

        Raises:
            UserError: the disk is full, or the file was deleted or replaced meanwhile.
        """
        data = memoryview(text.encode("utf-8", "backslashreplace"))
        with named_errors(self._path):
            begin = self._file.tell() if self._regular else 0
            try:
                while data:
                    data = data[self._file.write(data) :]
            except OSError:
                if self._regular:
                    self._file.truncate(begin)
                    self._file.seek(begin)
                raise
            check_kept(self._file.fileno(), self._path)

    def close(self) -> None:
        """Close it; harmless when called twice. `UserError` as for `write`."""
        if not self._file.closed:
            with named_errors(self._path), self._file:
                check_kept(self._file.fileno(), self._path)


def deleted(file: int, path: Path) -> bool:
    """Tell whether an open file has no name any more: what is written to it, nobody can read.

    Args:
        file: its descriptor; pipes and devices need no name.
        path: that it was opened by.
    """
    status = os.fstat(file)
    if status.st_nlink or not stat.S_ISREG(status.st_mode):
        return False
    try:  # some file systems count no names at all
        return not os.path.samestat(status, path.stat())
    except OSError:
        return True


def check_kept(file: int, path: Path) -> None:
    """Raise `FileNotFoundError` if an open file was deleted or replaced; arguments of `deleted`."""
    if deleted(file, path):
        raise FileNotFoundError(errno.ENOENT, "it was deleted")


@contextmanager
def named_errors(path: Path) -> Iterator[None]:
    """Turn errors of the disk into a `UserError` that names the file."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        if isinstance(error, FileExistsError):
            reason = "part of its path is a file"
        raise UserError(f"{path}: cannot be written: {reason}") from error
