"""A model's memory, measured in a process of its own: what one frees, another would get for free.

python -m vision_heads.benchmark.memory '{"model": "aerial-n", "batch": 1, ...}'
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

RUNS = 3
"""Batches that are run: the second already needs all there ever is."""

SECONDS = 300.0


@dataclass(frozen=True, slots=True)
class Memory:
    """Memory of a process that runs one model, bytes.

    Attributes:
        peak: the most it held, with Python, OpenCV and the engine's libraries.
        model: how much of it came with opening and running the model.
    """

    peak: int
    model: int

    def to_dict(self) -> dict[str, float]:
        """Return both in MB (10^6 bytes)."""
        return {"peak_mb": round(self.peak / 1e6, 1), "model_mb": round(self.model / 1e6, 1)}


@dataclass(frozen=True, slots=True)
class Job:
    """What the process is to run.

    Attributes:
        model: file or shipped name.
        batch: pictures a call.
        threads, provider, imgsz, heads, conf: as `vh bench` takes them.
        pictures: files, at least one; or one video.
        kind: "pictures" or "video".
    """

    model: str
    batch: int
    threads: int | None
    provider: str | None
    imgsz: tuple[int, int] | None
    heads: tuple[str, ...] | None
    pictures: tuple[str, ...]
    kind: str
    conf: float = 0.25


def measure(job: Job) -> Memory | str:
    """Run a job in a child process.

    Returns:
        Why there is no figure, where the system does not tell or the child failed.
    """
    if not Path("/proc/self/status").is_file():
        return "this system does not tell a process's peak"
    root = str(Path(__file__).resolve().parents[2])
    paths = [root, *filter(None, [os.environ.get("PYTHONPATH")])]
    try:
        done = subprocess.run(
            [sys.executable, "-m", "vision_heads.benchmark.memory", json.dumps(asdict(job))],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(paths), "PYTHONSAFEPATH": "1"},
        )
    except subprocess.TimeoutExpired:
        return f"no answer within {SECONDS:g} s"
    try:
        answer: dict[str, int] = json.loads(done.stdout.splitlines()[-1])
    except (IndexError, ValueError):
        words = done.stderr.strip().splitlines() or [f"ended with code {done.returncode}"]
        return words[-1]
    return Memory(answer["peak"], answer["peak"] - answer["before"])


def status(name: str) -> int:
    """Return a size of this process in bytes: VmRSS, what it holds; VmHWM, the most it held."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) << 10
    raise RuntimeError(f"/proc/self/status has no {name}")


def main(arguments: Sequence[str]) -> None:
    """Run the job that is given as JSON, and print bytes before opening the model and at most."""
    fields: dict[str, Any] = json.loads(arguments[0])
    from vision_heads.benchmark.bench import contestant, open_model  # noqa: PLC0415
    from vision_heads.benchmark.feeds import Source  # noqa: PLC0415

    source = Source(fields["kind"], "", tuple(map(Path, fields["pictures"])))
    source.feed().next()  # what decoding takes for itself is not the model's
    before = status("VmRSS")
    engine = open_model(fields["model"], fields["threads"], fields["provider"])
    size, heads = fields["imgsz"], fields["heads"]
    one = contestant("", engine, source.feed(), fields["batch"], size, heads, fields["conf"])
    for _ in range(RUNS):
        one.run()
    sys.stdout.write("\n" + json.dumps({"before": before, "peak": status("VmHWM")}) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
