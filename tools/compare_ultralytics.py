"""HierLight-N against YOLOv8n and YOLOv8n-P2, from scratch, on the same pictures.

    python tools/compare_ultralytics.py train --out runs/compare
    vh train tools/recipes/aerial-scratch.yaml --out runs/aerial-scratch
    python tools/compare_ultralytics.py score --out runs/compare \\
        --ours runs/aerial-scratch/weights/last.safetensors

`train` runs ultralytics' own trainer, with its defaults, on VisDrone pictures converted to YOLO
labels. `score` runs every network in the same runtime (letterbox, decoding, NMS, limits) and
scores it with the same evaluator, so that only the networks and their training differ.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

import vision_heads._ultralytics  # noqa: F401  (offline switches, before ultralytics itself)
from tools.bench.shared import start
from vision_heads.data.card import load_card, load_split
from vision_heads.data.convert import convert
from vision_heads.errors import require
from vision_heads.evaluation import protocols
from vision_heads.evaluation.runner import options_for, predict_split
from vision_heads.runtime.engines import Engine
from vision_heads.runtime.predictor import Predictor
from vision_heads.spec import HeadSpec, InputSpec, ModelSpec
from vision_heads.torch_engine import TorchEngine

CARD = Path(__file__).parent / "cards" / "visdrone-mini.yaml"
MODELS = ("yolov8n", "yolov8n-p2")
COLUMNS = {"coco": ("AP", "AP50", "AP_tiny", "AP_small"), "visdrone": ("AP", "AP50", "AR500")}


class UltralyticsEngine:
    """An ultralytics checkpoint behind our engine interface: every anchor is a candidate."""

    batch: int | None = None
    any_size = True
    spec: ModelSpec

    def __init__(self, weights: Path, names: Sequence[str], ids: Sequence[int], side: int) -> None:
        from ultralytics import YOLO

        self.network = YOLO(str(weights)).model.float().eval().fuse(verbose=False)
        head = HeadSpec(name="aerial", classes=tuple(names), category_ids=tuple(ids))
        self.spec = ModelSpec(input=InputSpec(height=side, width=side), heads=(head,))
        self.parameters = sum(p.numel() for p in self.network.parameters())

    def run(
        self, images: NDArray[np.float32], heads: Sequence[str] | None = None
    ) -> dict[str, NDArray[np.float32]]:
        """(B, 3, H, W) RGB / 255 to xyxy boxes and class scores of every anchor."""
        with torch.inference_mode():
            out = self.network(torch.from_numpy(images))
        out = out[0] if isinstance(out, (tuple, list)) else out
        xywh, scores = out.mT.split((4, out.shape[1] - 4), 2)
        center, half = xywh[..., :2], xywh[..., 2:] / 2
        boxes = torch.cat((center - half, center + half), 2)
        return {"aerial/boxes": boxes.numpy(), "aerial/scores": scores.contiguous().numpy()}


def train(args: argparse.Namespace) -> None:
    """Train ultralytics' models with ultralytics' trainer, from scratch."""
    from ultralytics import YOLO

    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "yolo" / "data.yaml"
        convert(load_card(args.card), data.parent, "yolo", link=True, fixes=("clip", "drop"))
        for name in args.models:
            YOLO(f"{name}.yaml").train(
                data=str(data), epochs=args.epochs, imgsz=args.imgsz, batch=args.batch,
                seed=args.seed, device=args.device, pretrained=False, val=False, plots=False,
                cache="ram", workers=0, amp=args.device != "cpu",
                project=str(args.out.resolve()), name=name, exist_ok=True,
            )  # fmt: skip


def score(args: argparse.Namespace) -> None:
    """Score every network on the validation split by both protocols; print a Markdown table."""
    runs = {name: args.out / name / "weights" / "last.pt" for name in args.models}
    for name, file in runs.items():
        require(file.is_file(), f"--models {name}: no {file}; the step train makes it")
    require(runs or args.ours, "nothing to score: give --models or --ours")
    split = load_split(args.card, "val")
    engines: dict[str, tuple[Engine, int]] = {}
    for name, file in runs.items():
        theirs = UltralyticsEngine(file, split.names, split.category_ids, args.imgsz)
        engines[name] = (theirs, int(theirs.parameters))
    for file in args.ours:
        ours = TorchEngine(file, threads=args.threads)
        engines[str(file)] = (ours, sum(p.numel() for p in ours.network.parameters()))
    torch.set_num_threads(args.threads)
    table: dict[str, dict[str, float]] = {}
    for name, (engine, parameters) in engines.items():
        row = {"parameters, M": parameters / 1e6}
        for protocol, numbers in COLUMNS.items():
            run = predict_split(
                Predictor(engine), split, options_for(protocol), head=engine.spec.heads[0]
            )
            found = protocols.score(split, run.detections, protocol).numbers
            row |= {f"{protocol} {number}": found[number] for number in numbers}
        table[name] = row
    columns = list(next(iter(table.values())))
    print("| model | " + " | ".join(columns) + " |")
    print("|---|" + "---|" * len(columns))
    for name, row in table.items():
        print(f"| {name} | " + " | ".join(f"{value:.2f}" for value in row.values()) + " |")
    if args.json:
        args.json.write_text(json.dumps(table, indent=1) + "\n")


def main() -> None:
    """Parse and run."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("step", choices=("train", "score"))
    parser.add_argument("--card", type=Path, default=CARD)
    parser.add_argument("--out", type=Path, default=Path("runs/compare"))
    parser.add_argument("--models", nargs="*", default=list(MODELS))
    parser.add_argument("--ours", type=Path, nargs="*", default=[])
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--imgsz", type=int, default=416)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    start(partial(train if args.step == "train" else score, args))


if __name__ == "__main__":
    main()
