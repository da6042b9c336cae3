"""Line crossings and zones of one source: events, counts and what is painted of them."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vision_heads.media.frames import Frame
from vision_heads.results import Detections
from vision_heads.stream.clock import Clock
from vision_heads.stream.crossing import LineCounter, Spot
from vision_heads.stream.dwelling import Reason, Stay, ZoneWatch
from vision_heads.stream.overlay import paint_line, paint_zone
from vision_heads.stream.seen import LINE_CROSSED, ZONE_ENTERED, ZONE_LEFT, Event, Seen
from vision_heads.stream.shapes import Line, Shape, Shapes, Zone

Floats = NDArray[np.float64]


class Counting:
    """A `Hook` that counts tracked objects; it comes after `Tracking`.

    Args:
        source: id of the source.
        shapes: lines and zones; None counts objects only.
        lost: seconds for which tracks wait, as in `TrackSettings`.
        reset: seconds of absence of the source that end all tracks.
    """

    def __init__(
        self, source: str, shapes: Shapes | None = None, lost: float = 1.0, reset: float = 2.0
    ) -> None:
        here = shapes or Shapes.model_construct()
        self._source = source
        self._fractions = here.units == "fraction"
        self._lines = [(one, LineCounter()) for one in here.lines if _concerns(one, source)]
        self._zones = [(one, ZoneWatch()) for one in here.zones if _concerns(one, source)]
        self._lost, self._reset = lost, reset
        self._clock = Clock(lost, reset)
        self._size = (0, 0)
        self._now: dict[str, Counter[str]] = {}
        self._total: dict[str, Counter[str]] = {}
        self._highest: dict[str, int] = {}
        self._late: list[Event] = []
        self._lock = threading.Lock()

    def update(self, seen: Seen) -> None:
        """Append what happened to the frame's events, and lines and zones to its overlay."""
        with self._lock:
            size = (seen.result.width, seen.result.height)
            if self._clock.restarts(seen.frame.time) or size != self._size:
                self._forget()
            self._size = size
            time = self._clock.moment(seen.frame.time)
            seen.events += self._late
            self._late = []
            spots: list[Spot] = []
            for head, found in seen.result.heads.items():
                spots += _spots(head, found)
                self._count(head, found)
            self._cross(seen, spots, time)
            self._dwell(seen, spots, time)

    def gap(self, seconds: float) -> None:
        """Where the source was away for longer than `reset`, end all stays in zones."""
        if seconds > self._reset:
            with self._lock:
                self._forget()

    def end(self) -> Iterable[Event]:
        """Return an event for each object that is still in a zone."""
        with self._lock:
            return [*self._late, *self._clear("ended")]

    def snapshot(self) -> dict[str, Any]:
        """Return the counts so far, in plain JSON values; may be called from any thread.

        Returns:
            time: of the last frame, seconds in the stream.
            now: {head: {class: n}} objects found in the last frame, tracked or not.
            tracked: {head: {class: n}} objects that got a track so far, each once.
            lines: {name: {"in": {class: n}, "out": {class: n}}}.
            zones: {name: {"inside": {class: n}, "entered": {class: n}, "stays": n,
                "dwell_mean": seconds or None, "dwell_longest": seconds}}; of stays that are over.
        """
        with self._lock:
            return {
                "time": round(self._clock.last, 3),
                "now": {head: dict(counts) for head, counts in self._now.items()},
                "tracked": {head: dict(counts) for head, counts in self._total.items()},
                "lines": {
                    line.name: {"in": dict(counter.entered), "out": dict(counter.left)}
                    for line, counter in self._lines
                },
                "zones": {zone.name: _zone_record(watch) for zone, watch in self._zones},
            }

    def _count(self, head: str, found: Detections) -> None:
        self._now[head] = Counter(found.counts())
        total = self._total.setdefault(head, Counter())
        if found.track is None:
            return
        # Ids only grow, so one number tells old objects from new ones for ever.
        highest = self._highest.get(head, 0)
        for number, label in zip(found.track.tolist(), found.class_id.tolist(), strict=True):
            if number > highest:
                total[found.names[label]] += 1
        self._highest[head] = max(highest, int(found.track.max(initial=0)))

    def _cross(self, seen: Seen, spots: list[Spot], time: float) -> None:
        for line, counter in self._lines:
            points = self._pixels(line)
            own = [spot for spot in spots if line.counts(spot.head, spot.label)]
            crossed = counter.update(own, points, line.anchor, time, self._clock.patience)
            for spot, direction in crossed:
                data = {"line": line.name, "direction": direction}
                seen.events.append(_event(LINE_CROSSED, seen.frame, spot, data))
            text = f"{line.name}: in {counter.entered.total()} out {counter.left.total()}"
            seen.overlay.append(partial(paint_line, points=points, text=text))

    def _dwell(self, seen: Seen, spots: list[Spot], time: float) -> None:
        for zone, watch in self._zones:
            points = self._pixels(zone)
            own = [spot for spot in spots if zone.counts(spot.head, spot.label)]
            came, gone = watch.update(own, points, zone.anchor, time, self._clock.patience)
            for stay in came:
                data = {"zone": zone.name}
                seen.events.append(_event(ZONE_ENTERED, seen.frame, stay.spot, data))
            for stay, reason in gone:
                data = _left(zone, stay, reason)
                seen.events.append(_event(ZONE_LEFT, seen.frame, stay.spot, data))
            text = f"{zone.name}: {len(watch.inside)} of {watch.entered.total()}"
            seen.overlay.append(partial(paint_zone, points=points, text=text))

    def _pixels(self, shape: Shape) -> Floats:
        points = np.asarray(shape.points, np.float64)
        return points * self._size if self._fractions else points

    def _forget(self) -> None:
        """End everything that hangs on tracks; the next frame tells of it."""
        self._late += self._clear("lost")
        for _, counter in self._lines:
            counter.forget()
        self._clock = Clock(self._lost, self._reset)

    def _clear(self, reason: Reason) -> list[Event]:
        return [
            Event(
                ZONE_LEFT,
                self._source,
                time=stay.until,
                head=stay.spot.head,
                label=stay.spot.label,
                track=stay.spot.track,
                box=stay.spot.box,
                data=_left(zone, stay, reason),
            )
            for zone, watch in self._zones
            for stay in watch.clear()
        ]


def _concerns(shape: Line | Zone, source: str) -> bool:
    return not shape.sources or source in shape.sources


def _spots(head: str, found: Detections) -> list[Spot]:
    """The detections of a head that have a track."""
    if found.track is None:
        return []
    return [
        Spot(head, found.names[label], number, tuple(box))
        for box, label, number in zip(
            found.xyxy.astype(float).tolist(),
            found.class_id.tolist(),
            found.track.tolist(),
            strict=True,
        )
        if number >= 0
    ]


def _event(kind: str, frame: Frame, spot: Spot, data: dict[str, Any]) -> Event:
    return Event.at(
        kind,
        frame,
        head=spot.head,
        label=spot.label,
        track=spot.track,
        box=spot.box,
        data=data,
    )


def _left(zone: Zone, stay: Stay, reason: Reason) -> dict[str, Any]:
    return {"zone": zone.name, "reason": reason, "dwell": round(stay.dwell, 3)}


def _zone_record(watch: ZoneWatch) -> dict[str, Any]:
    return {
        "inside": dict(watch.now()),
        "entered": dict(watch.entered),
        "stays": watch.stays,
        "dwell_mean": round(watch.dwelt / watch.stays, 3) if watch.stays else None,
        "dwell_longest": round(watch.longest, 3),
    }
