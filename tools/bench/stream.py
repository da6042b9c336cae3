"""`vh stream`: annotated output against bare inference, against `yolo predict`, and live delay.

Three tables, each of one run with its contestants in turns, on two cores:

- rate: the pipeline on a video file, with nothing written and with an annotated video, against
  the network alone on the same frames, already in its input.
- rival: `vh stream --video` against `yolo predict save=True` as processes, with networks of equal
  cost; the networks' own times are printed too.
- live: a camera (MJPEG over HTTP, in a process of its own) writes the time into each picture just
  before it sends it; the delay is counted until the result with the drawn picture is there.

    python -m tools.bench.stream --model aerial-n [--frames 120] [--only rate,rival,live]
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from tools.bench.detect import run_well
from tools.bench.shared import (
    ROOT,
    export_ultralytics,
    in_turns,
    median,
    print_table,
    start,
    two_cores,
)
from vision_heads.heads.base import DecodeOptions
from vision_heads.media.video import OpenOptions, VideoSpec, find_videos, open_video
from vision_heads.runtime.engines import open_engine, resolve_weights
from vision_heads.runtime.inputs import fill
from vision_heads.runtime.pipeline import plan_threads
from vision_heads.runtime.request import make_request
from vision_heads.stream.lines import JsonLines
from vision_heads.stream.pipeline import Pipeline
from vision_heads.stream.seen import Event, Seen
from vision_heads.stream.video import VideoFiles

VIDEO = ROOT.parent / "shared/data/video/car-detection.mp4"
_YOLO = "from ultralytics.cfg import entrypoint; entrypoint()"
BITS = 46
"""Of a time in tenths of a millisecond, written into a picture."""


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("--model", default="aerial-n", help="ONNX file or shipped name")
    parser.add_argument("--theirs", type=Path, help="their ONNX file; YOLOv8n when left out")
    parser.add_argument("--frames", type=int, default=120)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--fps", type=float, default=8.0, help="of the live camera")
    parser.add_argument("--seconds", type=float, default=12.0, help="of the live camera")
    parser.add_argument("--only", default="rate,rival,live", help="tables, comma-separated")
    parser.add_argument("--serve", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.serve is not None:
        serve(args.serve, args.fps)
        return
    tables = {"rate": rate, "rival": rival, "live": live}
    for name in set(args.only.split(",")) - set(tables):
        parser.error(f"--only: no {name!r}, only {', '.join(tables)}")
    two_cores()
    cv2.setNumThreads(1)
    model = resolve_weights(args.model).resolve()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        clip = cut(VIDEO, args.frames, folder / "clip.mp4")
        for table in args.only.split(","):
            tables[table](args, model, clip, folder)
            print()


def cut(video: Path, count: int, target: Path) -> Path:
    """Write the first frames of a video anew, and nothing else."""
    import av

    (spec,) = find_videos([str(video)])
    output = VideoFiles(target, ["a"], False)
    for frame in islice(open_video(spec), count):
        output.frame(_Plain(frame))  # type: ignore[arg-type]
    output.close()
    with av.open(str(target)) as file:
        found = file.streams.video[0].frames
    if found != count:
        sys.exit(f"{video}: has {found} frames, {count} are needed")
    return target


class _Plain:
    """A frame with nothing on it, for `VideoFiles`."""

    def __init__(self, frame: Any) -> None:
        self.frame = frame
        frame.source = "a"

    def drawn(self) -> Any:
        return self.frame.image


def rate(args: argparse.Namespace, model: Path, clip: Path, folder: Path) -> None:
    """Frames a second of the network alone, and of the pipeline around it."""
    plan = plan_threads(2, None)
    engine = open_engine(model, threads=plan.threads)
    request = make_request(engine, DecodeOptions())
    frames = [frame.image for frame in open_video(find_videos([str(clip)])[0])]
    inputs = np.empty((16, 1, 3, request.height, request.width), np.float32)
    for image, tensor in zip(frames, inputs, strict=False):
        fill(image, engine.spec.input, tensor[0])

    def bare() -> None:
        with ThreadPoolExecutor(plan.parallel) as pool:
            calls = (inputs[number % len(inputs)] for number in range(len(frames)))
            list(pool.map(engine.run, calls))

    def piped(*outputs: Callable[[], Any]) -> None:
        pipeline = Pipeline(
            engine, request, outputs=[make() for make in outputs], parallel=plan.parallel
        )
        pipeline.start()
        spec = VideoSpec("a", "file", False, str(clip))
        pipeline.add("a", False, lambda: open_video(spec))
        pipeline.wait()
        pipeline.stop()

    contestants: dict[str, Callable[[], None]] = {
        "network alone": bare,
        "decoded, nothing written": piped,
        "JSON lines": partial(piped, lambda: JsonLines(folder / "a.jsonl")),
        "annotated video": partial(piped, lambda: VideoFiles(folder / "a.mp4", ["a"], False)),
    }
    bare()
    times = in_turns(list(contestants.values()), args.rounds)
    rows = []
    for name, seconds in zip(contestants, times, strict=True):
        shares = sorted(first / own for first, own in zip(times[0], seconds, strict=True))
        rows.append((name, len(frames) / median(seconds), median(shares), f"{shares[0]:.3f}"))
    print_table(("2 cores", "frames/s", "x network alone (goal: 0.9)", "lowest"), rows)


def rival(args: argparse.Namespace, model: Path, clip: Path, folder: Path) -> None:
    """`vh stream` and `yolo predict` as a user runs them, both writing the annotated video."""
    theirs = args.theirs.resolve() if args.theirs else export_ultralytics("yolov8n", folder)
    one = cut(VIDEO, 1, folder / "one.mp4")
    commands = [
        partial(run_well, make(source), folder)
        for source in (clip, one)
        for make in (partial(_ours, model, folder), partial(_theirs, theirs, folder))
    ]
    costs = in_turns([_network(file) for file in (model, theirs)], max(args.rounds * 10, 20))
    seconds = [median(times) for times in in_turns(commands, args.rounds)]
    count = args.frames
    rates = [count / value for value in seconds[:2]]
    net = [(count - 1) / (a - b) for a, b in zip(seconds[:2], seconds[2:], strict=True)]
    cost = [median(times) * 1000 for times in costs]
    print_table(
        (f"{count} frames", "s", "frames/s", "without start-up", "network alone, ms"),
        [
            ("vh stream --video", seconds[0], rates[0], net[0], cost[0]),
            ("yolo predict save=True", seconds[1], rates[1], net[1], cost[1]),
            ("ratio (goal: 1.3)", seconds[1] / seconds[0], rates[0] / rates[1], net[0] / net[1],
             cost[0] / cost[1]),
        ],
    )  # fmt: skip


def _network(file: Path) -> Callable[[], None]:
    """Return a call of a network alone, on two threads."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 2
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    image = np.full((1, 3, 640, 640), 0.5, np.float32)
    return lambda: session.run(None, {name: image})


def _ours(model: Path, folder: Path, source: Path) -> list[str]:
    return [
        sys.executable, "-m", "vision_heads", "stream", str(source), "--weights", str(model),
        "--video", str(folder / "ours.mp4"), "--threads", "2",
    ]  # fmt: skip


def _theirs(model: Path, folder: Path, source: Path) -> list[str]:
    return [
        sys.executable, "-c", _YOLO, "predict", f"model={model}", f"source={source}", "imgsz=640",
        "save=True", f"project={folder}", "name=run", "exist_ok=True", "device=cpu",
        "verbose=False",
    ]  # fmt: skip


class _Delays:
    """An output that reads the time in each drawn picture and compares it with now."""

    name = "delays"

    def __init__(self) -> None:
        self.found: list[float] = []

    def frame(self, seen: Seen) -> None:
        seen.drawn()
        self.found.append(time.time() - read_time(seen.frame.image))

    def event(self, event: Event, image: Any) -> None:
        pass

    def end(self, source: str) -> None:
        pass

    def close(self) -> None:
        pass


def live(args: argparse.Namespace, model: Path, clip: Path, folder: Path) -> None:
    """Delay of a paced camera, from before it sends a picture until the drawn result is there."""
    engine = open_engine(model, threads=2)
    request = make_request(engine, DecodeOptions())
    camera = subprocess.Popen(
        [sys.executable, "-m", "tools.bench.stream", "--serve", "0", "--fps", str(args.fps)],
        stdout=subprocess.PIPE, text=True, cwd=ROOT,
    )  # fmt: skip
    assert camera.stdout is not None
    port = int(camera.stdout.readline())
    try:
        delays = _Delays()
        pipeline = Pipeline(engine, request, outputs=[delays])
        pipeline.start()
        spec = VideoSpec("cam", "network", True, f"http://127.0.0.1:{port}/")
        pipeline.add("cam", True, lambda: open_video(spec, OpenOptions()))
        time.sleep(args.seconds)
        pipeline.stop()
        stats = pipeline.stats()["cam"]
    finally:
        camera.kill()
        camera.wait()
    image = np.zeros((1, 3, request.height, request.width), np.float32)
    inference = median(in_turns([lambda: engine.run(image)], 20)[0])
    steady = sorted(delays.found[5:])
    goal = 2 / args.fps + inference
    print_table(
        (f"live, {args.fps:g} frames/s", "ms"),
        [
            ("delay, median", 1000 * median(steady)),
            ("delay, 90 %", 1000 * steady[int(0.9 * len(steady))]),
            ("inference", 1000 * inference),
            ("goal: 2 frame intervals + inference", 1000 * goal),
        ],
    )
    print(f"{len(steady)} frames; {stats['dropped']} of {stats['received']} dropped")


def serve(port: int, fps: float) -> None:
    """Be a camera: MJPEG with the time of sending in each picture."""
    frames = [frame.image for frame in islice(open_video(find_videos([str(VIDEO)])[0]), 50)]

    class Camera(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
            self.end_headers()
            begin, number = time.monotonic(), 0
            while True:
                time.sleep(max(begin + number / fps - time.monotonic(), 0))
                data = self.picture(number)
                head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(data)}\r\n\r\n"
                self.wfile.write(head.encode() + data + b"\r\n")
                number += 1

        def picture(self, number: int) -> bytes:
            image = frames[number % len(frames)].copy()
            write_time(image, time.time())
            return cv2.imencode(".jpg", image)[1].tobytes()

        def log_message(self, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", port), Camera)
    print(server.server_port, flush=True)
    server.serve_forever()


def write_time(image: np.ndarray, seconds: float) -> None:
    """Paint a Unix time into the upper edge, as black and white blocks of 16 pixels."""
    ticks = int(seconds * 10_000)
    for bit in range(BITS):
        image[:16, bit * 16 : (bit + 1) * 16] = 255 * (ticks >> bit & 1)


def read_time(image: np.ndarray) -> float:
    """Return the Unix time that `write_time` painted."""
    middle = image[8, 8 : BITS * 16 : 16, 1] > 127
    return float(sum(int(white) << bit for bit, white in enumerate(middle))) / 10_000


if __name__ == "__main__":
    start(main)
