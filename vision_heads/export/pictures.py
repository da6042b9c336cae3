"""Pictures to prove exported files on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vision_heads.data.card import load_split
from vision_heads.errors import require
from vision_heads.media.images import IMAGE_SUFFIXES, read_image
from vision_heads.paths import assets, devices


def proof_pictures(
    source: Path | None, card: str | None, split: str, count: int
) -> Iterator[NDArray[np.uint8]]:
    """Yield BGR uint8 pictures: of a folder or file, else of a data set, else the demo set's.

    Args:
        source: a picture or a folder of them.
        card: data-set card, by name or file; not together with `source`.
        split: of the card.
        count: at most so many, spread evenly over what there is.

    Raises:
        UserError: both are given, or there are no pictures.
    """
    require(not (source and card), "--pictures and --data: give one of them")
    if card:
        files = [sample.image for sample in load_split(card, split).samples]
    else:
        files = picture_files(source or assets("datasets") / "demo" / "images")
    for index in np.linspace(0, len(files) - 1, min(count, len(files))).round().astype(int):
        yield read_image(files[index])


def picture_files(source: Path) -> list[Path]:
    """Return a picture, or those in a folder, sorted.

    Raises:
        UserError: it is not there, or holds none.
    """
    require(source.exists(), f"{source}: no such file or folder")
    if source.is_file():
        return [source]
    require(source.is_dir(), f"{source}: a pipe or device, no picture")
    endless = devices(source)
    named = [file for file in source.iterdir() if file.suffix.lower() in IMAGE_SUFFIXES]
    files = sorted(file for file in named if file.name not in endless)
    require(files, f"{source}: holds no pictures")
    return files
