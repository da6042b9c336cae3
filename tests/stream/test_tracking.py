from __future__ import annotations

import sys
import threading
import warnings

import numpy as np
import pytest

from tests.stream.scenes import FILMED, around, found, parking, seen
from vision_heads.errors import UserError

pytest.importorskip("trackers")

from vision_heads.stream.tracking import TRACKERS, Ids, Tracking, TrackSettings, _make

each_tracker = pytest.mark.parametrize("kind", TRACKERS)


@pytest.fixture(autouse=True)
def _no_warnings():
    """The trackers warn when they are used wrongly, e.g. with times that go back."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        yield


def tracking(new_id=None, **settings):
    return Tracking(TrackSettings(**settings), new_id or Ids())


def run(hook, frames, times=None, **more):
    """Give frames of detections to a hook; the track ids of each, of the head "vehicles"."""
    ids = []
    for index, detections in enumerate(frames):
        one = seen(detections, index, None if times is None else times[index], **more)
        hook.update(one)
        ids.append(one.result.heads["vehicles"].track.tolist())
    return ids


def crowd(frames=50, number=12, rate=25.0, seed=0):
    """Objects on straight ways apart from each other, in a new order in each frame.

    Returns detections, and of each frame which object every row is.
    """
    random = np.random.default_rng(seed)
    start = np.stack(np.meshgrid(np.arange(4) * 140 + 60, np.arange(3) * 140 + 60), -1)
    start = start.reshape(-1, 2)[:number].astype(float)
    speed = random.uniform(-40, 40, (number, 2))
    labels = np.arange(number) % 3
    scenes, orders = [], []
    for index in range(frames):
        order = random.permutation(number)
        places = start + speed * index / rate + random.normal(0, 0.4, (number, 2))
        scenes.append(found([around(*places[i]) for i in order], labels[order]))
        orders.append(order)
    return scenes, orders


@each_tracker
def test_every_object_keeps_its_id_whatever_the_order_of_rows(kind):
    scenes, orders = crowd()
    ids = run(tracking(kind=kind), scenes)
    by_object = [dict(zip(order, row, strict=True)) for order, row in zip(orders, ids, strict=True)]
    assert sorted(by_object[-1].values()) == list(range(1, 13))
    for one in by_object[2:]:
        assert one == by_object[-1]


@each_tracker
def test_a_camera_that_changes_its_resolution_begins_new_tracks(kind):
    """The same pixels are another place then; stays in zones end at it, too."""
    hook, there = tracking(kind=kind), found([around(100, 100)])
    before = run(hook, [there] * 4, [n / 25 for n in range(4)])
    after = run(hook, [there] * 4, [n / 25 for n in range(4, 8)], size=(1280, 960))
    assert before[-1] == [1] and after[0] == [-1] and after[-1] == [2]


@each_tracker
def test_nothing_but_the_track_changes(kind):
    scenes, _ = crowd(frames=3)
    hook = tracking(kind=kind)
    for index, scene in enumerate(scenes):
        one = seen(scene, index)
        hook.update(one)
        got = one.result.heads["vehicles"]
        assert np.array_equal(got.xyxy, scene.xyxy) and np.array_equal(got.score, scene.score)
        assert np.array_equal(got.class_id, scene.class_id)
        assert scene.track is None  # the original is left as it was


@each_tracker
def test_cameras_and_heads_never_share_an_id(kind):
    """Four cameras at once, two heads each, through one source of ids."""
    new_id = Ids()
    got: list[set[int]] = []

    def camera(name):
        hook = tracking(new_id, kind=kind)
        scenes, _ = crowd(frames=12, seed=len(name))
        heads = {"vehicles": set(), "people": set()}
        for index, scene in enumerate(scenes):
            one = seen({"vehicles": scene, "people": scene}, index, source=name)
            hook.update(one)
            for head, ids in heads.items():
                ids.update(one.result.heads[head].track.tolist())
        got.extend(ids - {-1} for ids in heads.values())

    threads = [threading.Thread(target=camera, args=(f"cam{'x' * n}",)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(got) == 8 and all(len(ids) == 12 for ids in got)
    assert len(set.union(*got)) == 8 * 12


@each_tracker
def test_a_long_gap_ends_all_tracks_and_a_short_one_none(kind):
    scenes, _ = crowd(frames=8, number=4)
    still = [scenes[0]] * 8
    hook = tracking(kind=kind, lost=3.0, reset=2.0)
    before = run(hook, still)[-1]
    hook.gap(1.9)
    later = 8 / 25 + 1.9
    assert run(hook, still, times=[later + n / 25 for n in range(8)])[-1] == before
    hook.gap(2.1)
    later += 8 / 25 + 2.1
    fresh = run(hook, still, times=[later + n / 25 for n in range(8)])[-1]
    assert min(fresh) > max(before)


@each_tracker
def test_classes_keep_to_themselves(kind):
    """A van where the car was is another object, unless classes may mix."""
    box = [around(100, 100)]
    scenes = [found(box, [0])] * 5 + [found(box, [1])] * 5
    apart = run(tracking(kind=kind), scenes)
    assert apart[4] == [1] and apart[-1] == [2]
    mixed = run(tracking(kind=kind, per_class=False), scenes)
    assert mixed[4] == mixed[5] == mixed[-1] == [1]


@pytest.mark.parametrize("kind", ["bytetrack", "botsort"])
def test_low_scores_continue_tracks_but_begin_none(kind):
    high, low = found([around(100, 100)], scores=[0.8]), found([around(100, 100)], scores=[0.25])
    assert run(tracking(kind=kind), [low] * 6) == [[-1]] * 6
    assert run(tracking(kind=kind), [high] * 3 + [low] * 5)[-1] == [1]


@each_tracker
@pytest.mark.parametrize("rate", [5, 25, 60])
def test_patience_is_counted_in_seconds_not_frames(kind, rate):
    box, none = found([around(100, 100, 40)]), found(np.zeros((0, 4)))
    near, far = round(0.8 * rate), round(1.4 * rate)
    times = np.arange(200) / rate
    ids = run(tracking(kind=kind), [box] * 5 + [none] * near + [box] * 4, times)
    assert ids[4] == ids[-1] == [1]
    ids = run(tracking(kind=kind), [box] * 5 + [none] * far + [box] * 4, times)
    assert ids[4] == [1] and ids[-1] == [2]


@each_tracker
def test_motion_is_predicted_by_time_at_uneven_frame_rates(kind):
    """An object of 24 px at 200 px/s, seen at steps of 10 to 110 ms: boxes often do not overlap."""
    random = np.random.default_rng(3)
    slow = np.arange(10) * 0.04
    times = np.concatenate([slow, slow[-1] + np.cumsum(random.uniform(0.01, 0.11, 25))])
    scenes = [found([around(20 + 200 * time, 100)]) for time in times]
    ids = run(tracking(kind=kind), scenes, times)
    assert {row[0] for row in ids[2:]} == {1}


@each_tracker
def test_slow_sources_are_tracked_too(kind):
    """One frame in five seconds, with patience of one second."""
    ids = run(tracking(kind=kind), [found([around(100, 100)])] * 6, times=np.arange(6) * 5.0)
    assert ids[-1] == ids[2] == [1]


@each_tracker
def test_clocks_that_stand_still_or_go_back(kind):
    box = found([around(100, 100)])
    hook = tracking(kind=kind, reset=2.0)
    assert run(hook, [box] * 5, times=[5.0, 5.04, 5.04, 5.03, 5.08])[-1] == [1]
    assert run(hook, [box] * 3, times=[0.0, 0.04, 0.08])[-1] == [2]  # a recording starts anew


@each_tracker
def test_frames_without_anything(kind):
    none = found(np.zeros((0, 4)))
    hook = tracking(kind=kind)
    assert run(hook, [none, none]) == [[], []]
    one = seen(none)
    hook.update(one)
    assert one.result.heads["vehicles"].track.dtype == np.int64
    assert list(hook.end()) == [] and one.events == []


@each_tracker
def test_the_packages_tracker_is_the_one_that_was_asked_for(kind):
    trackers = pytest.importorskip("trackers")
    settings = TrackSettings(kind, start=0.3, confirm=4, lost=1.5)
    made = _make(settings, None)
    kinds = {
        "bytetrack": trackers.ByteTrackTracker,
        "botsort": trackers.BoTSORTTracker,
        "ocsort": trackers.OCSORTTracker,
    }
    assert type(made) is kinds[kind]
    assert made.minimum_consecutive_frames == 4
    starts = [made.high_conf_det_threshold]
    starts += [made.track_activation_threshold] if kind != "ocsort" else []
    assert starts == [0.3] * len(starts)


def test_only_botsort_makes_up_for_a_shaking_camera():
    """Small parked cars on a textured ground; the whole picture jumps by up to 30 pixels."""
    random = np.random.default_rng(0)
    ground = np.repeat(np.repeat(random.integers(0, 255, (90, 110), np.uint8), 8, 0), 8, 1)
    ground = np.repeat(ground[..., None], 3, axis=2)
    jumps = random.integers(-30, 31, (15, 2))
    jumps[:3] = 0
    parked = [(200, 200), (330, 150), (420, 300)]

    def film(kind):
        hook, last = tracking(kind=kind), []
        for index, (dx, dy) in enumerate(jumps.tolist()):
            image = np.ascontiguousarray(ground[100 - dy : 580 - dy, 100 - dx : 740 - dx])
            boxes = [around(x + dx, y + dy, 16) for x, y in parked]
            one = seen(found(boxes), index, image=image)
            hook.update(one)
            last.append(one.result.heads["vehicles"].track.tolist())
        return last

    assert film("botsort")[-1] == [1, 2, 3] == film("botsort")[3]
    assert film("bytetrack")[-1] != [1, 2, 3]


@each_tracker
def test_what_is_remembered_does_not_grow(kind):
    random = np.random.default_rng(0)
    hook = tracking(kind=kind, lost=0.2)
    for index in range(60):
        boxes = [around(*random.uniform(30, 450, 2)) for _ in range(4)]
        twice = found(boxes, random.integers(0, 3, 4))
        for half in (0, 1):
            hook.update(seen(twice, 2 * index + half))
        head = hook._heads["vehicles"]
        alive = sum(len(one.tracks) for one in head._trackers.values())
        assert sum(len(ids) for ids in head._ids.values()) <= alive <= 40


@pytest.mark.parametrize(
    "wrong",
    [
        *({"kind": "sort"}, {"start": 1.5}, {"confirm": 0}),
        *({"lost": 0.0}, {"lost": float("inf")}, {"reset": -1.0}),
    ],
)
def test_settings_are_checked(wrong):
    with pytest.raises(UserError, match=str(next(iter(wrong.values())))):
        TrackSettings(**wrong)


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "trackers", None)
    with pytest.raises(UserError, match=r'pip install "vision-heads\[track\]"'):
        tracking()


@each_tracker
def test_real_cars_keep_their_ids(shared_data, kind):
    """Two cars pass each other on a real car park; two cameras see the same 60 frames."""
    frames, cars = parking(shared_data)
    new_id = Ids()
    one, other = tracking(new_id, kind=kind), tracking(new_id, kind=kind)
    one_ids, other_ids = [], []
    for index in range(180, 240):
        for name, hook, ids in (("a", one, one_ids), ("b", other, other_ids)):
            frame = seen(cars[index], index, index / 12.5, name, frames[index], FILMED)
            hook.update(frame)
            ids.append(frame.result.heads["vehicles"].track.tolist())
    lengths = np.bincount([i for row in one_ids for i in row if i > 0])
    assert (lengths >= 25).sum() == 2  # the two cars, each under one id for two seconds
    assert not {i for row in one_ids for i in row if i > 0} & {i for row in other_ids for i in row}
    highest = max(i for row in (*one_ids, *other_ids) for i in row)
    one.gap(10.0)
    again = []
    for index in range(200, 210):
        frame = seen(cars[index], index, 100 + index / 12.5, "a", frames[index], FILMED)
        one.update(frame)
        again += frame.result.heads["vehicles"].track.tolist()
    assert {i for i in again if i > 0} and min(i for i in again if i > 0) > highest
