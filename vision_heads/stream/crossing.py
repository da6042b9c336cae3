"""Who crosses a line, and which way. Pure geometry on tracked objects.

An object's anchor is followed from frame to frame, and the straight way between two sights is cut
with the line; so an object that was hidden or dropped while it crossed counts too. It counts once
its anchor is clear of the line by a tenth of its smaller side: a box that trembles on the line
counts nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

Direction = Literal["in", "out"]

MARGIN = 0.1
"""Share of a box's smaller side by which its anchor must be past an edge to count as past it."""


@dataclass(frozen=True, slots=True)
class Spot:
    """A tracked object in one frame.

    Attributes:
        head, label, track: which object it is.
        box: (4,) xyxy pixels.
    """

    head: str
    label: str
    track: int
    box: tuple[float, float, float, float]

    @property
    def key(self) -> tuple[str, int]:
        """What tells it from all other objects of the source."""
        return self.head, self.track

    @property
    def margin(self) -> float:
        """Pixels by which its anchor must be past an edge."""
        left, top, right, bottom = self.box
        return MARGIN * min(right - left, bottom - top)

    def anchor(self, kind: str) -> tuple[float, float]:
        """Return the point of the box that counts, x and y: "center" or "bottom"."""
        left, top, right, bottom = self.box
        return (left + right) / 2, bottom if kind == "bottom" else (top + bottom) / 2


@dataclass(slots=True)
class _Path:
    """What is known of one object: where it was last, and which side it is known to be on."""

    point: NDArray[np.float64]
    offset: float
    side: float
    time: float
    through: bool = False


@dataclass(slots=True)
class LineCounter:
    """Counts crossings of one line in one source.

    Attributes:
        entered, left: crossings in and out, by class.
    """

    entered: Counter[str] = field(default_factory=Counter)
    left: Counter[str] = field(default_factory=Counter)
    _paths: dict[tuple[str, int], _Path] = field(default_factory=dict)

    def update(
        self, spots: Iterable[Spot], points: ArrayLike, anchor: str, time: float, patience: float
    ) -> list[tuple[Spot, Direction]]:
        """Take a frame and return who crossed in it.

        Args:
            spots: tracked objects of the frame.
            points: (2, 2) the line's ends, pixels.
            anchor: the point of a box that counts, see `Spot.anchor`.
            time: seconds.
            patience: seconds after which an object that is not seen is forgotten.
        """
        start, end = np.asarray(points, np.float64)
        crossed: list[tuple[Spot, Direction]] = []
        for spot in spots:
            direction = self._follow(spot, np.asarray(spot.anchor(anchor)), start, end, time)
            if direction is not None:
                (self.entered if direction == "in" else self.left)[spot.label] += 1
                crossed.append((spot, direction))
        self._paths = {
            key: path for key, path in self._paths.items() if time - path.time <= patience
        }
        return crossed

    def forget(self) -> None:
        """Forget all objects, but not what was counted."""
        self._paths.clear()

    def _follow(
        self,
        spot: Spot,
        point: NDArray[np.float64],
        start: NDArray[np.float64],
        end: NDArray[np.float64],
        time: float,
    ) -> Direction | None:
        offset = _offset(point, start, end)
        path = self._paths.get(spot.key)
        if path is None:
            self._paths[spot.key] = _Path(point, offset, np.sign(offset), time)
            return None
        if offset * path.offset < 0:
            # The last change of sides decides: only through the line itself, not past its ends.
            share = path.offset / (path.offset - offset)
            place = path.point + share * (point - path.point)
            along = (place - start) @ (end - start) / ((end - start) @ (end - start))
            path.through = bool(0 <= along <= 1)
        if offset != 0:
            path.offset, path.point = offset, point
        path.time = time
        if path.side == 0:
            path.side = np.sign(offset)
            return None
        if offset * path.side >= 0 or abs(offset) < spot.margin:
            return None
        path.side = np.sign(offset)
        if not path.through:
            return None
        return "in" if offset > 0 else "out"


def _offset(
    point: NDArray[np.float64], start: NDArray[np.float64], end: NDArray[np.float64]
) -> float:
    """Pixels from the line's extension to a point, above 0 on the right of start -> end."""
    way, to = end - start, point - start
    return float((way[0] * to[1] - way[1] * to[0]) / np.hypot(*way))
