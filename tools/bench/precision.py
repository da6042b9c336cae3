"""Time a model in FP32 and INT8, in many variants, against ultralytics' YOLOv8n in FP32 on the CPU.

All files run in one process, in turns and in a new order each round; what counts is the ratio to
YOLOv8n of the same round. Time does not depend on weights: YOLOv8n's are random, and variants with
another activation only show what it would cost, not what a training with it would reach.
`--accuracy` scores FP32 and INT8 on a data set. `--profile` shows which kernels the time goes to.
Prints Markdown.

    python -m tools.bench.precision --model aerial-n --data tools/cards/visdrone-mini.yaml
    python -m tools.bench.precision --data tools/cards/visdrone-mini.yaml --variants --rounds 60
    python -m tools.bench.precision --data tools/cards/visdrone-mini.yaml --accuracy --profile
"""

from __future__ import annotations

import argparse
import random
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from tools.bench.network import profile_table
from tools.bench.precision_variants import build
from tools.bench.shared import export_ultralytics, print_table, start, two_cores
from vision_heads.runtime.engines import resolve_weights
from vision_heads.runtime.waiting import wait_setting

PEER = "YOLOv8n fp32"
OURS = dict([wait_setting(onnxruntime.__version__)])
"""How threads wait in the runtime; the peer runs with it too."""
SETTINGS: dict[str, dict[str, str]] = {
    "threads sleep at once": {"session.intra_op.allow_spinning": "0"},
    "threads spin 1 ms": {"session.intra_op.spin_duration_us": "1000"},
    "threads spin as by default until a run ends": {"session.force_spinning_stop": "1"},
}
"""Other settings of ONNX Runtime that were tried."""


@dataclass(slots=True)
class Contestant:
    """Something to time: a call that runs the network once."""

    run: Callable[[], object]
    seconds: list[float]
    cpu: list[float]


def main() -> None:
    """Build, race and report."""
    options = _arguments()
    two_cores()
    with tempfile.TemporaryDirectory(prefix="vh-bench-") as temporary:
        folder = options.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        peer = folder / "yolov8n.onnx"
        if not peer.exists():
            export_ultralytics("yolov8n", folder)
        source = resolve_weights(options.model)
        files = build(source, folder, options.data, options.count, options.variants)
        contestants = _contestants(peer, files, options)
        race(contestants, options.rounds)
        report(contestants, options)
        if options.accuracy:
            accuracy({name: files[name] for name in ("fp32", "int8")}, options.data)
        if options.profile:
            for name in ("fp32", "int8"):
                print(f"\n{profile_table(name, files[name], options.threads, folder)}")


def _contestants(
    peer: Path, files: Mapping[str, Path], options: argparse.Namespace
) -> dict[str, Contestant]:
    threads = options.threads
    found = {PEER: _session_run(peer, threads, OURS)}
    for name, path in files.items():
        found[name] = _session_run(path, threads, OURS)
    if options.variants:
        for setting, entries in SETTINGS.items():
            for name, path in ((PEER, peer), ("fp32", files["fp32"]), ("int8", files["int8"])):
                found[f"{name}, {setting}"] = _session_run(path, threads, entries)
        for name in ("fp32", "int8"):
            found[f"{name}, IO binding"] = _bound_run(files[name], threads)
        for name, path, precision in (
            (PEER, peer, "f32"),
            ("fp32", files["fp32"], "f32"),
            ("fp32", files["fp32"], "bf16"),
            ("int8", files["int8"], "f32"),
            ("int8, every change left out", files["int8, every change left out"], "f32"),
        ):
            run = _openvino_run(path, threads, precision)
            if run:
                found[f"{name}, OpenVINO, {precision} where not INT8"] = run
    return {name: Contestant(run, [], []) for name, run in found.items()}


def _open(path: Path, threads: int, entries: Mapping[str, str]) -> Any:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    for key, value in entries.items():
        options.add_session_config_entry(key, value)
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def _picture(session: Any) -> np.ndarray:
    (given,) = session.get_inputs()
    shape = [side if isinstance(side, int) else 1 for side in given.shape]
    values = np.random.default_rng(0).random(shape, np.float32)
    return (values * 255).astype(np.uint8) if "uint8" in given.type else values


def _session_run(path: Path, threads: int, entries: Mapping[str, str]) -> Callable[[], object]:
    session = _open(path, threads, entries)
    feed = {session.get_inputs()[0].name: _picture(session)}
    return lambda: session.run(None, feed)


def _bound_run(path: Path, threads: int) -> Callable[[], object]:
    session = _open(path, threads, OURS)
    binding = session.io_binding()
    picture = onnxruntime.OrtValue.ortvalue_from_numpy(_picture(session))
    binding.bind_ortvalue_input(session.get_inputs()[0].name, picture)
    for output, values in zip(
        session.get_outputs(),
        session.run(None, {session.get_inputs()[0].name: _picture(session)}),
        strict=True,
    ):
        kept = onnxruntime.OrtValue.ortvalue_from_numpy(np.empty_like(values))
        binding.bind_ortvalue_output(output.name, kept)
    return lambda: session.run_with_iobinding(binding)


def _openvino_run(path: Path, threads: int, precision: str) -> Callable[[], object] | None:
    try:
        import openvino
    except ImportError:
        return None
    settings = {
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": 1,
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": precision,
    }
    request = openvino.Core().compile_model(str(path), "CPU", settings).create_infer_request()
    picture = np.random.default_rng(0).random(tuple(request.model_inputs[0].shape), np.float32)
    return lambda: request.infer({0: picture})


def race(contestants: Mapping[str, Contestant], rounds: int) -> None:
    """Time everybody once a round, after three rounds of warming up."""
    order = list(contestants)
    shuffle = random.Random(0).shuffle
    for number in range(rounds + 3):
        shuffle(order)
        for name in order:
            one = contestants[name]
            cpu, start = time.process_time(), time.perf_counter()
            one.run()
            seconds = time.perf_counter() - start
            time.sleep(0.002)  # threads that still spin spend their own time, not the next one's
            if number >= 3:
                one.seconds.append(seconds)
                one.cpu.append(time.process_time() - cpu)


def report(contestants: Mapping[str, Contestant], options: argparse.Namespace) -> None:
    """Print the table."""
    print(
        f"{options.model} at its size, ONNX Runtime {onnxruntime.__version__}, {options.threads} "
        f"threads, {options.rounds} rounds in turns. x: median of the rounds' ratios [quartiles]; "
        "fastest: ratio of the fastest rounds.\n"
    )
    peer = np.array(contestants[PEER].seconds)
    rows = []
    for name, one in contestants.items():
        own = np.array(one.seconds)
        low, middle, high = np.percentile(own / peer, (25, 50, 75))
        rows.append(
            (
                name,
                f"{np.median(own) * 1e3:.1f}",
                f"{middle:.3f} [{low:.3f} {high:.3f}]",
                f"{own.min() / peer.min():.3f}",
                f"{np.median(one.cpu) * 1e3:.0f}",
            )
        )
    print_table(("file", "ms", "x YOLOv8n", "fastest", "CPU ms"), rows)


def accuracy(files: Mapping[str, Path], data: str) -> None:
    """Print COCO's AP50 and AP of each file's first head on the card's split val."""
    from vision_heads.data.card import load_split
    from vision_heads.evaluation.heads import Exam, score_heads
    from vision_heads.evaluation.protocols import protocol_of
    from vision_heads.runtime.predictor import load

    truth = load_split(data, "val")
    rows = []
    for name, path in files.items():
        predictor = load(path)
        exam = Exam(predictor.spec.heads[0], protocol_of("coco"), truth)
        (marked,) = score_heads(predictor, [exam]).values()
        numbers = marked.scores.numbers
        size = f"{path.stat().st_size / 1e6:.2f}"
        rows.append((name, f"{numbers['AP50']:.2f}", f"{numbers['AP']:.2f}", size))
    print(f"\n{truth.name} val, {len(truth.samples)} pictures:\n")
    print_table(("file", "AP50", "AP", "MB"), rows)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="aerial-n", help="FP32 ONNX file, or a shipped name")
    parser.add_argument("--data", required=True, help="card: calibrates on train, scores on val")
    parser.add_argument("--count", type=int, default=64, help="calibration pictures")
    parser.add_argument("--rounds", type=int, default=40, help="times each file runs")
    parser.add_argument("--threads", type=int, default=2, help="threads of each file")
    parser.add_argument("--variants", action="store_true", help="everything that was tried")
    parser.add_argument("--accuracy", action="store_true", help="score FP32 and INT8 on val")
    parser.add_argument("--profile", action="store_true", help="where the time goes")
    parser.add_argument("--folder", type=Path, help="where files are kept, and taken from again")
    return parser.parse_args()


if __name__ == "__main__":
    start(main)
