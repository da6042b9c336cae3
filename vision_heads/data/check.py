"""One report of everything wrong, and everything worth knowing, in a data set.

Reading (`load_split`) already finds what labels and headers show. The check also decodes every
picture, and compares pictures by content: twins in a split, and training pictures in the splits
that score the training.
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vision_heads.data.card import Card, load_split
from vision_heads.data.fixes import REFUSED, apply_fixes, broken
from vision_heads.data.formats.base import corrupt, parallel
from vision_heads.data.formats.faults import TOLERANCE, find_faults
from vision_heads.data.sample import DataSplit, Problem, Sample
from vision_heads.media.images import ImageError, read_image

__all__ = [
    "REFUSED",
    "SIZE_BINS",
    "TOLERANCE",
    "CheckReport",
    "Leak",
    "SplitReport",
    "apply_fixes",
    "check_card",
    "check_split",
    "size_histogram",
    "split_sheet",
]

SIZE_BINS = (("tiny", 16.0), ("small", 32.0), ("medium", 96.0), ("large", float("inf")))
"""Upper ends of the size bins: the square root of a box's area, in pixels of the original."""

_GREY = (160, 160, 160)


@dataclass(slots=True)
class SplitReport:
    """What the check found in one split.

    Attributes:
        split: its name.
        pictures: how many.
        negatives: pictures without an object.
        unlabelled: pictures without a label file, where the format takes that for a negative.
        boxes: objects.
        ignored: areas that are not judged.
        overhanging: boxes over the border by no more than `TOLERANCE` pixels; no problem.
        classes: objects of each class, in the class order.
        sizes: objects of each size bin.
        problems: all of them, by reading and by decoding.
        digests: hash of each decoded picture's pixels, by file.
    """

    split: str
    pictures: int
    negatives: int
    unlabelled: int
    boxes: int
    ignored: int
    overhanging: int
    classes: dict[str, int]
    sizes: dict[str, int]
    problems: list[Problem] = field(default_factory=list)
    digests: dict[Path, bytes] = field(default_factory=dict, repr=False)

    def counts(self) -> dict[str, int]:
        """Return how many problems of each kind there are, most first."""
        return dict(Counter(problem.kind for problem in self.problems).most_common())

    def to_dict(self) -> dict[str, Any]:
        """Return a plain record for JSON; every problem is in it."""
        return {
            "pictures": self.pictures,
            "negatives": self.negatives,
            "unlabelled": self.unlabelled,
            "boxes": self.boxes,
            "ignored": self.ignored,
            "overhanging": self.overhanging,
            "classes": self.classes,
            "sizes": self.sizes,
            "counts": self.counts(),
            "problems": [
                {"kind": p.kind, "file": str(p.file), "detail": p.detail} for p in self.problems
            ],
        }


@dataclass(frozen=True, slots=True)
class Leak:
    """A training picture that another split holds too, pixel by pixel."""

    train: str
    train_file: Path
    other: str
    other_file: Path


@dataclass(slots=True)
class CheckReport:
    """What the check found in a data set.

    Attributes:
        name: of the data set.
        splits: one report a split.
        leaks: training pictures found in other splits.
        disagreements: differences between the splits' classes.
    """

    name: str
    splits: list[SplitReport]
    leaks: list[Leak]
    disagreements: list[str]

    @property
    def clean(self) -> bool:
        """Whether nothing is broken; twins within a split and repeated boxes do not count.

        A split without a single picture is broken too.
        """
        refused = any(broken(split.problems) or not split.pictures for split in self.splits)
        return not (refused or self.leaks or self.disagreements)

    def to_dict(self) -> dict[str, Any]:
        """Return a plain record for JSON."""
        return {
            "name": self.name,
            "clean": self.clean,
            "splits": {split.split: split.to_dict() for split in self.splits},
            "leaks": [
                {
                    "train": leak.train,
                    "train_file": str(leak.train_file),
                    "other": leak.other,
                    "other_file": str(leak.other_file),
                }
                for leak in self.leaks
            ],
            "disagreements": self.disagreements,
        }


def check_card(
    card: Card,
    splits: Sequence[str] = (),
    progress: Callable[[str, int], Callable[[], None]] | None = None,
) -> tuple[CheckReport, list[DataSplit]]:
    """Check some or all splits of a data set.

    Args:
        card: the data set.
        splits: names; all of the card's when empty.
        progress: called with a split's name and number of pictures; returns what is called
            after each picture.

    Returns:
        The report, and the splits as read.

    Raises:
        UserError: a split is not there or cannot be read at all.
    """
    read = [load_split(card, name) for name in dict.fromkeys(splits or card.splits)]
    reports = []
    for split in read:
        step = progress(split.split, len(split.samples)) if progress else None
        reports.append(check_split(split, step))
    report = CheckReport(card.name, reports, _leaks(reports), _disagreements(read))
    return report, read


def check_split(split: DataSplit, step: Callable[[], None] | None = None) -> SplitReport:
    """Decode every picture of a split and count what is in it.

    Args:
        split: as read.
        step: called after each picture.
    """
    samples = split.samples
    digests, bad = _decode([sample.image for sample in _readable(split)], step)
    problems = [*split.problems, *bad, *_twins(digests)]
    faults = find_faults(samples)
    labels = np.concatenate([np.zeros(0, np.int64), *(s.labels for s in samples)])
    number = np.bincount(labels, minlength=len(split.names)).tolist()
    return SplitReport(
        split.split,
        len(samples),
        sum(not len(sample.boxes) for sample in samples),
        split.unlabelled,
        len(labels),
        sum(len(sample.ignore_boxes) for sample in samples),
        int(((faults.overhang > 0) & ~faults.outside & ~faults.empty).sum()),
        dict(zip(split.names, number, strict=True)),
        size_histogram(samples),
        problems,
        digests,
    )


def size_histogram(samples: Iterable[Sample]) -> dict[str, int]:
    """Count objects by `SIZE_BINS`; a box's area is the protocol's (`Sample.areas`) if known."""
    areas = [np.zeros(0, np.float32)]
    for sample in samples:
        sides = (sample.boxes[:, 2:] - sample.boxes[:, :2]).clip(0)
        areas.append(sides.prod(1) if sample.areas is None else sample.areas)
    edges = [0.0, *(end for _, end in SIZE_BINS)]
    counts, _ = np.histogram(np.sqrt(np.concatenate(areas).clip(0)), edges)
    return {name: int(n) for (name, _), n in zip(SIZE_BINS, counts, strict=True)}


def _readable(split: DataSplit) -> list[Sample]:
    """Return the samples whose picture reading found neither missing nor corrupt."""
    lost = {p.file for p in split.problems if p.kind in {"missing-image", "corrupt-image"}}
    return [sample for sample in split.samples if sample.image not in lost]


def _decode(
    images: list[Path], step: Callable[[], None] | None
) -> tuple[dict[Path, bytes], list[Problem]]:
    """Return the digest of each picture that decodes, and a problem for each that does not."""

    def one(image: Path) -> bytes | ImageError:
        try:
            pixels = read_image(image)
        except ImageError as error:
            return error
        shape = "x".join(map(str, pixels.shape)).encode()
        return hashlib.blake2b(pixels.data, digest_size=16, person=shape[:16]).digest()

    digests: dict[Path, bytes] = {}
    bad = []
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        for image, result in zip(images, pool.map(one, images), strict=True):
            if isinstance(result, ImageError):
                bad.append(corrupt(image, result))
            else:
                digests[image] = result
            if step:
                step()
    return digests, bad


def _twins(digests: dict[Path, bytes]) -> list[Problem]:
    first: dict[bytes, Path] = {}
    found = []
    for image, digest in digests.items():
        twin = first.setdefault(digest, image)
        if twin != image:
            found.append(Problem("duplicate-image", image, f"same pixels as {twin}"))
    return found


def _leaks(reports: Sequence[SplitReport]) -> list[Leak]:
    """Find training pictures in other splits; without a split called train*, in later splits."""
    training = [report for report in reports if report.split.startswith("train")]
    pairs = [(a, b) for a in training for b in reports if b not in training]
    if not training:
        pairs = [(a, b) for n, a in enumerate(reports) for b in reports[n + 1 :]]
    found = []
    for one, other in pairs:
        files = {digest: image for image, digest in one.digests.items()}
        found += [
            Leak(one.split, files[digest], other.split, image)
            for image, digest in other.digests.items()
            if digest in files
        ]
    return found


def _disagreements(splits: Sequence[DataSplit]) -> list[str]:
    found = []
    for split in splits[1:]:
        for what in ("names", "category_ids"):
            first, own = getattr(splits[0], what), getattr(split, what)
            if first != own:
                odd = sorted(set(first) ^ set(own), key=str) or ["their order"]
                found.append(
                    f"{what} of {splits[0].split} and {split.split} differ: {odd[0]}"
                    + (f" and {len(odd) - 1} more" if len(odd) > 1 else "")
                    + "; name the classes in the card to settle them"
                )
    return found


def split_sheet(split: DataSplit, count: int = 9, width: int = 640) -> list[NDArray[np.uint8]]:
    """Draw the labels of some pictures of a split, for a contact sheet.

    Pictures with empty or outside boxes come first (a third at most), then pictures evenly
    spread over the split.

    Args:
        split: as read.
        count: most pictures.
        width: of each, pixels; boxes are drawn after scaling, so that their lines stay thin.

    Returns:
        BGR uint8 pictures of that width; pictures that cannot be decoded are left out, since
        the report names them.
    """

    def draw(sample: Sample) -> NDArray[np.uint8] | None:
        try:
            return _drawn(sample, split.names, width)
        except ImageError:
            return None

    return [image for image in parallel(draw, _chosen(split, count)) if image is not None]


def _chosen(split: DataSplit, count: int) -> list[Sample]:
    samples = _readable(split)
    faults = find_faults(samples)
    first = np.unique(faults.owner[faults.empty | faults.outside])[: count // 3].tolist()
    labelled = [n for n, sample in enumerate(samples) if len(sample.boxes) and n not in first]
    rest = count - len(first)
    spread = np.unique(np.linspace(0, len(labelled) - 1, min(rest, len(labelled))).round())
    return [samples[n] for n in (*first, *(labelled[int(i)] for i in spread))]


def _drawn(sample: Sample, names: Sequence[str], width: int) -> NDArray[np.uint8]:
    import cv2  # noqa: PLC0415

    from vision_heads.media.draw import class_color, draw_axes, draw_boxes  # noqa: PLC0415

    image = read_image(sample.image)
    scale = width / image.shape[1]
    height = max(1, round(image.shape[0] * scale))
    small = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
    ignored = ["ignored"] * len(sample.ignore_boxes)
    labels = [names[label] for label in sample.labels] + ignored
    colors = [class_color(int(label)) for label in sample.labels] + [_GREY] * len(ignored)
    boxes = np.concatenate([sample.boxes, sample.ignore_boxes]) * np.float32(scale)
    drawn = draw_boxes(small, boxes, labels, colors)  # type: ignore[arg-type]
    if sample.rotations is None:
        return drawn
    return draw_axes(drawn, boxes[: len(sample.boxes)], sample.rotations)
