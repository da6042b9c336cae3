"""COCO detection JSON: `images`, `annotations` (bbox = x, y, width, height), `categories`.

Crowds become areas that are not judged, with their class. Classes are ordered by category id.
`vh data convert` writes an area without a class as one crowd a class, marked `area_of`; such a
group is read back as one area. `euler_angles` = [pitch, yaw, roll] in degrees is DirectMHP's
addition; an annotation without it, or with null, has an unknown pose.
Source: the COCO data format page; DirectMHP (arXiv 2302.01110).
"""

from __future__ import annotations

import math
from collections.abc import Container, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np
from numpy.typing import NDArray

from vision_heads.data.formats.base import (
    LARGEST,
    Part,
    Source,
    is_outline,
    parallel,
    picture_size,
    read_json,
    require_sizes,
    upright,
)
from vision_heads.data.formats.folders import listed_stem, read_lines, stem_of
from vision_heads.data.sample import OTHER, OUTLINES, POINTS, REGION, Problem, Sample
from vision_heads.errors import UserError, require
from vision_heads.geometry.rotations import from_euler
from vision_heads.paths import as_on_disk, composed, is_there

EULER_KEY = "euler_angles"
AREA_KEY = "area_of"
AREA_NAMES = {REGION: "region", OTHER: "other"}
_CROWD = (None, 0, 1)
_UNKNOWN = (math.nan, math.nan, math.nan)
_FULL_TURN = 360
_AREA_LABELS = {name: label for label, name in AREA_NAMES.items()}


def read(source: Source) -> Part:
    """Read a part: a folder of pictures and one JSON file.

    Raises:
        UserError: the JSON is no COCO file at all, or names a class of the card it has not.
    """
    file = source.annotations
    if file is None:
        raise UserError("annotations: COCO needs the name of a .json file")
    require(not file.is_dir(), f"annotations: {file} is a folder; COCO needs a .json file")
    whole = _load(file)
    used = {entry.get("category_id") for entry in whole["annotations"] if _has_class(entry)}
    names, ids = _categories(whole["categories"], source.names, used, file)
    part = Part(names, ids, place_word="annotation id")
    folder = source.images if source.images is not None else source.root
    for entry in whole["images"]:
        if isinstance(entry.get("file_name"), str):
            entry["file_name"] = as_on_disk(entry["file_name"], [folder])
    if source.ids is not None:
        part.problems += _choose(whole, source.ids, file)
    rows = _read_images(whole["images"], folder, source, file, part)
    part.files = [file] * len(part.samples)
    _Boxes(whole["annotations"], rows, ids, part, file).fill()
    return part


def _load(file: Path) -> dict[str, list[dict[str, Any]]]:
    whole = read_json(file)
    require(isinstance(whole, dict), f"{file}: not a COCO data set: no object at its top")
    for key in ("images", "annotations", "categories"):
        entries = whole.get(key)
        require(
            isinstance(entries, list) and all(isinstance(entry, dict) for entry in entries),
            f"{file}: {key}: a list of objects is needed",
        )
    return {key: whole[key] for key in ("images", "annotations", "categories")}


def _choose(whole: dict[str, list[dict[str, Any]]], listing: Path, file: Path) -> list[Problem]:
    """Keep the images whose file names a list holds, and their annotations.

    Returns:
        A problem for each name that is no image's.
    """
    images = whole["images"]
    names = [e.get("file_name") for e in images]
    stems = [composed(stem_of(name)) if isinstance(name, str) else None for name in names]
    named = {own for own in stems if own is not None}
    wanted = {listed_stem(composed(line), named) for line in read_lines(listing)}
    # What has no name at all is kept, to be reported.
    keep = [own is None or own in wanted for own in stems]
    left_out = {
        e.get("id") for e, kept in zip(images, keep, strict=True) if not kept and _has_id(e)
    }
    left_out -= {e.get("id") for e, kept in zip(images, keep, strict=True) if kept and _has_id(e)}
    whole["images"] = [e for e, kept in zip(images, keep, strict=True) if kept]
    whole["annotations"] = [
        e for e in whole["annotations"] if not _among(e.get("image_id"), left_out)
    ]
    detail = f"named by {listing}, but no image of {file}"
    return [Problem("missing-image", Path(name), detail) for name in sorted(wanted - named)]


def _has_id(entry: Mapping[str, Any]) -> bool:
    return _is_id(entry.get("id"))


def _has_class(entry: Mapping[str, Any]) -> bool:
    return _is_id(entry.get("category_id"))


def _categories(
    entries: list[dict[str, Any]], wanted: tuple[str, ...], used: Container[Any], file: Path
) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Return names and ids. Of two categories of one name, one may be `used` by no annotation.

    Roboflow puts the group of all classes first, which may be called as one of them.
    """
    known: dict[str, int] = {}
    for number, entry in enumerate(entries):
        name, key = entry.get("name"), entry.get("id")
        require(isinstance(name, str), f"{file}: categories[{number}].name: a text is needed")
        require(_whole(key), f"{file}: categories[{number}].id: a whole number is needed")
        held = wanted or str(name).strip()  # a card's names leave out what has none
        require(held, f"{file}: categories[{number}].name: is empty, {name!r}")
        taken = name in known and known[str(name)] in used
        twice = taken and key in used
        require(not twice, f"{file}: categories[{number}].name: {name!r} is there twice")
        if not taken:
            known[str(name)] = int(key)  # type: ignore[arg-type]
    ids = [entry.get("id") for entry in entries]
    require(len(set(ids)) == len(ids), f"{file}: categories: an id is there twice")
    for name in wanted:
        require(name in known, f"{file}: categories: no {name!r}, which the card names")
    names = wanted or tuple(sorted(known, key=lambda name: known[name]))
    require(names, f"{file}: categories: empty")
    return names, tuple(known[name] for name in names)


def _is_id(value: Any) -> TypeGuard[int | str]:
    return _whole(value) or isinstance(value, str)


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _read_images(
    entries: list[dict[str, Any]], folder: Path, source: Source, file: Path, part: Part
) -> dict[int | str, int]:
    """Fill `part.samples`; return the row of each image id."""
    rows: dict[int | str, int] = {}
    by_name: dict[str, int | str] = {}
    if source.images_needed:
        require(folder.is_dir(), f"{folder}: no such folder of pictures")
    taken: list[tuple[dict[str, Any], Path]] = []
    for number, entry in enumerate(entries):
        key, name = entry.get("id"), entry.get("file_name")
        if not _is_id(key) or not isinstance(name, str) or not Path(name).name:
            wrong = "file_name" if _is_id(key) else "id"
            detail = f"images[{number}]: {wrong} is {entry.get(wrong)!r}"
            part.problems.append(Problem("bad-annotation", file, detail))
        elif key in rows:
            first = taken[rows[key]][1]
            if first == folder / name:
                detail = f"images[{number}]: id {key} is there twice, the first is used"
                part.problems.append(Problem("bad-annotation", file, detail))
            else:
                # Whose its boxes are is unknown, so a fix must drop the picture that has them.
                detail = f"{file}: images[{number}]: {name!r} has its id, {key}, too"
                part.problems.append(Problem("bad-annotation", first, detail))
        else:
            if name in by_name:
                detail = f"images[{number}]: also image id {by_name[name]}"
                part.problems.append(Problem("duplicate-image", folder / name, detail))
            by_name[name] = key
            rows[key] = len(taken)
            taken.append((entry, folder / name))
    found = parallel(lambda item: _image(*item, source, file), taken)
    unsized = []
    for sample, problems, sized in found:
        part.samples.append(sample)
        part.problems.extend(problems)
        if not sized:
            unsized.append(sample.image)
    if not source.images_needed:
        require_sizes(unsized)
    return rows


def _image(
    entry: Mapping[str, Any], image: Path, source: Source, file: Path
) -> tuple[Sample, list[Problem], bool]:
    problems: list[Problem] = []
    stated = _stated_size(entry)
    size = None
    if is_there(image):
        size = picture_size(image, problems)
        if size and stated and size != stated:
            said, real = (f"{w}x{h}" for w, h in (stated, size))
            detail = f"labelled by {file} at {said}, the upright picture is {real}"
            problems.append(Problem("bad-annotation", image, detail))
    elif source.images_needed:
        problems.append(Problem("missing-image", image, f"image id {entry['id']} of {file}"))
    size = size or stated or source.known_size(image)
    width, height = size or (0, 0)
    return Sample(image, entry["id"], width, height), problems, size is not None


def _stated_size(entry: Mapping[str, Any]) -> tuple[int, int] | None:
    width, height = entry.get("width"), entry.get("height")
    if _pixels(width) and _pixels(height):
        return int(width), int(height)
    return None


def _pixels(value: Any) -> TypeGuard[int | float]:
    """Say whether a value is a picture's side; some tools write whole numbers as 640.0."""
    return isinstance(value, int | float) and 0 < value <= LARGEST and value == int(value)


class _Boxes:
    """Sorts one file's annotations into the samples of a `Part`, arrays at a time."""

    def __init__(
        self,
        entries: list[dict[str, Any]],
        rows: Mapping[int | str, int],
        category_ids: Sequence[int],
        part: Part,
        file: Path,
    ) -> None:
        self.part, self.file = part, file
        self.rows = rows
        self.index = {key: number for number, key in enumerate(category_ids)}
        self.entries = [entry for entry in entries if self._usable(entry)]

    def fill(self) -> None:
        """Give every sample of the part its boxes, labels, areas and ignore areas."""
        entries, samples = self.entries, self.part.samples
        owner = np.array([self.rows[e["image_id"]] for e in entries], np.int64)
        xywh = np.array([e["bbox"] for e in entries], np.float64).reshape(-1, 4)
        corners = np.concatenate([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], 1)
        turns = np.array([_turn(e) for e in entries], np.float64)
        boxes = upright(corners, turns).astype(np.float32)
        crowd = np.array([bool(e.get("iscrowd", 0)) for e in entries], np.bool_)
        labels = np.array([self._label(e) for e in entries], np.int64)
        places = np.array([_number(e.get("id"), n) for n, e in enumerate(entries)], np.int64)
        areas, euler = self._areas(xywh), self._euler()
        rotations = None if euler is None else from_euler(euler).astype(np.float32)
        order = np.argsort(owner, kind="stable")
        order = np.concatenate([order[~crowd[order]], order[crowd[order]]])
        objects = int((~crowd).sum())
        starts = np.arange(len(samples) + 1)
        cut = np.searchsorted(owner[order[:objects]], starts)
        crowd_cut = np.searchsorted(owner[order[objects:]], starts) + objects
        for number, sample in enumerate(samples):
            mine = order[cut[number] : cut[number + 1]]
            sample.boxes, sample.labels = boxes[mine], labels[mine]
            sample.areas = areas[mine]
            ignored = order[crowd_cut[number] : crowd_cut[number + 1]]
            sample.ignore_boxes, sample.ignore_labels = boxes[ignored], labels[ignored]
            self.part.places.append(places[mine])
            if euler is not None and rotations is not None:
                sample.euler, sample.rotations = euler[mine], rotations[mine]
        self.part.unread[OUTLINES] = sum(
            _has_outline(e.get("segmentation")) or turn != 0
            for e, turn in zip(entries, turns, strict=True)
        )
        self.part.unread[POINTS] = sum(_has_points(e.get("keypoints")) for e in entries)

    def _euler(self) -> NDArray[np.float64] | None:
        """Return each annotation's angles, NaN where it has none; None if none has any."""
        stated = [e.get(EULER_KEY) for e in self.entries]
        if all(value is None for value in stated):
            return None
        return np.array([_UNKNOWN if value is None else value for value in stated], np.float64)

    def _areas(self, xywh: NDArray[np.float64]) -> NDArray[np.float32]:
        """Return each annotation's `area`, its box's where it has none.

        That is as labelled: of float32 corners, a 32 x 32 box can be of 1024.0004 pixels².
        """
        stated = [self._stated_area(e) for e in self.entries]
        box_areas = (xywh[:, 2] * xywh[:, 3]).tolist()
        return np.array(
            [own if value is None else value for value, own in zip(stated, box_areas, strict=True)],
            np.float32,
        )

    def _stated_area(self, entry: Mapping[str, Any]) -> float | None:
        area = entry.get("area")
        if area is None or _is_area(area, entry["bbox"]):
            return area
        self._bad("bad-annotation", entry, f"area is {area!r}; its box's is used")
        return None

    def _label(self, entry: Mapping[str, Any]) -> int:
        if AREA_KEY in entry and entry.get("iscrowd"):
            return _AREA_LABELS[entry[AREA_KEY]]
        return self.index[entry["category_id"]]

    def _usable(self, entry: Mapping[str, Any]) -> bool:
        """Say whether an annotation can be read, and note the problem if it cannot."""
        box = entry.get("bbox")
        if not is_box(box):
            self._bad("bad-annotation", entry, f"bbox is {box!r}, not four numbers")
        elif not within_reason(box):
            self._bad("bad-annotation", entry, f"bbox {box} reaches beyond {LARGEST:,.0f} px")
        elif not _among(entry.get("image_id"), self.rows):
            self._bad("bad-annotation", entry, f"image_id {entry.get('image_id')!r} is no image's")
        elif not _among(entry.get("category_id"), self.index):
            self._bad("unknown-class", entry, f"category_id {entry.get('category_id')!r}")
        elif not _is_pose(entry.get(EULER_KEY)):
            detail = f"{EULER_KEY} is {entry[EULER_KEY]!r}, not pitch, yaw, roll in degrees"
            self._bad("bad-annotation", entry, detail)
        elif entry.get("iscrowd") not in _CROWD:
            self._bad("bad-annotation", entry, f"iscrowd is {entry['iscrowd']!r}, not 0 or 1")
        elif AREA_KEY in entry and not _among(entry[AREA_KEY], _AREA_LABELS):
            self._bad("bad-annotation", entry, f"{AREA_KEY} is {entry[AREA_KEY]!r}")
        else:
            # The copies of an area for the other classes say nothing new.
            area = AREA_KEY in entry and entry.get("iscrowd")
            return not area or self.index[entry["category_id"]] == 0
        return False

    def _bad(self, kind: Any, entry: Mapping[str, Any], detail: str) -> None:
        where = f"annotation id {entry.get('id')}"
        self.part.problems.append(Problem(kind, self.file, f"{where}: {detail}"))


def _among(value: Any, known: Container[Any]) -> bool:
    return isinstance(value, int | str) and value in known


def _number(value: Any, fallback: int) -> int:
    return value if _whole(value) and abs(value) < 2**62 else fallback


def _is_pose(angles: Any) -> bool:
    """Say whether `euler_angles` is null or three angles; -999 and the like are none."""
    if angles is None:
        return True
    return _are_numbers(angles, 3) and all(abs(angle) <= _FULL_TURN for angle in angles)


def is_box(box: Any) -> bool:
    """Say whether `bbox` is four finite numbers."""
    return _are_numbers(box, 4)


def _are_numbers(values: Any, count: int) -> bool:
    if not isinstance(values, list) or len(values) != count:
        return False
    try:
        total = sum(values)
        return isinstance(total, int | float) and math.isfinite(total)
    except (TypeError, OverflowError):
        return False


def _turn(entry: Mapping[str, Any]) -> float:
    """Return the degrees that CVAT says a box is turned by, 0 where nothing says so."""
    attributes = entry.get("attributes")
    value = attributes.get("rotation") if isinstance(attributes, dict) else None
    return float(value) if _are_numbers([value], 1) else 0.0  # type: ignore[arg-type]


def _has_outline(value: Any) -> bool:
    """Say whether `segmentation` tells more than the box: it is a mask, or another polygon."""
    if not isinstance(value, list):
        return isinstance(value, dict)
    polygons = [one for one in value if isinstance(one, list) and one]
    return len(polygons) > 1 or any(
        len(one) != 8 or (_are_numbers(one, 8) and is_outline(one[::2], one[1::2]))
        for one in polygons
    )


def _has_points(value: Any) -> bool:
    """Say whether `keypoints`, x, y and visibility in turn, holds one that was labelled."""
    return isinstance(value, list) and any(value)


def _is_area(value: Any, box: Sequence[float]) -> bool:
    """Say whether a value is an area; a negative one may only come from such a box."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return abs(value) <= LARGEST**2 and (value >= 0 or min(box[2:]) < 0)


def within_reason(box: Any) -> bool:
    """Say whether no number of a `bbox` is larger than pictures are."""
    return all(abs(value) <= LARGEST for value in box)
