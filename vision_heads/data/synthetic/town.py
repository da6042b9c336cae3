"""Lays out a small town: a grid of roads, blocks between them, and what stands on each lot."""

from __future__ import annotations

import numpy as np

from vision_heads.data.synthetic.camera import Floats
from vision_heads.data.synthetic.markings import mark_road
from vision_heads.data.synthetic.plan import (
    Building,
    Ground,
    Kind,
    Rect,
    Road,
    Town,
    Tree,
    shrink,
)


def _rounded(rect: Rect, radius: float) -> Floats:
    x0, y0, x1, y1 = rect
    radius = min(radius, (x1 - x0) / 2, (y1 - y0) / 2)
    turn = np.linspace(0, np.pi / 2, 6)
    corners = ((x1, y1, 0), (x0, y1, 1), (x0, y0, 2), (x1, y0, 3))
    points = []
    for x, y, quarter in corners:
        cx = x - radius if x == x1 else x + radius
        cy = y - radius if y == y1 else y + radius
        for angle in turn + quarter * np.pi / 2:
            points.append((cx + radius * np.cos(angle), cy + radius * np.sin(angle)))
    return np.array(points)


def build_town(kind: Kind, bounds: Rect, tallest: float, rng: np.random.Generator) -> Town:
    """Lay out a town that covers `bounds`, with what `kind` asks for around the origin.

    Roads cross at (0, 0) (no other road comes near it for a highway); the block up and right
    of the origin is the kind's own: a car park, a square, houses. No building is higher than
    `tallest` metres.
    """
    town = Town(kind, tallest)
    columns = _road_places(bounds[0], bounds[2], kind, rng)
    rows = _road_places(bounds[1], bounds[3], kind, rng)
    if kind == "highway":
        rows = [y + 150 for y in rows if abs(y + 150) > 120]
    upright = [_road(1, x, kind, rng) for x in columns]
    level = [_road(0, y, kind, rng) for y in rows]
    town.roads = upright + level
    _blocks(town, bounds, (upright, level), rng)
    for road in town.roads:
        mark_road(town, road, upright if road.along == 0 else level, bounds, rng)
    return town


def _road_places(low: float, high: float, kind: Kind, rng: np.random.Generator) -> list[float]:
    gap = {"suburb": (48, 80), "highway": (150, 240)}.get(kind, (75, 135))
    places = [0.0]
    while places[-1] < high:
        places.append(places[-1] + rng.uniform(*gap))
    while places[0] > low:
        places.insert(0, places[0] - rng.uniform(*gap))
    return places


def _road(along: int, centre: float, kind: Kind, rng: np.random.Generator) -> Road:
    if kind == "highway" and along == 1:
        return Road(along, centre, int(rng.integers(3, 5)), False, float(rng.uniform(1.5, 4)))
    if kind == "suburb":
        return Road(along, centre, 1, bool(rng.uniform() < 0.6))
    main = centre == 0
    lanes = int(rng.choice([1, 2, 3], p=[0.15, 0.5, 0.35] if main else [0.5, 0.4, 0.1]))
    median = float(rng.uniform(1.2, 3)) if lanes > 1 and rng.uniform() < 0.35 else 0.0
    return Road(along, centre, lanes, bool(rng.uniform() < 0.45), median)


def _gaps(roads: list[Road], low: float, high: float) -> list[tuple[float, float]]:
    """Ranges between neighbouring roads, kerb to kerb, out to the bounds."""
    edges = [low - 20.0]
    for road in roads:
        edges += [road.centre - road.half, road.centre + road.half]
    edges.append(high + 20.0)
    pairs = zip(edges[0::2], edges[1::2], strict=True)
    return [(a, b) for a, b in pairs if b - a > 4]


def _blocks(
    town: Town, bounds: Rect, roads: tuple[list[Road], list[Road]], rng: np.random.Generator
) -> None:
    for x0, x1 in _gaps(roads[0], bounds[0], bounds[2]):
        for y0, y1 in _gaps(roads[1], bounds[1], bounds[3]):
            rect = (x0, y0, x1, y1)
            if x1 < bounds[0] or x0 > bounds[2] or y1 < bounds[1] or y0 > bounds[3]:
                continue
            town.ground.append((Ground.KERB, _rounded(rect, 6)))
            own = _is_own_block(rect, roads)
            if town.kind == "highway":
                town.ground.append((Ground.GRASS, _rounded(shrink(rect, 0.5), 6)))
                _plant(town, shrink(rect, 4), 0.006, rng)
                _lots(town, shrink(rect, 22), "suburb", rng)
                continue
            town.ground.append((Ground.PAVING, _rounded(shrink(rect, 0.25), 5.8)))
            town.pavements.append(rect)
            _street_trees(town, rect, rng)
            inner = shrink(rect, Town.PAVEMENT)
            if own and town.kind in ("parking", "square"):
                (_car_park if town.kind == "parking" else _square)(town, inner, rng)
            else:
                _lots(town, inner, town.kind, rng)


def _is_own_block(rect: Rect, roads: tuple[list[Road], list[Road]]) -> bool:
    right = min(road.half for road in roads[0] if road.centre == 0)
    above = [road.half for road in roads[1] if road.centre == 0]
    return rect[0] == right and bool(above) and rect[1] == above[0]


def _lots(town: Town, rect: Rect, kind: Kind, rng: np.random.Generator) -> None:
    """Split a block's inside until lots are of the size of one property, and fill them."""
    x0, y0, x1, y1 = rect
    wide, high = x1 - x0, y1 - y0
    if min(wide, high) < 6:
        if min(wide, high) > 0:
            town.paint(Ground.GRASS, rect)
        return
    limit = 24 if kind == "suburb" else 46
    if max(wide, high) > limit:
        cut = rng.uniform(0.4, 0.6)
        halves = (
            ((x0, y0, x0 + wide * cut, y1), (x0 + wide * cut, y0, x1, y1))
            if wide > high
            else ((x0, y0, x1, y0 + high * cut), (x0, y0 + high * cut, x1, y1))
        )
        for half in halves:
            _lots(town, half, kind, rng)
        return
    choice = rng.uniform()
    if kind == "suburb":
        (_house if choice < 0.85 else _park)(town, rect, rng)
    elif choice < 0.58:
        _block_building(town, rect, rng)
    elif choice < 0.76:
        _park(town, rect, rng)
    elif choice < 0.92:
        _car_park(town, rect, rng)
    else:
        _square(town, rect, rng)


def _block_building(town: Town, rect: Rect, rng: np.random.Generator) -> None:
    floor = rng.choice([Ground.CONCRETE, Ground.GRASS, Ground.PAVING], p=[0.45, 0.3, 0.25])
    town.paint(Ground(int(floor)), rect)
    inset = rng.uniform(1.5, 4.5)
    x0, y0, x1, y1 = shrink(rect, inset)
    if x1 - x0 < 6 or y1 - y0 < 6:
        return
    height = float(
        rng.choice(
            [rng.uniform(4, 9), rng.uniform(9, 18), rng.uniform(18, 34)], p=[0.35, 0.45, 0.2]
        )
    )
    height = min(height, town.tallest)
    style = int(rng.integers(1 << 30))
    if rng.uniform() < 0.35 and min(x1 - x0, y1 - y0) > 20:
        # An L: two wings and a yard.
        mx, my = x0 + (x1 - x0) * 0.45, y0 + (y1 - y0) * 0.45
        town.buildings.append(Building((x0, y0, mx, y1), height, 0, style))
        town.buildings.append(Building((mx, y0, x1, my), height * 0.8, 0, style))
        _plant(town, shrink((mx, my, x1, y1), 1.5), 0.02, rng)
        return
    town.buildings.append(Building((x0, y0, x1, y1), height, 0, style))


def _house(town: Town, rect: Rect, rng: np.random.Generator) -> None:
    town.paint(Ground.GRASS if rng.uniform() < 0.75 else Ground.DRY_GRASS, rect)
    x0, y0, x1, y1 = rect
    wide, deep = rng.uniform(8, 13), rng.uniform(7, 10)
    if rng.uniform() < 0.5:
        wide, deep = deep, wide
    wide, deep = min(wide, x1 - x0 - 3), min(deep, y1 - y0 - 3)
    if min(wide, deep) < 5:
        return
    left = x0 + 1.5 + rng.uniform() * (x1 - x0 - wide - 3)
    low = y0 + 1.5 + rng.uniform() * (y1 - y0 - deep - 3)
    house = (left, low, left + wide, low + deep)
    drive = (left + wide * 0.1, y0 - Town.PAVEMENT * 0.2, left + wide * 0.1 + 2.8, low)
    if low - y0 > 5.5:
        town.paint(Ground.CONCRETE, drive)
        town.stalls.append((drive[0] + 1.4, low - 2.9, float(np.pi / 2)))
    town.buildings.append(
        Building(
            house,
            min(rng.uniform(3.2, 6.2), town.tallest),
            rng.uniform(1.6, 3.2),
            int(rng.integers(1 << 30)),
        )
    )
    for _ in range(int(rng.poisson(3))):
        x, y = rng.uniform(x0 + 1, x1 - 1), rng.uniform(y0 + 1, y1 - 1)
        away = max(house[0] - x, x - house[2], house[1] - y, y - house[3])
        if away > 1.2:
            _tree(town, x, y, min(rng.uniform(1.0, 3.2), away + 0.8), rng)


def _park(town: Town, rect: Rect, rng: np.random.Generator) -> None:
    town.paint(Ground.GRASS, rect)
    x0, y0, x1, y1 = rect
    for _ in range(2):
        a = np.array([x0, rng.uniform(y0, y1)])
        b = np.array([x1, rng.uniform(y0, y1)])
        if rng.uniform() < 0.5:
            a, b = np.array([rng.uniform(x0, x1), y0]), np.array([rng.uniform(x0, x1), y1])
        step = (b - a) / max(float(np.linalg.norm(b - a)), 1e-6)
        side = np.array([-step[1], step[0]]) * rng.uniform(0.7, 1.3)
        town.ground.append((Ground.PATH, np.array([a + side, a - side, b - side, b + side])))
    if rng.uniform() < 0.4:
        town.ground.append((Ground.SOIL, _rounded(shrink(rect, min(x1 - x0, y1 - y0) * 0.38), 5)))
    _plant(town, shrink(rect, 1), rng.uniform(0.006, 0.03), rng)


def _plant(town: Town, rect: Rect, density: float, rng: np.random.Generator) -> None:
    x0, y0, x1, y1 = rect
    if x1 <= x0 or y1 <= y0:
        return
    for _ in range(int(rng.poisson(density * (x1 - x0) * (y1 - y0)))):
        _tree(town, rng.uniform(x0, x1), rng.uniform(y0, y1), rng.uniform(1.4, 4.0), rng)


def _tree(town: Town, x: float, y: float, radius: float, rng: np.random.Generator) -> None:
    height = radius * rng.uniform(1.0, 1.4) + 0.8
    town.trees.append(Tree(x, y, float(radius), float(height), int(rng.integers(10))))


def _street_trees(town: Town, rect: Rect, rng: np.random.Generator) -> None:
    """Plant a row along the kerbs of a block, now and then."""
    x0, y0, x1, y1 = shrink(rect, 1.4)
    sides = (((x0, y0), (x1, y0)), ((x0, y1), (x1, y1)), ((x0, y0), (x0, y1)), ((x1, y0), (x1, y1)))
    for a, b in sides:
        if rng.uniform() < 0.45:
            continue
        start, end = np.array(a), np.array(b)
        length = float(np.linalg.norm(end - start))
        gap, size = rng.uniform(7, 13), rng.uniform(1.2, 2.6)
        for at in np.arange(9, length - 9, gap):
            if rng.uniform() < 0.85:
                x, y = start + (end - start) * (at + rng.normal(0, 0.4)) / length
                town.paint(Ground.SOIL, (x - 0.7, y - 0.7, x + 0.7, y + 0.7))
                _tree(town, float(x), float(y), size * rng.uniform(0.8, 1.2), rng)


def _car_park(town: Town, rect: Rect, rng: np.random.Generator) -> None:
    town.paint(Ground.GRASS, rect)
    rect = shrink(rect, 1.2)
    town.paint(Ground.LOT, rect)
    x0, y0, x1, y1 = rect
    upright = (y1 - y0) > (x1 - x0)
    road = Road(1 if upright else 0, 0.0, 1, False)
    along = (y0, y1) if upright else (x0, x1)
    across = (x0, x1) if upright else (y0, y1)
    at, flip = across[0] + 0.3, False
    while at + 5.1 <= across[1]:
        stalls = np.arange(along[0] + 2.5, along[1] - 4.0, 2.55)
        for begin in stalls:
            town.paint(Ground.WHITE, road.rect((begin - 0.06, begin + 0.06), (at, at + 5)))
            if (begin - stalls[0]) / 2.55 % 14 > 12.9:
                place = road.point(begin + 1.27, at + 2.5)
                town.paint(
                    Ground.GRASS, road.rect((begin + 0.1, begin + 2.45), (at + 0.1, at + 4.9))
                )
                _tree(town, *place, rng.uniform(1.3, 2.2), rng)
                continue
            x, y = road.point(begin + 1.27, at + 2.5)
            facing = (0.0 if upright else np.pi / 2) + (np.pi if rng.uniform() < 0.3 else 0)
            town.stalls.append((x, y, float(facing)))
        at += 5.0 if flip else 11.2
        flip = not flip
    for k in range(int((along[1] - along[0]) // 40)):
        arrow = along[0] + 20 + 40 * k
        x, y = road.point(arrow, across[0] + 8.4)
        town.paint(Ground.WHITE, (x - 0.8, y - 0.08, x + 0.8, y + 0.08))


def _square(town: Town, rect: Rect, rng: np.random.Generator) -> None:
    town.paint(Ground.TILES, rect)
    x0, y0, x1, y1 = rect
    town.plazas.append(rect)
    gap = rng.uniform(6, 11)
    for x in np.arange(x0 + gap / 2, x1, gap):
        town.paint(Ground.TILES_B, (x - 0.35, y0, x + 0.35, y1))
    for y in np.arange(y0 + gap / 2, y1, gap):
        town.paint(Ground.TILES_B, (x0, y - 0.35, x1, y + 0.35))
    cx, cy = (x0 + x1) / 2, (y0 + y1) / 2
    radius = min(x1 - x0, y1 - y0) * 0.22
    for material, size in (
        (Ground.TILES_B, 1.0),
        (Ground.TILES, 0.86),
        (Ground.KERB, 0.5),
        (Ground.GRASS, 0.45),
    ):
        r = radius * size
        town.ground.append((material, _rounded((cx - r, cy - r, cx + r, cy + r), r)))
    _tree(town, cx, cy, min(radius * 0.4, 3.5), rng)
    for x in np.arange(x0 + 3, x1 - 2, gap):
        for y in (y0 + 2.5, y1 - 2.5):
            if rng.uniform() < 0.6:
                town.paint(Ground.SOIL, (x - 0.8, y - 0.8, x + 0.8, y + 0.8))
                _tree(town, float(x), y, rng.uniform(1.2, 2.2), rng)
