from __future__ import annotations

import numpy as np
import pytest

from tests.stream.scenes import around, found, seen
from vision_heads.geometry.filters import OneEuro, RotationFilter
from vision_heads.geometry.rotations import from_euler, from_vector, geodesic
from vision_heads.stream.smoothing import PoseSmoothing

NAN = np.full((3, 3), np.nan)


def heads(rotations, tracks):
    number = len(rotations)
    boxes = [around(50 + 60 * i, 80) for i in range(number)]
    return found(boxes, names=("head",), rotation=np.asarray(rotations), track=tracks)


def smooth(hook, detections, time, name="faces"):
    one = seen({name: detections}, time=time)
    hook.update(one)
    return one.result.heads[name].rotation


def trembling(number, seed=0):
    random = np.random.default_rng(seed)
    still = from_euler([10, 170, 5])  # turned away: yaw is near where angles jump
    return still, still @ from_vector(np.radians(5) * random.normal(size=(number, 3)))


def test_each_track_has_its_own_filter_wherever_its_row_is():
    still, first = trembling(40)
    other, second = from_euler([0, -60, 0]), trembling(40, seed=1)[1]
    hook, alone = PoseSmoothing(), RotationFilter()
    for index in range(40):
        time = index / 25
        pair = [first[index], other @ still.T @ second[index]]
        tracks = np.array([7, 9])
        order = [0, 1] if index % 3 else [1, 0]
        got = smooth(hook, heads([pair[i] for i in order], tracks[order]), time)
        expected = alone.update(np.float32(first[index]), time)
        assert got[order.index(0)] == pytest.approx(expected, abs=1e-5)
    assert geodesic(got[order.index(0)], still) < 8
    assert geodesic(got[order.index(1)], other) < 8
    assert geodesic(first, still).max() > 12


def test_only_known_poses_of_tracked_heads_are_smoothed():
    _, noisy = trembling(10)
    hook = PoseSmoothing()
    for index in range(10):
        given = heads([noisy[index], NAN, noisy[index]], np.array([-1, 3, 4]))
        got = smooth(hook, given, index / 25)
        assert got[0] == pytest.approx(noisy[index], abs=1e-6)
        assert np.isnan(got[1]).all()
        assert given.rotation[2] == pytest.approx(noisy[index], abs=1e-6)  # input untouched
    assert geodesic(got[2], noisy[9]) > 1


def test_heads_without_poses_and_untracked_frames_stay_as_they_are():
    hook = PoseSmoothing()
    boxes = found([around(50, 50)], track=np.array([1]))
    untracked = found([around(50, 50)], rotation=np.eye(3)[None])
    one = seen({"vehicles": boxes, "faces": untracked})
    hook.update(one)
    assert one.result.heads["vehicles"] is boxes and one.result.heads["faces"] is untracked
    assert list(hook.end()) == []


def test_the_same_track_number_in_two_heads_is_two_objects():
    hook = PoseSmoothing()
    left, right = from_euler([0, 60, 0]), from_euler([0, -60, 0])
    for index in range(5):
        one = seen({"a": heads([left], [1]), "b": heads([right], [1])}, index)
        hook.update(one)
    assert geodesic(one.result.heads["a"].rotation[0], left) < 0.1
    assert geodesic(one.result.heads["b"].rotation[0], right) < 0.1


def test_after_a_pause_nothing_is_carried_over():
    hook = PoseSmoothing(OneEuro(restart=0.5))
    turn = from_euler([0, 90, 0])
    smooth(hook, heads([np.eye(3)], [1]), 0.0)
    hook.gap(0.6)
    assert smooth(hook, heads([turn], [1]), 0.6)[0] == pytest.approx(turn, abs=1e-6)


def test_filters_of_gone_tracks_are_dropped():
    hook = PoseSmoothing(OneEuro(restart=0.5))
    for index in range(200):
        smooth(hook, heads([np.eye(3)], [index]), index / 10)
    assert len(hook._filters["faces"]) <= 6


def test_heads_without_poses_or_tracks_hold_up_no_others():
    _, noisy = trembling(10)
    hook, alone = PoseSmoothing(), PoseSmoothing()
    for index in range(10):
        posed = heads([noisy[index]], np.array([0]))  # ids may count from 0
        given = {"cars": found([around(9, 9)]), "untracked": heads([noisy[index]], None)}
        one = seen(given | {"faces": posed}, time=index / 25)
        hook.update(one)
        expected = smooth(alone, posed, index / 25)
        assert one.result.heads["faces"].rotation == pytest.approx(expected)
        assert one.result.heads["untracked"].rotation[0] == pytest.approx(noisy[index], abs=1e-6)
    assert geodesic(expected[0], noisy[9]) > 1
