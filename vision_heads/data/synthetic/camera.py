"""A drone's camera over a flat ground: true perspective, metres in, pixels out.

World axes: x right, y ahead, z up, metres, ground at z = 0. Picture axes: u right, v down,
pixels; pixel i covers [i, i + 1). A tilt of 0 looks straight down with +y up in the picture.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

NEAR = 0.8
"""Metres in front of the camera where polygons are cut off."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Camera:
    """Where the camera is and where it looks.

    Attributes:
        position: x, y, z in metres.
        yaw: heading in radians, clockwise from +y seen from above.
        tilt: radians away from straight down.
        roll: radians, clockwise in the picture.
        focal: focal length in pixels.
        width, height: of the picture in pixels.
    """

    position: tuple[float, float, float]
    yaw: float
    tilt: float
    roll: float
    focal: float
    width: int
    height: int

    @cached_property
    def rotation(self) -> Floats:
        """(3, 3) world to camera; rows are the picture's right, its down, and ahead."""
        sin_yaw, cos_yaw = np.sin(self.yaw), np.cos(self.yaw)
        sin_tilt, cos_tilt = np.sin(self.tilt), np.cos(self.tilt)
        ahead = np.array([sin_tilt * sin_yaw, sin_tilt * cos_yaw, -cos_tilt])
        level = np.array([cos_yaw, -sin_yaw, 0.0])
        below = np.cross(ahead, level)
        sin_roll, cos_roll = np.sin(self.roll), np.cos(self.roll)
        right = cos_roll * level - sin_roll * below
        down = sin_roll * level + cos_roll * below
        return np.stack([right, down, ahead])

    def scaled(self, factor: int) -> Camera:
        """Return the same view with `factor` times as many pixels a side."""
        return Camera(
            self.position,
            self.yaw,
            self.tilt,
            self.roll,
            self.focal * factor,
            self.width * factor,
            self.height * factor,
        )

    def view(self, points: Floats) -> Floats:
        """Return (N, 3) camera coordinates (right, down, ahead, metres) of world points."""
        return np.asarray((points - np.array(self.position)) @ self.rotation.T)

    def project(self, points: Floats) -> Floats:
        """Return (N, 3) u, v in pixels and depth in metres; depth < NEAR has no meaning."""
        seen = self.view(points)
        return self._pixels(seen)

    def _pixels(self, seen: Floats) -> Floats:
        depth = seen[:, 2]
        factor = self.focal / np.maximum(depth, NEAR / 2)
        out = np.empty((len(seen), 3))
        out[:, 0] = seen[:, 0] * factor + self.width / 2
        out[:, 1] = seen[:, 1] * factor + self.height / 2
        out[:, 2] = depth
        return out

    def outline(self, points: Floats) -> Floats | None:
        """Return (M, 2) pixels of a convex polygon, cut off at NEAR; None when all behind it."""
        seen = self.view(points)
        front = seen[:, 2] >= NEAR
        if not front.any():
            return None
        if not front.all():
            seen = _cut_near(seen)
        return self._pixels(seen)[:, :2]

    def ground(self) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
        """Return x, y and depth in metres of the ground under each pixel, (height, width) each.

        Every pixel must look down: the generator keeps the horizon out of the picture.
        """
        u = (np.arange(self.width) + 0.5 - self.width / 2) / self.focal
        v = (np.arange(self.height) + 0.5 - self.height / 2) / self.focal
        right, down, ahead = self.rotation
        rays = [right[k] * u[None, :] + down[k] * v[:, None] + ahead[k] for k in range(3)]
        depth = self.position[2] / np.maximum(-rays[2], 1e-3)
        x = self.position[0] + rays[0] * depth
        y = self.position[1] + rays[1] * depth
        return x.astype(np.float32), y.astype(np.float32), depth.astype(np.float32)

    def footprint(self) -> Floats:
        """Return (4, 2) world x, y of the picture's corners on the ground."""
        half_u, half_v = self.width / 2 / self.focal, self.height / 2 / self.focal
        right, down, ahead = self.rotation
        corners = []
        for u, v in ((-half_u, -half_v), (half_u, -half_v), (half_u, half_v), (-half_u, half_v)):
            ray = right * u + down * v + ahead
            corners.append(np.array(self.position[:2]) + ray[:2] * (self.position[2] / -ray[2]))
        return np.array(corners)


def _cut_near(seen: Floats) -> Floats:
    """Cut a polygon in camera coordinates at depth NEAR (Sutherland and Hodgman)."""
    kept = []
    for here, after in zip(seen, np.roll(seen, -1, axis=0), strict=True):
        if here[2] >= NEAR:
            kept.append(here)
        if (here[2] >= NEAR) != (after[2] >= NEAR):
            part = (NEAR - here[2]) / (after[2] - here[2])
            kept.append(here + part * (after - here))
    return np.array(kept)
