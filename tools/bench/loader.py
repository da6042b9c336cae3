"""Pictures a second of our training loader against ultralytics' own, side by side.

Both get the same pictures, labels, input size, batch size, number of workers and strengths of
augmentation (mosaic on every picture, translation, scale, HSV, flip; albumentations' rare blurs
on both sides). Loaders take turns, so that a busy machine slows both, and never run at once:
before the clock starts, what workers have loaded ahead is taken and thrown away, and after it
stops they get time to load ahead again. The first turn of each (worker start, cold caches) is not
counted.

    python tools/bench/loader.py --data ../shared/data/visdrone/train
"""

from __future__ import annotations

import argparse
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
from vision_heads.errors import UserError

SHARED = Path(__file__).resolve().parents[2].parent / "shared/data/visdrone/train"
EPOCHS_AHEAD = 1000
"""So far away is the end of training that mosaic is never closed."""
AHEAD = 5
"""Batches a worker that are thrown away before a turn; ours loads 2 ahead, theirs 4."""


def main() -> None:
    """Print a table of pictures/s and ratios."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("--data", type=Path, default=SHARED, help="images/ and annotations/")
    parser.add_argument("--sizes", type=int, nargs="+", default=[640, 416])
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--pictures", type=int, default=320)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--cache", choices=["none", "ram"], default="none")
    parser.add_argument("--json", type=Path, help="write the figures here too")
    args = parser.parse_args()
    cv2.setNumThreads(0)
    try:
        split = read_split(args.data, args.pictures)
    except UserError as error:
        parser.error(f"--data {args.data}: {error}")
    rows = []
    print("pictures/s; without workers also CPU ms a picture: ours, theirs, ratio")
    print(f"{'size':>5} {'workers':>7} {'ours':>9} {'theirs':>9} {'ratio':>6}")
    with tempfile.TemporaryDirectory() as folder:
        write_yolo(split, Path(folder))
        for size in args.sizes:
            for workers in args.workers:
                ours = partial(our_batches, split, size, args.batch, workers, cache=args.cache)
                theirs = partial(
                    their_batches, Path(folder), split, size, args.batch, workers, cache=args.cache
                )
                (a, b), cpu = race(
                    (ours, theirs), args.rounds, args.batch, len(split.samples), workers
                )
                # With workers the work is done elsewhere, and this process's time says nothing.
                used = "" if workers else f"   {cpu[0]:.2f} {cpu[1]:.2f} {cpu[1] / cpu[0]:.2f}"
                print(f"{size:>5} {workers:>7} {a:>9.1f} {b:>9.1f} {a / b:>6.2f}{used}", flush=True)
                row = {"size": size, "workers": workers, "ours": a, "theirs": b, "ratio": a / b}
                rows.append(row if workers else {**row, "cpu_ms_a_picture": cpu})
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
    makers: tuple[Callable[[], Iterator[Any]], ...],
    rounds: int,
    batch: int,
    pictures: int,
    workers: int,
) -> tuple[list[float], list[float]]:
    """Return the pictures/s of each, and the CPU milliseconds a picture of this process.

    Args:
        makers: start the loaders.
        rounds: turns of each; a turn is one pass over the data set.
        batch: pictures a batch.
        pictures: of the data set.
        workers: of each loader.
    """
    loaders = [make() for make in makers]
    steps = -(-pictures // batch)
    wall, cpu = [0.0] * len(loaders), [0.0] * len(loaders)
    # More than either loads ahead: from then on, each batch taken is a batch made.
    stock = AHEAD * workers
    for turn in range(rounds + 1):
        order = list(enumerate(loaders))
        for i, batches in order if turn % 2 == 0 else order[::-1]:
            take(batches, stock)
            begin, begin_cpu = time.perf_counter(), time.process_time()
            take(batches, steps)
            spent = time.perf_counter() - begin
            if turn:
                wall[i] += spent
                cpu[i] += time.process_time() - begin_cpu
            # The workers fill their queues up again; the next turn must not pay for it.
            time.sleep(1.5 * stock * spent / steps)
    count = rounds * steps * batch
    return [count / t for t in wall], [1e3 * t / count for t in cpu]


def take(batches: Iterator[Any], count: int) -> None:
    """Take batches and drop them."""
    for _ in range(count):
        next(batches)


if __name__ == "__main__":
    main()
