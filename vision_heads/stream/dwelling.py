"""Who is in a zone, since when, and for how long. Pure geometry on tracked objects."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from vision_heads.stream.crossing import Spot

Reason = Literal["left", "lost", "ended"]
"""Why a stay is over: the object went out; it is not seen any more; the source ended."""


@dataclass(slots=True)
class Stay:
    """An object's stay in a zone.

    Attributes:
        spot: as it was last seen inside; its class is that of when it came.
        since: time it was first seen inside, seconds in the stream.
        until: time it was last seen inside.
    """

    spot: Spot
    since: float
    until: float

    @property
    def dwell(self) -> float:
        """Seconds from the first to the last sight inside."""
        return self.until - self.since


@dataclass(slots=True)
class ZoneWatch:
    """Watches one zone of one source.

    An object is inside from the moment its anchor is, until it is outside by a tenth of its
    smaller side, or has not been seen for the time that tracks wait.

    Attributes:
        entered: objects that came in, by class.
        stays: stays that are over; `dwelt` their sum in seconds, `longest` the longest.
        inside: who is in it now.
    """

    entered: Counter[str] = field(default_factory=Counter)
    stays: int = 0
    dwelt: float = 0.0
    longest: float = 0.0
    inside: dict[tuple[str, int], Stay] = field(default_factory=dict)

    def update(
        self, spots: Iterable[Spot], points: ArrayLike, anchor: str, time: float, patience: float
    ) -> tuple[list[Stay], list[tuple[Stay, Reason]]]:
        """Take a frame and return who came, and who went and why.

        Args:
            spots: tracked objects of the frame.
            points: (N, 2) the polygon, pixels.
            anchor: the point of a box that counts, see `Spot.anchor`.
            time: seconds.
            patience: seconds after which an object that is not seen has gone.
        """
        polygon = np.asarray(points, np.float32)
        came: list[Stay] = []
        gone: list[tuple[Stay, Reason]] = []
        for spot in spots:
            depth = _depth(polygon, spot.anchor(anchor))
            stay = self.inside.get(spot.key)
            if stay is None:
                if depth >= 0:
                    came.append(self._enter(spot, time))
            elif depth < -spot.margin:
                gone.append((self._leave(stay), "left"))
            else:
                label = stay.spot.label
                stay.spot = Spot(spot.head, label, spot.track, spot.box)
                stay.until = time
        overdue = [stay for stay in self.inside.values() if time - stay.until > patience]
        gone += [(self._leave(stay), "lost") for stay in overdue]
        return came, gone

    def clear(self) -> list[Stay]:
        """End all stays and return them."""
        return [self._leave(stay) for stay in list(self.inside.values())]

    def now(self) -> Counter[str]:
        """Return how many of each class are inside."""
        return Counter(stay.spot.label for stay in self.inside.values())

    def _enter(self, spot: Spot, time: float) -> Stay:
        self.entered[spot.label] += 1
        stay = self.inside[spot.key] = Stay(spot, time, time)
        return stay

    def _leave(self, stay: Stay) -> Stay:
        del self.inside[stay.spot.key]
        self.stays += 1
        self.dwelt += stay.dwell
        self.longest = max(self.longest, stay.dwell)
        return stay


def _depth(polygon: NDArray[np.float32], point: tuple[float, float]) -> float:
    """Pixels from the polygon's edge to a point, above 0 inside."""
    return float(cv2.pointPolygonTest(polygon, point, True))
