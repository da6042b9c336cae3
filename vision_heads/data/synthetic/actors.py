"""What is labelled in a scene: the classes, one actor, and the colours that actors wear."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vision_heads.data.synthetic.solid import Model

PEDESTRIAN, PEOPLE, BICYCLE, CAR, VAN, TRUCK, TRICYCLE, AWNING, BUS, MOTOR = range(10)

Color = tuple[float, float, float]
"""BGR."""

BODY: tuple[tuple[Color, float], ...] = (
    ((232, 232, 230), 0.30),
    ((52, 48, 46), 0.20),
    ((182, 180, 178), 0.14),
    ((118, 116, 114), 0.12),
    ((96, 56, 34), 0.08),
    ((40, 36, 158), 0.06),
    ((176, 120, 62), 0.03),
    ((120, 160, 185), 0.03),
    ((40, 170, 222), 0.02),
    ((70, 92, 44), 0.02),
)
CLOTHES: tuple[Color, ...] = (
    (235, 235, 235),
    (40, 38, 36),
    (60, 50, 170),
    (150, 90, 50),
    (70, 120, 60),
    (60, 180, 220),
    (150, 150, 150),
    (190, 150, 215),
    (95, 70, 60),
    (200, 190, 120),
    (50, 110, 220),
)
TROUSERS: tuple[Color, ...] = ((60, 45, 38), (36, 34, 34), (110, 84, 60), (120, 130, 140))
SKIN: tuple[Color, ...] = ((140, 175, 215), (110, 145, 195), (70, 95, 140), (45, 62, 95))
HAIR: tuple[Color, ...] = ((26, 24, 24), (36, 46, 66), (60, 90, 120), (120, 120, 122))
BOXES: tuple[Color, ...] = (  # of trucks
    (225, 226, 228),
    (180, 186, 190),
    (150, 96, 50),
    (60, 70, 160),
    (90, 130, 80),
)
LOADS: tuple[Color, ...] = ((84, 112, 138), (95, 96, 98), (120, 160, 190))
LIVERIES: tuple[Color, ...] = (  # of buses
    (70, 60, 190),
    (190, 130, 50),
    (90, 170, 70),
    (225, 225, 225),
    (60, 180, 230),
)
COVERS: tuple[Color, ...] = ((160, 90, 40), (60, 60, 190), (150, 160, 160))  # of tricycles


@dataclass(frozen=True)
class Actor:
    """One labelled thing.

    Attributes:
        label: index into `NAMES`.
        model: its shape.
        scale: along, across and up.
        x, y: place at time 0, metres.
        base: height it stands on, metres (a saddle for a rider).
        heading: radians, counter-clockwise from +x.
        speed: metres a second along the heading.
        colors: BGR of each part of the model.
        reach: metres after which it turns round, 0 for never.
    """

    label: int
    model: Model
    scale: tuple[float, float, float]
    x: float
    y: float
    base: float
    heading: float
    speed: float
    colors: dict[str, Color]
    reach: float = 0.0

    def place(self, seconds: float) -> tuple[float, float, float]:
        """Return x, y and heading after so many seconds."""
        way, turn = self.speed * seconds, 0.0
        if self.reach and way:
            way %= 2 * self.reach
            if way > self.reach:
                way, turn = 2 * self.reach - way, float(np.pi)
        return (
            self.x + way * float(np.cos(self.heading)),
            self.y + way * float(np.sin(self.heading)),
            self.heading + turn,
        )
