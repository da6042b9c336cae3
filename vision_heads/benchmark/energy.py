"""Power of a Jetson by its own sensors, read by NVIDIA's tegrastats.

Source: "tegrastats Utility", Jetson Linux Developer Guide: each rail is printed as its name, the
power now and means, in milliwatts, e.g. `VDD_IN 4319mW/4319mW`.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

INTERVAL = 0.1
"""Seconds between two readings."""

BOARD = ("VDD_IN", "VIN")
"""Rails that carry all of a module: Orin Nano, Orin NX and Xavier NX have VDD_IN, Thor has VIN."""

PARTS = ("VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0")
"""Rails of AGX Orin, which has none for the whole: their sum is what can be known."""

ABSENT = "there is no tegrastats here, which only a Jetson has"

_RAIL = re.compile(r"\b([A-Z][A-Z0-9_]*) (\d+)mW/")


@dataclass(frozen=True, slots=True)
class Energy:
    """What one model draws while it runs.

    Attributes:
        watts: mean power of the board.
        idle_watts: mean power before anything ran.
        joules: energy of a picture, all of the board.
        rails: whose power it is.
        readings: how many the mean is of.
    """

    watts: float
    idle_watts: float
    joules: float
    rails: tuple[str, ...]
    readings: int

    def to_dict(self) -> dict[str, Any]:
        """Return plain numbers."""
        return {
            "watts": round(self.watts, 3),
            "idle_watts": round(self.idle_watts, 3),
            "millijoules_a_picture": round(1000 * self.joules, 3),
            "rails": list(self.rails),
            "readings": self.readings,
        }


def rails(line: str) -> dict[str, int]:
    """Return the milliwatts of each rail in a line of tegrastats, as they are now."""
    return {name: int(value) for name, value in _RAIL.findall(line)}


def board_power(values: Mapping[str, int]) -> tuple[float, tuple[str, ...]] | None:
    """Return watts of the whole board and the rails they are of; None when it cannot be known."""
    for name in BOARD:
        if name in values:
            return values[name] / 1000, (name,)
    if all(name in values for name in PARTS):
        return sum(values[name] for name in PARTS) / 1000, PARTS
    return None


class Meter:
    """Reads tegrastats while a `with` block runs.

    Args:
        command: that prints a line every `INTERVAL` seconds until it is ended.
    """

    def __init__(self, command: Sequence[str] | None = None) -> None:
        milliseconds = str(round(1000 * INTERVAL))
        self._command = list(command or ("tegrastats", "--interval", milliseconds))
        self._lines: list[tuple[float, str]] = []

    def __enter__(self) -> Meter:
        """Start reading."""
        self._child = subprocess.Popen(
            self._command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        return self

    def __exit__(self, *_: object) -> None:
        """End tegrastats."""
        self._child.terminate()
        try:
            self._child.wait(5)
        except subprocess.TimeoutExpired:
            self._child.kill()
        self._reader.join(5)

    def between(self, begin: float, end: float) -> list[dict[str, int]]:
        """Return the readings of a span of `time.perf_counter`, one dict of rails each."""
        return [rails(line) for at, line in list(self._lines) if begin <= at <= end]

    def _read(self) -> None:
        stream = self._child.stdout
        for line in stream if stream is not None else ():
            self._lines.append((time.perf_counter(), line))


def available() -> bool:
    """Tell whether this machine has tegrastats."""
    return shutil.which("tegrastats") is not None


def measure(
    runs: Sequence[Callable[[], int]],
    seconds: float = 3.0,
    idle: float = 2.0,
    meter: Meter | None = None,
) -> list[Energy | str]:
    """Run each contestant by itself for a while and read the board's power meanwhile.

    In turns, as for times, would mix the power of all: sensors are read ten times a second.

    Args:
        runs: each takes a batch all the way and returns how many pictures that were.
        seconds: of each contestant.
        idle: seconds of rest before all.
        meter: where readings come from, tegrastats when None.

    Returns:
        For each contestant, why there is no figure where there is none.
    """
    with meter or Meter() as readings:
        rest = _span(readings, lambda: time.sleep(idle))
        return [_one(readings, run, seconds, rest) for run in runs]


def _one(
    meter: Meter, run: Callable[[], int], seconds: float, rest: list[dict[str, int]]
) -> Energy | str:
    pictures, begin = 0, time.perf_counter()
    while time.perf_counter() - begin < seconds:
        pictures += run()
    end = time.perf_counter()
    found = [power for values in meter.between(begin, end) if (power := board_power(values))]
    before = [power for values in rest if (power := board_power(values))]
    if not found or not before:
        return "tegrastats names no rail of the whole board"
    watts = sum(power for power, _ in found) / len(found)
    return Energy(
        watts,
        sum(power for power, _ in before) / len(before),
        watts * (end - begin) / pictures,
        found[0][1],
        len(found),
    )


def _span(meter: Meter, wait: Callable[[], None]) -> list[dict[str, int]]:
    begin = time.perf_counter()
    wait()
    return meter.between(begin, time.perf_counter())
