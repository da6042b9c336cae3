"""Pictures a second of our training loader against ultralytics' own, side by side.

Both get the same pictures, labels, input size, batch size, number of workers and strengths of
augmentation (mosaic on every picture, translation, scale, HSV, flip; albumentations' rare blurs
on both sides). Loaders are timed one after the other, in turns, never two at once: workers load
ahead. What is taken before the clock starts (worker start, cold caches, batches loaded ahead) is
not counted, and workers keep loading until it stops.

    python tools/bench/loader.py --data ../shared/data/visdrone/train
"""

from __future__ import annotations

import argparse
import gc
import json
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import cv2

from vision_heads.data.augment import AugmentConfig
from vision_heads.data.card import load_split
from vision_heads.data.check import apply_fixes
from vision_heads.data.dataset import TrainLoader
from vision_heads.data.sample import DataSplit

SHARED = Path(__file__).resolve().parents[2].parent / "shared/data/visdrone/train"
EPOCHS_AHEAD = 1000
"""So far away is the end of training that mosaic is never closed."""


def main() -> None:
    """Print a table of pictures/s and ratios."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("--data", type=Path, default=SHARED, help="images/ and annotations/")
    parser.add_argument("--sizes", type=int, nargs="+", default=[640, 416])
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--pictures", type=int, default=320)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--cache", choices=["none", "ram"], default="none")
    parser.add_argument("--json", type=Path, help="write the figures here too")
    args = parser.parse_args()
    cv2.setNumThreads(0)
    split = read_split(args.data, args.pictures)
    rows = []
    print(f"{'size':>5} {'workers':>7} {'ours':>9} {'theirs':>9} {'ratio':>6}   pictures/s")
    with tempfile.TemporaryDirectory() as folder:
        write_yolo(split, Path(folder))
        for size in args.sizes:
            for workers in args.workers:
                ours = partial(our_batches, split, size, args.batch, workers, cache=args.cache)
                theirs = partial(
                    their_batches, Path(folder), split, size, args.batch, workers, cache=args.cache
                )
                a, b = race((ours, theirs), args.rounds, args.batch, len(split.samples))
                print(f"{size:>5} {workers:>7} {a:>9.1f} {b:>9.1f} {a / b:>6.2f}", flush=True)
                rows.append(
                    {"size": size, "workers": workers, "ours": a, "theirs": b, "ratio": a / b}
                )
    if args.json:
        args.json.write_text(json.dumps(rows, indent=2))


def read_split(folder: Path, limit: int) -> DataSplit:
    """Read the first pictures of a VisDrone folder with its native labels."""
    with tempfile.TemporaryDirectory() as place:
        card = Path(place) / "visdrone.yaml"
        card.write_text(
            f"format: visdrone\npath: {folder.resolve()}\n"
            "splits: {train: {images: images, annotations: annotations}}\n"
        )
        split = apply_fixes(load_split(card, "train"), {"clip", "drop"})
    split.samples[:] = split.samples[:limit]
    return split


def write_yolo(split: DataSplit, folder: Path) -> None:
    """Write the split's labels as YOLO text files, its pictures as links."""
    (folder / "images").mkdir()
    (folder / "labels").mkdir()
    for sample in split.samples:
        (folder / "images" / sample.image.name).symlink_to(sample.image.resolve())
        lines = []
        for (x1, y1, x2, y2), label in zip(
            sample.boxes.tolist(), sample.labels.tolist(), strict=True
        ):
            x, y = (x1 + x2) / 2 / sample.width, (y1 + y2) / 2 / sample.height
            w, h = (x2 - x1) / sample.width, (y2 - y1) / sample.height
            lines.append(f"{label} {x:.6f} {y:.6f} {w:.6f} {h:.6f}")
        (folder / "labels" / f"{sample.image.stem}.txt").write_text("\n".join(lines))


def our_batches(split: DataSplit, size: int, batch: int, workers: int, cache: Any) -> Iterator[Any]:
    """Yield our batches without end."""
    loader = TrainLoader(
        {"aerial": split},
        AugmentConfig(cache=cache),
        height=size,
        width=size,
        batch_size=batch,
        epochs=EPOCHS_AHEAD,
        seed=0,
        workers=workers,
    )
    for epoch in range(EPOCHS_AHEAD):
        yield from loader.epoch(epoch)


def their_batches(
    folder: Path, split: DataSplit, size: int, batch: int, workers: int, *, cache: str
) -> Iterator[Any]:
    """Yield ultralytics' batches without end."""
    from vision_heads import _ultralytics  # noqa: F401, I001  sets its switches first

    from ultralytics.cfg import get_cfg
    from ultralytics.data.build import build_dataloader, build_yolo_dataset

    config = get_cfg(overrides={"imgsz": size, "task": "detect", "cache": cache == "ram"})
    data = {
        "names": dict(enumerate(split.names)),
        "nc": len(split.names),
        "channels": 3,
        "train": str(folder / "images"),
    }
    dataset = build_yolo_dataset(config, str(folder / "images"), batch, data, mode="train")
    loader = build_dataloader(dataset, batch, workers, shuffle=True, device="cpu")
    while True:
        yield from loader


def race(
    makers: tuple[Callable[[], Iterator[Any]], ...], rounds: int, batch: int, pictures: int
) -> list[float]:
    """Return the pictures/s of each, from `rounds` times the data set, in turns."""
    spent = [0.0] * len(makers)
    steps = -(-pictures // batch)
    for turn in range(rounds):
        order = list(enumerate(makers))
        for i, make in order if turn % 2 == 0 else order[::-1]:
            batches = make()
            for _ in range(steps):
                next(batches)
            begin = time.perf_counter()
            for _ in range(steps):
                next(batches)
            spent[i] += time.perf_counter() - begin
            del batches
            gc.collect()
    return [rounds * pictures / seconds for seconds in spent]


if __name__ == "__main__":
    main()
