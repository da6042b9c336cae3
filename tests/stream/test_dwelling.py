from __future__ import annotations

import pytest

from tests.stream.scenes import around
from vision_heads.stream.crossing import Spot
from vision_heads.stream.dwelling import ZoneWatch

YARD = [[100, 100], [200, 100], [200, 200], [100, 200]]
CORNER = [[0, 0], [100, 0], [100, 100], [50, 50], [0, 100]]  # not convex: a notch from below


def spot(x, y, track=1, label="car"):
    return Spot("vehicles", label, track, tuple(around(x, y, 20)))


def watch(way, zone=YARD, watcher=None, step=0.5, patience=1.0, anchor="center"):
    """(kind, time, dwell, reason) of what happens on a way; None is a frame without the object."""
    watcher = watcher or ZoneWatch()
    events = []
    for index, point in enumerate(way):
        spots = [] if point is None else [spot(*point)]
        came, gone = watcher.update(spots, zone, anchor, index * step, patience)
        events += [("in", index * step) for _ in came]
        events += [("out", index * step, stay.dwell, reason) for stay, reason in gone]
    return events


def test_coming_staying_and_going():
    way = [(50, 150), (150, 150), (160, 150), (170, 150), (250, 150)]
    assert watch(way) == [("in", 0.5), ("out", 2.0, 1.0, "left")]


def test_an_object_that_trembles_on_the_edge_stays_inside():
    way = [(150, 150), (199, 150), (201, 150), (199, 150), (201.9, 150)]
    assert watch(way) == [("in", 0.0)]
    assert watch([*way, (202.1, 150)])[-1][0] == "out"


def test_notches_are_outside():
    assert watch([(50, 80)], CORNER) == []
    assert watch([(50, 40)], CORNER) == [("in", 0.0)]
    assert watch([(50, 50)], CORNER) == [("in", 0.0)]  # the edge is inside


def test_an_object_that_is_not_seen_is_waited_for_and_then_gone():
    assert watch([(150, 150), None, None, (150, 150)]) == [("in", 0.0)]
    events = watch([(150, 150), (150, 150), None, None, None, None])
    assert events == [("in", 0.0), ("out", 2.0, 0.5, "lost")]


def test_the_anchor_may_be_the_bottom_edge():
    assert watch([(150, 92)]) == []
    assert watch([(150, 92)], anchor="bottom") == [("in", 0.0)]


def test_counts_and_dwell_times():
    watcher = ZoneWatch()
    both = [spot(150, 150), spot(120, 120, 2, "van")]
    watcher.update(both, YARD, "center", 0.0, 1.0)
    assert watcher.now() == {"car": 1, "van": 1}
    watcher.update([spot(150, 150), spot(20, 20, 2, "van")], YARD, "center", 0.5, 1.0)
    watcher.update([spot(150, 150)], YARD, "center", 1.0, 1.0)
    watcher.update([spot(20, 150)], YARD, "center", 1.5, 1.0)
    assert watcher.now() == {} and watcher.entered == {"car": 1, "van": 1}
    assert (watcher.stays, watcher.dwelt, watcher.longest) == (2, 1.0, 1.0)
    # Back again: another stay.
    watcher.update([spot(150, 150)], YARD, "center", 2.0, 1.0)
    assert watcher.entered == {"car": 2, "van": 1}
    assert [stay.dwell for stay in watcher.clear()] == [0.0]
    assert watcher.stays == 3 and watcher.inside == {}


@pytest.mark.parametrize("flip", ["van", "truck"])
def test_an_object_leaves_as_what_it_came(flip):
    """Classes that flip must not leave somebody inside for ever."""
    watcher = ZoneWatch()
    watcher.update([spot(150, 150)], YARD, "center", 0.0, 1.0)
    watcher.update([spot(150, 150, label=flip)], YARD, "center", 0.5, 1.0)
    assert watcher.now() == {"car": 1}
    _, gone = watcher.update([spot(50, 50, label=flip)], YARD, "center", 1.0, 1.0)
    assert [(stay.spot.label, why) for stay, why in gone] == [("car", "left")]
