"""How long a file takes against the FP32 ONNX of the same model, both in turns in one run."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vision_heads.runtime.engines import Engine

WARM_UP = 3
LONGEST = 30.0
"""Seconds after which no further round is begun; at least `FEWEST` are."""
FEWEST = 5
CLEARLY = 1.05
"""Ratio of the median round beyond which noise is no excuse."""


@dataclass(frozen=True, slots=True)
class Latency:
    """Times of a file beside the FP32 ONNX.

    Attributes:
        file_ms, fp32_ms: median time of a picture, milliseconds.
        ratio: median of the rounds' ratios, file to FP32.
        low, high: quartiles of the ratios.
        rounds: how many.
        batch: pictures a call.
    """

    file_ms: float
    fp32_ms: float
    ratio: float
    low: float
    high: float
    rounds: int
    batch: int

    @property
    def slower(self) -> bool:
        """Whether it was the slower one in three rounds of four, or clearly so in half of them."""
        return self.low > 1 or self.ratio > CLEARLY


def compare(file: Engine, fp32: Engine, images: NDArray[np.float32], *, rounds: int) -> Latency:
    """Time two engines of the same input.

    Args:
        file: the one to judge.
        fp32: what it is measured against.
        images: network input of one call, (B, 3, H, W).
        rounds: in each, both run once, and take turns at going first.
    """
    batch = len(images)
    engines = (file, fp32)
    for _ in range(WARM_UP):
        for engine in engines:
            engine.run(images)
    seconds: list[list[float]] = [[], []]
    begin = time.perf_counter()
    for number in range(rounds):
        for which in (0, 1) if number % 2 else (1, 0):
            seconds[which].append(_time(engines[which], images))
        if number + 1 >= FEWEST and time.perf_counter() - begin > LONGEST:
            break
    times: NDArray[Any] = np.array(seconds)
    low, ratio, high = np.quantile(times[0] / times[1], (0.25, 0.5, 0.75)).tolist()
    file_ms, fp32_ms = (np.median(times, axis=1) * 1000 / batch).tolist()
    return Latency(file_ms, fp32_ms, ratio, low, high, times.shape[1], batch)


def median_ms(engine: Engine, images: NDArray[np.float32], *, rounds: int) -> float:
    """Return the median time of a picture by one engine, milliseconds."""
    for _ in range(WARM_UP):
        engine.run(images)
    begin = time.perf_counter()
    seconds: list[float] = []
    while len(seconds) < rounds:
        seconds.append(_time(engine, images))
        if len(seconds) >= FEWEST and time.perf_counter() - begin > LONGEST:
            break
    return float(np.median(seconds)) * 1000 / len(images)


def _time(engine: Engine, images: NDArray[np.float32]) -> float:
    begin = time.perf_counter()
    engine.run(images)
    return time.perf_counter() - begin
