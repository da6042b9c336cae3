"""Puts vehicles and people into a town, each with its looks and its way of moving."""

from __future__ import annotations

import numpy as np

from vision_heads.data.synthetic import models
from vision_heads.data.synthetic.actors import (
    AWNING,
    BICYCLE,
    BODY,
    BOXES,
    BUS,
    CAR,
    CLOTHES,
    COVERS,
    HAIR,
    LIVERIES,
    LOADS,
    MOTOR,
    PEDESTRIAN,
    PEOPLE,
    SKIN,
    TRICYCLE,
    TROUSERS,
    TRUCK,
    VAN,
    Actor,
    Color,
)
from vision_heads.data.synthetic.camera import Floats
from vision_heads.data.synthetic.markings import heading
from vision_heads.data.synthetic.plan import Rect, Road, Town, shrink
from vision_heads.data.synthetic.solid import Model


class Crew:
    """Fills a town; every draw comes from one generator, so a seed gives one crew."""

    def __init__(self, town: Town, bounds: Rect, rng: np.random.Generator, busy: float) -> None:
        self.town = town
        self.bounds = bounds
        self.rng = rng
        self.busy = busy
        self.actors: list[Actor] = []

    def fill(self) -> list[Actor]:
        """Return everything that drives, stands or walks."""
        for road in self.town.roads:
            for direction in (-1, 1):
                for lane in range(road.lanes):
                    self._lane(road, lane, direction)
        fullness = self.rng.uniform(0.45, 0.95)
        for x, y, facing in self.town.stalls:
            if self.rng.uniform() < fullness:
                near = self.rng.normal(0, 0.15, 2)
                kind = VAN if self.rng.uniform() < 0.1 else CAR
                turn = float(self.rng.normal(0, 0.03))
                self._vehicle(kind, (x + near[0], y + near[1]), facing + turn, 0)
        for rect in self.town.pavements:
            self._pavement(rect)
        for rect in self.town.plazas:
            self._plaza(rect)
        for road, low, high in self.town.zebras:
            self._zebra(road, (low, high))
        return self.actors

    def _inside(self, x: float, y: float, margin: float = 0) -> bool:
        x0, y0, x1, y1 = self.bounds
        return x0 - margin < x < x1 + margin and y0 - margin < y < y1 + margin

    def _pick(self, colors: tuple[Color, ...], spread: float = 12) -> Color:
        base = np.array(colors[self.rng.integers(len(colors))])
        jitter = self.rng.normal(0, 0.8 * spread) + self.rng.normal(0, 0.2 * spread, 3)
        b, g, r = np.clip(base + jitter, 12, 250)
        return float(b), float(g), float(r)

    def _paint_job(self) -> Color:
        weights = np.array([weight for _, weight in BODY])
        pick = self.rng.choice(len(BODY), p=weights / weights.sum())
        return self._pick((BODY[pick][0],), 14)

    def _person_colors(self) -> dict[str, Color]:
        top = self._pick(CLOTHES, 20)
        skin = self._pick(SKIN)
        bare = self.rng.uniform() < 0.4
        hat = self.rng.uniform() < 0.1
        return {
            "torso": top,
            "arm": skin if bare else top,
            "legs": self._pick(TROUSERS, 20),
            "skin": skin,
            "hair": self._pick(CLOTHES if hat else HAIR),
        }

    def _add(
        self,
        label: int,
        model: Model,
        place: tuple[float, float],
        facing: float,
        *,
        speed: float = 0.0,
        base: float = 0.0,
        reach: float = 0.0,
        colors: dict[str, Color],
    ) -> None:
        size = self.rng.normal(1, 0.035, 3) * self.rng.normal(1, 0.03)
        scale = (float(size[0]), float(size[1]), float(size[2]))
        x, y = place
        self.actors.append(Actor(label, model, scale, x, y, base, facing, speed, colors, reach))

    def _vehicle(self, label: int, place: tuple[float, float], facing: float, speed: float) -> None:
        body = self._paint_job()
        glass = self._pick(((62, 52, 44),), 16)
        colors: dict[str, Color] = {
            "body": body,
            "hood": (body[0] * 0.97, body[1] * 0.97, body[2] * 0.97),
            "glass": glass,
            "screen": (glass[0] * 1.35 + 14, glass[1] * 1.35 + 12, glass[2] * 1.35 + 8),
            "tyre": (26, 26, 27),
            "dark": (38, 38, 40),
            "lamp": (225, 235, 240),
            "tail": (40, 34, 170),
            "roof": body,
        }
        if label == CAR:
            model = models.car(int(self.rng.choice(3, p=[0.5, 0.22, 0.28])))
        elif label == VAN:
            model = models.van()
            if self.rng.uniform() < 0.5:
                colors["body"] = colors["hood"] = self._pick(((228, 228, 226),))
        elif label == TRUCK:
            model = models.truck(int(self.rng.integers(2)))
            colors["cargo"] = self._pick(BOXES)
            colors["load"] = self._pick(LOADS)
            if colors["body"][0] < 60:
                colors["body"] = self._pick(((170, 110, 60), (60, 60, 170), (225, 225, 225)))
        elif label == BUS:
            model = models.bus()
            colors["body"] = self._pick(LIVERIES)
            light = self.rng.uniform() < 0.6
            colors["roof"] = self._pick(((222, 222, 220),)) if light else colors["body"]
            colors["unit"] = self._pick(((170, 170, 168),))
        else:
            model = models.tricycle(label == AWNING)
            colors["cargo"] = self._pick(COVERS)
            colors["load"] = self._pick(((84, 112, 138), (110, 110, 110)))
            colors |= self._person_colors()
        self._add(label, model, place, facing, speed=speed, colors=colors)

    def _rider(
        self, label: int, place: tuple[float, float], facing: float, speed: float, reach: float = 0
    ) -> None:
        """Add a bicycle or a motor and who sits on it."""
        self._parked_bike(label, place, facing, speed, reach)
        back = -0.15
        seat = (place[0] + back * np.cos(facing), place[1] + back * np.sin(facing))
        self._add(
            PEOPLE,
            models.person(3),
            (float(seat[0]), float(seat[1])),
            facing,
            speed=speed,
            base=0.42 if label == BICYCLE else 0.3,
            reach=reach,
            colors=self._person_colors(),
        )

    def _parked_bike(
        self,
        label: int,
        place: tuple[float, float],
        facing: float,
        speed: float = 0.0,
        reach: float = 0.0,
    ) -> None:
        paint: dict[str, Color] = {
            "body": self._pick(((60, 60, 180), (40, 40, 40), (170, 120, 50), (60, 190, 230))),
            "dark": (34, 34, 36),
            "tyre": (28, 28, 30),
        }
        model = models.bicycle() if label == BICYCLE else models.motor()
        self._add(label, model, place, facing, speed=speed, reach=reach, colors=paint)

    def _walker(
        self, place: tuple[float, float], facing: float, *, reach: float = 12.0, still: float = 0.15
    ) -> None:
        standing = self.rng.uniform() < still
        pose = 2 if standing else int(self.rng.integers(2))
        speed = 0.0 if standing else float(self.rng.uniform(0.8, 1.7))
        self._add(
            PEDESTRIAN,
            models.person(pose),
            place,
            facing,
            speed=speed,
            reach=reach,
            colors=self._person_colors(),
        )

    def _kind(self, highway: bool) -> int:
        if highway:
            return int(self.rng.choice([CAR, VAN, TRUCK, BUS], p=[0.66, 0.1, 0.18, 0.06]))
        return int(
            self.rng.choice(
                [CAR, VAN, TRUCK, BUS, MOTOR, TRICYCLE, AWNING, BICYCLE],
                p=[0.68, 0.09, 0.055, 0.05, 0.06, 0.02, 0.015, 0.03],
            )
        )

    def _lane(self, road: Road, lane: int, direction: int) -> None:
        across = road.lane_centre(lane, direction)
        speed = float(self.rng.uniform(6, 11)) * (2 if self.town.kind == "highway" else 1)
        low, high = (0, 2) if road.along == 0 else (1, 3)
        span = (self.bounds[low] - 60, self.bounds[high] + 60)
        crossings = sorted(
            (o.centre - direction * o.half for o in self.town.roads if o.along != road.along),
            reverse=direction < 0,
        )
        if road.along == 0:
            for stop in crossings:
                self._queue(road, (stop - direction * 7.0, across), direction)
            return
        at = span[0]
        mean = 26 / self.busy
        while at < span[1]:
            kind = self._kind(self.town.kind == "highway")
            at += 9 + float(self.rng.exponential(mean)) + (8 if kind in (BUS, TRUCK) else 0)
            self._drive(kind, road, (at, across), (direction, speed))
            at += 7 if kind in (BUS, TRUCK) else 0

    def _queue(self, road: Road, place: tuple[float, float], direction: int) -> None:
        at, across = place
        room = 30.0 + 40 * min(self.busy, 1.5)
        used = 0.0
        while self.rng.uniform() < 0.45 + 0.28 * min(self.busy, 1.5):
            kind = self._kind(False)
            length = {BUS: 12.5, TRUCK: 9.0, VAN: 6.0, MOTOR: 2.4, BICYCLE: 2.4}.get(kind, 5.2)
            if used + length > room:
                return
            middle = at - direction * (used + length / 2)
            self._drive(kind, road, (middle, across), (direction, 0.0))
            used += length + float(self.rng.uniform(0.8, 2.5))

    def _drive(
        self, kind: int, road: Road, place: tuple[float, float], motion: tuple[int, float]
    ) -> None:
        direction, speed = motion
        drift = float(self.rng.normal(0, 0.22))
        facing = heading(road, direction) + float(self.rng.normal(0, 0.012))
        x, y = road.point(place[0], place[1] + drift)
        if not self._inside(x, y, 70):
            return
        if kind in (MOTOR, BICYCLE):
            self._rider(kind, (x, y), facing, speed)
        else:
            self._vehicle(kind, (x, y), facing, speed)

    def _pavement(self, rect: Rect) -> None:
        x0, y0, x1, y1 = rect
        around = 2 * (x1 - x0 + y1 - y0)
        for _ in range(int(self.rng.poisson(around / 26 * self.busy))):
            side = int(self.rng.integers(4))
            in_by = float(self.rng.uniform(0.7, 3.6))
            low, high = (x0, x1) if side < 2 else (y0, y1)
            at = float(self.rng.uniform(low + 3, max(low + 3.1, high - 12)))
            edge = (y0 + in_by, y1 - in_by, x0 + in_by, x1 - in_by)[side]
            place = (at, edge) if side < 2 else (edge, at)
            facing = 0.0 if side < 2 else float(np.pi / 2)
            if not self._inside(*place):
                continue
            chance = self.rng.uniform()
            if chance < 0.06:
                self._rider(BICYCLE, place, facing, 3.0, reach=10)
            elif chance < 0.16:
                self._row_of_bikes(place, facing)
            else:
                for _ in range(1 + int(self.rng.uniform() < 0.3)):
                    beside = self.rng.normal(0, 0.6, 2)
                    self._walker((place[0] + beside[0], place[1] + beside[1]), facing)

    def _row_of_bikes(self, place: tuple[float, float], facing: float) -> None:
        label = BICYCLE if self.rng.uniform() < 0.6 else MOTOR
        gap = 0.75 if label == BICYCLE else 1.0
        for k in range(int(self.rng.integers(1, 8))):
            x = place[0] + k * gap * np.cos(facing)
            y = place[1] + k * gap * np.sin(facing)
            turn = facing + np.pi / 2 + self.rng.normal(0, 0.08)
            self._parked_bike(label, (float(x), float(y)), float(turn))

    def _plaza(self, rect: Rect) -> None:
        x0, y0, x1, y1 = shrink(rect, 1)
        size = (x1 - x0) * (y1 - y0)
        number = int(np.clip(self.rng.poisson(size * 0.03 * self.busy), 4, 320))
        groups: Floats = self.rng.uniform((x0, y0), (x1, y1), (max(2, number // 6), 2))
        taken = np.zeros((0, 2))
        for _ in range(number):
            if self.rng.uniform() < 0.55:
                centre = groups[self.rng.integers(len(groups))]
                spot = centre + self.rng.normal(0, 1.6, 2)
            else:
                spot = self.rng.uniform((x0, y0), (x1, y1))
            spot = np.clip(spot, (x0, y0), (x1, y1))
            if len(taken) and np.abs(taken - spot).max(axis=1).min() < 0.6:
                continue
            taken = np.vstack([taken, spot])
            facing = float(self.rng.uniform(0, 2 * np.pi))
            place = (float(spot[0]), float(spot[1]))
            chance = self.rng.uniform()
            if chance < 0.05:
                self._add(PEOPLE, models.person(3), place, facing, colors=self._person_colors())
            elif chance < 0.08:
                self._rider(BICYCLE, place, facing, 2.0, reach=8)
            else:
                self._walker(place, facing, reach=8, still=0.35)

    def _zebra(self, road: Road, along: tuple[float, float]) -> None:
        """People cross where traffic is held at red; elsewhere they wait at the kerb."""
        held = road.along == 0
        for _ in range(int(self.rng.poisson(2.2 * self.busy))):
            at = float(self.rng.uniform(along[0] + 0.3, along[1] - 0.3))
            reach = road.half - 0.5
            side = 1 if self.rng.uniform() < 0.5 else -1
            away = self.rng.uniform(-reach, reach) if held else side * (road.half + 1.0)
            x, y = road.point(at, road.centre + float(away))
            if self._inside(x, y):
                facing = heading(road, 1) + np.pi / 2 * (1 if self.rng.uniform() < 0.5 else -1)
                self._walker((x, y), float(facing), still=0.1 if held else 1.0)
