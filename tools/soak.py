"""Memory of a run over a long time: four sources, all outputs, resident size over time.

Two files that start again when they end, one live stream over HTTP that is cut off every so often,
and one camera that never answers. What is written goes to a temporary folder and is removed.
Linux only: reads /proc.

    python -m tools.soak --model aerial-n [--minutes 60]

With --tiny it runs on a network that costs next to nothing, so that many more frames go through
the same code. Exit code 1 when the second half grows by more than --limit MB an hour and 8 MB in
all, or a source stands still.
"""

from __future__ import annotations

import argparse
import os
import re
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from vision_heads.errors import UserError
from vision_heads.heads.base import DecodeOptions
from vision_heads.media.frames import End, Frame
from vision_heads.media.video import OpenOptions, VideoSpec, open_video
from vision_heads.runtime.engines import Engine, open_engine
from vision_heads.runtime.request import make_request
from vision_heads.spec import HeadSpec, InputSpec, ModelSpec
from vision_heads.stream.lines import CsvLines, JsonLines, MotLines
from vision_heads.stream.outputs import Output
from vision_heads.stream.pipeline import Pipeline
from vision_heads.stream.seen import Event, Seen
from vision_heads.stream.settings import Settings
from vision_heads.stream.video import VideoFiles
from vision_heads.stream.webhooks import Webhook

NOISE = 8.0
"""MB by which memory may differ between two moments without meaning anything."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a soak.

    Attributes:
        samples: (N, 2) seconds and resident MB.
        shown: frames that came out, by source.
        reconnects: of the stream that is cut off.
        delivered: events that the webhook's receiver took.
    """

    samples: np.ndarray
    shown: dict[str, int]
    reconnects: int
    delivered: int

    @property
    def growth(self) -> float:
        """MB by which the second half of the run grew, by a fitted line."""
        half = self.samples[len(self.samples) // 2 :]
        slope = np.polyfit(half[:, 0], half[:, 1], 1)[0]
        return float(slope * (half[-1, 0] - half[0, 0]))


class TinyEngine:
    """A network that costs nothing: five boxes where the picture is brightest enough."""

    batch: int | None = None
    any_size = False

    def __init__(self) -> None:
        self.spec = ModelSpec(
            input=InputSpec(height=96, width=96),
            heads=(HeadSpec(name="aerial", classes=("thing",)),),
        )

    def run(self, images: Any, heads: Any = None) -> dict[str, Any]:
        """Return the same boxes for every picture."""
        corners = np.arange(5, dtype=np.float32) * 12
        boxes = np.stack([corners, corners, corners + 10, corners + 10], -1)
        return {
            "aerial/boxes": np.repeat(boxes[None], len(images), 0),
            "aerial/scores": np.full((len(images), 5, 1), 0.9, np.float32),
        }


class EventEvery:
    """A hook that makes an event of every n-th frame."""

    def __init__(self, every: int) -> None:
        self._every = every

    def update(self, seen: Seen) -> None:
        """Make one, with a picture of an object."""
        if seen.frame.index % self._every == 0:
            seen.events.append(Event.at("soak", seen.frame, head="aerial", box=(4, 4, 40, 40)))

    def gap(self, seconds: float) -> None:
        """Nothing to forget."""

    def end(self) -> list[Event]:
        """Nothing is left."""
        return []


class Again:
    """A source that plays a file over and over, at most `rate` frames a second."""

    live = False
    damaged = 0

    def __init__(self, spec: VideoSpec, rate: float) -> None:
        self.name = spec.name
        self.end: End | None = None
        self._spec, self._rate = spec, rate
        self._stopped = threading.Event()

    def __iter__(self) -> Any:
        """Yield frames for ever."""
        index, begin = 0, time.monotonic()
        while not self._stopped.is_set():
            for frame in open_video(self._spec):
                wait = begin + index / self._rate - time.monotonic()
                if wait < -1:
                    begin -= wait  # the network is slower than that
                if self._stopped.wait(max(wait, 0)):
                    self.end = End("stopped")
                    return
                image = frame.image
                yield Frame(self.name, index, index / 25, time.time(), image)
                index += 1

    def stop(self) -> None:
        """End soon."""
        self._stopped.set()


def resident() -> float:
    """Return this process's resident memory in MB."""
    match = re.search(r"^VmRSS:\s+(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)
    return int(match.group(1)) / 1024 if match else 0.0


def soak(
    engine: Engine,
    clip: Path,
    folder: Path,
    seconds: float,
    *,
    rate: float = 25.0,
    cut_after: float = 20.0,
    show: Callable[[str], None] = lambda line: None,
) -> Outcome:
    """Run four sources for some time and watch the memory.

    Args:
        engine: executes the network.
        clip: a short video.
        folder: for what is written.
        seconds: to run.
        rate: frames a second of each source.
        cut_after: seconds after which the live stream is cut off each time.
        show: takes a line now and then.
    """
    received: list[int] = []
    names = ["file-a", "file-b", "live", "dead"]
    with _server(clip, rate, cut_after, received) as (port, dead):
        request = make_request(engine, DecodeOptions())
        hook_url = f"http://127.0.0.1:{port}/events"
        outputs: list[Output] = [
            JsonLines(folder / "a.jsonl"),
            CsvLines(folder / "a.csv"),
            MotLines(folder / "a.txt", names, list(request.options)),
            VideoFiles(folder / "a.mp4", names, True),
            Webhook(hook_url, folder / "spool"),
        ]
        pipeline = Pipeline(
            engine,
            request,
            outputs=outputs,
            hooks=[lambda name: EventEvery(20)],
            settings=Settings(retry_first=0.1, retry_most=0.5),
        )
        pipeline.start()
        for name in names[:2]:
            spec = VideoSpec(name, "file", False, str(clip))
            pipeline.add(name, False, partial(Again, spec, rate))
        for name, place in (("live", port), ("dead", dead)):
            spec = VideoSpec(name, "network", True, f"http://127.0.0.1:{place}/live")
            pipeline.add(name, True, partial(open_video, spec, OpenOptions(timeout=1)))
        samples = _watch(pipeline, folder, seconds, show)
        pipeline.stop()
        stats = pipeline.stats()
    shown = {name: stats[name]["shown"] for name in names}
    return Outcome(samples, shown, stats["live"]["reconnects"], len(received))


def _watch(
    pipeline: Pipeline, folder: Path, seconds: float, show: Callable[[str], None]
) -> np.ndarray:
    begin, samples, said = time.monotonic(), [], 0.0
    while (now := time.monotonic() - begin) < seconds:
        samples.append((now, resident()))
        if now - said >= max(seconds / 60, 10):
            said = now
            frames = sum(record["shown"] for record in pipeline.stats().values())
            show(f"{now / 60:6.1f} min  {samples[-1][1]:7.1f} MB  {frames} frames")
            _trim(folder)
        pipeline.wait(0.2)
    return np.array(samples)


def _trim(folder: Path) -> None:
    """Keep the soak from filling the disk: text files are appended to, so they may be cut."""
    for file in folder.iterdir():
        if file.suffix in (".jsonl", ".csv", ".txt") and file.stat().st_size > 50e6:
            os.truncate(file, 0)


class _server:  # noqa: N801  (a context manager)
    """A camera that is cut off, a receiver of events, and a port that never answers."""

    def __init__(self, clip: Path, rate: float, cut_after: float, received: list[int]) -> None:
        (spec,) = [VideoSpec("clip", "file", False, str(clip))]
        pictures = [cv2.imencode(".jpg", frame.image)[1].tobytes() for frame in open_video(spec)]

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200)
                self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
                self.end_headers()
                for number in range(max(int(cut_after * rate), 1)):
                    data = pictures[number % len(pictures)]
                    head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(data)}"
                    self.wfile.write(f"{head}\r\n\r\n".encode() + data + b"\r\n")
                    time.sleep(1 / rate)

            def do_POST(self) -> None:
                received.append(len(self.rfile.read(int(self.headers["Content-Length"]))))
                self.send_response(200)
                self.end_headers()

            def log_message(self, *args: Any) -> None:
                pass

            def handle(self) -> None:
                try:
                    super().handle()
                except OSError:
                    return  # the client has gone, as it does at the end

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._dead = socket.create_server(("127.0.0.1", 0))

    def __enter__(self) -> tuple[int, int]:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self._server.server_port, int(self._dead.getsockname()[1])

    def __exit__(self, *error: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._dead.close()


def main() -> None:
    """Run, print, judge."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("--model", default="aerial-n", help="ONNX file or shipped name")
    parser.add_argument("--tiny", action="store_true", help="a network that costs nothing")
    parser.add_argument("--video", type=Path, help="a short clip; the shared video when left out")
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--rate", type=float, default=25.0, help="frames a second of a source")
    parser.add_argument("--limit", type=float, default=20.0, help="MB an hour")
    args = parser.parse_args()
    cv2.setNumThreads(1)
    shared = Path(__file__).resolve().parents[2] / "shared/data/video/car-detection.mp4"
    clip = args.video or shared
    if not clip.is_file():
        parser.error(f"--video {clip}: no such file")
    try:
        engine: Engine = TinyEngine() if args.tiny else open_engine(args.model)
    except UserError as error:
        parser.error(str(error))
    with tempfile.TemporaryDirectory() as name:
        outcome = soak(
            engine,
            clip,
            Path(name),
            args.minutes * 60,
            rate=args.rate,
            show=partial(print, flush=True),
        )
    print(
        f"\n{outcome.shown}; {outcome.reconnects} reconnects, {outcome.delivered} events; "
        f"peak {outcome.samples[:, 1].max():.0f} MB, second half grew by {outcome.growth:+.1f} MB"
    )
    hours = args.minutes / 120
    still = [name for name, count in outcome.shown.items() if not count and name != "dead"]
    if outcome.growth > max(args.limit * hours, NOISE) or still:
        sys.exit(f"memory grows, or sources stand still: {still}")


if __name__ == "__main__":
    main()
