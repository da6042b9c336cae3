"""What the benchmark scripts of the runtime share: pictures, rival exports, tables."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from vision_heads.benchmark.race import race
from vision_heads.errors import UserError

ROOT = Path(__file__).resolve().parents[2]
PICTURES = ROOT.parent / "shared/data/visdrone"

_EXPORT = """
import sys
from ultralytics import YOLO
from ultralytics.nn.tasks import DetectionModel
name, folder = sys.argv[1:]
model = YOLO(f"{name}.yaml")
inner = DetectionModel(f"{name}.yaml", nc=10, verbose=False)
inner.args, inner.task, inner.pt_path = model.model.args, "detect", f"{folder}/{name}.pt"
inner.names = {number: str(number) for number in range(10)}
model.model = inner
model.export(format="onnx", imgsz=640, opset=17)
"""


def start(main: Callable[[], None]) -> None:
    """Run a script; a mistake in what it is given is one line and exit code 2."""
    try:
        main()
    except UserError as error:
        print(f"{Path(sys.argv[0]).stem}: {error}", file=sys.stderr)
        sys.exit(2)


def visdrone_pictures(count: int) -> list[Path]:
    """Return the first `count` VisDrone pictures of the shared folder, val before train."""
    folders = (PICTURES / "val/images", PICTURES / "train/images")
    files = [path for folder in folders for path in sorted(folder.glob("*.jpg"))]
    if len(files) < count:
        sys.exit(f"{PICTURES}: {len(files)} pictures, {count} are needed")
    return files[:count]


def rival_environment(folder: Path) -> dict[str, str]:
    """Environment for programs of others: two threads, no network, settings in `folder`."""
    return {
        **os.environ,
        "OMP_NUM_THREADS": "2",
        "YOLO_OFFLINE": "true",
        "YOLO_AUTOINSTALL": "false",
        "YOLO_CONFIG_DIR": str(folder),
        "PYTHONPATH": str(ROOT),
    }


def run(command: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a program in `folder` to its end."""
    return subprocess.run(
        command,
        env=rival_environment(folder),
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )


def export_ultralytics(name: str, folder: Path) -> Path:
    """Export an untrained ultralytics model of 10 classes at 640 by its own exporter.

    Args:
        name: of the architecture, e.g. "yolov8n-p2".
        folder: where the ONNX file goes.
    """
    command = [sys.executable, "-c", _EXPORT, name, str(folder)]
    done = run(command, folder)
    file = folder / f"{name}.onnx"
    if not file.is_file():
        sys.exit(f"ultralytics could not export {name}:\n{done.stderr[-2000:]}")
    return file


def two_cores() -> None:
    """Keep this process, and those it starts, to two cores where the system allows it."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:2])


def in_turns(contestants: Sequence[Callable[[], object]], rounds: int) -> list[list[float]]:
    """Time callables in turns, as `vh bench` does; return seconds by contestant and round."""
    return race([partial(_seconds, contestant) for contestant in contestants], rounds)


def _seconds(contestant: Callable[[], object]) -> float:
    begin = time.perf_counter()
    contestant()
    return time.perf_counter() - begin


def median(values: Sequence[float]) -> float:
    """Return the median."""
    return statistics.median(values)


def print_table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print a Markdown table; numbers with three significant digits."""
    print("| " + " | ".join(header) + " |")
    print("|" + "---|" * len(header))
    for row in rows:
        cells = (f"{cell:.3g}" if isinstance(cell, float) else str(cell) for cell in row)
        print("| " + " | ".join(cells) + " |")
