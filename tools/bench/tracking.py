"""What tracking costs: CPU time a frame, by tracker and number of objects, without the network.

    python -m tools.bench.tracking --frames 40 --objects 10,50,200

Objects of five classes walk on straight ways; the picture is textured, 1920x1080, which only
botsort looks at. Times are of the process, median over the frames after the first five.
"""

from __future__ import annotations

import argparse
import time

import cv2
import numpy as np

from vision_heads.media.frames import Frame
from vision_heads.results import Detections, Result
from vision_heads.stream.analytics import AnalyticsSettings, make_hooks
from vision_heads.stream.seen import Seen
from vision_heads.stream.tracking import TRACKERS, TrackSettings

WIDTH, HEIGHT = 1920, 1080
NAMES = ("car", "van", "truck", "bus", "person")
WARM_UP = 5


def cost(kind: str, objects: int, frames: int) -> float:
    """Return milliseconds of CPU a frame for tracking and counting."""
    random = np.random.default_rng(0)
    noise = random.integers(0, 255, (HEIGHT, WIDTH, 3), np.uint8)
    image = cv2.GaussianBlur(noise, (0, 0), 3).astype(np.uint8)
    hook = make_hooks(AnalyticsSettings(TrackSettings(kind)))("bench")
    start = random.uniform(50, 1000, (objects, 2))
    speed = random.uniform(-3, 3, (objects, 2))
    labels = np.arange(objects) % len(NAMES)
    spent = []
    for index in range(frames):
        middle = start + speed * index
        boxes = np.concatenate([middle - 8, middle + 8], axis=1)
        found = Detections(boxes, np.full(objects, 0.9), labels, NAMES)  # type: ignore[arg-type]
        frame = Frame("bench", index, index / 25, 0.0, image)
        seen = Seen(frame, Result({"vehicles": found}, WIDTH, HEIGHT))
        begin = time.process_time()
        hook.update(seen)
        spent.append(time.process_time() - begin)
    return float(np.median(spent[WARM_UP:])) * 1000


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--frames", type=int, default=40)
    parser.add_argument("--objects", default="10,50,200")
    chosen = parser.parse_args()
    words = chosen.objects.split(",")
    if not all(word.isdecimal() for word in words):
        parser.error(f"--objects {chosen.objects}: must be numbers like 10,50,200")
    if chosen.frames <= WARM_UP:
        parser.error(f"--frames {chosen.frames}: the first {WARM_UP} do not count")
    cv2.setNumThreads(1)
    numbers = [int(word) for word in words]
    print("ms a frame", *(f"{number:>8}" for number in numbers))
    for kind in TRACKERS:
        row = [cost(kind, number, chosen.frames) for number in numbers]
        print(f"{kind:<10}", *(f"{value:8.2f}" for value in row))


if __name__ == "__main__":
    main()
