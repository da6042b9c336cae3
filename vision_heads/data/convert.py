"""Write a data set in another label format, with a card beside it, ready for use."""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal
from xml.sax.saxutils import escape

import numpy as np
import yaml
from numpy.typing import NDArray

from vision_heads.data.card import Card, load_split
from vision_heads.data.fixes import Fix, apply_fixes, doubts, overlooked, summary
from vision_heads.data.formats.base import parallel
from vision_heads.data.formats.coco import AREA_KEY, AREA_NAMES, EULER_KEY
from vision_heads.data.formats.voc import OTHER_NAME, REGION_NAME, name_index
from vision_heads.data.sample import REGION, DataSplit, ProblemKind, Sample, by_id
from vision_heads.errors import UserError, is_no_room, require
from vision_heads.geometry.rotations import to_euler
from vision_heads.media.images import IMAGE_SUFFIXES
from vision_heads.paths import printable

Target = Literal["coco", "yolo", "voc"]
TARGETS: tuple[Target, ...] = ("coco", "yolo", "voc")

_LOSSY: tuple[ProblemKind, ...] = (
    "missing-image",
    "corrupt-image",
    "missing-annotation",
    "bad-annotation",
    "unknown-class",
)
"""Problems that cannot be carried over; empty and outside boxes are written as they are."""


@dataclass(slots=True)
class ConvertReport:
    """What was written.

    Attributes:
        card: the new card.
        pictures: by split.
        boxes: by split.
        ignored: areas kept, by split.
        lost: what the new format cannot hold: how many of what.
        unread: what no format's reader takes up, and is left out of every copy: how many of what.
        fixed: what was broken and mended or left out, by split.
        doubts: lines about what was written as it was, although it may be a mistake, by split.
    """

    card: Path
    pictures: dict[str, int] = field(default_factory=dict)
    boxes: dict[str, int] = field(default_factory=dict)
    ignored: dict[str, int] = field(default_factory=dict)
    lost: Counter[str] = field(default_factory=Counter)
    unread: Counter[str] = field(default_factory=Counter)
    fixed: dict[str, str] = field(default_factory=dict)
    doubts: dict[str, list[str]] = field(default_factory=dict)


def convert(
    card: Card,
    out: Path,
    to: Target,
    splits: Sequence[str] = (),
    *,
    link: bool = False,
    fixes: Collection[Fix] = (),
    change: Callable[[DataSplit], DataSplit] | None = None,
    progress: Callable[[str, int], Callable[[], None]] | None = None,
) -> ConvertReport:
    """Convert some or all splits of a data set.

    Pictures go to `out/images/<split>`; labels to `out/annotations/<split>.json` (coco),
    `out/labels/<split>` (yolo) or `out/annotations/<split>` (voc); the card is `out/data.yaml`
    in ultralytics' form (yolo with splits train, val, test) or `out/card.yaml`.

    Args:
        card: the data set.
        out: a new or empty folder.
        to: the format.
        splits: names; all of the card's when empty.
        link: make symbolic links to the pictures instead of copies.
        fixes: as for training; without any, boxes are written exactly as labelled and labels
            that cannot be carried over are refused.
        change: called with each split, mended, before it is written; what it returns is written.
        progress: called with a split's name and number of pictures; returns what is called
            after each picture.

    Returns:
        Counts, and what the new format could not hold.

    Raises:
        UserError: `out` holds files already or cannot be written, or the data set has labels
            that cannot be carried over.
    """
    require(to in TARGETS, f"--to: unknown format {to!r}; known: {', '.join(TARGETS)}")
    used = out.exists() and (not out.is_dir() or any(out.iterdir()))
    require(not used, f"{out}: not an empty folder")
    read = [_carryable(load_split(card, s), fixes) for s in dict.fromkeys(splits or card.splits)]
    for split in read:
        _refuse_unfit(card, split, to)
    for split in read[1:]:
        require(
            (split.names, split.category_ids) == (read[0].names, read[0].category_ids),
            f"{card.file}: {read[0].split} and {split.split} have different classes; name the "
            "classes in the card",
        )
    if change:
        read = [change(split) for split in read]
    report = ConvertReport(out / ("data.yaml" if _plain_yolo(to, read) else "card.yaml"))
    try:
        for split in read:
            step = progress(split.split, len(split.samples)) if progress else None
            _write_split(split, out, to, report, link=link, step=step)
            if fixes and (what := overlooked(split)):
                report.fixed[split.split] = what
            report.doubts[split.split] = doubts(split)
            report.unread += split.unread
        text = _card_text(card, to, read)
        report.card.write_text(text, encoding="utf-8")
    except OSError as error:
        # Of a copy that does not fit, Python names the picture that was read.
        where = out if is_no_room(error) else error.filename or out
        raise UserError(f"{where}: {error.strerror or error}") from error
    return report


def _carryable(split: DataSplit, fixes: Collection[Fix]) -> DataSplit:
    if fixes:
        return apply_fixes(split, fixes)
    lossy = [problem for problem in split.problems if problem.kind in _LOSSY]
    require(
        not lossy,
        f"{split.name}/{split.split} has labels that cannot be carried over: {summary(lossy)}. "
        "Mend them, or go on without them by --fix drop",
    )
    return split


def _refuse_unfit(card: Card, split: DataSplit, to: Target) -> None:
    """Refuse what would be written in vain, or elsewhere than asked for."""
    name = split.split
    require(
        name == Path(name).name and name not in {"", ".."},
        f"{card.file}: splits: {name!r} cannot be the name of a folder to write",
    )
    if to == "coco":
        return
    for sample in split.samples:
        require(
            sample.image.suffix.lower() in IMAGE_SUFFIXES,
            f"{sample.image}: {to} finds pictures by their endings, and this is none of them; "
            "use --to coco, or convert the picture",
        )
    if to == "voc":
        name_index(split.names)


def _write_split(
    split: DataSplit,
    out: Path,
    to: Target,
    report: ConvertReport,
    *,
    link: bool,
    step: Callable[[], None] | None,
) -> None:
    files = target_names(split.samples)
    images = out / "images" / split.split
    images.mkdir(parents=True)

    def picture(pair: tuple[Sample, str]) -> None:
        sample, name = pair
        if link:
            (images / name).symlink_to(os.path.abspath(sample.image))  # noqa: PTH100
        else:
            shutil.copyfile(sample.image, images / name)
        if step:
            step()

    parallel(picture, zip(split.samples, files, strict=True))
    writer = {"coco": _write_coco, "yolo": _write_yolo, "voc": _write_voc}[to]
    writer(split, files, out, report)
    ignored = sum(len(sample.ignore_boxes) for sample in split.samples)
    report.pictures[split.split] = len(split.samples)
    report.boxes[split.split] = sum(len(sample.boxes) for sample in split.samples)
    report.ignored[split.split] = 0 if to == "yolo" else ignored
    known = [np.isfinite(s.rotations[:, 0, 0]) for s in split.samples if s.rotations is not None]
    if to != "coco" and known:
        report.lost["head poses"] += int(np.concatenate(known).sum())


def target_names(samples: Sequence[Sample]) -> list[str]:
    """Return a file name for each picture; stems are unique, since labels go by them.

    Pictures whose stem is taken get their folder's name in front, and a number if that is
    taken too.
    """
    count = Counter(sample.image.stem.lower() for sample in samples)
    taken = {stem for stem, number in count.items() if number == 1}
    last: dict[str, int] = {}  # the numbers up to these need not be tried again
    names = []
    for sample in samples:
        stem = sample.image.stem
        if count[stem.lower()] > 1:
            base = f"{sample.image.parent.name}_{stem}"
            stem, number = base, last.get(base.lower(), 1)
            while stem.lower() in taken:
                number += 1
                stem = f"{base}_{number}"
            last[base.lower()] = number
            taken.add(stem.lower())
        names.append(stem + sample.image.suffix)
    return names


def _numbers(values: NDArray[np.floating]) -> list[float]:
    """Return float32 coordinates as the shortest decimals that mean them."""
    return [float(str(value)) for value in values.astype(np.float32)]


def _short(value: float) -> float | int:
    rounded = round(value, 6)
    return int(rounded) if rounded == int(rounded) else rounded


def _write_coco(split: DataSplit, files: Sequence[str], out: Path, _: ConvertReport) -> None:
    ids = [sample.image_id for sample in split.samples]
    if not all(isinstance(key, int) for key in ids):
        # Most tools want whole numbers; in this order they rank equal scores as before.
        for number, place in enumerate(by_id(split.samples), 1):
            ids[place] = number
    images = []
    annotations: list[dict[str, Any]] = []
    for sample, key, name in zip(split.samples, ids, files, strict=True):
        size = {"width": sample.width, "height": sample.height}
        images.append({"id": key, "file_name": name, **size})
        for entry in _coco_entries(sample, split.category_ids):
            annotations.append({"id": len(annotations) + 1, "image_id": key, **entry})
    categories = [
        {"id": key, "name": name} for key, name in zip(split.category_ids, split.names, strict=True)
    ]
    whole = {"images": images, "annotations": annotations, "categories": categories}
    folder = out / "annotations"
    folder.mkdir(exist_ok=True)
    (folder / f"{split.split}.json").write_text(json.dumps(whole), encoding="utf-8")


def _coco_entries(sample: Sample, category_ids: Sequence[int]) -> list[dict[str, Any]]:
    areas = None if sample.areas is None else _numbers(sample.areas)
    entries: list[dict[str, Any]] = []

    def add(box: NDArray[np.float32], key: int, area: float | None, **more: Any) -> None:
        x1, y1, x2, y2 = _numbers(box)
        width, height = x2 - x1, y2 - y1
        size = width * height if area is None else area
        bbox = [_short(value) for value in (x1, y1, width, height)]
        entries.append({"category_id": key, "bbox": bbox, "area": _short(size), **more})

    poses = _poses(sample)
    for row, (box, label) in enumerate(zip(sample.boxes, sample.labels, strict=True)):
        add(
            box, category_ids[label], None if areas is None else areas[row], iscrowd=0, **poses[row]
        )
    for box, label in zip(sample.ignore_boxes, sample.ignore_labels, strict=True):
        if label >= 0:
            add(box, category_ids[label], None, iscrowd=1)
            continue
        # COCO's scoring ignores class by class, so an area without a class is one for each.
        for key in category_ids:
            add(box, key, None, iscrowd=1, **{AREA_KEY: AREA_NAMES[int(label)]})
    return entries


def _poses(sample: Sample) -> list[dict[str, list[float]]]:
    """Return the field that holds each object's head pose, none where it is unknown."""
    angles = sample.euler
    if angles is None and sample.rotations is not None:
        angles = to_euler(sample.rotations).round(4)
    if angles is None:
        return [{} for _ in sample.boxes]
    return [{EULER_KEY: row} if np.isfinite(row).all() else {} for row in angles.tolist()]


def _write_yolo(split: DataSplit, files: Sequence[str], out: Path, report: ConvertReport) -> None:
    folder = out / "labels" / split.split
    folder.mkdir(parents=True)

    def write(pair: tuple[Sample, str]) -> None:
        sample, name = pair
        size = np.array([sample.width, sample.height] * 2, np.float64)
        corners = sample.boxes.astype(np.float64) / size
        centres, sides = (corners[:, :2] + corners[:, 2:]) / 2, corners[:, 2:] - corners[:, :2]
        rows = np.concatenate([centres, sides], 1)
        lines = [
            " ".join([str(label), *(f"{value:.9g}" for value in row)]) + "\n"
            for label, row in zip(sample.labels.tolist(), rows.tolist(), strict=True)
        ]
        file = (folder / name).with_suffix(".txt")
        file.write_text("".join(lines), encoding="utf-8")

    parallel(write, zip(split.samples, files, strict=True))
    ignored = sum(len(sample.ignore_boxes) for sample in split.samples)
    if ignored:
        report.lost["ignored areas"] += ignored
    _count_lost_areas(split, report)


def _count_lost_areas(split: DataSplit, report: ConvertReport) -> None:
    """Count object areas that differ from their box's, which only COCO holds."""
    for sample in split.samples:
        if sample.areas is None:
            continue
        box_areas = (sample.boxes[:, 2:] - sample.boxes[:, :2]).prod(1)
        differ = int((np.abs(box_areas - sample.areas) > 0.01 * np.abs(box_areas) + 1).sum())
        if differ:
            report.lost["object areas that differ from their box's"] += differ


def _write_voc(split: DataSplit, files: Sequence[str], out: Path, report: ConvertReport) -> None:
    folder = out / "annotations" / split.split
    folder.mkdir(parents=True)

    def write(pair: tuple[Sample, str]) -> None:
        file = (folder / pair[1]).with_suffix(".xml")
        file.write_text(_voc_text(*pair, split.names), encoding="utf-8")

    parallel(write, zip(split.samples, files, strict=True))
    _count_lost_areas(split, report)


def _voc_text(sample: Sample, name: str, names: Sequence[str]) -> str:
    size = f"<width>{sample.width}</width><height>{sample.height}</height><depth>3</depth>"
    file = escape(printable(name))
    lines = ["<annotation>", f"  <filename>{file}</filename>", f"  <size>{size}</size>"]
    area = {REGION: REGION_NAME}
    objects = [(box, names[k], 0) for box, k in zip(sample.boxes, sample.labels, strict=True)]
    for box, label in zip(sample.ignore_boxes, sample.ignore_labels, strict=True):
        kind = names[label] if label >= 0 else area.get(int(label), OTHER_NAME)
        objects.append((box, kind, 1))
    for box, kind, difficult in objects:
        x1, y1, x2, y2 = _numbers(box)
        edges = zip(("xmin", "ymin", "xmax", "ymax"), (x1 + 1, y1 + 1, x2, y2), strict=True)
        corners = "".join(f"<{edge}>{_short(value)}</{edge}>" for edge, value in edges)
        lines += [
            "  <object>",
            f"    <name>{escape(kind)}</name><difficult>{difficult}</difficult>",
            f"    <bndbox>{corners}</bndbox>",
            "  </object>",
        ]
    return "\n".join([*lines, "</annotation>", ""])


def _plain_yolo(to: Target, splits: Sequence[DataSplit]) -> bool:
    """Whether ultralytics' data.yaml can describe the result: it knows three splits."""
    return to == "yolo" and {split.split for split in splits} <= {"train", "val", "test"}


def _card_text(card: Card, to: Target, splits: Sequence[DataSplit]) -> str:
    names, ids = list(splits[0].names), list(splits[0].category_ids)
    fields: dict[str, Any]
    if _plain_yolo(to, splits):
        # No path: ultralytics takes "." from where it runs, and the file's folder without one.
        fields = {split.split: f"images/{split.split}" for split in splits}
        fields["names"] = dict(enumerate(names))
    else:
        kind, suffix = {
            "coco": ("annotations", ".json"),
            "yolo": ("labels", ""),
            "voc": ("annotations", ""),
        }[to]
        fields = {
            "format": to,
            "path": ".",
            "splits": {
                split.split: {
                    "images": f"images/{split.split}",
                    "annotations": f"{kind}/{split.split}{suffix}",
                }
                for split in splits
            },
            "names": names,
        }
    if to != "coco" and ids != list(range(len(ids))):
        fields["category_ids"] = ids
    if card.terms:
        fields["terms"] = card.terms
    return yaml.safe_dump(fields, sort_keys=False, allow_unicode=True)
