"""Time exported networks against ultralytics' YOLOv8n and YOLOv8n-P2 on the CPU.

All models run in one process, in turns and in a new order each round, so that whatever else the
machine does meets them all alike; what counts is the ratio within a round. Weights are random
unless --model gives some: time does not depend on them. Prints Markdown.

    python -m tools.bench.network
    python -m tools.bench.network --rounds 100 --threads 1 --variants
    python -m tools.bench.network --model weights/aerial-n.onnx --profile
"""

from __future__ import annotations

import argparse
import json
import random
import re
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from tools.bench.shared import export_ultralytics, two_cores
from vision_heads.runtime.waiting import wait_setting

REFERENCES = ("yolov8n", "yolov8n-p2")
CLASSES = 10


def main() -> None:
    """Export, race and report."""
    options = _arguments()
    two_cores()
    with tempfile.TemporaryDirectory(prefix="vh-bench-") as temporary:
        folder = Path(temporary)
        files = {name: export_ultralytics(name, folder) for name in REFERENCES}
        if options.model:
            files[options.model.name] = options.model
        else:
            files |= ours(folder, options.variants)
        sessions = {name: open_session(path, options.threads) for name, path in files.items()}
        seconds = race(sessions, options.rounds)
        print(table(seconds, options))
        if options.profile:
            for name, path in files.items():
                print(f"\n{profile_table(name, path, options.threads, folder)}")


def ours(folder: Path, variants: bool) -> dict[str, Path]:
    """Export this project's N with random weights; its variants too if asked."""
    from vision_heads.export.onnx import export_onnx
    from vision_heads.network import Network
    from vision_heads.spec import HeadSpec, ModelSpec

    head = HeadSpec(name="aerial", classes=tuple(f"class {i}" for i in range(CLASSES)))
    plain = ModelSpec(heads=(head,))
    changes: dict[str, dict[str, Any]] = {"vision_heads n": {}}
    if variants:
        other = "irdcb" if plain.fusion == "c2f" else "c2f"
        changes |= {f"fusion {other}": {"fusion": other}}
        changes |= {f"activation {a}": {"activation": a} for a in ("hardswish", "relu")}
        changes |= {"300 candidates": {"candidates": 300}, "all candidates": {"candidates": 30000}}
    files = {}
    for number, (name, change) in enumerate(changes.items()):
        network = Network(plain.model_copy(update=change))
        files[name] = export_onnx(network, folder / f"ours-{number}.onnx").path
    return files


def open_session(path: Path, threads: int, profile: Path | None = None) -> Any:
    """Open a model as the runtime does: threads do not spin into the next one's turn."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.add_session_config_entry(*wait_setting(onnxruntime.__version__))
    if profile:
        options.enable_profiling = True
        options.profile_file_prefix = str(profile)
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def _feed(session: Any) -> dict[str, Any]:
    (given,) = session.get_inputs()
    shape = [side if isinstance(side, int) else 1 for side in given.shape]
    return {given.name: np.random.default_rng(0).random(shape, np.float32)}


def race(sessions: dict[str, Any], rounds: int) -> dict[str, list[float]]:
    """Return each model's seconds, one a round, after three rounds of warming up."""
    feeds = {name: _feed(session) for name, session in sessions.items()}
    seconds: dict[str, list[float]] = defaultdict(list)
    order = list(sessions)
    shuffle = random.Random(0).shuffle
    for number in range(rounds + 3):
        shuffle(order)
        for name in order:
            start = time.perf_counter()
            sessions[name].run(None, feeds[name])
            if number >= 3:
                seconds[name].append(time.perf_counter() - start)
    return {name: seconds[name] for name in sessions}


def table(seconds: dict[str, list[float]], options: argparse.Namespace) -> str:
    """Return a Markdown table: median time, and ratios to each reference with their quartiles."""
    lines = [
        f"N at 640, {CLASSES} classes, ONNX Runtime {onnxruntime.__version__}, "
        f"{options.threads} threads, {options.rounds} rounds in turns; "
        "median of the rounds' ratios [quartiles].",
        "",
        "| model | ms | " + " | ".join(f"x {name}" for name in REFERENCES) + " |",
        "|---|---|" + "---|" * len(REFERENCES),
    ]
    for name, own in seconds.items():
        cells = [_ratio(np.array(own) / np.array(seconds[reference])) for reference in REFERENCES]
        lines.append(f"| {name} | {np.median(own) * 1e3:.1f} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _ratio(values: np.ndarray) -> str:
    low, middle, high = np.percentile(values, (25, 50, 75))
    return f"{middle:.3f} [{low:.3f} {high:.3f}]"


def profile_table(name: str, path: Path, threads: int, folder: Path) -> str:
    """Return where a model's time goes, by operator and by place in the network.

    Of each kernel the fastest of 20 runs counts: the others measure the machine's other work.
    """
    session = open_session(path, threads, folder / "profile")
    feed = _feed(session)
    for _ in range(20):
        session.run(None, feed)
    events = json.loads(Path(session.end_profiling()).read_text())
    fastest: dict[str, float] = {}
    operator: dict[str, str] = {}
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            kernel = event["name"].removesuffix("_kernel_time")
            fastest[kernel] = min(fastest.get(kernel, np.inf), event["dur"] / 1e3)
            operator[kernel] = event["args"]["op_name"]
    total = sum(fastest.values())
    lines = [
        f"### {name}: {total:.1f} ms in {len(fastest)} kernels",
        "",
        "| where | ms | % |",
        "|---|---|---|",
    ]
    by_operator = _sums((operator[kernel], time_) for kernel, time_ in fastest.items())
    by_place = _sums((_place(kernel), time_) for kernel, time_ in fastest.items())
    for where, milliseconds in (*by_operator[:10], *by_place[:16]):
        lines.append(f"| {where} | {milliseconds:.2f} | {100 * milliseconds / total:.1f} |")
    return "\n".join(lines)


def _sums(pairs: Iterable[tuple[str, float]]) -> list[tuple[str, float]]:
    """Add up values by key, largest sum first."""
    sums: dict[str, float] = defaultdict(float)
    for key, value in pairs:
        sums[key] += value
    return sorted(sums.items(), key=lambda pair: -pair[1])


def _place(kernel: str) -> str:
    """Name the part and stage of a kernel by its node's path, e.g. "neck/p3"."""
    found = re.match(r"/(?:network/)?((?:\w+/)?(?:p\d|stem|model\.\d+|cv\d\.\d))\b", kernel)
    return f"at {found[1]}" if found else "elsewhere"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=40, help="times each model runs")
    parser.add_argument("--threads", type=int, default=2, help="threads of each model")
    parser.add_argument("--model", type=Path, help="an exported file instead of random weights")
    parser.add_argument("--variants", action="store_true", help="fusion, activation, candidates")
    parser.add_argument("--profile", action="store_true", help="where the time goes, per model")
    options = parser.parse_args()
    if options.model and not options.model.is_file():
        parser.error(f"--model {options.model}: no such file")
    return options


if __name__ == "__main__":
    main()
