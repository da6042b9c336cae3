from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.geometry.test_rotations import rotations
from vision_heads.geometry.filters import OneEuro, RotationFilter
from vision_heads.geometry.rotations import (
    from_euler,
    from_vector,
    geodesic,
    is_rotation,
    to_euler,
    to_vector,
)

STEP = st.floats(0.005, 0.3)
VECTOR = st.tuples(*[st.floats(-1.7, 1.7)] * 3).map(np.array)


def smooth(turns, times, settings=None):
    """Run a filter over rotations; (N, 3, 3)."""
    one = RotationFilter(settings)
    return np.array([one.update(turn, time) for turn, time in zip(turns, times, strict=True)])


@given(VECTOR)
def test_vectors_and_rotations_are_each_others_inverse(vector):
    assert to_vector(from_vector(vector)) == pytest.approx(vector, abs=1e-9)


def test_a_vectors_axes_are_the_pictures():
    """Roll is clockwise, about the axis that points out of the picture: z, towards the viewer."""
    assert to_vector(from_euler([0, 0, 30])) == pytest.approx([0, 0, np.radians(30)])
    assert to_vector(from_euler([30, 0, 0])) == pytest.approx([np.radians(30), 0, 0])


@given(rotations(), STEP)
def test_what_stands_still_stays_as_it_is(turn, step):
    out = smooth([turn] * 20, step * np.arange(20))
    assert geodesic(out, turn).max() < 1e-4


@given(rotations(), st.integers(0, 2**32 - 1))
def test_a_turned_camera_turns_the_result_and_nothing_else(camera, seed):
    random = np.random.default_rng(seed)
    turns = np.cumsum(random.normal(0, 0.2, (15, 3)), axis=0)
    seen = from_vector(turns)
    times = np.cumsum(random.uniform(0.01, 0.1, 15))
    assert geodesic(smooth(camera @ seen, times), camera @ smooth(seen, times)).max() < 1e-4


@given(rotations(), VECTOR, STEP, st.integers(1, 8))
def test_a_step_decays_by_time_and_not_by_frames(start, vector, step, parts):
    """At a cutoff f, e^(-2 pi f t) of a step is left after t, whatever frames lay between."""
    settings = OneEuro(cutoff=1.5, speed=0.0)
    target = start @ from_vector(vector)
    times = np.concatenate([[0.0], step * np.arange(1, parts + 1) / parts])
    out = smooth([start] + [target] * parts, times, settings)[-1]
    left = np.exp(-2 * np.pi * 1.5 * step) * geodesic(start, target)
    assert geodesic(out, target) == pytest.approx(float(left), abs=1e-3)


@given(rotations(), rotations())
def test_it_converges_on_what_is_there(start, target):
    out = smooth([start] + [target] * 60, np.arange(61) / 20)
    assert geodesic(out[-1], target) < 0.1
    # Opposite rotations leave both ways round open; on either the distance never grows.
    assert (np.diff(geodesic(out, target)) < 1e-3).all()


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("rate", [10, 25, 60])
def test_nothing_jumps_where_angles_do(axis, rate):
    """A head that turns full circles, 90 degrees a second, through 90 and 180."""
    angles = np.zeros((8 * rate, 3))
    angles[:, axis] = np.arange(8 * rate) * 90 / rate
    seen = from_euler(angles)
    out = smooth(seen, np.arange(8 * rate) / rate)
    assert (np.abs(np.diff(to_euler(seen), axis=0)) > 170).any()  # the angles do jump
    assert geodesic(out[1:], out[:-1]).max() < 1.2 * 90 / rate
    assert geodesic(out, seen).max() < 20
    assert is_rotation(out, 1e-9).all()


def test_noise_shrinks_at_rest_and_a_quick_turn_does_not_lag():
    """Three degrees of noise; 90 degrees of yaw in half a second."""
    random = np.random.default_rng(0)
    times = np.arange(0, 6, 1 / 25)
    angles = np.zeros((len(times), 3))
    angles[:, 1] = np.interp(times, [3, 3.5], [0, 90])
    true = from_euler(angles)
    seen = true @ from_vector(np.radians(3) * random.normal(size=(len(times), 3)))
    out = smooth(seen, times)
    rest = (times > 1) & (times < 3)
    trembling = geodesic(seen[1:], seen[:-1])[rest[1:]].mean()
    assert geodesic(out[1:], out[:-1])[rest[1:]].mean() < trembling / 2.5
    assert geodesic(out, true)[rest].mean() < geodesic(seen, true)[rest].mean() / 1.5
    moving = (times > 3) & (times < 3.5)
    assert geodesic(out, true)[moving].max() < 15


def test_unknown_poses_leave_no_trace():
    turn = from_euler([10, 20, 30])
    one = RotationFilter()
    one.update(np.eye(3), 0.0)
    assert np.isnan(one.update(np.full((3, 3), np.nan), 0.1)).all()
    other = RotationFilter()
    other.update(np.eye(3), 0.0)
    assert one.update(turn, 0.2) == pytest.approx(other.update(turn, 0.2))


@pytest.mark.parametrize("time", [3.0, 0.0, -1.0])
def test_pauses_and_clocks_that_go_back_start_afresh(time):
    turn = from_euler([0, 60, 0])
    one = RotationFilter(OneEuro(restart=1.0))
    one.update(np.eye(3), 0.0)
    assert one.update(turn, time) == pytest.approx(turn)


@pytest.mark.parametrize("wrong", [{"cutoff": 0}, {"speed": -1}, {"restart": float("nan")}])
def test_settings_are_checked(wrong):
    with pytest.raises(ValueError, match="above 0"):
        OneEuro(**wrong)
