"""Batch-norm statistics of mixed batches against those of each head's own rows.

Trains the same heads twice with the same schedule, seed and pictures, once with
`batch_norm: mixed` and once with `batch_norm: per_head`, and prints each head's figures of both:

    python -m tools.bench.batch_norm --epochs 30 --out runs/batch_norm

A run that is there and complete is not repeated; one that was interrupted goes on.
"""

from __future__ import annotations

import argparse
import csv
import time
from pathlib import Path
from typing import Any

from tools.bench.shared import ROOT, print_table, start
from vision_heads.training.config import read_settings
from vision_heads.training.run import Flags, start_run

RECIPE = ROOT / "tools/recipes/joint/joint.yaml"
CHOICES = ("mixed", "per_head")


def main() -> None:
    """Print a Markdown table of both choices' AP50 and AP by head, and of their seconds."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("--recipe", type=Path, default=RECIPE, help="settings of both runs")
    parser.add_argument("--out", type=Path, default=Path("runs/batch_norm"))
    parser.add_argument("--epochs", type=int, help="instead of the recipe's")
    parser.add_argument("--imgsz", type=int, help="instead of the recipe's")
    parser.add_argument("--batch", type=int, help="instead of the recipe's")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--init", help="weights to start from; 'none' for a random start")
    args = parser.parse_args()
    over: dict[str, Any] = {
        name: value
        for name, value in (("epochs", args.epochs), ("imgsz", args.imgsz), ("batch", args.batch))
        if value is not None
    }
    if args.init:
        over["init"] = None if args.init == "none" else args.init
    if args.epochs:
        over |= {"val_every": args.epochs}
    rows = []
    for seed in args.seeds:
        for choice in CHOICES:
            out = args.out / f"{choice}-{seed}"
            settings = over | {"batch_norm": choice, "seed": seed}
            seconds = train(args.recipe, settings, out)
            rows.append([choice, seed, *figures_of(out).values(), seconds or "(done before)"])
    header = list(figures_of(args.out / f"{CHOICES[0]}-{args.seeds[0]}"))
    print_table(["batch_norm", "seed", *header, "seconds"], rows)


def train(recipe: Path, settings: dict[str, Any], out: Path) -> float:
    """Run a recipe with changes to its end, unless it is there; return the seconds it took."""
    if (out / "report.html").is_file():
        return 0.0
    begin = time.monotonic()
    resume = any((out / "state").glob("[0-9]*/state.json"))
    flags = Flags(None if resume else recipe, {} if resume else settings, out, "tools.bench",
                  resume=resume, overwrite=not resume)  # fmt: skip
    start_run(flags)
    return time.monotonic() - begin


def figures_of(out: Path) -> dict[str, float]:
    """Return AP50 and AP of each head in a run's last validation, and their means."""
    with (out / "results.csv").open(newline="") as file:
        last = list(csv.DictReader(file))[-1]
    heads = list(read_settings(out / "config.yaml")["heads"])
    found: dict[str, float] = {}
    for number in ("AP50", "AP"):
        values = {head: float(last.get(f"val/{head}/{number}") or "nan") for head in heads}
        found |= {f"{head} {number}": value for head, value in values.items()}
        found[f"mean {number}"] = sum(values.values()) / len(values)
    return found


if __name__ == "__main__":
    start(main)
