"""Paint on roads: lane lines, stop lines, zebra crossings, arrows; wear and patches."""

from __future__ import annotations

import numpy as np

from vision_heads.data.synthetic.plan import Ground, Rect, Road, Town

_DASH, _GAP = 3.0, 5.0
_CLEAR = 7.2
"""Metres from a crossing road's kerb to the stop line's far side."""


def mark_road(
    town: Town, road: Road, others: list[Road], bounds: Rect, rng: np.random.Generator
) -> None:
    """Mark one road between the crossings with `others`, and mend its surface here and there."""
    low, high = (bounds[0], bounds[2]) if road.along == 0 else (bounds[1], bounds[3])
    start = low - 20
    for other in [*sorted(others, key=lambda item: item.centre), None]:
        end = high + 20 if other is None else other.centre - other.half
        if end - start > 2 * _CLEAR + 4:
            _mend(town, road, (start, end), rng)
            _stretch(town, road, (start + _CLEAR, end - _CLEAR), rng)
            if town.kind != "highway":
                _ends(town, road, (start, end))
        if other is not None:
            start = other.centre + other.half


def _mend(town: Town, road: Road, span: tuple[float, float], rng: np.random.Generator) -> None:
    length = span[1] - span[0]
    for lane in range(road.lanes):
        for direction in (-1, 1):
            middle = road.lane_centre(lane, direction)
            for side in (-0.85, 0.85):
                track = (middle + side - 0.3, middle + side + 0.3)
                town.paint(Ground.PATCH_DARK, road.rect(span, track))
    for _ in range(int(rng.poisson(length / 60))):
        at, size = rng.uniform(*span), rng.uniform(2, 9)
        across = road.centre + rng.uniform(-road.half, road.half - 1.5)
        material = Ground.PATCH_DARK if rng.uniform() < 0.6 else Ground.PATCH_LIGHT
        wide = (across, min(across + rng.uniform(1, 3), road.centre + road.half))
        town.paint(material, road.rect((at, at + size), wide))
    for _ in range(int(rng.poisson(length / 45))):
        x, y = road.point(rng.uniform(*span), road.centre + rng.uniform(-0.7, 0.7) * road.half)
        turn = np.arange(8) * np.pi / 4
        town.ground.append(
            (Ground.IRON, np.stack([x + 0.38 * np.cos(turn), y + 0.38 * np.sin(turn)], axis=1))
        )


def _line(
    town: Town, road: Road, span: tuple[float, float], across: float, material: Ground
) -> None:
    """Add a solid line, in pieces short enough to be seen whole or not at all."""
    for a in np.arange(span[0], span[1], 12.0):
        b = min(float(a) + 12.0, span[1])
        town.paint(material, road.rect((float(a), b), (across - 0.08, across + 0.08)))


def _dashes(town: Town, road: Road, span: tuple[float, float], across: float) -> None:
    for a in np.arange(span[0], span[1] - _DASH, _DASH + _GAP):
        town.paint(
            Ground.WHITE, road.rect((float(a), float(a) + _DASH), (across - 0.08, across + 0.08))
        )


def _stretch(town: Town, road: Road, span: tuple[float, float], rng: np.random.Generator) -> None:
    centre = road.centre
    if road.median:
        half = road.median / 2
        town.paint(Ground.KERB, road.rect(span, (centre - half, centre + half)))
        town.paint(Ground.GRASS, road.rect(span, (centre - half + 0.25, centre + half - 0.25)))
    elif road.lanes > 1:
        for side in (-0.16, 0.16):
            _line(town, road, span, centre + side, Ground.YELLOW)
    else:
        _dashes(town, road, span, centre)
    for direction in (-1, 1):
        for lane in range(1, road.lanes):
            inner = road.lane_centre(lane - 1, direction)
            middle = (inner + road.lane_centre(lane, direction)) / 2
            stop = span[1] - 18 if direction > 0 else span[0] + 18
            dashed = (span[0], stop) if direction > 0 else (stop, span[1])
            _dashes(town, road, dashed, middle)
            if town.kind != "highway":
                _line(
                    town,
                    road,
                    (min(stop, span[1]), max(stop, span[1])) if direction > 0 else (span[0], stop),
                    middle,
                    Ground.WHITE,
                )
        outer = road.lane_centre(road.lanes - 1, direction)
        edge = outer + np.sign(outer - centre) * (Road.LANE / 2 + 0.05)
        if road.kerbside:
            for a in np.arange(span[0] + 6, span[1] - 12, 6.0):
                across = tuple(sorted((float(edge), float(edge + np.sign(edge - centre) * 2.2))))
                town.paint(Ground.WHITE, road.rect((a - 0.06, a + 0.06), (across[0], across[1])))
                if rng.uniform() < 0.62:
                    x, y = road.point(a + 3, float(edge + np.sign(edge - centre) * 1.15))
                    town.stalls.append((x, y, heading(road, direction)))
        elif road.lanes > 1 or town.kind == "highway":
            _line(town, road, span, float(edge), Ground.WHITE)


def heading(road: Road, direction: int) -> float:
    """Radians, counter-clockwise from +x, of traffic going `direction` along the road."""
    return float((np.pi / 2 if road.along == 1 else 0.0) + (0 if direction > 0 else np.pi))


def _ends(town: Town, road: Road, span: tuple[float, float]) -> None:
    """Paint zebra, stop line and arrows at both ends of a stretch between crossings."""
    low, high = road.centre - road.half, road.centre + road.half
    for kerb, inward in ((span[0], 1), (span[1], -1)):
        zebra = sorted((kerb + inward * 1.5, kerb + inward * 5.0))
        for across in np.arange(low + 0.4, high - 0.5, 1.1):
            town.paint(
                Ground.WHITE, road.rect((zebra[0], zebra[1]), (float(across), float(across) + 0.55))
            )
        town.zebras.append((road, zebra[0], zebra[1]))
        stop = sorted((kerb + inward * 6.2, kerb + inward * 6.6))
        direction = -inward
        for lane in range(road.lanes):
            middle = road.lane_centre(lane, direction)
            town.paint(Ground.WHITE, road.rect((stop[0], stop[1]), (middle - 1.6, middle + 1.6)))
            _arrow(town, road, (kerb + inward * 14, middle), direction)


def _arrow(town: Town, road: Road, place: tuple[float, float], direction: int) -> None:
    at, middle = place
    shaft = sorted((at, at - direction * 2.6))
    town.paint(Ground.WHITE, road.rect((shaft[0], shaft[1]), (middle - 0.09, middle + 0.09)))
    head = [(at, middle - 0.42), (at + direction * 1.3, middle), (at, middle + 0.42)]
    town.ground.append((Ground.WHITE, np.array([road.point(a, b) for a, b in head])))
