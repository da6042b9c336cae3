"""`vh detect` against `yolo predict` on the command line: 100 VisDrone pictures, two threads.

Ours writes JSON; ultralytics writes its label files with scores and saves no pictures. Both run
as a user runs them, as a process each, in turns. One picture each tells start-up from the work.

    python -m tools.bench.detect --model aerial-n [--theirs yolov8n-p2.onnx]
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from functools import partial
from pathlib import Path

from tools.bench.shared import (
    export_ultralytics,
    in_turns,
    median,
    print_table,
    run,
    two_cores,
    visdrone_pictures,
)

_YOLO = "from ultralytics.cfg import entrypoint; entrypoint()"


def run_well(command: list[str], folder: Path) -> None:
    """Run a program; stop the benchmark when it fails."""
    done = run(command, folder)
    if done.returncode:
        sys.exit(f"{' '.join(command)}\n{done.stdout[-1000:]}\n{done.stderr[-2000:]}")


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("--model", required=True, help="ONNX file or shipped name")
    parser.add_argument("--theirs", type=Path, help="their ONNX file; YOLOv8n-P2 when left out")
    parser.add_argument("--pictures", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    two_cores()
    model = str(Path(args.model).resolve()) if Path(args.model).is_file() else args.model
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        theirs = args.theirs.resolve() if args.theirs else export_ultralytics("yolov8n-p2", folder)
        many = _link(visdrone_pictures(args.pictures), folder / "many")
        one = _link(visdrone_pictures(1), folder / "one")
        contestants = [
            partial(run_well, command(source), folder)
            for source in (many, one)
            for command in (partial(_ours, model, folder), partial(_theirs, theirs, folder))
        ]
        seconds = [median(times) for times in in_turns(contestants, args.rounds)]
    whole, single = seconds[:2], seconds[2:]
    rates = [args.pictures / value for value in whole]
    net = [(args.pictures - 1) / (a - b) for a, b in zip(whole, single, strict=True)]
    print_table(
        (f"{args.pictures} pictures", "s", "pictures/s", "start-up s", "pictures/s without it"),
        [
            ("vh detect --json", whole[0], rates[0], single[0], net[0]),
            ("yolo predict", whole[1], rates[1], single[1], net[1]),
            ("ratio (goal: 1.6)", whole[1] / whole[0], rates[0] / rates[1], single[1] / single[0],
             net[0] / net[1]),
        ],
    )  # fmt: skip


def _ours(model: str, folder: Path, source: Path) -> list[str]:
    return [
        sys.executable, "-m", "vision_heads", "detect", str(source), "--weights", model,
        "--json", str(folder / "found.json"), "--threads", "2",
    ]  # fmt: skip


def _theirs(model: Path, folder: Path, source: Path) -> list[str]:
    return [
        sys.executable, "-c", _YOLO, "predict", f"model={model}", f"source={source}", "imgsz=640",
        "save=False", "save_txt=True", "save_conf=True", f"project={folder}", "name=run",
        "exist_ok=True", "device=cpu", "verbose=False",
    ]  # fmt: skip


def _link(files: list[Path], folder: Path) -> Path:
    folder.mkdir()
    for file in files:
        (folder / file.name).symlink_to(file)
    return folder


if __name__ == "__main__":
    main()
