"""The words of a ground plan: materials, roads, buildings, trees.

Everything is in metres, in the town's own axes; roads run along x or along y and traffic keeps
to the right. Roads along y have green lights, roads along x are held at red, so that nothing
collides while a clip runs.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum
from typing import Literal

import numpy as np

from vision_heads.data.synthetic.camera import Floats

Kind = Literal["street", "crossing", "parking", "square", "suburb", "highway"]
KINDS: tuple[Kind, ...] = ("street", "crossing", "parking", "square", "suburb", "highway")
Rect = tuple[float, float, float, float]
"""x0, y0, x1, y1 in metres."""


class Ground(IntEnum):
    """What the ground is made of; the number is the value in the material mask."""

    ASPHALT = 0
    PATCH_DARK = 1
    PATCH_LIGHT = 2
    KERB = 3
    PAVING = 4
    GRASS = 5
    DRY_GRASS = 6
    SOIL = 7
    CONCRETE = 8
    LOT = 9
    WHITE = 10
    YELLOW = 11
    PATH = 12
    TILES = 13
    TILES_B = 14
    BIKE_LANE = 15
    IRON = 16


@dataclass(frozen=True)
class Road:
    """A straight road.

    Attributes:
        along: 0 runs along x, 1 along y.
        centre: its middle, metres on the other axis.
        lanes: per direction.
        kerbside: cars park on both sides.
        median: width of a green strip in the middle, 0 for none.
    """

    along: int
    centre: float
    lanes: int
    kerbside: bool
    median: float = 0.0

    LANE = 3.4
    PARK = 2.3

    @property
    def half(self) -> float:
        """Half of its width between the kerbs, metres."""
        return self.lanes * self.LANE + self.median / 2 + (self.PARK if self.kerbside else 0.4)

    def lane_centre(self, lane: int, direction: int) -> float:
        """Middle of lane 0, 1, ... from the inside, for traffic going +1 or -1 along."""
        away = self.median / 2 + (lane + 0.5) * self.LANE
        side = direction if self.along == 1 else -direction
        return self.centre + side * away

    def point(self, along: float, across: float) -> tuple[float, float]:
        """World x, y of a place given by distance along and the other coordinate."""
        return (along, across) if self.along == 0 else (across, along)

    def rect(self, along: tuple[float, float], across: tuple[float, float]) -> Rect:
        """World rectangle from ranges along and across."""
        a, b = self.point(along[0], across[0]), self.point(along[1], across[1])
        return min(a[0], b[0]), min(a[1], b[1]), max(a[0], b[0]), max(a[1], b[1])


@dataclass(frozen=True)
class Building:
    """A block with a flat roof or, with a ridge, a house. Metres."""

    rect: Rect
    height: float
    ridge: float
    style: int
    """Seed of its looks."""


@dataclass(frozen=True)
class Tree:
    """A crown of `radius` whose middle is `height` above x, y."""

    x: float
    y: float
    radius: float
    height: float
    variant: int


@dataclass
class Town:
    """The plan; `ground` is painted in order, later over earlier, on plain asphalt."""

    kind: Kind
    tallest: float = 34.0
    """Height in metres that no building exceeds."""
    roads: list[Road] = field(default_factory=list)
    ground: list[tuple[Ground, Floats]] = field(default_factory=list)
    buildings: list[Building] = field(default_factory=list)
    trees: list[Tree] = field(default_factory=list)
    stalls: list[tuple[float, float, float]] = field(default_factory=list)
    """Parking places: x, y, heading in radians."""
    plazas: list[Rect] = field(default_factory=list)
    pavements: list[Rect] = field(default_factory=list)
    """Outer edge of each block's pavement."""
    zebras: list[tuple[Road, float, float]] = field(default_factory=list)
    """Road, and from where to where along it."""

    PAVEMENT = 4.2

    def paint(self, material: Ground, rect: Rect) -> None:
        """Add a rectangle of a material."""
        x0, y0, x1, y1 = rect
        self.ground.append((material, np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]])))


def shrink(rect: Rect, by: float) -> Rect:
    """Return the rectangle with every side moved in by `by` metres."""
    return rect[0] + by, rect[1] + by, rect[2] - by, rect[3] - by
