"""What came of each source, in numbers that take no memory however long it runs."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any

_FIRST, _STEP, _BINS = 1e-4, 1.05, 300
"""Bins of latencies: from 0.1 ms up, each 5 % wider than the one before, to 200 s."""


class Histogram:
    """Durations, for percentiles within 5 % at constant memory; one thread adds."""

    def __init__(self) -> None:
        self._counts = [0] * (_BINS + 1)

    def add(self, seconds: float) -> None:
        """Count a duration in seconds."""
        place = math.log(max(seconds, _FIRST) / _FIRST) / math.log(_STEP)
        self._counts[min(int(place), _BINS)] += 1

    def percentile(self, share: float) -> float | None:
        """Return the seconds that `share` (0..1) of the durations do not exceed; None if empty."""
        counts = list(self._counts)
        total = sum(counts)
        if not total:
            return None
        reached = accumulate(counts)
        place = next(place for place, count in enumerate(reached) if count >= share * total)
        return float(_FIRST * _STEP ** (place + 0.5))


@dataclass(slots=True)
class Counters:
    """One source's counts; each field has one thread that writes it.

    Attributes:
        received: frames that the source gave.
        skipped: left out by `stride` or `max_fps`.
        dropped: of live sources, replaced by a newer frame before the network was free, or of a
            connection that was lost meanwhile; of any, waiting when it was stopped.
        shown: went through hooks and outputs.
        damaged: could not be decoded and were left out.
        failed: memory did not suffice to look at them, and they were left out.
        connections: how often the source was opened with success; reconnects are one less.
        latency: from a frame's arrival until the last output had it.
    """

    received: int = 0
    skipped: int = 0
    dropped: int = 0
    shown: int = 0
    damaged: int = 0
    failed: int = 0
    connections: int = 0
    latency: Histogram = field(default_factory=Histogram)
    began: float = field(default_factory=time.monotonic)
    ended: float | None = None

    @property
    def seconds(self) -> float:
        """Seconds since the source was added, until it ended."""
        return (time.monotonic() if self.ended is None else self.ended) - self.began

    def to_dict(self) -> dict[str, Any]:
        """Return a plain record for JSON; latencies in milliseconds, null before any frame."""

        def milliseconds(share: float) -> float | None:
            value = self.latency.percentile(share)
            return None if value is None else round(value * 1000, 2)

        return {
            "received": self.received,
            "shown": self.shown,
            "skipped": self.skipped,
            "dropped": self.dropped,
            "damaged": self.damaged,
            "failed": self.failed,
            "reconnects": max(self.connections - 1, 0),
            "seconds": round(self.seconds, 3),
            "fps": round(self.shown / max(self.seconds, 1e-9), 2),
            "latency_ms": {
                name: milliseconds(share)
                for name, share in (("p50", 0.5), ("p90", 0.9), ("p99", 0.99))
            },
        }
