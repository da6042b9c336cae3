"""What a stream has shown lately: rates, delays, and counts second by second. Bounded memory."""

from __future__ import annotations

import threading
import time as clock
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from vision_heads.stream.seen import Seen

KEPT = 600
"""Seconds of counts that are kept."""
_WINDOW = 5.0
_SAMPLES = 300

Counts = dict[str, dict[str, int]]


@dataclass(slots=True)
class _Second:
    """Objects by (head, class), summed over a second's frames."""

    at: int
    frames: int = 0
    sums: dict[tuple[str, str], int] = field(default_factory=dict)


class History:
    """Statistics of one stream; any thread.

    Args:
        now: Unix time in seconds, for tests.
    """

    def __init__(self, now: Callable[[], float] = clock.time) -> None:
        self._now = now
        self._lock = threading.Lock()
        self._moments: deque[float] = deque(maxlen=_SAMPLES)
        self._delays: deque[float] = deque(maxlen=_SAMPLES)
        self._seconds: deque[_Second] = deque(maxlen=KEPT)
        self._latest: Counts = {}
        self.frames = 0

    def add(self, seen: Seen) -> None:
        """Take a frame's results into account."""
        counts = {name: found.counts() for name, found in seen.result.heads.items()}
        with self._lock:
            now = self._now()
            self.frames += 1
            self._moments.append(now)
            self._delays.append(max(now - seen.frame.received, 0.0))
            self._latest = counts
            if not self._seconds or self._seconds[-1].at != int(now):
                self._seconds.append(_Second(int(now)))
            second = self._seconds[-1]
            second.frames += 1
            for head, classes in counts.items():
                for name, number in classes.items():
                    second.sums[head, name] = second.sums.get((head, name), 0) + number

    @property
    def latest(self) -> Counts:
        """Objects in the newest frame, by head and class."""
        return self._latest

    @property
    def fps(self) -> float:
        """Frames a second over the last seconds; 0 when none came."""
        with self._lock:
            now = self._now()
            # Moments to come are from before the clock was set back.
            moments = [moment for moment in self._moments if 0 <= now - moment <= _WINDOW]
        if len(moments) < 2 or moments[-1] <= moments[0]:
            return 0.0
        # When frames stop, the rate falls instead of standing still.
        interval = (moments[-1] - moments[0]) / (len(moments) - 1)
        late = max(now - moments[-1] - interval, 0.0)
        return (len(moments) - 1) / (moments[-1] - moments[0] + late)

    def delays(self) -> tuple[float, float] | None:
        """Return median and 95th percentile, seconds from decoding to here; None before any."""
        with self._lock:
            delays = list(self._delays)
        if not delays:
            return None
        median, high = np.percentile(delays, (50, 95))
        return float(median), float(high)

    def series(self, seconds: int) -> dict[str, object]:
        """Return what `schemas.CountHistory` describes, up to the last whole second."""
        end = int(self._now()) - 1
        with self._lock:
            kept = {second.at: second for second in self._seconds}
            first = min(kept, default=end + 1)
            start = max(end - seconds + 1, first)
            span = [kept.get(at) for at in range(start, end + 1)]
        names = sorted({key for second in span if second for key in second.sums})
        series: dict[str, dict[str, list[float | None]]] = {}
        for head, name in names:
            series.setdefault(head, {})[name] = [
                round(second.sums.get((head, name), 0) / second.frames, 2) if second else None
                for second in span
            ]
        return {"step": 1.0, "end": float(end), "series": series}
