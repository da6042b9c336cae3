"""Many times in a few numbers that one slow run does not move."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True, slots=True)
class Spread:
    """How long something took, over all runs; seconds a picture.

    Attributes:
        median: half of the runs took less.
        p5, p95: a twentieth of the runs took less, or more.
        runs: how many there were.
    """

    median: float
    p5: float
    p95: float
    runs: int

    @classmethod
    def of(cls, seconds: Sequence[float]) -> Spread:
        """Summarise the times of at least one run."""
        p5, median, p95 = np.percentile(seconds, (5, 50, 95)).tolist()
        return cls(median, p5, p95, len(seconds))

    @property
    def fps(self) -> float | None:
        """Pictures a second at the median; None where it took no time that can be measured."""
        return 1 / self.median if self.median > 0 else None

    def to_dict(self) -> dict[str, Any]:
        """Return median_ms, p5_ms, p95_ms, fps and runs."""
        fps = self.fps
        return {
            "median_ms": round(1000 * self.median, 4),
            "p5_ms": round(1000 * self.p5, 4),
            "p95_ms": round(1000 * self.p95, 4),
            "fps": None if fps is None else round(fps, 3),
            "runs": self.runs,
        }


@dataclass(frozen=True, slots=True)
class Ratio:
    """How many times as long as another one: the median of the rounds' ratios, and quartiles.

    Both ran in every round, so what else the machine did meets both alike and drops out.
    """

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, own: Sequence[float], first: Sequence[float]) -> Ratio:
        """Compare times of the same rounds, in their order."""
        low, median, high = np.percentile(np.divide(own, first), (25, 50, 75)).tolist()
        return cls(median, low, high)

    def to_dict(self) -> dict[str, float]:
        """Return median and quartiles."""
        return {
            "median": round(self.median, 4),
            "low": round(self.low, 4),
            "high": round(self.high, 4),
        }
