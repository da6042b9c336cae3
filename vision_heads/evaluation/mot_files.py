"""Files in MOTChallenge's format: tracked boxes, one a line, and how they pair up.

    frame, id, left, top, width, height, score, class, visibility

Frames count from 1, boxes are in pixels. Of ground truth the seventh value says whether the
object counts (not 0) and the eighth its class; of results they are the score and mostly -1. Only
the first six must be there. Source: Dendorfer et al., MOT20 (arXiv 2003.09003), section 4.
"""

from __future__ import annotations

import configparser
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vision_heads.errors import UserError, require
from vision_heads.paths import read_text

_LEAST = 6
_LONGEST = 10_000_000  # frames: four days at 30 a second
_LARGEST = 2**53  # ids that a float holds exactly
_FORM = "frame,id,left,top,width,height,..."


@dataclass(frozen=True, slots=True)
class MotTable:
    """The rows of one file, in its order.

    Attributes:
        file: where they come from.
        frame: (N,) int64 from 1.
        track: (N,) int64; below 0 for boxes without a track.
        xywh: (N, 4) float64 left, top, width, height in pixels.
        score: (N,) float64; 1 where the file has none. Of ground truth 0 for what does not count.
        label: (N,) int64 class numbers; -1 where the file has none.
    """

    file: Path
    frame: NDArray[np.int64]
    track: NDArray[np.int64]
    xywh: NDArray[np.float64]
    score: NDArray[np.float64]
    label: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.frame)

    def __getitem__(self, rows: NDArray[np.bool_]) -> MotTable:
        """Select rows by a mask."""
        return MotTable(
            self.file,
            self.frame[rows],
            self.track[rows],
            self.xywh[rows],
            self.score[rows],
            self.label[rows],
        )


@dataclass(frozen=True, slots=True)
class MotPair:
    """A sequence's results and its ground truth.

    Attributes:
        name: of the sequence.
        found, truth: the two files.
        frames: the sequence's length, where a seqinfo.ini beside the ground truth says so.
    """

    name: str
    found: Path
    truth: Path
    frames: int | None = None


def read_mot(file: Path) -> MotTable:
    """Read a file; an empty one has no rows.

    Raises:
        UserError: it cannot be read, or a line is wrong: too few values, another number than in
            the first line, not a number, a frame below 1, or an id twice in one frame.
    """
    try:
        text = read_text(file)
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not a text file"
        raise UserError(f"{file}: {reason}") from error
    rows: list[list[float]] = []
    seen: dict[tuple[float, float], int] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        row = _row(line) or _checked_row(line, f"{file}: line {number}")
        if rows and len(row) != len(rows[0]):
            first = f"the first line has {len(rows[0])}"
            raise UserError(f"{file}: line {number}: {len(row)} values where {first}")
        key = (row[0], row[1])
        if row[1] >= 0 and key in seen:
            raise UserError(
                f"{file}: line {number}: id {row[1]:.0f} is in frame {row[0]:.0f} already, "
                f"in line {seen[key]}"
            )
        seen[key] = number
        rows.append(row)
    return _table(file, rows)


def _row(line: str) -> list[float] | None:
    """Return a good line's values; None for any other, of which `_checked_row` tells more.

    Files have millions of lines: messages for each of their values took most of the time.
    """
    try:
        row = [float(part) for part in line.split(",")]
    except ValueError:
        return None
    if len(row) < _LEAST or not 1 <= row[0] <= _LONGEST or not all(map(math.isfinite, row)):
        return None
    numbers = (*row[:2], *row[7:8])
    good = all(value.is_integer() and abs(value) < _LARGEST for value in numbers)
    return row if good else None


def _checked_row(line: str, where: str) -> list[float]:
    parts = [part.strip() for part in line.split(",")]
    if len(parts) < _LEAST:
        raise UserError(f"{where}: {len(parts)} values, at least {_LEAST} are needed: {_FORM}")
    row: list[float] = []
    for place, part in enumerate(parts, 1):
        try:
            value = float(part)
        except ValueError:
            value = math.nan
        require(math.isfinite(value), f"{where}: value {place} is not a number: {part!r}")
        row.append(value)
    for place, name in ((0, "frame"), (1, "id"), *([(7, "class")] if len(row) > 7 else [])):
        require(row[place].is_integer(), f"{where}: {name} must be a whole number: {row[place]}")
    require(row[0] >= 1, f"{where}: frame {row[0]:.0f}: frames count from 1")
    require(row[0] <= _LONGEST, f"{where}: frame {row[0]:.0f}: above {_LONGEST:,}")
    for value, name in ((row[1], "id"), *([(row[7], "class")] if len(row) > 7 else [])):
        require(abs(value) < _LARGEST, f"{where}: {name} {value:.0f}: too large")
    return row


def _table(file: Path, rows: Sequence[Sequence[float]]) -> MotTable:
    number = len(rows)
    values = np.asarray(rows, np.float64).reshape(number, -1 if number else _LEAST)
    wide = values.shape[1]
    return MotTable(
        file,
        values[:, 0].astype(np.int64),
        values[:, 1].astype(np.int64),
        values[:, 2:6],
        values[:, 6] if wide > 6 else np.ones(number),
        values[:, 7].astype(np.int64) if wide > 7 else np.full(number, -1, np.int64),
    )


def pair_up(found: Path, truth: Path) -> tuple[list[MotPair], list[Path]]:
    """Find what belongs together.

    Args:
        found: a file of results, or a folder with NAME.txt for each sequence.
        truth: a file of ground truth; a sequence's folder (with gt/gt.txt); a folder of
            sequences' folders; or a folder with NAME.txt for each sequence.

    Returns:
        The pairs, by name; and files of results that belong to no sequence.

    Raises:
        UserError: something is missing.
    """
    for path in (found, truth):
        require(path.exists(), f"{path}: no such file or folder")
    truths = _truths(truth)
    if found.is_file():
        names = ", ".join(sorted(truths))
        require(
            len(truths) == 1,
            f"{found}: one file of results for {len(truths)} sequences ({names}): give a folder",
        )
        ((name, file),) = truths.items()
        return [MotPair(name, found, file, _length(file))], []
    files = {file.stem: file for file in sorted(found.glob("*.txt"))}
    missing = sorted(set(truths) - set(files))
    more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
    require(not missing, f"{found}: no {missing[0] if missing else ''}.txt of {truth}{more}")
    pairs = [MotPair(name, files[name], truths[name], _length(truths[name])) for name in truths]
    return pairs, [file for name, file in files.items() if name not in truths]


def _truths(path: Path) -> dict[str, Path]:
    """Files of ground truth by the sequence's name."""
    if path.is_file():
        inside = path.name == "gt.txt" and path.resolve().parent.name == "gt"
        return {path.resolve().parent.parent.name if inside else path.stem: path}
    if (path / "gt" / "gt.txt").is_file():
        return {path.resolve().name: path / "gt" / "gt.txt"}
    nested = {file.parent.parent.name: file for file in sorted(path.glob("*/gt/gt.txt"))}
    files = nested or {file.stem: file for file in sorted(path.glob("*.txt"))}
    require(files, f"{path}: no ground truth: neither SEQUENCE/gt/gt.txt nor SEQUENCE.txt")
    return files


def _length(truth: Path) -> int | None:
    """Frames of a sequence, of the seqinfo.ini that lies in its folder."""
    file = truth.absolute().parent.parent / "seqinfo.ini"  # "gt.txt" names no folder
    if truth.name != "gt.txt" or not file.is_file():
        return None
    info = configparser.ConfigParser()
    try:
        info.read_string(read_text(file), str(file))
        length = info.getint("Sequence", "seqLength")
    except (configparser.Error, OSError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{file}: seqLength: {reason}") from error
    require(length >= 1, f"{file}: seqLength: must be at least 1, got {length}")
    return length
