"""Time what a training step spends in the network, against ultralytics' YOLOv8n and YOLOv8n-P2.

Forward pass and gradients of networks with random weights, in the precision that `vh train` would
choose on this CPU; no loss, no loader, no optimizer. All run in one process, in turns. Prints
Markdown.

    python -m tools.bench.training
    python -m tools.bench.training --imgsz 64 --batch 128
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tools.bench.network import CLASSES, REFERENCES
from tools.bench.shared import in_turns, print_table, two_cores
from vision_heads.network import Network
from vision_heads.spec import HeadSpec, ModelSpec
from vision_heads.training.devices import best_precision


def main() -> None:
    """Race and report."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("--imgsz", type=int, default=416)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=10)
    args = parser.parse_args()
    two_cores()
    torch.set_num_threads(2)
    images = torch.rand(args.batch, 3, args.imgsz, args.imgsz)
    images = images.contiguous(memory_format=torch.channels_last)
    precision = best_precision(on_gpu=False)
    steps = {"vision_heads n": step(ours(), images, precision)}
    steps |= {name: step(theirs(name), images, precision) for name in REFERENCES}
    for warm_up in steps.values():
        warm_up()
    seconds = {
        name: np.array(own)
        for name, own in zip(steps, in_turns(list(steps.values()), args.rounds), strict=True)
    }
    size = f"{args.imgsz}x{args.imgsz}"
    print(f"Batch {args.batch}, {size}, {precision}, torch {torch.__version__}, 2 threads.\n")
    rows = []
    for name, own in seconds.items():
        ratios = [float(np.median(own / seconds[reference])) for reference in REFERENCES]
        rows.append([name, float(args.batch / np.median(own)), *ratios])
    print_table(["network", "pictures/s", *(f"x time of {name}" for name in REFERENCES)], rows)


def ours() -> nn.Module:
    """Return this project's N with a detect head on P2 to P5."""
    head = HeadSpec(name="aerial", classes=tuple(f"class {i}" for i in range(CLASSES)))
    return Network(ModelSpec(heads=(head,)))


def theirs(name: str) -> nn.Module:
    """Return an untrained network of ultralytics."""
    from vision_heads import _ultralytics  # noqa: F401  (its import has side effects otherwise)

    tasks: Any = __import__("ultralytics.nn.tasks", fromlist=["DetectionModel"])
    network: nn.Module = tasks.DetectionModel(f"{name}.yaml", nc=CLASSES, verbose=False)
    return network


def step(network: nn.Module, images: Tensor, precision: str) -> Callable[[], None]:
    """Return a function that runs the network forwards and backwards."""
    network.to(memory_format=torch.channels_last).train()

    def run() -> None:
        bf16 = torch.autocast("cpu", dtype=torch.bfloat16) if precision == "bf16" else nullcontext()
        with bf16:
            raw = network(images)
        total = torch.stack([out.float().square().mean() for out in tensors(raw)]).sum()
        torch.autograd.backward(total)
        network.zero_grad(set_to_none=True)

    return run


def tensors(raw: Any) -> list[Tensor]:
    """Return every tensor with a gradient in nested lists and dictionaries."""
    if isinstance(raw, Tensor):
        return [raw] if raw.requires_grad else []
    parts = raw.values() if isinstance(raw, dict) else raw
    return [tensor for part in parts for tensor in tensors(part)]


if __name__ == "__main__":
    main()
