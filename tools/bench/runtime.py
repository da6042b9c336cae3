"""Milliseconds of everything around the network, for a 1360x765 picture with 500 results.

Candidates are drawn so that each of 500 objects has two, of which NMS has to drop one. With
`--model`, the stages of one real VisDrone picture are timed as well.

    python -m tools.bench.runtime [--model aerial-n]
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

from tools.bench.shared import median, print_table, start, two_cores, visdrone_pictures
from vision_heads.geometry.letterbox import plan
from vision_heads.heads.base import DecodeOptions, kind_of
from vision_heads.media.images import read_image
from vision_heads.runtime.engines import open_engine
from vision_heads.runtime.inputs import fill
from vision_heads.spec import HeadSpec, InputSpec

WIDTH, HEIGHT, SIZE = 1360, 765, 640
CLASSES = 10
Floats = NDArray[np.float32]


def candidates(objects: int, seed: int = 0) -> dict[str, Floats]:
    """Return two candidates an object: boxes (K, 4) in network pixels and scores (K, classes)."""
    rng = np.random.default_rng(seed)
    fit = plan(WIDTH, HEIGHT, SIZE, SIZE)
    # A grid with some jitter: crowded, but no two objects overlap enough to be taken for one.
    columns = int(np.ceil(np.sqrt(objects * WIDTH / HEIGHT)))
    cell = np.array([WIDTH / columns, HEIGHT / np.ceil(objects / columns)])
    corner = np.stack([np.arange(objects) % columns, np.arange(objects) // columns], 1) * cell
    size = cell * rng.uniform(0.5, 0.95, (objects, 2))
    boxes = np.repeat(np.concatenate([corner, corner + size], 1), 2, axis=0)
    boxes += rng.normal(0, 0.5, boxes.shape)
    labels = np.repeat(rng.integers(0, CLASSES, objects), 2)
    scores = rng.uniform(0, 0.1, (len(boxes), CLASSES)).astype(np.float32)
    scores[np.arange(len(boxes)), labels] = rng.uniform(0.3, 0.9, len(boxes))
    return {"boxes": fit.to_network(boxes), "scores": scores}


def milliseconds(work: Callable[[], object], repeats: int) -> tuple[float, float]:
    """Return median and best time of `work`."""
    work()
    times = []
    for _ in range(repeats):
        begin = time.perf_counter()
        work()
        times.append((time.perf_counter() - begin) * 1e3)
    return median(times), min(times)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("--model", help="also time the stages of this model on a real picture")
    parser.add_argument("--repeats", type=int, default=100)
    args = parser.parse_args()
    two_cores()
    cv2.setNumThreads(2)

    rng = np.random.default_rng(0)
    image = rng.integers(0, 255, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    spec, head = InputSpec(), HeadSpec(name="a", classes=tuple("abcdefghij"))
    tensor = np.empty((3, SIZE, SIZE), np.float32)
    arrays = candidates(500)
    fit = fill(image, spec, tensor)
    options = DecodeOptions()
    kind = kind_of("detect")
    results = len(kind.decode(arrays, head, options))

    def after() -> None:
        fit.to_original(kind.decode(arrays, head, options).xyxy)

    def both() -> None:
        fill(image, spec, tensor)
        after()

    rows = [
        ("letterbox, RGB, scaling", *milliseconds(lambda: fill(image, spec, tensor), args.repeats)),
        ("threshold, NMS, back to the picture", *milliseconds(after, args.repeats)),
        ("both (goal: at most 4)", *milliseconds(both, args.repeats)),
    ]
    print(f"{len(arrays['boxes'])} candidates, {results} results\n")
    print_table(("stage", "median ms", "best ms"), rows)
    if args.model:
        print()
        _stages(args.model, args.repeats)


def _stages(model: str, repeats: int) -> None:
    engine = open_engine(model, threads=2)
    (path,) = visdrone_pictures(1)
    image = read_image(path)
    spec, head = engine.spec.input, engine.spec.heads[0]
    kind = kind_of(head.kind)
    images = np.empty((1, 3, spec.height, spec.width), np.float32)
    fill(image, spec, images[0])
    outputs = engine.run(images)
    arrays = {suffix: outputs[f"{head.name}/{suffix}"][0] for suffix in kind.outputs}
    found = len(kind.decode(arrays, head, DecodeOptions()))
    rows = [
        ("read the file", *milliseconds(lambda: read_image(path), repeats)),
        ("letterbox, RGB, scaling", *milliseconds(lambda: fill(image, spec, images[0]), repeats)),
        ("network", *milliseconds(lambda: engine.run(images), max(repeats // 5, 5))),
        (
            f"threshold, NMS ({found} results)",
            *milliseconds(lambda: kind.decode(arrays, head, DecodeOptions()), repeats),
        ),
    ]
    print_table(
        (f"stage, {path.name} {image.shape[1]}x{image.shape[0]}", "median ms", "best ms"), rows
    )


if __name__ == "__main__":
    start(main)
