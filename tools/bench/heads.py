"""Time a network of several heads: all of them, each by itself, and models of one head.

A run of some heads is timed as the runtime does it, by cutting the graph, and as ONNX Runtime
does it by itself when only some outputs are asked for. The network has random weights unless
--model names some: time does not depend on them. All contestants take turns in a new order each
round; what counts is the ratio within a round. Prints Markdown.

    python -m tools.bench.heads
    python -m tools.bench.heads --rounds 60 --split-at up_p4
    python -m tools.bench.heads --heads aerial,animals,vehicles --levels 3,4,5
    python -m tools.bench.heads --model runs/joint/weights/best.safetensors
"""

from __future__ import annotations

import argparse
import random
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import onnxruntime

from tools.bench.network import open_session
from tools.bench.shared import print_table, start, two_cores
from vision_heads.export.onnx import export_onnx
from vision_heads.network import Network, load_network
from vision_heads.runtime import outputs as outputs_of
from vision_heads.runtime.engines import OnnxEngine
from vision_heads.spec import STAGES, ModelSpec

HEADS = {"aerial": ("detect", 10), "pose": ("headpose", 1), "animals": ("detect", 6),
         "vehicles": ("detect", 7), "indoor": ("detect", 6)}  # fmt: skip
"""Kind and number of classes of the heads of the random network."""

WHOLE, ORT, PART, ALONE = "all heads", "outputs asked of ORT", "run of the head", "its own model"

Contestants = dict[tuple[str, str], Callable[[], object]]
"""What is timed, by (way, head)."""


def random_network(names: list[str], levels: str, split_at: str | None) -> Network:
    """Return an N of some of `HEADS`, each with its own copy of the neck from a stage on."""
    heads = [
        {
            "name": name,
            "kind": HEADS[name][0],
            "classes": [f"class {i}" for i in range(HEADS[name][1])],
            "levels": [int(level) for level in levels.split(",")],
        }
        for name in names
    ]
    branches = {split_at: [[name] for name in names]} if split_at else {}
    return Network(ModelSpec.model_validate({"heads": heads, "branches": branches}))


def contestants(network: Network, folder: Path, threads: int) -> tuple[Contestants, list[int]]:
    """Export everything; also return bytes of the whole file and of every model of one head."""
    whole = export_onnx(network, folder / "whole.onnx")
    sizes = [whole.size]
    spec = network.spec
    images = np.random.default_rng(0).random(
        (1, 3, spec.input.height, spec.input.width), np.float32
    )
    # Otherwise, of more heads, some would be cut out again at each of their runs.
    outputs_of.MAX_PARTS = max(outputs_of.MAX_PARTS, len(spec.heads))
    engine = OnnxEngine(whole.path, threads=threads)
    session = open_session(whole.path, threads)
    timed: Contestants = {(WHOLE, ""): partial(engine.run, images)}
    for head in spec.heads:
        outputs = [name for name in whole.outputs if name.startswith(f"{head.name}/")]
        timed[ORT, head.name] = partial(session.run, outputs, {"images": images})
        timed[PART, head.name] = partial(engine.run, images, [head.name])
        alone = spec.model_copy(
            update={"heads": (head,), "branches": {}, "lowest": None, "merge": {}}
        )
        file = export_onnx(Network(alone), folder / f"{head.name}.onnx")
        sizes.append(file.size)
        timed[ALONE, head.name] = partial(OnnxEngine(file.path, threads=threads).run, images)
    return timed, sizes


def race(timed: Contestants, rounds: int) -> dict[tuple[str, str], np.ndarray]:
    """Return milliseconds of each, one a round, after two rounds of warming up."""
    times: dict[tuple[str, str], list[float]] = {key: [] for key in timed}
    order, shuffle = list(timed), random.Random(0).shuffle
    for number in range(rounds + 2):
        shuffle(order)
        for key in order:
            begin = time.perf_counter()
            timed[key]()
            if number >= 2:
                times[key].append(1e3 * (time.perf_counter() - begin))
    return {key: np.array(values) for key, values in times.items()}


def report(times: dict[tuple[str, str], np.ndarray], heads: list[str], sizes: list[int]) -> None:
    """Print milliseconds, their ratios to a run of all heads, and the sums."""
    whole = times[WHOLE, ""]
    ways = (ORT, PART, ALONE)
    rows: list[list[object]] = [[WHOLE, f"{np.median(whole):.1f} (1)", "", ""]]
    for head in heads:
        rows.append([head, *(_cell(times[way, head], whole) for way in ways)])
    sums = {way: sum(times[way, head] for head in heads) for way in ways}
    rows.append(["sum of the heads", *(_cell(np.asarray(sums[way]), whole) for way in ways)])
    print_table(["median ms (x all heads)", *ways], rows)
    ratio = np.percentile(whole / sums[ALONE], (25, 50, 75))
    print(
        f"\nall heads in one pass: {ratio[1]:.3f} [{ratio[0]:.3f} {ratio[2]:.3f}] x the sum of "
        f"the models of one head; file size {sizes[0] / sum(sizes[1:]):.3f} x their sum"
    )


def _cell(values: np.ndarray, whole: np.ndarray) -> str:
    return f"{np.median(values):.1f} ({np.median(values / whole):.2f})"


def main() -> None:
    """Export, race and report."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", type=Path, help=".safetensors instead of random weights")
    known = ", ".join(HEADS)
    parser.add_argument(
        "--heads", default="aerial,pose,animals,vehicles", help=f"of the random network: {known}"
    )
    parser.add_argument("--levels", default="2,3,4,5", help="that its heads read")
    parser.add_argument("--split-at", choices=STAGES, help="own branches from this stage on")
    parser.add_argument("--rounds", type=int, default=20, help="times each contestant runs")
    parser.add_argument("--threads", type=int, default=2, help="threads of each run")
    options = parser.parse_args()
    for name in set(options.heads.split(",")) - set(HEADS):
        parser.error(f"--heads: no {name!r}, only {known}")
    two_cores()
    if options.model:
        network = load_network(options.model)
    else:
        network = random_network(options.heads.split(","), options.levels, options.split_at)
    heads = [head.name for head in network.spec.heads]
    with tempfile.TemporaryDirectory(prefix="vh-bench-") as folder:
        timed, sizes = contestants(network, Path(folder), options.threads)
        times = race(timed, options.rounds)
    size = network.spec.input
    shared = f"branches {network.spec.branches}" if network.spec.branches else "all stages shared"
    levels = ", ".join(f"P{level}" for level in network.spec.levels)
    print(
        f"{network.spec.size.upper()} at {size.height}x{size.width}, {len(heads)} heads on "
        f"{levels}, {shared}, "
        f"ONNX Runtime {onnxruntime.__version__}, {options.threads} threads, {options.rounds} "
        "rounds in turns; median [quartiles].\n"
    )
    report(times, heads, sizes)


if __name__ == "__main__":
    start(main)
