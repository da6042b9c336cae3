"""Smoothing of rotations over time: the One-Euro filter on the rotation group. Pure numpy.

The One-Euro filter (Casiez, Roussel and Vogel, CHI 2012) is a low-pass filter whose cutoff grows
with speed: a head held still does not tremble, one that turns does not lag. It is made for
numbers on a line. Here every difference is the rotation vector of the turn between two rotations
and every step a turn along that vector, so that no angle wraps and no axis is special. Smoothing
Euler angles instead jumps where they do: at 180 degrees, and whenever yaw passes 90.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vision_heads.geometry.rotations import from_vector, nearest_rotation, to_vector

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class OneEuro:
    """How much to smooth.

    Attributes:
        cutoff: Hz; cutoff frequency of a head at rest. Lower is calmer and slower.
        speed: Hz per radian a second; how much the cutoff grows with speed. Higher lags less.
        speed_cutoff: Hz; cutoff of the speed's own smoothing.
        restart: seconds without a rotation after which the filter starts afresh.
    """

    cutoff: float = 1.0
    speed: float = 1.0
    speed_cutoff: float = 1.0
    restart: float = 1.0

    def __post_init__(self) -> None:
        if not (self.cutoff > 0 and self.speed >= 0 and self.speed_cutoff > 0 and self.restart > 0):
            raise ValueError("cutoff, speed_cutoff and restart must be above 0, speed at least 0")


class RotationFilter:
    """Smooths the rotations of one thing. State of one track.

    Args:
        settings: how much to smooth.

    Example:
        >>> smooth = RotationFilter()
        >>> smooth.update(np.eye(3), 0.0).tolist() == np.eye(3).tolist()
        True
    """

    def __init__(self, settings: OneEuro | None = None) -> None:
        self.settings = settings or OneEuro()
        self._time = -np.inf
        self._seen: Floats = np.eye(3)
        self._smooth: Floats = np.eye(3)
        self._velocity: Floats = np.zeros(3)

    def update(self, rotation: ArrayLike, time: float) -> Floats:
        """Take the next rotation and return the smoothed one.

        Args:
            rotation: (3, 3). An unknown one (NaN) is returned as it is and leaves no trace.
            time: seconds. The same or an earlier time than before starts afresh, as a pause
                longer than `restart` does: there is no speed to be had from it.

        Returns:
            (3, 3) float64, a rotation.
        """
        seen = np.asarray(rotation, np.float64)
        if not np.isfinite(seen).all():
            return seen
        passed = time - self._time
        if not 0 < passed <= self.settings.restart:
            self._time, self._seen, self._smooth = time, seen, seen
            self._velocity = np.zeros(3)
            return seen
        # Both turns are in the head's own axes, so turning camera and head together turns the
        # result with them.
        velocity = to_vector(self._seen.T @ seen) / passed
        weight = _weight(self.settings.speed_cutoff, passed)
        self._velocity = self._velocity + weight * (velocity - self._velocity)
        speed = float(np.linalg.norm(self._velocity))
        cutoff = self.settings.cutoff + self.settings.speed * speed
        turn = to_vector(self._smooth.T @ seen)
        # Thousands of products of rotations drift away from being one.
        self._smooth = nearest_rotation(self._smooth @ from_vector(_weight(cutoff, passed) * turn))
        self._time, self._seen = time, seen
        return self._smooth


def _weight(cutoff: float, passed: float) -> float:
    """Share of the new value after `passed` seconds of a first-order low-pass at `cutoff` Hz.

    1 - exp(-2 pi f t) is exact for any step. The paper's 1 / (1 + 1 / (2 pi f t)) is its first
    order, and would smooth differently when every second frame is dropped.
    """
    return float(-np.expm1(-2 * np.pi * cutoff * passed))
