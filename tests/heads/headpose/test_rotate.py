from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")

from vision_heads.geometry.rotations import from_euler, to_euler, wrap  # noqa: E402
from vision_heads.heads.headpose.rotate import (  # noqa: E402
    EULER_RANGE,
    angles_error,
    averaged_columns,
    columns_error,
    euler_error,
    from_columns,
    from_euler_shares,
    geodesic,
)

numbers = st.floats(-4, 4, width=32)


def _about(axis, angle: float) -> torch.Tensor:
    """Rotation by `angle` radians (float64) about an axis."""
    x, y, z = (np.asarray(axis, float) / np.linalg.norm(axis)).tolist()
    skew = torch.tensor([[0, -z, y], [z, 0, -x], [-y, x, 0]], dtype=torch.float64)
    eye = torch.eye(3, dtype=torch.float64)
    return eye + math.sin(angle) * skew + (1 - math.cos(angle)) * (skew @ skew)


@given(st.lists(numbers, min_size=6, max_size=6))
@settings(max_examples=200, deadline=None)
def test_columns_of_any_kind_become_a_rotation(values) -> None:
    first, second = np.array(values[:3]), np.array(values[3:])
    if np.linalg.norm(np.cross(first, second)) < 1e-3:
        return
    rotation = from_columns(torch.tensor(values, dtype=torch.float32))
    torch.testing.assert_close(rotation.mT @ rotation, torch.eye(3), atol=2e-6, rtol=0)
    assert float(torch.linalg.det(rotation)) == pytest.approx(1, abs=1e-5)
    along = torch.tensor(values[:3]) / np.linalg.norm(first)
    torch.testing.assert_close(rotation[:, 0], along.float(), atol=1e-5, rtol=0)


def test_columns_of_a_rotation_give_it_back() -> None:
    rotation = _about([1, 2, -0.5], 2.5).float()
    torch.testing.assert_close(from_columns(torch.cat((rotation[:, 0], rotation[:, 1]))), rotation)


def test_a_cell_between_two_of_the_same_head_gets_the_turn_between_theirs() -> None:
    turns = from_euler(np.array([(0.0, yaw, 0.0) for yaw in (170.0, 178.0, -174.0)]))
    columns = torch.from_numpy(turns[..., :2].swapaxes(1, 2).reshape(3, 6)).float()
    row = columns.T.reshape(1, 6, 1, 3)
    even = from_columns(averaged_columns(row, torch.full((1, 1, 1, 3), 0.9)).flatten(2).mT)[0]
    torch.testing.assert_close(even[1], torch.from_numpy(turns[1]).float(), atol=1e-5, rtol=0)
    # A cell beside the head has next to no say.
    scores = torch.tensor([0.9, 0.9, 0.0]).view(1, 1, 1, 3)
    found = from_columns(averaged_columns(row, scores).flatten(2).mT)[0]
    middle = from_euler(np.array([0.0, 174.0, 0.0]))
    angle = geodesic(found[1], torch.from_numpy(middle).float())
    assert float(angle) < np.radians(0.1)


def test_cells_that_nothing_suits_still_have_a_rotation() -> None:
    values = torch.tensor([1.0, 0, 0, 0, 1, 0]).view(1, 6, 1, 1)
    found = from_columns(averaged_columns(values, torch.zeros(1, 1, 1, 1)).flatten(2).mT)
    torch.testing.assert_close(found[0, 0], torch.eye(3))


def test_columns_are_pulled_to_length_one_and_the_angle_cannot_do_that() -> None:
    rotation = _about([1, 2, -0.5], 2.5).float()
    columns = torch.cat((rotation[:, 0], rotation[:, 1]))
    assert float(columns_error(columns, rotation)) == pytest.approx(0, abs=1e-12)
    other = _about([3, -1, 2], 0.4).float()
    long = (8 * columns).requires_grad_()
    geodesic(from_columns(long), other).backward()
    assert abs(float(long.grad @ columns)) < 1e-6  # at right angles: the length never shrinks
    long.grad = None
    columns_error(long, other).backward()
    assert float(long.grad[:3] @ columns[:3]) > 1 and float(long.grad[3:] @ columns[3:]) > 1


@pytest.mark.parametrize("columns", [[0.0] * 6, [1, 0, 0, 1, 0, 0], [1, 0, 0, -3, 0, 0]])
def test_degenerate_columns_have_finite_gradients(columns) -> None:
    values = torch.tensor(columns, dtype=torch.float32, requires_grad=True)
    geodesic(from_columns(values), torch.eye(3)).backward()
    assert torch.isfinite(values.grad).all()


@pytest.mark.parametrize("axis", [[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, -2, 3]])
@pytest.mark.parametrize("degrees", [0, 1e-4, 0.1, 1, 45, 90, 135, 179, 179.9, 179.9999, 180])
def test_geodesic_is_the_angle_and_its_gradient_is_finite(axis, degrees: float) -> None:
    other = _about(axis, math.radians(degrees)).float().requires_grad_()
    start = _about([0.3, 1, 0.2], 1.0).float()
    angle = geodesic(start, start @ other)
    assert math.degrees(float(angle.detach())) == pytest.approx(degrees, abs=0.1)
    angle.backward()
    assert torch.isfinite(other.grad).all()


def test_geodesic_still_pulls_near_180_degrees() -> None:
    other = _about([0, 1, 0], math.radians(179)).float().requires_grad_()
    geodesic(torch.eye(3), other).backward()
    assert float(other.grad.norm()) > 0.5


@pytest.mark.parametrize("side", [179.9, -179.9])
def test_six_numbers_do_not_jump_where_yaw_does(side: float) -> None:
    behind = from_euler_shares(torch.tensor([0.5, 1.0, 0.5]))
    near = _about([0, 1, 0], math.radians(-side)).float()
    columns, target = near[:, :2].T.reshape(6), behind
    assert math.degrees(float(geodesic(from_columns(columns), target))) == pytest.approx(
        0.1, abs=0.06
    )


@given(st.floats(-89, 89, width=32), st.floats(-180, 180, width=32), st.floats(-89, 89, width=32))
@settings(max_examples=100, deadline=None)
def test_euler_shares_are_directmhps_angles(pitch: float, yaw: float, roll: float) -> None:
    if abs(abs(yaw) - 90) < 1:  # the lock, where pitch and roll are one
        return
    shares = torch.tensor([pitch, yaw, roll]) / torch.tensor(EULER_RANGE) + 0.5
    rotation = from_euler_shares(shares).numpy()[None]
    error = np.abs(to_euler(rotation, "directmhp")[0] - (pitch, yaw, roll))
    assert np.minimum(error, 360 - error).max() < 0.05


def test_positive_angles_go_where_the_convention_says() -> None:
    def nose(pitch: float, yaw: float) -> list[float]:
        shares = torch.tensor([pitch / 180 + 0.5, yaw / 360 + 0.5, 0.5])
        return from_euler_shares(shares)[:, 2].tolist()

    assert nose(0, 30)[0] < -0.4  # to the picture's left
    assert nose(30, 0)[1] < -0.4  # up
    turned = from_euler_shares(torch.tensor([0.5, 0.5, 0.5 + 30 / 180]))
    assert turned[1, 0] > 0.4  # the picture's right side of the head went down: clockwise


def test_yaw_error_takes_the_short_way() -> None:
    a, b = torch.tensor([0.5, 0.99, 0.5]), torch.tensor([0.5, 0.01, 0.5])
    assert float(euler_error(a, b)) == pytest.approx(0.02**2 / 3, rel=1e-3)


triples = st.tuples(st.floats(-70, 70), st.floats(-180, 180), st.floats(-170, 170))
turns = st.tuples(*[st.floats(-15, 15)] * 3)


def _error(found, wanted) -> float:
    return float(angles_error(torch.tensor(from_euler(found)), torch.tensor(from_euler(wanted))))


@given(triples, turns)
@settings(max_examples=200, deadline=None)
def test_angles_error_is_that_of_the_angles_where_they_are_defined(pose, turn) -> None:
    found = np.add(pose, turn)
    if abs(found[0]) > 89 or min(abs(math.cos(math.radians(y))) for y in (pose[1], found[1])) < 0.5:
        return
    if (abs(pose[1]) < 90) != (abs(wrap(found[1])) < 90):
        return
    mean = math.radians(np.abs(turn).mean())
    assert _error(found, pose) == pytest.approx(mean, abs=0.11)  # rounded off near 0
    if min(np.abs(turn)) > 10:
        assert _error(found, pose) == pytest.approx(mean, rel=0.15)


def test_angles_error_does_not_jump() -> None:
    for one, other in (
        ([5, 179.5, 3], [5, -179.5, 3]),  # yaw through the back
        ([89.5, 20, 0], [90.5, 20, 0]),  # |pitch| is 90: the other triple would be named
        ([3, 20, 179.5], [3, 20, -179.5]),
    ):
        assert _error(one, other) < 0.08


def test_angles_error_sees_what_the_angle_between_rotations_does_not() -> None:
    """Two profiles that look alike, one of them named by large pitch and roll."""
    found, wanted = [40, 80, 35], [5, 80, 0]
    turn = geodesic(torch.tensor(from_euler(found)), torch.tensor(from_euler(wanted)))
    assert float(turn) < math.radians(7)
    assert math.radians(20) < _error(found, wanted) < math.radians(30)
    assert _error([8, 80, 3], wanted) < math.radians(15)


@pytest.mark.parametrize("yaw", [0, 60, 89, 90, -90, 91, 180])
def test_angles_error_has_bounded_gradients(yaw: float) -> None:
    wanted = torch.tensor(from_euler([[12, yaw, -7]] * 3))
    poses = from_euler([[12, yaw, -7], [30, yaw + 2, 20], [-60, yaw - 9, 100]])
    columns = torch.tensor(np.concatenate([poses[..., 0], poses[..., 1]], -1), requires_grad=True)
    angles_error(from_columns(columns), wanted).sum().backward()
    assert columns.grad is not None and torch.isfinite(columns.grad).all()
    assert float(columns.grad.norm(dim=1).max()) < 30
