"""Head poses smoothed over time, each track by itself."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from vision_heads.geometry.filters import OneEuro, RotationFilter
from vision_heads.results import Detections
from vision_heads.stream.seen import Event, Seen


class PoseSmoothing:
    """A `Hook` that smooths the rotations of tracked heads; it comes after `Tracking`.

    Heads without a track and unknown poses stay as they are.

    Args:
        settings: how much to smooth.
    """

    def __init__(self, settings: OneEuro | None = None) -> None:
        self.settings = settings or OneEuro()
        self._filters: dict[str, dict[int, tuple[RotationFilter, float]]] = {}

    def update(self, seen: Seen) -> None:
        """Put smoothed rotations into the result of every head that finds poses."""
        time = seen.frame.time
        for name, found in seen.result.heads.items():
            if found.rotation is None or found.track is None:
                continue
            filters = self._filters.setdefault(name, {})
            rotation = self._smooth(filters, found, found.track, time)
            seen.result.heads[name] = replace(found, rotation=rotation)
            # A filter that would start afresh anyway need not be kept.
            self._filters[name] = {
                track: (one, last)
                for track, (one, last) in filters.items()
                if 0 <= time - last <= self.settings.restart
            }

    def gap(self, _seconds: float) -> None:
        """Do nothing: after a pause longer than `settings.restart` filters start afresh."""

    def end(self) -> Iterable[Event]:
        """Return nothing."""
        return ()

    def _smooth(
        self,
        filters: dict[int, tuple[RotationFilter, float]],
        found: Detections,
        track: NDArray[np.int64],
        time: float,
    ) -> NDArray[np.float32]:
        rotation = np.array(found.rotation, np.float32)
        for row, number in enumerate(track.tolist()):
            if number < 0 or not np.isfinite(rotation[row]).all():
                continue
            one, _ = filters.get(number, (RotationFilter(self.settings), time))
            rotation[row] = one.update(rotation[row], time)
            filters[number] = (one, time)
        return rotation
