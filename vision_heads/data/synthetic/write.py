"""Writes scenes as a data set: JPEG pictures, one COCO file a split, and a card.

Heads carry `euler_angles` = [pitch, yaw, roll] in degrees, as DirectMHP's files do.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from itertools import repeat
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Literal, Protocol

import cv2
import numpy as np
import yaml
from numpy.typing import NDArray

from vision_heads.data.formats.visdrone import NAMES
from vision_heads.data.sample import DataSplit, Sample
from vision_heads.data.synthetic.heads import HEAD_NAMES, render_heads
from vision_heads.data.synthetic.people import Group
from vision_heads.data.synthetic.plan import Kind
from vision_heads.data.synthetic.scene import View, render_scene
from vision_heads.errors import UserError, require
from vision_heads.geometry.rotations import to_euler

CATEGORY_IDS = tuple(range(1, len(NAMES) + 1))
"""VisDrone's ids of `NAMES`."""
CARD = "card.yaml"
TERMS = "synthetic, made by vision_heads' own generator; CC0"
What = Literal["streets", "heads"]
"""Which of the generator's pictures: drone-like scenes, or people with head poses."""
_PER_SEED = 100_000
_SPLITS = ("train", "val")


class Rendered(Protocol):
    """A picture and its labels, whatever it shows; those of heads have `rotations` too."""

    @property
    def image(self) -> NDArray[np.uint8]:
        """(H, W, 3) BGR."""
        ...

    @property
    def boxes(self) -> NDArray[np.float32]:
        """(N, 4) xyxy pixels."""
        ...

    @property
    def labels(self) -> NDArray[np.int64]:
        """(N,) class indices."""
        ...

    @property
    def ignore_boxes(self) -> NDArray[np.float32]:
        """(K, 4) areas that are not judged."""
        ...

    @property
    def ignore_labels(self) -> NDArray[np.int64]:
        """(K,) class indices, or `REGION`."""
        ...


@dataclass(frozen=True, slots=True)
class _Job:
    """What one picture needs to be made by another process."""

    folder: Path
    seed: int
    size: tuple[int, int]
    what: What
    kind: Kind | Group | None
    view: View
    quality: int


def synthetic_split(
    count: int,
    seed: int,
    folder: str | Path,
    *,
    what: What = "streets",
    split: Literal["train", "val"] = "train",
    size: tuple[int, int] = (960, 540),
    kind: Kind | Group | None = None,
    view: View | None = None,
    quality: int = 90,
    workers: int = 1,
    progress: Callable[[int], None] | None = None,
) -> DataSplit:
    """Render `count` scenes into a folder and return them as a split.

    Writes `folder/<split>/images/*.jpg`, `folder/<split>/annotations.json` (COCO, category ids
    from 1; what is not to be judged is a crowd annotation of its class) and `folder/card.yaml`,
    which names every split that the folder has. Picture i is a pure function of (seed, split,
    i): the number of workers changes nothing, and no picture is in both splits.

    Args:
        count: pictures, 1..50000.
        seed: 0..20000.
        folder: made if it is not there; the split itself must not be there yet.
        what: which pictures.
        split: "train" or "val".
        size: width and height in pixels.
        kind: of `render_scene`, or the group of `render_heads`; drawn anew for each picture when
            None.
        view: as for `render_scene`; of streets only.
        quality: of the JPEG files, 1..100.
        workers: processes that render.
        progress: called with the number of pictures done so far.

    Raises:
        UserError: a value is out of its range, or the split is already there.
    """
    require(1 <= count <= _PER_SEED // 2, f"count: must be 1..{_PER_SEED // 2}, got {count}")
    require(0 <= seed <= 20000, f"seed: must be 0..20000, got {seed}")
    require(1 <= quality <= 100, f"quality: must be 1..100, got {quality}")
    require(workers >= 1, f"workers: must be 1 or more, got {workers}")
    require(split in _SPLITS, f"split: must be train or val, got {split!r}")
    folder = Path(folder)
    target = folder / split
    if target.exists():
        raise UserError(f"{target}: is already there; choose another folder or delete it")
    card = folder / CARD
    ours = any((folder / one / "annotations.json").is_file() for one in _SPLITS)
    require(ours or not card.exists(), f"{card}: is already there; choose another folder")
    # Made under another name and renamed, so that a killed run leaves no half of a split.
    part = folder / f".{split}.part"
    shutil.rmtree(part, ignore_errors=True)
    images = part / "images"
    try:
        images.mkdir(parents=True)
    except OSError as error:
        raise UserError(f"{folder}: cannot be written: {error.strerror}") from error
    first = seed * _PER_SEED + (_PER_SEED // 2 if split == "val" else 0)
    jobs = [
        _Job(images, first + index, size, what, kind, view or View(), quality)
        for index in range(count)
    ]
    samples: list[Sample] = []
    try:
        for sample in _run(jobs, workers):
            sample.image = target / "images" / sample.image.name
            samples.append(sample)
            if progress:
                progress(len(samples))
        names, ids = classes_of(what)
        write_coco(samples, part / "annotations.json", names, ids)
        part.rename(target)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    _write_card(folder)
    return DataSplit(folder.resolve().name, split, names, ids, samples, terms=TERMS)


def classes_of(what: What) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Return class names and category ids of the pictures."""
    return (NAMES, CATEGORY_IDS) if what == "streets" else (HEAD_NAMES, (1,))


def _run(jobs: list[_Job], workers: int) -> Iterator[Sample]:
    if workers == 1:
        yield from map(_make, range(1, len(jobs) + 1), jobs)
        return
    # Processes are started afresh: a fork of a process with threads may hang.
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        try:
            yield from pool.map(_make_alone, range(1, len(jobs) + 1), jobs, repeat(1))
        except BrokenProcessPool as error:
            raise UserError(
                "workers: a rendering process ended early; a script that asks for more than one "
                'must do so under `if __name__ == "__main__":`, or memory ran out'
            ) from error


def _make_alone(number: int, job: _Job, threads: int) -> Sample:
    cv2.setNumThreads(threads)
    return _make(number, job)


def _make(number: int, job: _Job) -> Sample:
    width, height = job.size
    scene: Any
    if job.what == "heads":
        scene = render_heads(job.seed, width, height, group=job.kind)  # type: ignore[arg-type]
    else:
        scene = render_scene(
            job.seed,
            width,
            height,
            kind=job.kind,  # type: ignore[arg-type]
            view=job.view,
        )
    file = job.folder / f"{job.seed:010d}_{scene.kind}.jpg"
    return save_scene(scene, file, number, job.quality)


def save_scene(scene: Rendered, file: Path, image_id: int, quality: int = 90) -> Sample:
    """Write a scene's picture as JPEG and return its labels as a `Sample`."""
    done, data = cv2.imencode(".jpg", scene.image, [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not done:
        raise RuntimeError(f"{file}: OpenCV could not encode the picture")
    file.write_bytes(data.tobytes())
    height, width = scene.image.shape[:2]
    return Sample(
        image=file,
        image_id=image_id,
        width=width,
        height=height,
        boxes=scene.boxes,
        labels=scene.labels,
        ignore_boxes=scene.ignore_boxes,
        ignore_labels=scene.ignore_labels,
        rotations=getattr(scene, "rotations", None),
    )


def write_coco(
    samples: list[Sample],
    file: Path,
    names: tuple[str, ...] = NAMES,
    category_ids: tuple[int, ...] = CATEGORY_IDS,
) -> None:
    """Write samples with labels out of `names` as a COCO file; annotation ids start at 1.

    An area without a class is a crowd of the first one.
    """
    annotations: list[dict[str, Any]] = []
    for sample in samples:
        entries = [
            _annotation(box, category_ids[max(label, 0)], crowd)
            for boxes, labels, crowd in (
                (sample.boxes, sample.labels, 0),
                (sample.ignore_boxes, sample.ignore_labels, 1),
            )
            for box, label in zip(boxes, labels.tolist(), strict=True)
        ]
        if sample.rotations is not None:
            angles = to_euler(sample.rotations).round(4).tolist()
            for entry, angle in zip(entries, angles, strict=False):
                entry["euler_angles"] = angle
        for entry in entries:
            annotations.append(entry)
            entry |= {"id": len(annotations), "image_id": sample.image_id}
    record = {
        "info": {"description": "synthetic scenes by vision_heads", "terms": TERMS},
        "images": [
            {"id": s.image_id, "file_name": s.image.name, "width": s.width, "height": s.height}
            for s in samples
        ],
        "categories": [
            {"id": key, "name": name} for key, name in zip(category_ids, names, strict=True)
        ],
        "annotations": annotations,
    }
    file.write_text(json.dumps(record, separators=(",", ":")) + "\n", encoding="utf-8")


def _annotation(box: np.ndarray, category: int, crowd: int) -> dict[str, Any]:
    x1, y1, x2, y2 = (float(value) for value in box)
    bbox = [round(value, 2) for value in (x1, y1, x2 - x1, y2 - y1)]
    area = round(bbox[2] * bbox[3], 2)
    return {"category_id": category, "bbox": bbox, "area": area, "iscrowd": crowd}


def _write_card(folder: Path) -> None:
    splits = {
        split: {"images": f"{split}/images", "annotations": f"{split}/annotations.json"}
        for split in _SPLITS
        if (folder / split / "annotations.json").is_file()
    }
    card = {"format": "coco", "path": ".", "splits": splits, "terms": TERMS}
    text = yaml.safe_dump(card, sort_keys=False)
    (folder / CARD).write_text(text, encoding="utf-8")
