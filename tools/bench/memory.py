"""Memory of `vh detect` over 2,000 pictures: resident size over time, which must stay flat.

The pictures are VisDrone photographs under many names. Linux only: reads /proc.

    python -m tools.bench.memory --model aerial-n
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from tools.bench.shared import print_table, rival_environment, two_cores, visdrone_pictures

ROWS = 10


def resident(pid: int) -> float | None:
    """Return a process's resident memory in MB, None once it has ended."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return None
    match = re.search(r"^VmRSS:\s+(\d+) kB", status, re.MULTILINE)
    return int(match.group(1)) / 1024 if match else None


def main() -> None:
    """Print the samples and what they come to."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("--model", required=True, help="ONNX file or shipped name")
    parser.add_argument("--pictures", type=int, default=2000)
    parser.add_argument("options", nargs="*", help="more options of vh detect, behind --")
    args = parser.parse_args()
    two_cores()
    files = visdrone_pictures(90)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "in").mkdir()
        for number in range(args.pictures):
            (folder / "in" / f"{number:06}.jpg").symlink_to(files[number % len(files)])
        model = str(Path(args.model).resolve()) if Path(args.model).is_file() else args.model
        command = [
            sys.executable, "-m", "vision_heads", "detect", str(folder / "in"),
            "--weights", model, "--json", str(folder / "found.json"), "--threads", "2",
            *args.options,
        ]  # fmt: skip
        begin = time.perf_counter()
        process = subprocess.Popen(
            command, env=rival_environment(folder), cwd=folder, stdout=subprocess.DEVNULL
        )
        samples: list[tuple[float, float]] = []
        while process.poll() is None:
            memory = resident(process.pid)
            if memory is not None:
                samples.append((time.perf_counter() - begin, memory))
            time.sleep(0.2)
        if process.returncode:
            sys.exit(f"vh detect ended with {process.returncode}")
    _report(np.array(samples))


def _report(samples: np.ndarray) -> None:
    chosen = np.linspace(0, len(samples) - 1, min(ROWS, len(samples))).astype(int)
    print_table(("s", "MB"), [(float(s), f"{mb:.0f}") for s, mb in samples[chosen]])
    # Not the very end, where memory is given back.
    second_half = samples[len(samples) // 2 : -5]
    growth = np.polyfit(second_half[:, 0], second_half[:, 1], 1)[0] * 60
    print(
        f"\npeak {samples[:, 1].max():.0f} MB (goal: at most 600), second half grows by "
        f"{growth:+.1f} MB a minute"
    )


if __name__ == "__main__":
    main()
