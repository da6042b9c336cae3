"""Data-set cards: a YAML that says where a data set lies and in which format its labels are."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from vision_heads.data.foreign import from_ultralytics, is_ultralytics, refuse_others
from vision_heads.data.formats import FORMATS, read
from vision_heads.data.formats.base import Part, Source, expanded
from vision_heads.data.formats.faults import box_problems, listed_again, never_labelled
from vision_heads.data.sample import DataSplit, Sample
from vision_heads.errors import UserError, require
from vision_heads.paths import as_on_disk, assets
from vision_heads.spec import first_problem
from vision_heads.yaml_file import read_yaml

DATA_VARIABLE = "VH_DATA"
"""Environment variable: the folder that holds data sets which cards name by a relative path."""


class PartCard(BaseModel):
    """Where one part of a split lies; paths are relative to the data set's folder.

    Attributes:
        images: folder of pictures, or (YOLO) a .txt that lists them.
        annotations: folder of label files, or COCO's .json.
        ids: text file with the names of the pictures to use, one a line (VOC's ImageSets).
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    images: str | None = None
    annotations: str | None = None
    ids: str | None = None


class Card(BaseModel):
    """A data-set card.

    Attributes:
        file: the card's own file.
        format: a registered format.
        path: the data set's folder: absolute, relative to the card, or under $VH_DATA.
        splits: parts of each split, by the split's name.
        names: class names, where the format does not name its classes itself.
        rename: other names for classes, by the name the labels have ("person": "head"), so that
            data sets that call one thing differently train and score one head.
        category_ids: the data set's own id of each class, for formats that hold only 0..n-1.
        terms: of use, shown when training starts and written into the weights.
        obtain: where the data can be had, shown when it is not found.
        keypoints: YOLO rows are a box followed by key points.
        foreign: the card is ultralytics' data.yaml.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    file: Path
    format: str
    path: str = "."
    splits: dict[str, tuple[PartCard, ...]] = Field(min_length=1)
    names: tuple[str, ...] = ()
    rename: dict[str, str] = Field(default_factory=dict)
    category_ids: tuple[int, ...] = ()
    terms: str = ""
    obtain: str = ""
    keypoints: bool = False
    foreign: bool = False

    @field_validator("format")
    @classmethod
    def _known_format(cls, value: str) -> str:
        if value not in FORMATS:
            raise ValueError(f"unknown format {value!r}; known: {', '.join(FORMATS)}")
        return value

    @field_validator("names", mode="before")
    @classmethod
    def _list_of_names(cls, value: Any) -> Any:
        if isinstance(value, str):
            raise ValueError(f"a list is needed, such as [car, van], not {value!r}")
        if not isinstance(value, dict):
            return value
        if sorted(value, key=str) != sorted(range(len(value)), key=str):
            raise ValueError(f"numbers must be 0 to {len(value) - 1}, got {list(value)}")
        return [value[index] for index in range(len(value))]

    @field_validator("splits", mode="before")
    @classmethod
    def _lists_of_parts(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        for name, part in value.items():
            if part in ([], ()):
                raise ValueError(f"{name} is an empty list")
        return {
            name: list(part) if isinstance(part, list | tuple) else [part]
            for name, part in value.items()
        }

    @model_validator(mode="after")
    def _consistent(self) -> Card:
        for number, name in enumerate(self.names):
            if not name.strip():
                raise ValueError(f"names: class {number} has no name, only {name!r}")
        for name, other in self.rename.items():
            if not other.strip():
                raise ValueError(f"rename: {name!r} needs a name, not {other!r}")
        repeated = [name for name, count in Counter(self.names).items() if count > 1]
        if repeated:
            raise ValueError(f"names: {repeated[0]!r} is there twice")
        if self.category_ids and len(self.category_ids) != len(self.names):
            raise ValueError(
                f"category_ids has {len(self.category_ids)} entries for {len(self.names)} names"
            )
        if len(set(self.category_ids)) != len(self.category_ids):
            raise ValueError("category_ids: an id is there twice")
        if self.category_ids and self.format not in {"yolo", "voc"}:
            raise ValueError(f"category_ids: {self.format} has its own")
        if self.format == "crowdhuman" and any(
            p.ids for parts in self.splits.values() for p in parts
        ):
            raise ValueError("splits: ids: crowdhuman takes the pictures that its .odgt file names")
        return self

    @property
    def name(self) -> str:
        """The data set's name: the card's, or its folder's for a file called data.yaml."""
        stem = self.file.stem
        return self.file.resolve().parent.name if stem in {"data", "card", "dataset"} else stem

    def root(self) -> Path:
        """Return the data set's folder.

        Raises:
            UserError: it is not there; says where it was looked for and how to get it.
        """
        beside = self.file.resolve().parent
        base = os.environ.get(DATA_VARIABLE)
        near = [beside, expanded(base, f"${DATA_VARIABLE}")] if base else [beside]
        path = expanded(as_on_disk(self.path, near, Path.is_dir), f"{self.file}: path")
        places = [path] if path.is_absolute() else [beside / path]
        if base and not path.is_absolute():
            places.append(expanded(base, f"${DATA_VARIABLE}") / path)
        if self.foreign and not path.is_absolute():
            places.append(Path.cwd() / path)
        for place in places:
            if place.is_dir():
                return place.resolve()
        looked = " and ".join(str(place) for place in places)
        unset = f" (${DATA_VARIABLE} is not set)" if not base and not path.is_absolute() else ""
        get = f"; get it from {self.obtain}" if self.obtain else ""
        raise UserError(
            f"{self.file}: path: no data at {looked}{unset}{get}; set {DATA_VARIABLE} to the "
            f"folder that holds {self.path!r}, or mend path in a card of your own"
        )


def load_card(name_or_path: str | Path) -> Card:
    """Read a card.

    Args:
        name_or_path: name of a shipped card ("visdrone"), or a file of the user's: a card or
            ultralytics' data.yaml.

    Raises:
        UserError: there is no such card, or a field of it is wrong.

    Example:
        >>> load_card("visdrone").names[0]
        'pedestrian'
    """
    file = _find(name_or_path)
    content = read_yaml(file)
    require(isinstance(content, dict), f"{file}: not a data-set card: no fields")
    refuse_others(content, file)
    fields = from_ultralytics(content, file) if is_ultralytics(content) else content
    for key in ("file", "foreign"):
        require(key not in content, f"{file}: {key}: unknown field")
    try:
        return Card.model_validate({**fields, "file": file})
    except ValidationError as error:
        raise UserError(f"{file}: {first_problem(error)}") from error


def card_names() -> list[str]:
    """Return the names of the shipped cards."""
    folder = assets("datasets")
    flat = {file.stem for file in folder.glob("*.yaml")}
    nested = {file.stem for file in folder.glob("*/*.yaml") if file.stem == file.parent.name}
    return sorted(flat | nested)


def _find(name_or_path: str | Path) -> Path:
    path = expanded(name_or_path, "card")
    if path.is_file():
        return path
    name = str(name_or_path)
    if path.suffix.lower() in {".yaml", ".yml"} or (len(path.parts) != 1 and not path.is_dir()):
        raise UserError(f"{name}: no such card file")
    folder = assets("datasets")
    for file in (folder / f"{name}.yaml", folder / name / f"{name}.yaml"):
        if file.is_file():
            return file
    if path.is_dir():
        cards = sorted(path.glob("*.y*ml"))
        hint = f"; name the card in it, e.g. {cards[0]}" if cards else " without a card"
        raise UserError(f"{name}: a folder{hint} (docs/data.md says how to write one)")
    raise UserError(f"{name}: no card of this name; shipped are {', '.join(card_names())}")


def load_split(
    card: str | Path | Card,
    split: str,
    *,
    images_needed: bool = True,
    sizes: Mapping[str, tuple[int, int]] | None = None,
) -> DataSplit:
    """Read one split of a data set.

    Args:
        card: a card, or its name or file.
        split: "train", "val", ...
        images_needed: pictures must be there, and missing ones are problems. Otherwise a missing
            picture is fine as long as its size is known from its labels or from `sizes`.
        sizes: (width, height) by file name or stem.

    Returns:
        Every picture of the split, with everything found wrong in `problems`.

    Raises:
        UserError: the data is not there, or cannot be read at all.
    """
    if not isinstance(card, Card):
        card = load_card(card)
    require(
        split in card.splits,
        f"{card.file}: splits: no {split!r}; it has {', '.join(card.splits)}",
    )
    root = card.root()
    names = card.names or _voc_names(card, root)
    parts = []
    for entry in card.splits[split]:
        source = _source(
            card, entry, root, names=names, images_needed=images_needed, sizes=sizes or {}
        )
        try:
            part = read(card.format, source)
        except UserError as error:
            raise UserError(f"{card.file}: splits.{split}: {error}") from error
        part.problems.extend(box_problems(part))
        parts.append(part)
    return _merge(card, split, parts, root)


def _source(
    card: Card,
    entry: PartCard,
    root: Path,
    *,
    names: tuple[str, ...],
    images_needed: bool,
    sizes: Mapping[str, tuple[int, int]],
) -> Source:
    def inside(text: str | None) -> Path | None:
        if text is None:
            return None
        text = as_on_disk(text, [root], Path.exists)
        path = root / expanded(text, f"{card.file}: splits")
        # Exporters of data.yaml write "../train/images" and mean the card's own folder.
        if card.foreign and not path.exists() and text.startswith("../"):
            path = root / text[3:]
        return path

    return Source(
        root,
        inside(entry.images),
        inside(entry.annotations),
        inside(entry.ids),
        names,
        images_needed,
        sizes,
        card.keypoints,
    )


def _voc_names(card: Card, root: Path) -> tuple[str, ...]:
    """Collect the classes of all splits of a VOC card that names none: all must count alike."""
    if card.format != "voc":
        return ()
    return _found_names(card.file, root, tuple(p for parts in card.splits.values() for p in parts))


def _found_names(file: Path, root: Path, parts: tuple[PartCard, ...]) -> tuple[str, ...]:
    from vision_heads.data.formats import voc  # noqa: PLC0415

    found: set[str] = set()
    for part in parts:
        images, annotations, ids = (
            root / expanded(as_on_disk(place, [root], Path.exists), f"{file}: splits")
            if place
            else None
            for place in (part.images, part.annotations, part.ids)
        )
        source = Source(root, images, annotations, ids, images_needed=False)
        if source.annotations is None or source.annotations.is_dir():
            found |= voc.found_names(source)
    require(found, f"{file}: names: none given, and no label names a class")
    return tuple(sorted(found))


def _merge(card: Card, split: str, parts: list[Part], root: Path) -> DataSplit:
    first = parts[0]
    for part in parts[1:]:
        same = (part.names, part.category_ids) == (first.names, first.category_ids)
        require(same, f"{card.file}: splits.{split}: its parts have different classes")
    samples = [sample for part in parts for sample in part.samples]
    if card.format == "coco":
        repeated = [k for k, n in Counter(s.image_id for s in samples).items() if n > 1]
        require(
            not repeated,
            f"{card.file}: splits.{split}: image id {repeated[0] if repeated else ''} is in "
            "several of its files",
        )
    else:
        _unique_ids(samples, root)
    samples.sort(key=lambda sample: str(sample.image))
    problems = [problem for part in parts for problem in part.problems] + never_labelled(parts)
    return DataSplit(
        card.name,
        split,
        _renamed(card, first.names),
        card.category_ids or first.category_ids,
        samples,
        listed_again(samples, problems),
        card.terms,
        sum(part.unlabelled for part in parts),
        unread=+sum((part.unread for part in parts), Counter()),
    )


def _renamed(card: Card, names: tuple[str, ...]) -> tuple[str, ...]:
    for name in card.rename:
        require(name in names, f"{card.file}: rename: no class {name!r}, only {', '.join(names)}")
    renamed = tuple(card.rename.get(name, name) for name in names)
    twice = [name for name, count in Counter(renamed).items() if count > 1]
    require(not twice, f"{card.file}: rename: {', '.join(twice)} would be there twice")
    return renamed


def _unique_ids(samples: list[Sample], root: Path) -> None:
    """Make ids of pictures in several folders, or with several endings, unique."""
    for longer in (_path_id, _file_id):
        count = Counter(sample.image_id for sample in samples)
        for sample in samples:
            if count[sample.image_id] > 1:
                sample.image_id = longer(sample.image, root)


def _file_id(image: Path, root: Path) -> str:
    return (image.relative_to(root) if image.is_relative_to(root) else image).as_posix()


def _path_id(image: Path, root: Path) -> str:
    name = _file_id(image, root)
    return name[: -len(image.suffix)] if image.suffix else name
