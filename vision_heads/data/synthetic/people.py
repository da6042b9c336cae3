"""The generator's people: where they are in the picture, and how they are turned."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from vision_heads.data.synthetic.head_looks import Look, draw_look

Group = Literal["portrait", "few", "group", "rows", "crowd"]
GROUPS: tuple[Group, ...] = get_args(Group)
"""How many people, how near: one, 2 to 4, 4 to 12, 12 to 40 in rows, 20 to 60 at random."""
OVER = 2
"""Sub-pixels a side of each pixel that is rendered."""
_SIZES: dict[Group, tuple[float, float]] = {
    "portrait": (0.3, 0.62),
    "few": (0.16, 0.42),
    "group": (0.09, 0.22),
    "rows": (0.045, 0.15),
    "crowd": (0.036, 0.1),
}
"""Head heights as shares of the picture's height."""


@dataclass(frozen=True, slots=True)
class Person:
    """One person in the picture.

    Attributes:
        x, y: middle of the head, pixels.
        size: height of an upright head, pixels.
        rotation: (3, 3) of the head, image axes.
        body: (3, 3) of the shoulders.
        distance: of the camera in head heights, for perspective within the head.
        look: who it is.
    """

    x: float
    y: float
    size: float
    rotation: NDArray[np.float64]
    body: NDArray[np.float64]
    distance: float
    look: Look


def draw_people(group: Group, width: int, height: int, rng: np.random.Generator) -> list[Person]:
    """Place people in the picture, their heads apart enough to be seen."""
    low, high = _SIZES[group]
    count = {
        "portrait": 1,
        "few": int(rng.integers(2, 5)),
        "group": int(rng.integers(4, 13)),
        "rows": int(rng.integers(12, 41)),
        "crowd": int(rng.integers(20, 61)),
    }[group]
    # Often at eye level, else from above: feet are farther away than heads.
    tilt = np.radians(rng.normal(0, 5) + (rng.uniform(0, 45) if rng.uniform() < 0.35 else 0))
    common = rng.uniform(-180, 180) if rng.uniform() < 0.5 else None
    people: list[Person] = []
    for _ in range(count * 6):
        if len(people) == count:
            break
        share = rng.uniform()
        size = height * (low * (high / low) ** share)
        x = rng.uniform(0.02, 0.98) * width
        if group == "portrait":
            x = rng.normal(0.5, 0.12) * width
        # On level ground, who is nearer is larger and lower in the picture.
        y = height * float(np.clip(0.2 + 0.45 * share + rng.normal(0, 0.08), 0.02, 0.9))
        if group == "rows":
            row = round(share * 5) / 5
            size = height * (low * (high / low) ** row) * rng.normal(1, 0.06)
            y = height * (0.16 + 0.66 * row + rng.normal(0, 0.012))
        if any(np.hypot(x - p.x, y - p.y) < 0.62 * (size + p.size) / 1.6 for p in people):
            continue
        people.append(_draw_person((x, y), float(size), float(tilt), common, rng))
    return people


def _draw_person(
    place: tuple[float, float],
    size: float,
    tilt: float,
    common: float | None,
    rng: np.random.Generator,
) -> Person:
    """Turn a person anyhow: mostly upright, about any yaw, seen from a tilted camera."""
    yaw = rng.uniform(-180, 180) if common is None else common + rng.normal(0, 35)
    pitch, roll = rng.normal(0, 14), rng.normal(0, 9)
    if rng.uniform() < 0.12:
        pitch, roll = rng.uniform(-60, 60), rng.uniform(-50, 50)
    camera = turn_x(-tilt)
    body = camera @ turn_y(np.radians(-yaw + rng.normal(0, 25)))
    rotation = camera @ turn_y(np.radians(-yaw)) @ turn_x(np.radians(pitch))
    rotation = rotation @ turn_z(np.radians(roll))
    return Person(
        *place, size, rotation, body, float(rng.uniform(4, 18)), draw_look(rng, size * OVER)
    )


def turn_x(angle: float) -> NDArray[np.float64]:
    """Return the rotation about x by radians; positive turns the nose up."""
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[1, 0, 0], [0, c, -s], [0, s, c]])


def turn_y(angle: float) -> NDArray[np.float64]:
    """Return the rotation about y by radians; positive turns the nose to the right."""
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]])


def turn_z(angle: float) -> NDArray[np.float64]:
    """Return the rotation about z by radians, clockwise as seen."""
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])
