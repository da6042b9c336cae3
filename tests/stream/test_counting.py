from __future__ import annotations

import json
import threading

import numpy as np
import pytest

from tests.stream.scenes import FILMED, around, found, parking, seen
from vision_heads.errors import UserError
from vision_heads.geometry.filters import OneEuro
from vision_heads.geometry.rotations import from_euler, from_vector, geodesic
from vision_heads.stream.analytics import AnalyticsSettings, make_hooks
from vision_heads.stream.counting import Counting
from vision_heads.stream.seen import LINE_CROSSED, ZONE_ENTERED, ZONE_LEFT
from vision_heads.stream.shapes import Shapes
from vision_heads.stream.tracking import TRACKERS, TrackSettings

GATE = {"name": "gate", "points": [[0, 240], [640, 240]]}
YARD = {"name": "yard", "points": [[300, 0], [640, 0], [640, 480], [300, 480]]}
SHAPES = Shapes(lines=[GATE], zones=[YARD])


def tracked(places, tracks, labels=None):
    return found([around(x, y) for x, y in places], labels, track=np.asarray(tracks))


def play(hook, scenes, step=0.2, start=0.0):
    """Give scenes to a hook; return the frames."""
    frames = []
    for index, scene in enumerate(scenes):
        one = seen(scene, index, start + index * step)
        hook.update(one)
        frames.append(one)
    return frames


def events(frames):
    return [event for one in frames for event in one.events]


def test_events_say_what_happened_to_whom():
    hook = Counting("a", SHAPES)
    frames = play(hook, [tracked([(100, 200)], [5]), tracked([(100, 300)], [5])])
    (crossed,) = events(frames)
    assert crossed.to_dict() | {"id": ""} == {
        "id": "",
        "event": LINE_CROSSED,
        "source": "a",
        "received": 0.0,
        "time": 0.2,
        "frame": 1,
        "head": "vehicles",
        "class": "car",
        "track": 5,
        "box": [88.0, 288.0, 112.0, 312.0],
        "line": "gate",
        "direction": "in",
    }


def test_the_page_shows_all_that_an_event_has(repository):
    hook = Counting("a", SHAPES)
    frames = play(hook, [tracked([(100, 200)], [5]), tracked([(100, 300)], [5])])
    page = (repository / "docs" / "stream.md").read_text()
    (shown,) = (line for line in page.splitlines() if '"event":"line_crossed"' in line)
    assert list(json.loads(shown)) == [*events(frames)[0].to_dict(), "snapshot"]


def test_zones_tell_of_coming_going_and_who_is_left():
    hook = Counting("a", SHAPES)
    inside, outside = tracked([(400, 100)], [5]), tracked([(100, 100)], [5])
    frames = play(hook, [outside, inside, inside, outside, inside])
    assert [event.kind for event in events(frames)] == [ZONE_ENTERED, ZONE_LEFT, ZONE_ENTERED]
    assert events(frames)[1].data == {"zone": "yard", "reason": "left", "dwell": 0.2}
    (last,) = hook.end()
    assert last.kind == ZONE_LEFT and last.source == "a" and last.track == 5
    assert last.data == {"zone": "yard", "reason": "ended", "dwell": 0.0}
    assert list(hook.end()) == []


def test_the_snapshot_adds_up():
    hook = Counting("a", SHAPES)
    play(
        hook,
        [
            tracked([(100, 200), (400, 200), (50, 50)], [1, 2, -1], [0, 1, 0]),
            tracked([(100, 300), (400, 300)], [1, 2], [0, 1]),
            tracked([(100, 200), (100, 300), (20, 20)], [1, 2, 3], [0, 1, 1]),
        ],
    )
    assert hook.snapshot() == {
        "time": 0.4,
        "now": {"vehicles": {"car": 1, "van": 2}},
        "tracked": {"vehicles": {"car": 1, "van": 2}},
        "lines": {"gate": {"in": {"car": 1, "van": 1}, "out": {"car": 1}}},
        "zones": {
            "yard": {
                "inside": {},
                "entered": {"van": 1},
                "stays": 1,
                "dwell_mean": 0.2,
                "dwell_longest": 0.2,
            }
        },
    }


def test_heads_classes_and_sources_are_picked():
    shapes = Shapes(
        lines=[
            GATE | {"name": "vans", "classes": ["van"]},
            GATE | {"name": "people", "heads": ["people"]},
            GATE | {"name": "elsewhere", "sources": ["b"]},
        ]
    )
    hook = Counting("a", shapes)
    play(hook, [tracked([(9, y), (99, y)], [1, 2], [0, 1]) for y in (200, 300)])
    lines = hook.snapshot()["lines"]
    assert lines == {"vans": {"in": {"van": 1}, "out": {}}, "people": {"in": {}, "out": {}}}


def test_fractions_follow_the_pictures_size():
    shapes = Shapes(units="fraction", lines=[{"name": "gate", "points": [[0, 0.5], [1, 0.5]]}])
    hook = Counting("a", shapes)
    for index, y in enumerate((200, 300)):
        hook.update(seen(tracked([(9, y)], [1]), index))
    for index, y in enumerate((200, 300, 800)):  # larger now: the line is at 500
        hook.update(seen(tracked([(9, y)], [1]), 2 + index, size=(1000, 1000)))
    assert hook.snapshot()["lines"]["gate"]["in"] == {"car": 2}


def test_a_long_gap_empties_zones_and_forgets_sides():
    hook = Counting("a", SHAPES, reset=2.0)
    play(hook, [tracked([(400, 200)], [5])])
    hook.gap(1.0)
    assert hook.snapshot()["zones"]["yard"]["inside"] == {"car": 1}
    hook.gap(3.0)
    assert hook.snapshot()["zones"]["yard"]["inside"] == {}
    frames = play(hook, [tracked([(100, 300)], [5])], start=4.0)
    (gone,) = events(frames)
    assert gone.kind == ZONE_LEFT and gone.data["reason"] == "lost" and gone.time == 0.0
    assert hook.snapshot()["lines"]["gate"] == {"in": {}, "out": {}}


@pytest.mark.parametrize("restart", ["size", "time"])
def test_another_picture_or_recording_ends_stays_and_forgets_sides(restart):
    hook = Counting("a", SHAPES, lost=9.0, reset=2.0)
    play(hook, [tracked([(400, 200)], [5])], start=10.0)
    size, time = ((800, 600), 10.2) if restart == "size" else ((640, 480), 6.9)
    frames = [seen(tracked([(400, 300)], [5]), n, time + n, size=size) for n in (1, 2)]
    for one in frames:
        hook.update(one)
    gone, came = events(frames)  # at once, and once
    assert (gone.kind, gone.data["reason"], gone.time) == (ZONE_LEFT, "lost", 10.0)
    assert gone.box == tuple(around(400, 200)) and gone.track == 5
    assert (came.kind, came.time) == (ZONE_ENTERED, time + 1)
    assert hook.snapshot()["lines"]["gate"] == {"in": {}, "out": {}}


def test_a_clock_that_goes_back_a_little_is_the_same_recording():
    hook = Counting("a", SHAPES, lost=0.5, reset=5.0)
    for time, y in ((10.0, 200), (6.0, 300)):
        hook.update(seen(tracked([(100, y)], [5]), time=time))
    assert hook.snapshot()["lines"]["gate"]["in"] == {"car": 1}


def test_who_is_not_seen_is_waited_for_as_long_as_was_said():
    for restart in (False, True):
        hook = Counting("a", SHAPES, lost=0.5, reset=5.0)
        if restart:
            hook.gap(9.0)
        scenes = [(0.0, (400, 200)), (0.1, (420, 200)), (0.5, None), (0.7, None)]
        frames = [
            seen(tracked([place] if place else [], [5] if place else []), time=time)
            for time, place in scenes
        ]
        for one in frames:
            hook.update(one)
        assert [len(one.events) for one in frames] == [1, 0, 0, 1]
        (gone,) = frames[-1].events
        assert gone.data == {"zone": "yard", "reason": "lost", "dwell": 0.1}
        assert gone.box == tuple(around(420, 200))  # where it was last


def test_zones_pick_too_and_times_are_rounded():
    zones = [YARD | {"name": "elsewhere", "sources": ["b"]}, YARD | {"classes": ["van"]}]
    hook = Counting("a", Shapes(zones=zones))
    inside = tracked([(400, 200), (500, 200)], [1, 2], [0, 1])
    frames = play(hook, [inside] * 2, step=1 / 3)
    (came,) = events(frames)
    assert (came.label, came.data) == ("van", {"zone": "yard"})
    (gone,) = hook.end()
    assert gone.data["dwell"] == 0.333 and gone.box == tuple(around(500, 200))
    record = hook.snapshot()["zones"]
    assert list(record) == ["yard"] and record["yard"]["dwell_longest"] == 0.333


def test_frames_without_tracks_count_nothing_but_what_is_there():
    hook = Counting("a", SHAPES)
    untracked = [found([around(100, y)]) for y in (200, 300)]
    assert events(play(hook, untracked)) == []
    assert hook.snapshot()["now"] == {"vehicles": {"car": 1}}
    assert hook.snapshot()["tracked"] == {"vehicles": {}}


def test_lines_and_zones_are_painted_with_their_counts():
    hook = Counting("a", SHAPES)
    one = play(hook, [tracked([(100, 200)], [1]), tracked([(100, 300)], [1])])[-1]
    drawn = one.drawn()
    assert not one.frame.image.any()  # painted on a copy
    assert drawn[240, 600].any() and drawn[470, 300].any()
    outside = Counting("a", Shapes(zones=[YARD | {"points": [[-9e6, 0], [9e6, 1], [5, 9e6]]}]))
    assert play(outside, [tracked([], [])])[-1].drawn().shape == (480, 640, 3)


def test_counts_can_be_read_while_frames_come():
    hook = Counting("a", SHAPES)
    totals, done = [], threading.Event()

    def read():
        while not done.is_set():
            totals.append(hook.snapshot()["tracked"].get("vehicles", {}).get("car", 0))

    reader = threading.Thread(target=read)
    reader.start()
    play(hook, [tracked([(100, 100)], [n]) for n in range(1, 300)])
    done.set()
    reader.join()
    assert totals == sorted(totals)
    assert hook.snapshot()["tracked"] == {"vehicles": {"car": 299}}


def test_lines_need_a_tracker():
    with pytest.raises(UserError, match="they need a tracker"):
        AnalyticsSettings(shapes=SHAPES)


def test_without_a_tracker_only_what_is_there_is_counted():
    hooks = make_hooks(AnalyticsSettings())
    play(hooks("a"), [found([around(9, 9)] * 2)])
    assert hooks.counts("a")["now"] == {"vehicles": {"car": 2}}
    assert hooks.counts("b") is None
    hooks.forget("a")
    assert hooks.counts("a") is None


def test_poses_of_tracked_heads_are_smoothed_unless_told_otherwise():
    pytest.importorskip("trackers")
    random = np.random.default_rng(0)
    turns = from_vector(np.radians(10) * random.normal(size=(20, 3))) @ from_euler([0, 20, 0])
    last = {}
    for smooth in (OneEuro(), None):
        hook = make_hooks(AnalyticsSettings(TrackSettings(), smooth))("a")
        scenes = [found([around(9, 9)], names=("head",), rotation=turn[None]) for turn in turns]
        last[smooth] = play(hook, scenes, 0.04)[-1].result.heads["vehicles"].rotation[0]
    assert last[None] == pytest.approx(turns[-1], abs=1e-6)
    assert geodesic(last[OneEuro()], turns[-1]) > 1


@pytest.mark.parametrize("kind", TRACKERS)
def test_real_cars_are_counted_right(shared_data, kind):
    """Seen by eye: two cars drive up through the picture's middle, two drive down."""
    pytest.importorskip("trackers")
    frames, cars = parking(shared_data)
    shapes = Shapes(
        units="fraction",
        lines=[{"name": "middle", "points": [[0, 0.5], [1, 0.5]]}],
        zones=[{"name": "lot", "points": [[0, 0.3], [1, 0.3], [1, 0.7], [0, 0.7]]}],
    )
    hooks = make_hooks(AnalyticsSettings(TrackSettings(kind), shapes=shapes))
    hook = hooks("a")
    for index, (frame, found_cars) in enumerate(zip(frames, cars, strict=True)):
        hook.update(seen(found_cars, index, index / 12.5, image=frame, size=FILMED))
    counts = hooks.counts("a")
    assert counts["lines"]["middle"] == {"in": {"car": 2}, "out": {"car": 2}}
    assert counts["zones"]["lot"]["entered"] == {"car": 4}
    assert counts["zones"]["lot"]["inside"] == {}
