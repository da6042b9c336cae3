"""Buildings: walls with windows, flat roofs with their clutter, pitched roofs; exact depth."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np

from vision_heads.data.synthetic.camera import NEAR, Floats
from vision_heads.data.synthetic.canvas import Canvas, fill
from vision_heads.data.synthetic.plan import Building
from vision_heads.data.synthetic.weather import Weather

_WALLS = (
    (176, 186, 196),
    (150, 166, 186),
    (104, 128, 168),
    (198, 202, 204),
    (150, 150, 150),
    (120, 160, 190),
    (88, 96, 132),
    (190, 196, 180),
)
_FLAT = (
    (150, 152, 154),
    (126, 128, 130),
    (104, 106, 108),
    (172, 174, 176),
    (110, 124, 140),
    (136, 124, 112),
)
_TILED = ((62, 76, 148), (70, 92, 160), (80, 84, 96), (96, 104, 116), (66, 84, 112), (120, 92, 70))


@dataclass(frozen=True)
class _Looks:
    wall: Floats
    roof: Floats
    glass: Floats
    bands: bool
    storey: float
    window: float
    rng_seed: int


def _looks(building: Building) -> _Looks:
    rng = np.random.default_rng([79, building.style])
    roofs = _TILED if building.ridge else _FLAT
    return _Looks(
        wall=np.array(_WALLS[rng.integers(len(_WALLS))]) * rng.uniform(0.85, 1.1),
        roof=np.array(roofs[rng.integers(len(roofs))]) * rng.uniform(0.85, 1.12),
        glass=np.array([92, 82, 72]) * rng.uniform(0.6, 1.15),
        bands=bool(rng.uniform() < 0.35) and building.height > 8,
        storey=float(rng.uniform(2.9, 3.5)),
        window=float(rng.uniform(2.4, 3.8)),
        rng_seed=int(rng.integers(1 << 30)),
    )


def shadow_outlines(buildings: list[Building], weather: Weather) -> Iterator[Floats]:
    """Yield the outline on the ground, metres, of each building's shadow and its own base."""
    for building in buildings:
        x0, y0, x1, y1 = building.rect
        base = np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]])
        top = base + weather.slide(building.height)
        points = [base, top]
        if building.ridge:
            ridge = _ridge(building) + weather.slide(building.height + building.ridge)
            points.append(ridge)
        hull = cv2.convexHull(np.concatenate(points).astype(np.float32))
        yield hull[:, 0].astype(np.float64)


def _ridge(building: Building) -> Floats:
    x0, y0, x1, y1 = building.rect
    if x1 - x0 > y1 - y0:
        return np.array([[x0, (y0 + y1) / 2], [x1, (y0 + y1) / 2]])
    return np.array([[(x0 + x1) / 2, y0], [(x0 + x1) / 2, y1]])


def paint_buildings(canvas: Canvas, buildings: list[Building]) -> None:
    """Paint every building that the camera may see and enter its depth."""
    for building in buildings:
        x0, y0, x1, y1 = building.rect
        top = building.height + building.ridge
        corners = np.array(
            [(x, y, z) for x in (x0, x1) for y in (y0, y1) for z in (0.0, top)], np.float64
        )
        seen = canvas.camera.project(corners)
        if seen[:, 2].min() < NEAR:
            continue
        if canvas.window(seen[:, :2].min(axis=0), seen[:, :2].max(axis=0)) is None:
            continue
        looks = _looks(building)
        _walls(canvas, building, looks)
        if building.ridge:
            _pitched(canvas, building, looks)
        else:
            _flat_roof(canvas, building, looks)


def _face(
    canvas: Canvas,
    corners: Floats,
    color: Floats,
    details: list[tuple[Floats, Floats]],
    ahead: float = 0.0,
) -> None:
    """Paint one plane face with flat details on it where nothing painted so far is nearer.

    Args:
        canvas: painted on.
        corners: (k, 3) world corners, counter-clockwise seen from outside.
        color: BGR, before lighting.
        details: world corners and BGR of what lies in the face, painted in order.
        ahead: metres by which it may lie behind something and still be painted, so that a roof
            wins over its own walls along their common edge.
    """
    normal = np.cross(corners[1] - corners[0], corners[2] - corners[1])
    normal /= np.linalg.norm(normal)
    eye = np.array(canvas.camera.position)
    if normal @ (eye - corners[0]) <= 0.01:
        return
    pixels = canvas.camera.project(corners)[:, :2]
    window = canvas.window(pixels.min(axis=0), pixels.max(axis=0))
    if window is None:
        return
    rows, columns = window
    corner = np.array([columns.start, rows.start], np.float64)
    mask = np.zeros((rows.stop - rows.start, columns.stop - columns.start), np.uint8)
    fill(mask, pixels - corner, 255)
    depth = _plane_depth(canvas, (normal, float(normal @ (corners[0] - eye))), window)
    nearer = (mask > 0) & (depth - ahead < canvas.depth[window])
    if not nearer.any():
        return
    light = float(canvas.light(normal[None])[0])
    paint = np.empty((*mask.shape, 3), np.uint8)
    paint[:] = np.clip(color * light, 0, 255).astype(np.uint8)
    if details:
        every = canvas.camera.project(np.concatenate([outline for outline, _ in details]))
        start = 0
        for outline, shade in details:
            part = every[start : start + len(outline), :2]
            start += len(outline)
            fill(paint, part - corner, np.clip(shade * light, 0, 255))
    canvas.picture[window][nearer] = paint[nearer]
    canvas.depth[window][nearer] = depth[nearer]


def _plane_depth(
    canvas: Canvas, plane: tuple[Floats, float], window: tuple[slice, slice]
) -> Floats:
    """Return the depth along the camera's axis of a plane under each sub-pixel of a window."""
    camera = canvas.camera
    right, down, ahead = camera.rotation @ plane[0]
    u = (np.arange(window[1].start, window[1].stop) + 0.5 - camera.width / 2) / camera.focal
    v = (np.arange(window[0].start, window[0].stop) + 0.5 - camera.height / 2) / camera.focal
    slope = right * u[None, :] + down * v[:, None] + ahead
    with np.errstate(divide="ignore"):
        depth = plane[1] / slope
    return np.asarray(np.where(depth > 0, depth, np.inf), np.float32)


def _walls(canvas: Canvas, building: Building, looks: _Looks) -> None:
    x0, y0, x1, y1 = building.rect
    ring = [(x0, y0), (x1, y0), (x1, y1), (x0, y1)]
    for k, (a, b) in enumerate(zip(ring, ring[1:] + ring[:1], strict=True)):
        start, end = np.array([*a, 0.0]), np.array([*b, 0.0])
        up = np.array([0, 0, building.height])
        corners = np.array([start, end, end + up, start + up])
        details = _windows(canvas, building, looks, (start, end))
        _face(canvas, corners, looks.wall, details)
        if building.ridge:
            _gable(canvas, building, looks, k)


def _gable(canvas: Canvas, building: Building, looks: _Looks, side: int) -> None:
    """Paint the triangle of wall under the end of a ridge; sides go round from y0."""
    x0, y0, x1, y1 = building.rect
    wide = x1 - x0 > y1 - y0
    if (side in (1, 3)) != wide:
        return
    z, top = building.height, building.height + building.ridge
    ends = _ridge(building)
    ring = [(x0, y0), (x1, y0), (x1, y1), (x0, y1)]
    a, b = ring[side], ring[(side + 1) % 4]
    tip = ends[1] if side in (1, 2) else ends[0]
    _face(canvas, np.array([[*a, z], [*b, z], [*tip, top]]), looks.wall, [])


def _windows(
    canvas: Canvas, building: Building, looks: _Looks, wall: tuple[Floats, Floats]
) -> list[tuple[Floats, Floats]]:
    start, end = wall
    length = float(np.linalg.norm(end - start))
    away = np.linalg.norm((start + end) / 2 - np.array(canvas.camera.position))
    if looks.storey * canvas.camera.focal / away < 7 or length < 3:
        return []
    step = (end - start) / length
    rng = np.random.default_rng([80, looks.rng_seed])
    out: list[tuple[Floats, Floats]] = []
    up = np.array([0.0, 0.0, 1.0])

    def pane(a: float, b: float, low: float, high: float, color: Floats) -> None:
        base, far = start + step * a, start + step * b
        out.append(
            (np.array([base + up * low, far + up * low, far + up * high, base + up * high]), color)
        )

    plinth = looks.wall * 0.72
    pane(0, length, 0, 0.7, plinth)
    for floor in range(int((building.height - 0.4) // looks.storey)):
        low = floor * looks.storey + 0.95
        high = low + looks.storey * 0.5
        if looks.bands:
            pane(0.6, length - 0.6, low, high, looks.glass)
            for at in np.arange(0.6, length - 0.6, looks.window):
                pane(float(at), float(at) + 0.12, low, high, looks.wall * 0.8)
            continue
        count = max(1, int((length - 1) // looks.window))
        pitch = length / count
        for k in range(count):
            bright = rng.uniform(0.75, 1.35)
            left = (k + 0.28) * pitch
            pane(left, left + pitch * 0.46, low, high, looks.glass * bright)
            pane(left, left + pitch * 0.46, low - 0.14, low, looks.wall * 1.12)
    return out


def _rect3(x: tuple[float, float], y: tuple[float, float], z: float) -> Floats:
    return np.array([[x[0], y[0], z], [x[1], y[0], z], [x[1], y[1], z], [x[0], y[1], z]])


def _flat_roof(canvas: Canvas, building: Building, looks: _Looks) -> None:
    x0, y0, x1, y1 = building.rect
    z = building.height
    rng = np.random.default_rng([81, looks.rng_seed])
    rim = 0.35
    inner = _rect3((x0 + rim, x1 - rim), (y0 + rim, y1 - rim), z)
    details: list[tuple[Floats, Floats]] = [(inner, looks.roof)]
    sun, reach = canvas.weather.sun, 0.55
    dark = 1 - canvas.weather.shade * 0.9
    # The parapet's shadow on the roof, along the two edges towards the sun.
    slide = canvas.weather.slide(reach)
    edge = (x1 - rim + slide[0], x1 - rim) if sun[0] > 0 else (x0 + rim, x0 + rim + slide[0])
    _stains(details, building, looks, rng)
    details.append((_rect3(edge, (y0 + rim, y1 - rim), z), looks.roof * dark))
    edge = (y1 - rim + slide[1], y1 - rim) if sun[1] > 0 else (y0 + rim, y0 + rim + slide[1])
    details.append((_rect3((x0 + rim, x1 - rim), edge, z), looks.roof * dark))
    units = []
    for _ in range(int(rng.poisson((x1 - x0) * (y1 - y0) / 90)) + 1):
        wide, deep, high = rng.uniform(0.8, 3.2), rng.uniform(0.8, 2.6), rng.uniform(0.5, 1.6)
        if x1 - x0 < wide + 4 or y1 - y0 < deep + 4:
            continue
        x = rng.uniform(x0 + 1.5, x1 - 1.5 - wide)
        y = rng.uniform(y0 + 1.5, y1 - 1.5 - deep)
        box = (float(x), float(y), float(x + wide), float(y + deep))
        units.append((box, float(high), np.array([1, 1, 1]) * rng.uniform(120, 205)))
        foot = _rect3((box[0], box[2]), (box[1], box[3]), z)
        top = foot[:, :2] + canvas.weather.slide(float(high))
        hull = cv2.convexHull(np.concatenate([foot[:, :2], top]).astype(np.float32))[:, 0]
        flat = np.clip(hull, (x0 + rim, y0 + rim), (x1 - rim, y1 - rim))
        details.append((np.column_stack([flat, np.full(len(flat), z)]), looks.roof * dark))
    _face(canvas, _rect3((x0, x1), (y0, y1), z), looks.roof * 1.22, details, 0.4)
    for box, high, color in units:
        _unit(canvas, box, (z, z + high), color)


def _stains(
    details: list[tuple[Floats, Floats]],
    building: Building,
    looks: _Looks,
    rng: np.random.Generator,
) -> None:
    """Add sheets of roofing felt and stains of slightly different tone."""
    x0, y0, x1, y1 = building.rect
    z = building.height
    wide = rng.uniform(1.5, 4)
    for at in np.arange(x0 + 0.35, x1 - 0.35, wide):
        right = min(float(at) + wide - 0.05, x1 - 0.35)
        strip = _rect3((float(at), right), (y0 + 0.35, y1 - 0.35), z)
        details.append((strip, looks.roof * rng.normal(1, 0.022)))
    for _ in range(int(rng.poisson(4))):
        cx, cy = rng.uniform(x0 + 1, x1 - 1), rng.uniform(y0 + 1, y1 - 1)
        a, b = rng.uniform(0.5, 2.6, 2)
        spot = _rect3(
            (max(x0 + 0.35, cx - a), min(x1 - 0.35, cx + a)),
            (max(y0 + 0.35, cy - b), min(y1 - 0.35, cy + b)),
            z,
        )
        details.append((spot, looks.roof * rng.uniform(0.9, 1.06)))


def _unit(
    canvas: Canvas,
    box: tuple[float, float, float, float],
    z: tuple[float, float],
    color: Floats,
) -> None:
    x0, y0, x1, y1 = box
    ring = [(x0, y0), (x1, y0), (x1, y1), (x0, y1)]
    for a, b in zip(ring, ring[1:] + ring[:1], strict=True):
        _face(canvas, np.array([[*a, z[0]], [*b, z[0]], [*b, z[1]], [*a, z[1]]]), color * 0.8, [])
    _face(canvas, _rect3((x0, x1), (y0, y1), z[1]), color, [])


def _pitched(canvas: Canvas, building: Building, looks: _Looks) -> None:
    x0, y0, x1, y1 = building.rect
    z, top = building.height, building.height + building.ridge
    over = 0.45
    drop = over * building.ridge / (min(x1 - x0, y1 - y0) / 2)
    (ax, ay), (bx, by) = _ridge(building)
    if x1 - x0 > y1 - y0:
        a, b = np.array([ax - over, ay, top]), np.array([bx + over, by, top])
        slopes = [
            np.array([[x0 - over, y0 - over, z - drop], [x1 + over, y0 - over, z - drop], b, a]),
            np.array([[x1 + over, y1 + over, z - drop], [x0 - over, y1 + over, z - drop], a, b]),
        ]
    else:
        a, b = np.array([ax, ay - over, top]), np.array([bx, by + over, top])
        slopes = [
            np.array([[x0 - over, y1 + over, z - drop], [x0 - over, y0 - over, z - drop], a, b]),
            np.array([[x1 + over, y0 - over, z - drop], [x1 + over, y1 + over, z - drop], b, a]),
        ]
    rng = np.random.default_rng([82, looks.rng_seed])
    for corners in slopes:
        details = []
        rows = 9
        for k in range(rows):
            # Courses of tiles, each of its own tone.
            low, high = k / rows, (k + 1) / rows
            p, q = corners[0], corners[1]
            left, right = corners[3] - p, corners[2] - q
            quad = np.array([p + left * low, q + right * low, q + right * high, p + left * high])
            details.append((quad, looks.roof * rng.normal(1, 0.045)))
        _face(canvas, corners, looks.roof, details, 0.4)
    if rng.uniform() < 0.6:
        cx, cy = ax + (bx - ax) * 0.3 + 0.9, ay + (by - ay) * 0.3 + 0.9
        chimney = (cx - 0.4, cy - 0.4, cx + 0.4, cy + 0.4)
        _unit(canvas, chimney, (top - 1.0, top + 0.7), np.array([90, 100, 140]))
