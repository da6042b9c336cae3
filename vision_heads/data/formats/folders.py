"""Formats with one label file a picture: matching the two, and reading them."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol, cast

import numpy as np
from numpy.typing import NDArray

from vision_heads.data.formats.base import (
    BadLabelsError,
    Part,
    Rows,
    Source,
    expanded,
    parallel,
    picture_size,
    require_sizes,
)
from vision_heads.data.sample import Problem, Sample
from vision_heads.errors import UserError, require
from vision_heads.geometry.rotations import from_euler
from vision_heads.media.images import IMAGE_SUFFIXES
from vision_heads.paths import as_on_disk, composed, devices, is_there, read_text, spellings

Size = tuple[int, int] | None
"""(width, height) of a picture when it is known."""


class Parse(Protocol):
    """How a folder format reads one label file."""

    def __call__(self, data: bytes, size: tuple[int, int] | None) -> Rows:
        """Read the file's bytes; `size` is the picture's (width, height) when known.

        Raises:
            BadLabelsError: nothing in the file can be used.
        """
        ...


def walk(folder: Path, suffixes: frozenset[str]) -> list[str]:
    """Return the files below `folder` with one of these endings, sorted, relative, with "/".

    Links to folders are followed, unless they lead back to a folder that holds them. Pipes and
    devices are left out: they hold no picture and no label. So are hidden folders: programs keep
    copies there (".ipynb_checkpoints"), which without labels would be taken for negatives.

    Raises:
        UserError: a folder cannot be read.
    """
    found = []
    for base, below, names in os.walk(folder, onerror=_refuse, followlinks=True):
        below[:] = [name for name in below if name[0] != "." and not _leads_back(base, name)]
        inside = os.path.relpath(base, folder).replace(os.sep, "/")
        prefix = "" if inside == "." else f"{inside}/"
        endless = devices(base)
        for name in names:
            # macOS leaves "._x.jpg" beside "x.jpg" on foreign disks; they are no pictures.
            named = os.path.splitext(name)[1].lower() in suffixes and not name.startswith("._")  # noqa: PTH122
            if named and name not in endless:
                found.append(prefix + name)
    return sorted(found)


def _refuse(error: OSError) -> None:
    raise UserError(f"{error.filename}: {error.strerror}") from error


def _leads_back(base: str, name: str) -> bool:
    path = os.path.join(base, name)  # noqa: PTH118
    here = os.path.realpath(base) + os.sep
    return os.path.islink(path) and here.startswith(os.path.realpath(path) + os.sep)  # noqa: PTH114


def read_lines(path: Path) -> list[str]:
    """Return the lines of a text file that are not blank, stripped.

    Raises:
        UserError: the file is missing or no text.
    """
    try:
        text = read_text(path)
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not a text file") from error
    return [line.strip() for line in text.splitlines() if line.strip()]


@dataclass(frozen=True, slots=True)
class Pair:
    """A picture and where its labels are; `present` is False when the picture is not there."""

    image: Path
    label: Path
    present: bool


def label_path(image: Path, source: Source, folder: Path, suffix: str) -> Path:
    """Return the label file of a picture: the same path below the folder of labels."""
    base = source.images if source.images is not None else source.root
    inside = image.relative_to(base) if image.is_relative_to(base) else Path(image.name)
    return folder / inside.with_suffix(suffix)


def listed_stem(line: str, stems: Collection[str]) -> str:
    """Return the name in a line of an id file; VOC's per-class lists add a flag to each name.

    A picture of `stems` may be called "photo 1": then that is no flag.
    """
    whole = line.replace("\\", "/")
    first, _, flag = whole.rpartition(" ")
    flagged = flag in {"-1", "0", "1"} and first and whole not in stems
    return stem_of(first.strip() if flagged else whole)


def stem_of(relative: str) -> str:
    """Drop a picture's ending; a dot elsewhere in the name stays."""
    base, suffix = os.path.splitext(relative)  # noqa: PTH122
    return base if suffix.lower() in IMAGE_SUFFIXES else relative


def _listed_images(listing: Path, root: Path) -> list[tuple[Path, bool]]:
    """Return the pictures a .txt names, relative to the list's folder or to the data set."""
    found = []
    for line in read_lines(listing):
        name = expanded(as_on_disk(line, [listing.parent, root]), str(listing))
        near = [listing.parent / name, root / name]
        image = next((path for path in near if is_there(path)), near[0])
        found.append((image, is_there(image)))
    return found


def _unshared(pairs: list[Pair], listing: Path) -> list[Pair]:
    """Return the pairs; refuse pictures of two folders whose name would give both one's labels.

    A list says no folder that the pictures' folders could be looked up below the labels from.
    """
    owner: dict[Path, Path] = {}
    for pair in pairs:
        other = owner.setdefault(pair.label, pair.image)
        require(
            other == pair.image or other.resolve().parent == pair.image.resolve().parent,
            f"{listing}: {other} and {pair.image} would both have the labels {pair.label}; "
            "leave annotations out, or let images name a folder",
        )
    return pairs


def pair_files(
    source: Source,
    suffix: str,
    labels: Path | None,
    label_of: Callable[[Path], Path] | None = None,
) -> list[Pair]:
    """Match pictures with label files, both ways.

    Args:
        source: the part.
        suffix: of label files, e.g. ".txt".
        labels: folder of label files, to find labels whose picture is missing; None to not look.
        label_of: label file of a picture; None: the same path below `labels`.

    Returns:
        Every picture of the part, and one `Pair` without a picture for every label file (or
        line of the id file) that has none.

    Raises:
        UserError: the folder of pictures is needed but not there.
    """
    images = source.images
    if label_of is None:
        require(labels, "a folder of labels is needed")
        label_of = partial(label_path, source=source, folder=cast(Path, labels), suffix=suffix)
    if images is not None and images.suffix.lower() == ".txt" and images.is_file():
        listed = _listed_images(images, source.root)
        return _unshared([Pair(i, label_of(i), there) for i, there in listed], images)
    there = images is not None and images.is_dir()
    require(there or not source.images_needed, _no_pictures(images))
    folder = images if images is not None else source.root
    names = walk(folder, IMAGE_SUFFIXES) if there else []
    stems = {composed(stem_of(name)) for name in names}
    if source.ids is not None:
        wanted = {listed_stem(composed(line), stems) for line in read_lines(source.ids)}
        names = [name for name in names if composed(stem_of(name)) in wanted]
        lacking = wanted - stems
    elif labels is not None and labels.is_dir():
        cut = len(suffix)
        named = [name[:-cut] for name in walk(labels, frozenset({suffix}))]
        lacking = {name for name in named if composed(name) not in stems}
        lacking.discard("classes")  # labelling tools leave their class list among YOLO labels
    else:
        lacking = set()
    pairs = [Pair(folder / name, label_of(folder / name), True) for name in names]
    for stem in sorted(lacking):
        image = folder / f"{stem}.jpg"
        pairs.append(Pair(image, label_of(image), False))
    return pairs


def label_bytes(label: Path) -> bytes:
    """Return what a label file holds; its ending may be in capitals, as a picture's may.

    Its name may be spelled as another system does, see `paths.spellings`.

    Raises:
        OSError: it cannot be read.
    """
    try:
        return label.read_bytes()
    except FileNotFoundError:
        for suffix in (label.suffix, label.suffix.upper()):
            for stem in spellings(label.stem):
                with suppress(FileNotFoundError):
                    return label.with_name(stem + suffix).read_bytes()
        raise


RowsOf = Callable[[Pair, Size, list[Problem]], Rows | None]
"""How a format finds the labels of one picture."""


def _no_pictures(images: Path | None) -> str:
    if images is None:
        return "images: the card names no folder of pictures"
    listing = images.suffix.lower() == ".txt"
    return f"{images}: no such {'list' if listing else 'folder'} of pictures"


@dataclass(slots=True)
class _One:
    sample: Sample
    label: Path
    places: NDArray[np.int64]
    problems: list[Problem]
    sized: bool
    labelled: bool
    unread: Counter[str]


def read_folder(
    source: Source,
    pairs: list[Pair],
    parse: Parse,
    names: tuple[str, ...],
    category_ids: tuple[int, ...],
    *,
    unlabelled: bool = False,
    place_word: str = "line",
) -> Part:
    """Read one label file a picture.

    Args:
        source: the part.
        pairs: pictures and label files.
        parse: reads one label file.
        names: class names.
        category_ids: the data set's id of each class.
        unlabelled: a picture without a label file is a negative, not a problem.
        place_word: what `Rows.places` counts.

    Raises:
        UserError: the size of a picture that is not there is unknown and pictures are not
            needed (`images_needed=False`).
    """

    def rows_of(pair: Pair, size: Size, problems: list[Problem]) -> Rows | None:
        return _read_labels(pair, size, parse, unlabelled, problems)

    return read_pairs(source, pairs, rows_of, names, category_ids, place_word=place_word)


def read_pairs(
    source: Source,
    pairs: list[Pair],
    rows_of: RowsOf,
    names: tuple[str, ...],
    category_ids: tuple[int, ...],
    *,
    place_word: str = "line",
) -> Part:
    """Make a part of pictures and whatever says what is in them.

    Args:
        source: the part.
        pairs: pictures and the label files that problems are named by.
        rows_of: gives a picture's labels, from its size if that is known; None: it has none,
            and needs none. Adds to the problems.
        names: class names.
        category_ids: the data set's id of each class.
        place_word: what `Rows.places` counts.

    Raises:
        UserError: as `read_folder`.
    """

    def one(pair: Pair) -> _One:
        return _read_one(pair, source, rows_of, place_word)

    part = Part(names, category_ids, place_word=place_word)
    unsized = []
    for read in parallel(one, pairs):
        part.samples.append(read.sample)
        part.files.append(read.label)
        part.places.append(read.places)
        part.problems.extend(read.problems)
        part.unlabelled += not read.labelled
        part.unread.update(read.unread)
        if not read.sized:
            unsized.append(read.sample.image)
    if not source.images_needed:
        require_sizes(unsized)
    return part


def _read_one(pair: Pair, source: Source, rows_of: RowsOf, place_word: str) -> _One:
    problems: list[Problem] = []
    if pair.present:
        size = picture_size(pair.image, problems)
    else:
        size = source.known_size(pair.image)
        if source.images_needed:
            problems.append(Problem("missing-image", pair.image, f"labelled by {pair.label}"))
    found = rows_of(pair, size, problems)
    rows = (found or Rows.none()).within_reason(place_word)
    problems.extend(Problem(kind, pair.label, detail) for kind, detail in rows.problems)
    if pair.present and size and rows.size and rows.size != size:
        stated, real = (f"{w}x{h}" for w, h in (rows.size, size))
        detail = f"labelled by {pair.label} at {stated}, the upright picture is {real}"
        problems.append(Problem("bad-annotation", pair.image, detail))
    size = size or rows.size
    width, height = size or (0, 0)
    kept = ~rows.ignored
    sample = Sample(
        pair.image,
        pair.image.stem,
        width,
        height,
        rows.boxes[kept].astype(np.float32),
        rows.labels[kept],
        None,
        rows.boxes[rows.ignored].astype(np.float32),
        rows.labels[rows.ignored],
    )
    if rows.euler is not None:
        sample.euler = rows.euler[kept]
        sample.rotations = from_euler(sample.euler).astype(np.float32)
    sized, labelled = size is not None, found is not None
    return _One(sample, pair.label, rows.places[kept], problems, sized, labelled, rows.unread)


def _read_labels(
    pair: Pair,
    size: tuple[int, int] | None,
    parse: Parse,
    unlabelled: bool,
    problems: list[Problem],
) -> Rows | None:
    """Return what the label file says; None where there is none and none is needed."""
    try:
        rows = parse(label_bytes(pair.label), size)
    except FileNotFoundError:
        if unlabelled:
            return None
        problems.append(Problem("missing-annotation", pair.image, f"no {pair.label}"))
        return Rows.none()
    except (BadLabelsError, OSError) as error:
        # Named by the picture: it has no usable labels at all, so a fix must drop the picture.
        why = error.strerror if isinstance(error, OSError) else error
        problems.append(Problem("bad-annotation", pair.image, f"{pair.label}: {why}"))
        return Rows.none()
    return rows
