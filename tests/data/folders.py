"""Small data sets on disk, for the tests of cards, formats, checks and conversions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import yaml


def picture(file: Path, width: int = 40, height: int = 30, seed: int = 0) -> Path:
    """Write a picture of noise; another seed gives other pixels."""
    file.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 255, (height, width, 3), np.uint8)
    done, data = cv2.imencode(file.suffix, pixels)
    assert done
    file.write_bytes(data.tobytes())
    return file


def text(file: Path, content: str) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(content, encoding="utf-8")
    return file


def card(file: Path, **fields: Any) -> Path:
    return text(file, yaml.safe_dump(fields, sort_keys=False))


def coco(file: Path, images: list[Any], annotations: list[Any], categories: list[Any]) -> Path:
    whole = {"images": images, "annotations": annotations, "categories": categories}
    return text(file, json.dumps(whole))


def voc_object(name: str, box: tuple[Any, ...], difficult: int = 0) -> str:
    edges = zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True)
    corners = "".join(f"<{edge}>{value}</{edge}>" for edge, value in edges)
    return (
        f"<object><name>{name}</name><difficult>{difficult}</difficult>"
        f"<bndbox>{corners}</bndbox></object>"
    )


def voc(file: Path, *objects: str, size: tuple[int, int] | None = (40, 30)) -> Path:
    stated = f"<size><width>{size[0]}</width><height>{size[1]}</height></size>" if size else ""
    return text(file, f"<annotation>{stated}{''.join(objects)}</annotation>")


def visdrone_set(root: Path, lines: dict[str, str | None], split: str = "train") -> Path:
    """Write pictures and txt files by stem (None: no txt) and a card; return the card."""
    for seed, (stem, content) in enumerate(lines.items()):
        picture(root / split / "images" / f"{stem}.png", seed=seed)
        folder = root / split / "annotations"
        folder.mkdir(parents=True, exist_ok=True)
        if content is not None:
            text(folder / f"{stem}.txt", content)
    place = {"images": f"{split}/images", "annotations": f"{split}/annotations"}
    return card(root / f"{split}.yaml", format="visdrone", splits={split: place})
