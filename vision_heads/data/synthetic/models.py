"""Small solid models of what drives and walks; see `solid.Model` for their axes."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from vision_heads.data.synthetic.solid import Model, Point, rounded


def _rectangle(x: Point, y: Point) -> list[Point]:
    return [(x[0], y[0]), (x[1], y[0]), (x[1], y[1]), (x[0], y[1])]


def _disc(model: Model, x: float, y: float, radius: float, part: str) -> None:
    """Add a wheel's outer face: it looks to +y or -y by the sign of y."""
    angle = np.arange(8) * np.pi / 4 + np.pi / 8
    if y > 0:
        angle = angle[::-1]
    ring = np.stack(
        [x + radius * np.cos(angle), np.full(8, y), radius + radius * np.sin(angle)], axis=1
    )
    model.face(ring, part, minor=True)


def _patch(model: Model, corners: Sequence[tuple[float, float, float]], part: str) -> None:
    model.face(np.array(corners), part, minor=True)


def _lights(model: Model, length: float, width: float, z: float) -> None:
    """Add lamps at both ends of the current piece."""
    for side in (-1, 1):
        inner, outer = sorted((side * width * 0.24, side * width * 0.44))
        front, back = length / 2 + 0.01, -length / 2 - 0.01
        _patch(
            model,
            [
                (front, inner, z - 0.1),
                (front, outer, z - 0.1),
                (front, outer, z + 0.1),
                (front, inner, z + 0.1),
            ],
            "lamp",
        )
        _patch(
            model,
            [
                (back, outer, z - 0.1),
                (back, inner, z - 0.1),
                (back, inner, z + 0.1),
                (back, outer, z + 0.1),
            ],
            "tail",
        )


def _wheels(model: Model, places: Sequence[float], width: float, radius: float) -> None:
    for x in places:
        for side in (-1, 1):
            _disc(model, x, side * (width / 2 + 0.02), radius, "tyre")


@lru_cache(maxsize=32)
def car(shape: int) -> Model:
    """A car; shape 0 saloon, 1 hatchback, 2 off-roader with a glass roof."""
    length, width, high = ((4.7, 1.85, 1.46), (4.1, 1.78, 1.5), (4.75, 1.95, 1.72))[shape]
    belt = high * 0.56
    hood, tail = ((0.23, -0.36), (0.24, -0.46), (0.22, -0.46))[shape]
    roof_front, roof_back = ((0.05, -0.22), (0.08, -0.36), (0.07, -0.4))[shape]
    model = Model()
    x, y = (-length / 2, length / 2), (-width / 2, width / 2)
    low = rounded(x, y, 0.32)
    shoulder = rounded((x[0] + 0.06, x[1] - 0.1), (y[0] + 0.05, y[1] - 0.05), 0.38)
    model.prism(low, rounded(x, y, 0.3), (0.22, belt * 0.75), ("body", "body"))
    model.piece -= 1
    model.prism(rounded(x, y, 0.3), shoulder, (belt * 0.75, belt), ("body", "hood"))
    _lights(model, length, width, belt * 0.78)
    _wheels(model, (length * 0.3, -length * 0.29), width, 0.33)
    base = _rectangle((tail * length, hood * length), (y[0] + 0.1, y[1] - 0.1))
    roof = _rectangle((roof_back * length, roof_front * length), (y[0] + 0.25, y[1] - 0.25))
    model.prism(base, roof, (belt, high), (("glass", "screen", "glass", "screen"), "body"), level=1)
    for side in (-1, 1):
        # The pillar between the side windows.
        a, b = -0.09 * length, -0.06 * length
        low_y, high_y = side * (width / 2 - 0.09), side * (width / 2 - 0.24)
        strip = [(a, low_y, belt), (b, low_y, belt), (b, high_y, high), (a, high_y, high)]
        model.face(np.array(strip if side < 0 else strip[::-1]), "body", 1, minor=True)
    if shape == 2:
        z, half = high + 0.005, width / 2 - 0.45
        top = _rectangle((-0.2 * length, 0.02 * length), (-half, half))
        model.face(np.array([(px, py, z) for px, py in top]), "glass", 1, minor=True)
    return model


@lru_cache(maxsize=4)
def van() -> Model:
    """A delivery van or a minibus."""
    length, width, high = 5.4, 2.0, 2.2
    model = Model()
    x, y = (-length / 2, length / 2), (-width / 2, width / 2)
    model.prism(
        rounded(x, y, 0.22),
        rounded((x[0] + 0.03, x[1] - 0.12), (y[0] + 0.03, y[1] - 0.03), 0.22),
        (0.25, 1.2),
        ("body", "hood"),
    )
    _lights(model, length, width, 0.8)
    _wheels(model, (1.6, -1.6), width, 0.36)
    base = _rectangle((x[0] + 0.04, x[1] - 0.75), (y[0] + 0.06, y[1] - 0.06))
    roof = _rectangle((x[0] + 0.12, x[1] - 1.5), (y[0] + 0.2, y[1] - 0.2))
    model.prism(base, roof, (1.2, high), (("body", "screen", "body", "body"), "body"), level=1)
    for side in (-1, 1):
        low_y, high_y = side * (width / 2 - 0.05), side * (width / 2 - 0.15)
        for a, b in ((0.3, 1.45), (-1.1, 0.15), (-2.3, -1.25)):
            strip = [(a, low_y, 1.28), (b, low_y, 1.28), (b - 0.2, high_y, 1.95), (a, high_y, 1.95)]
            model.face(np.array(strip if side < 0 else strip[::-1]), "glass", 1, minor=True)
    z = high + 0.005
    for a in (-2.2, -1.2, -0.2):
        rib = _rectangle((a, a + 0.12), (-0.7, 0.7))
        model.face(np.array([(px, py, z) for px, py in rib]), "hood", 1, minor=True)
    return model


@lru_cache(maxsize=4)
def truck(shape: int) -> Model:
    """A lorry; shape 0 a closed box, 1 an open bed with a load."""
    length, width = (8.2, 2.4) if shape == 0 else (6.6, 2.3)
    model = Model()
    front, cab = length / 2, 2.0
    half = width / 2
    model.prism(
        rounded((front - cab, front), (-half, half), 0.2),
        rounded((front - cab, front - 0.25), (-half + 0.1, half - 0.1), 0.2),
        (0.45, 2.5),
        ("body", "body"),
    )
    screen = [
        (front + 0.02 - k, s * half * 0.82, z)
        for k, s, z in ((0.13, -1, 1.5), (0.13, 1, 1.5), (0.22, 1, 2.3), (0.22, -1, 2.3))
    ]
    _patch(model, screen, "screen")
    _lights(model, length, width, 0.8)
    _wheels(model, (front - 1.2,), width, 0.48)
    back, gap = -length / 2, front - cab - 0.25
    if shape == 0:
        model.box((back, gap), (-half, half), (0.9, 3.3), ("cargo", "cargo"))
    else:
        model.box((back, gap), (-half, half), (0.9, 1.6), ("body", "load"))
        rim = model.faces[-1]
        inset = rim * np.array([1, 0.84, 1]) + np.array([0, 0, 0.01])
        model.parts[-1] = "body"
        model.face(inset, "load", minor=True)
    _wheels(model, (back + 1.0, back + 2.1), width, 0.48)
    return model


@lru_cache(maxsize=4)
def bus() -> Model:
    """A city bus with roof hatches and a cooling unit."""
    length, width, high = 11.6, 2.55, 3.05
    model = Model()
    x, y = (-length / 2, length / 2), (-width / 2, width / 2)
    model.prism(
        rounded(x, y, 0.25),
        rounded(x, (y[0] + 0.08, y[1] - 0.08), 0.3),
        (0.35, high),
        ("body", "roof"),
    )
    for side in (-1, 1):
        edge = side * (width / 2 + 0.005)
        for a in np.arange(-5.4, 5.2, 1.55):
            b = min(float(a) + 1.4, 5.6)
            strip = [(a, edge, 1.4), (b, edge, 1.4), (b, edge * 0.98, 2.5), (a, edge * 0.98, 2.5)]
            _patch(model, strip if side < 0 else strip[::-1], "glass")
    for end in (-1, 1):
        edge = end * (length / 2 + 0.01)
        pane = [(edge, -1.1, 1.2), (edge, 1.1, 1.2), (edge, 1.0, 2.6), (edge, -1.0, 2.6)]
        _patch(model, pane if end > 0 else pane[::-1], "screen")
    _lights(model, length, width, 0.75)
    _wheels(model, (3.1, -2.8), width, 0.5)
    for a, b, w in ((-4.6, -2.2, 0.8), (-0.6, 0.2, 0.45), (2.4, 3.2, 0.45)):
        model.box((a, b), (-w, w), (high, high + 0.22), ("roof", "unit"), level=1)
    return model


@lru_cache(maxsize=8)
def person(pose: int) -> Model:
    """A person; pose 0 and 1 walking, 2 standing, 3 sitting (as on a saddle or a bench)."""
    model = Model()
    seat = 0.45 if pose == 3 else 0.86
    stride = (0.24, -0.24, 0.02, 0.3)[pose]
    for side in (-1, 1):
        foot = stride * side if pose != 3 else 0.32
        y = (side * 0.1 - 0.07, side * 0.1 + 0.07)
        model.prism(
            _rectangle((foot - 0.1, foot + 0.14), y),
            _rectangle((-0.08, 0.4 if pose == 3 else 0.08), y),
            (0.0, seat),
            ("legs", "legs"),
        )
    ring = [(0.15 * np.cos(a), 0.24 * np.sin(a)) for a in np.arange(8) * np.pi / 4]
    hips = [(0.85 * px, 0.75 * py) for px, py in ring]
    model.prism(hips, ring, (seat - 0.03, seat + 0.56), ("torso", "torso"), level=1)
    for side in (-1, 1):
        y = (side * 0.27 - 0.055, side * 0.27 + 0.055)
        swing = -0.16 * side if pose < 2 else (0.22 if pose == 3 else 0.0)
        model.prism(
            _rectangle((swing - 0.06, swing + 0.06), y),
            _rectangle((-0.06, 0.06), y),
            (seat + 0.02, seat + 0.52),
            ("arm", "torso"),
            level=1,
        )
    face = [(0.03 + 0.1 * np.cos(a), 0.09 * np.sin(a)) for a in np.arange(8) * np.pi / 4]
    crown = [(0.1 * np.cos(a), 0.1 * np.sin(a)) for a in np.arange(8) * np.pi / 4]
    model.prism(face, crown, (seat + 0.56, seat + 0.74), ("skin", "hair"), level=2)
    small = [(0.6 * px, 0.6 * py) for px, py in crown]
    model.prism(crown, small, (seat + 0.74, seat + 0.86), ("hair", "hair"), level=3)
    return model


def _two_wheels(model: Model, reach: float, radius: float, thick: float) -> None:
    for x in (reach, -reach):
        model.box(
            (x - radius, x + radius),
            (-thick, thick),
            (radius * 0.4, radius * 1.6),
            ("tyre", "tyre"),
        )
        model.parts[-5:] = ["none"] * 5
        low = model.pieces[-1][0]
        for side in (-1, 1):
            _disc(model, x, side * thick, radius, "tyre")
            model.minor[-1] = False
        top = _rectangle((x - radius * 0.9, x + radius * 0.9), (-thick, thick))
        model.face(np.array([(a, b, radius * 1.8) for a, b in top]), "tyre", low)


@lru_cache(maxsize=2)
def bicycle() -> Model:
    """A bicycle without its rider."""
    model = Model()
    _two_wheels(model, 0.54, 0.34, 0.03)
    model.box((-0.5, 0.45), (-0.035, 0.035), (0.45, 0.62), ("body", "body"), level=1)
    model.box((0.4, 0.48), (-0.29, 0.29), (0.95, 1.02), ("dark", "dark"), level=2)
    model.box((-0.32, -0.06), (-0.08, 0.08), (0.88, 0.95), ("dark", "dark"), level=2)
    return model


@lru_cache(maxsize=2)
def motor() -> Model:
    """A scooter or a motorcycle without its rider."""
    model = Model()
    _two_wheels(model, 0.64, 0.28, 0.07)
    tub = rounded((-0.8, 0.1), (-0.2, 0.2), 0.1)
    model.prism(tub, tub, (0.3, 0.72), ("body", "dark"), level=1)
    model.box((0.3, 0.62), (-0.22, 0.22), (0.25, 0.95), ("body", "body"), level=1)
    model.box((0.38, 0.48), (-0.36, 0.36), (0.98, 1.06), ("dark", "dark"), level=2)
    return model


@lru_cache(maxsize=2)
def tricycle(awning: bool) -> Model:
    """A cargo tricycle with its driver; with an awning it has a canopy instead of a bed."""
    model = Model()
    model.box((0.9, 1.5), (-0.06, 0.06), (0.0, 0.6), ("tyre", "tyre"))
    model.box((-0.1, 1.0), (-0.3, 0.3), (0.3, 0.62), ("body", "dark"))
    model.box((-1.5, -0.1), (-0.62, 0.62), (0.4, 0.85), ("body", "body"))
    model.box((1.05, 1.13), (-0.4, 0.4), (0.95, 1.02), ("dark", "dark"), level=1)
    ring = [(0.25 + 0.15 * np.cos(a), 0.24 * np.sin(a)) for a in np.arange(8) * np.pi / 4]
    if awning:
        roof = rounded((-1.55, 1.15), (-0.68, 0.68), 0.12)
        ridge = rounded((-1.45, 1.05), (-0.5, 0.5), 0.12)
        model.box((-1.5, -0.2), (-0.6, 0.6), (0.85, 1.75), ("cargo", "cargo"), level=1)
        model.prism(ring, ring, (0.6, 1.2), ("torso", "torso"), level=1)
        model.prism(roof, ridge, (1.78, 1.95), ("cargo", "cargo"), level=2)
    else:
        bed = _rectangle((-1.4, -0.2), (-0.52, 0.52))
        model.face(np.array([(px, py, 0.86) for px, py in bed]), "load", 1)
        model.prism(ring, ring, (0.6, 1.2), ("torso", "torso"), level=1)
        crown = [(0.25 + 0.1 * np.cos(a), 0.1 * np.sin(a)) for a in np.arange(8) * np.pi / 4]
        model.prism(crown, crown, (1.2, 1.45), ("skin", "hair"), level=2)
    _wheels(model, (-0.9,), 1.24, 0.3)
    return model
