"""Results of any program: COCO results JSON and official VisDrone submission folders."""

from __future__ import annotations

import csv
import io
import json
import math
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from vision_heads.data.formats.base import known_size, read_json
from vision_heads.data.sample import DataSplit
from vision_heads.errors import UserError, require
from vision_heads.evaluation.pictures import Pictures
from vision_heads.evaluation.records import UNSCORED, Found
from vision_heads.media.images import IMAGE_SUFFIXES
from vision_heads.paths import read_text

_COLUMNS = ("x", "y", "width", "height", "score", "category")
_BBOX = 4
POSE_FIELDS = ("pitch", "yaw", "roll")
_Row = tuple[float, float, float, float, float, int]


@dataclass(frozen=True, slots=True)
class Predictions:
    """What a file or folder of results holds for a split.

    Attributes:
        found: one per sample. A submission's rows keep the file's order, which the VisDrone
            limits go by; rows of a JSON are sorted by falling score.
        missing: samples without an entry; they count as having no results.
        unscored: how many rows are of an official category that no class has.
        other_files: files of a submission folder that were not read: no .txt, or named after no
            picture of the split.
    """

    found: list[Found]
    missing: tuple[str, ...]
    unscored: int
    other_files: tuple[str, ...] = ()


def read_predictions(
    path: str | Path, split: DataSplit, *, unscored: Collection[int] = (), poses: bool = False
) -> Predictions:
    """Read results for a split's samples.

    Args:
        path: a COCO results JSON (a list of image_id, category_id, bbox, score; also as the
            "annotations" of an object), or a folder of VisDrone submission files
            `<picture>.txt` with lines x,y,w,h,score,category,-1,-1.
        split: the samples; `image_id` may be the data set's id, the picture's file name, its
            stem (as a number too) or the end of its path, whichever names one picture only.
        unscored: category ids that rows may carry although the split has no such class.
        poses: every entry must have pitch, yaw and roll (degrees) too, so it must be a JSON.

    Raises:
        UserError: no such path, or what is wrong in which file, line (or entry) and field.
    """
    path = Path(path)
    if path.is_dir():
        require(not poses, f"{path}: head poses are read from a COCO results JSON, not a folder")
        return _read_folder(path, split, unscored)
    if not path.is_file():
        raise UserError(f"{path}: no such file or folder of predictions")
    if path.suffix.lower() == ".txt":
        raise UserError(f"{path}: one file; give the folder of VisDrone .txt files, or a .json")
    return _read_json(path, split, unscored, poses)


def _read_json(path: Path, split: DataSplit, unscored: Collection[int], poses: bool) -> Predictions:
    entries = read_json(path)
    if isinstance(entries, dict):
        entries = entries.get("annotations", entries)
    if not isinstance(entries, list):
        raise UserError(f"{path}: must be a list of COCO results, got {type(entries).__name__}")
    first = entries[0] if entries else None
    if isinstance(first, dict) and {"source", "heads"} <= first.keys():
        raise UserError(
            f"{path}: is of vh detect, which leaves out what is below its --conf; "
            "vh eval MODEL --save-predictions FILE.json writes results that can be scored"
        )
    pictures = Pictures(split.samples)
    labels = _labels(split, unscored)
    rows: dict[int, list[_Row]] = {}
    angles: dict[int, list[list[float]]] = {}
    for number, entry in enumerate(entries):
        where = f"{path}: entry {number}"
        if not isinstance(entry, dict):
            raise UserError(f"{where}: must be an object, got {type(entry).__name__}")
        picture = pictures.index(_field(entry, "image_id", where), f"{where}: image_id")
        rows.setdefault(picture, []).append(_json_row(entry, labels, where))
        if poses:
            angles.setdefault(picture, []).append(_json_pose(entry, where))
    found = []
    for i in range(len(split.samples)):
        euler = np.array(angles.get(i, []), np.float64).reshape(-1, 3) if poses else None
        found.append(replace(_found(rows.get(i, [])), euler=euler).best_first())
    return _predictions(split, found, set(rows))


def _field(entry: dict[str, Any], name: str, where: str) -> Any:
    if name not in entry:
        raise UserError(f"{where}: {name} is missing")
    return entry[name]


def _json_row(entry: dict[str, Any], labels: dict[int, int], where: str) -> _Row:
    box = _field(entry, "bbox", where)
    if not isinstance(box, list) or len(box) != _BBOX:
        raise UserError(f"{where}: bbox: must be [x, y, width, height], got {box!r}")
    x, y, w, h = (_number(value, where, f"bbox {name}") for value, name in zip(box, _COLUMNS))  # noqa: B905
    score = _number(_field(entry, "score", where), where, "score")
    label = _label(_field(entry, "category_id", where), labels, where, "category_id")
    return x, y, w, h, score, label


def _json_pose(entry: dict[str, Any], where: str) -> list[float]:
    return [_number(_field(entry, name, where), where, name) for name in POSE_FIELDS]


def _read_folder(folder: Path, split: DataSplit, unscored: Collection[int]) -> Predictions:
    files = sorted(file for file in folder.iterdir() if file.is_file())
    texts = [file for file in files if file.suffix.lower() == ".txt"]
    if not texts:
        raise UserError(f"{folder}: holds no .txt file of predictions")
    pictures = Pictures(split.samples)
    # Like the toolkit, which goes by the annotations: results of further pictures do no harm.
    texts = [file for file in texts if pictures.named(file.stem)]
    if not texts:
        raise UserError(f"{folder}: no .txt file is named after a picture of the data set")
    labels = _labels(split, unscored)
    found = [Found.empty() for _ in split.samples]
    owner: dict[int, Path] = {}
    for file in texts:
        picture = pictures.index(file.stem, str(file))
        if picture in owner:
            raise UserError(f"{file}: is of the same picture as {owner[picture]}")
        owner[picture] = file
        found[picture] = _found(_read_text(file, labels))
    taken = set(texts)
    others = tuple(file.name for file in files if file not in taken)
    return _predictions(split, found, set(owner), others)


def _read_text(file: Path, labels: dict[int, int]) -> list[_Row]:
    try:
        lines = read_text(file).splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{file}: cannot be read as text: {error}") from error
    return [
        _text_row(line, labels, f"{file}: line {number}")
        for number, line in enumerate(lines, 1)
        if line.strip()
    ]


def _text_row(line: str, labels: dict[int, int], where: str) -> _Row:
    fields = line.strip().rstrip(",").split(",")
    if not len(_COLUMNS) <= len(fields) <= len(_COLUMNS) + 2:
        raise UserError(
            f"{where}: must be x,y,w,h,score,category,-1,-1, got {len(fields)} fields: {line!r}"
        )
    x, y, w, h, score = (
        _number(text, where, name)
        for text, name in zip(fields, _COLUMNS[:-1])  # noqa: B905 - the last say nothing
    )
    return x, y, w, h, score, _label(fields[5].strip(), labels, where, _COLUMNS[5])


def _number(value: Any, where: str, name: str) -> float:
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise UserError(f"{where}: {name}: must be a number, got {value!r}")
    return number


def _labels(split: DataSplit, unscored: Collection[int]) -> dict[int, int]:
    known = {category: index for index, category in enumerate(split.category_ids)}
    return {**dict.fromkeys(unscored, UNSCORED), **known}


def _label(category: Any, labels: dict[int, int], where: str, name: str) -> int:
    number = _number(category, where, name)
    if number not in labels:
        known = sorted(category for category, label in labels.items() if label != UNSCORED)
        raise UserError(
            f"{where}: {name}: the data set has no {number:.15g}, only "
            f"{', '.join(str(one) for one in known)}"
        )
    return labels[int(number)]


def _found(rows: Sequence[_Row]) -> Found:
    table = np.array(rows, np.float64).reshape(-1, len(_COLUMNS))
    return Found(table[:, :4], table[:, 4], table[:, 5].astype(np.int64))


def _predictions(
    split: DataSplit, found: list[Found], seen: set[int], others: tuple[str, ...] = ()
) -> Predictions:
    missing = tuple(str(sample.image_id) for i, sample in enumerate(split.samples) if i not in seen)
    unscored = sum(int((picture.label == UNSCORED).sum()) for picture in found)
    return Predictions(found, missing, unscored, others)


def write_predictions(path: str | Path, split: DataSplit, found: Sequence[Found]) -> None:
    """Write results so that `read_predictions` gives the same numbers again.

    Args:
        path: a .json file for COCO results, anything else for a folder of VisDrone submission
            files, one for each sample.
        split: the samples, and the category ids to write.
        found: one per sample; rows of no class are left out.

    Raises:
        UserError: the path cannot be written.
    """
    path = Path(path)
    try:
        if path.suffix.lower() == ".json":
            _write_json(path, split, found)
        else:
            _write_folder(path, split, found)
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {error.strerror}") from error


def _scored(found: Found) -> list[tuple[list[float], float, int]]:
    rows = zip(found.xywh.tolist(), found.score.tolist(), found.label.tolist(), strict=True)
    return [row for row in rows if row[2] != UNSCORED]


def _scored_poses(found: Found) -> list[dict[str, float]]:
    """Return the pose fields of the rows that `_scored` keeps, none where it is unknown."""
    kept = found.label != UNSCORED
    if found.euler is None:
        return [{} for _ in range(int(kept.sum()))]
    return [
        dict(zip(POSE_FIELDS, row, strict=True)) if np.isfinite(row).all() else {}
        for row in found.euler[kept].tolist()
    ]


def _write_json(path: Path, split: DataSplit, found: Sequence[Found]) -> None:
    """Write picture by picture: all records at once take 16 times the memory of `found`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8") as file:
        begin = "["
        for sample, one in zip(split.samples, found, strict=True):
            entries = [
                {
                    "image_id": sample.image_id,
                    "category_id": split.category_ids[label],
                    "bbox": box,
                    "score": score,
                    **pose,
                }
                for (box, score, label), pose in zip(_scored(one), _scored_poses(one), strict=True)
            ]
            if entries:
                file.write(begin + json.dumps(entries)[1:-1])
                begin = ", "
        file.write("[]" if begin == "[" else "]")


def _write_folder(folder: Path, split: DataSplit, found: Sequence[Found]) -> None:
    stems = Counter(sample.image.stem for sample in split.samples)
    twice = next((stem for stem, number in stems.items() if number > 1), None)
    if twice is not None:
        raise UserError(
            f"{folder}: {stems[twice]} pictures are called {twice!r}, and a submission has one "
            "file for a name; keep the results in a .json file"
        )
    folder.mkdir(parents=True, exist_ok=True)
    for sample, one in zip(split.samples, found, strict=True):
        lines = [
            ",".join(map(repr, [*box, score, split.category_ids[label], -1, -1])) + "\n"
            for box, score, label in _scored(one)
        ]
        (folder / f"{sample.image.stem}.txt").write_text("".join(lines), encoding="utf-8")


def read_sizes(path: str | Path) -> dict[str, tuple[int, int]]:
    """Read picture sizes from a CSV of name,width,height; a header line may come first.

    Returns:
        (width, height) by file name and, where that differs, by its stem.

    Raises:
        UserError: the file is missing or empty, or which line and field is wrong.
    """
    path = Path(path)
    try:
        lines = io.StringIO(read_text(path), newline="")
        rows = [(number, row) for number, row in enumerate(csv.reader(lines), 1) if any(row)]
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path}: cannot be read: {error}") from error
    if rows and [field.strip().lower() for field in rows[0][1][1:]] == ["width", "height"]:
        rows = rows[1:]
    if not rows:
        raise UserError(f"{path}: holds no sizes")
    sizes: dict[str, tuple[int, int]] = {}
    for number, row in rows:
        where = f"{path}: line {number}"
        if len(row) != len(("name", "width", "height")):
            raise UserError(f"{where}: must be name,width,height, got {len(row)} fields")
        name = PurePosixPath(row[0].strip().replace("\\", "/")).name
        if not name:
            raise UserError(f"{where}: name: empty")
        size = (_pixels(row[1], where, "width"), _pixels(row[2], where, "height"))
        # "frame.0001" has no ending, and "frame" is the stem of none of its like.
        ending = Path(name).suffix.lower() in IMAGE_SUFFIXES
        for key in dict.fromkeys((name, Path(name).stem if ending else name)):
            if sizes.setdefault(key, size) != size:
                raise UserError(f"{where}: name: {name!r} has another size on an earlier line")
    return sizes


def _pixels(text: str, where: str, name: str) -> int:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not number.is_integer() or number < 1:
        raise UserError(f"{where}: {name}: must be a whole number above 0, got {text!r}")
    return int(number)


def other_sizes(split: DataSplit, sizes: Mapping[str, tuple[int, int]]) -> list[str]:
    """Name the pictures of a split that are of another size than `sizes` says, and how."""
    found = []
    for sample in split.samples:
        said = known_size(sample.image, sizes)
        if said is not None and said != (sample.width, sample.height):
            real = f"{sample.width}x{sample.height}"
            found.append(f"{sample.image.name} ({real}, not {said[0]}x{said[1]})")
    return found
