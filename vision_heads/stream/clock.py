"""A source's clock as trackers need it: it only goes on, and says how long to wait for whom."""

from __future__ import annotations

from collections import deque

import numpy as np

_STEP = 1e-3
"""Seconds that a frame is put after its predecessor where its own time says otherwise."""


class Clock:
    """Times of one source's frames.

    Args:
        lost: seconds for which an object that is not seen is waited for.
        reset: seconds by which the clock may go back before it counts as another recording.
    """

    def __init__(self, lost: float, reset: float) -> None:
        self._lost = lost
        self._reset = reset
        self._time: float | None = None
        self._steps: deque[float] = deque(maxlen=9)

    def restarts(self, time: float) -> bool:
        """Say whether a frame of this time cannot belong to what was before."""
        return self._time is not None and self._time - time > self._reset

    def moment(self, time: float) -> float:
        """Take a frame's time and return it, or one just after the last where it is not later."""
        if self._time is not None:
            if time > self._time:
                self._steps.append(time - self._time)
            time = max(time, self._time + _STEP)
        self._time = time
        return time

    @property
    def last(self) -> float:
        """Time of the last frame, 0 before the first."""
        return self._time or 0.0

    @property
    def patience(self) -> float:
        """Seconds for which objects are waited for: at least three frames of a slow source.

        It goes by the usual step between frames, so that one hole does not stretch it.
        """
        usual = float(np.median(self._steps)) if self._steps else 0.0
        return max(self._lost, 3 * usual)
