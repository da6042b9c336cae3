"""CrowdHuman: an .odgt file, one JSON object a line: {"ID": ..., "gtboxes": [...]}.

Only heads are read: `hbox` (x, y, width, height) of every `person`, which may reach over the
picture's border. Not judged are heads and persons marked `ignore`, heads marked `unsure`, persons
whose head was not labelled, and `mask` entries, which stand for crowds or for things like
statues and reflections. Pictures are called <ID>.jpg; their sizes are not in the file.
Source: the data set's download page (arXiv 1805.00123).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from vision_heads.data.formats.base import (
    LARGEST,
    BadLabelsError,
    Part,
    Rows,
    Source,
    decode_text,
)
from vision_heads.data.formats.coco import is_box, within_reason
from vision_heads.data.formats.folders import Pair, read_pairs
from vision_heads.data.sample import REGION, Problem, ProblemKind
from vision_heads.errors import UserError, require
from vision_heads.media.images import IMAGE_SUFFIXES
from vision_heads.paths import devices

NAMES = ("head",)


def read(source: Source) -> Part:
    """Read a part: a folder of pictures and one .odgt file.

    Raises:
        UserError: the file is not there or no odgt at all, or there is no folder of pictures.
    """
    names = source.names or NAMES
    require(len(names) == 1, f"names: crowdhuman has one class, the card names {len(names)}")
    file = source.annotations
    if file is None:
        raise UserError("annotations: crowdhuman needs the name of an .odgt file")
    folder = source.images if source.images is not None else source.root
    require(not source.images_needed or folder.is_dir(), f"{folder}: no such folder of pictures")
    pictures = _pictures(folder)
    rows: dict[Path, Rows] = {}
    pairs: list[Pair] = []
    problems: list[Problem] = []
    for number, line in enumerate(_lines(file), 1):
        if not line.strip():
            continue
        entry = _entry(line)
        if entry is None:
            detail = f"line {number}: not an object with a text ID and a list gtboxes"
            problems.append(Problem("bad-annotation", file, detail))
            continue
        image = pictures.get(entry["ID"], folder / f"{entry['ID']}.jpg")
        if image in rows:
            detail = f"line {number}: ID {entry['ID']} is there twice, the first is used"
            problems.append(Problem("bad-annotation", file, detail))
            continue
        rows[image] = _rows(entry["gtboxes"], f"line {number}, ID {entry['ID']}")
        pairs.append(Pair(image, file, entry["ID"] in pictures))
    require(pairs, f"{file}: not an .odgt file: not one line of it names a picture")
    part = read_pairs(source, pairs, _RowsOf(rows, file), names, (1,), place_word="box")
    part.problems[:0] = problems
    return part


class _RowsOf:
    """Hands out what was read of each picture, with its problems."""

    def __init__(self, rows: dict[Path, Rows], file: Path) -> None:
        self.rows, self.file = rows, file

    def __call__(self, pair: Pair, _size: tuple[int, int] | None, problems: list[Problem]) -> Rows:
        found = self.rows[pair.image]
        problems.extend(Problem(kind, self.file, detail) for kind, detail in found.problems)
        return found


def _pictures(folder: Path) -> dict[str, Path]:
    if not folder.is_dir():
        return {}
    files = sorted(file for file in folder.iterdir() if file.suffix.lower() in IMAGE_SUFFIXES)
    endless = devices(folder)
    return {file.stem: file for file in files if file.name not in endless}


def _lines(file: Path) -> list[str]:
    try:
        return decode_text(file.read_bytes()).splitlines()
    except OSError as error:
        raise UserError(f"{file}: {error.strerror}") from error
    except BadLabelsError as error:
        raise UserError(f"{file}: {error}") from error


def _entry(line: str) -> dict[str, Any] | None:
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError):
        return None
    good = (
        isinstance(entry, dict)
        and isinstance(entry.get("ID"), str)
        and isinstance(entry.get("gtboxes"), list)
    )
    return entry if good else None


def _rows(entries: list[Any], where: str) -> Rows:
    boxes: list[tuple[float, float, float, float]] = []
    labels: list[int] = []
    ignored: list[bool] = []
    places: list[int] = []
    problems: list[tuple[ProblemKind, str]] = []
    for number, entry in enumerate(entries, 1):
        tag = entry.get("tag") if isinstance(entry, dict) else None
        if tag not in ("person", "mask"):  # a tag may be a list, which no set can be asked for
            problems.append(("unknown-class", f"{where}: box {number}: tag {tag!r}"))
            continue
        name = "hbox" if tag == "person" else "fbox"
        box = entry.get(name)
        if not is_box(box):
            detail = f"{where}: box {number}: {name} is {box!r}, not four numbers"
            problems.append(("bad-annotation", detail))
            continue
        if not within_reason(box):
            detail = f"{where}: box {number}: {name} {box} reaches beyond {LARGEST:,.0f} px"
            problems.append(("bad-annotation", detail))
            continue
        x, y, w, h = map(float, box)
        hidden = tag == "mask" or _unjudged(entry)
        if hidden and (w <= 0 or h <= 0):
            continue  # a head that was not labelled has no box either
        boxes.append((x, y, x + w, y + h))
        labels.append(0 if tag == "person" else REGION)
        ignored.append(hidden)
        places.append(number)
    return Rows.of(boxes, labels, ignored, places, problems)


def _unjudged(entry: dict[str, Any]) -> bool:
    head, person = entry.get("head_attr"), entry.get("extra")
    if not isinstance(head, dict) or not head:
        return True
    marks = [head.get("ignore"), head.get("unsure")]
    return any(marks) or (isinstance(person, dict) and bool(person.get("ignore")))
