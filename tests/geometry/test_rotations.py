from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from vision_heads.errors import UserError
from vision_heads.geometry.rotations import (
    CONVENTIONS,
    direction,
    from_6d,
    from_biwi,
    from_euler,
    geodesic,
    is_rotation,
    mirror,
    nearest_rotation,
    rotate_in_plane,
    to_6d,
    to_biwi,
    to_euler,
    upright,
    wrap,
)

ANGLE = st.floats(-400, 400, allow_nan=False)
# Corners of the angles' ranges come up often: that is where conventions break.
CORNER = st.sampled_from([-180.0, -90.0, -1e-7, 0.0, 1e-7, 89.9999999, 90.0, 90.0000001, 180.0])
EULER = st.tuples(*[ANGLE | CORNER] * 3).map(np.array)
each_convention = pytest.mark.parametrize("convention", CONVENTIONS)


@st.composite
def rotations(draw):
    """Every rotation: uniformly drawn, about random axes, and at the corners of the angles."""
    if draw(st.booleans()):
        return from_euler(draw(EULER))
    seed = draw(st.integers(0, 2**32 - 1))
    q, r = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))
    q = q * np.sign(np.diag(r))
    return q * np.sign(np.linalg.det(q))


def test_signs_by_hand():
    """DESIGN: positive yaw turns the nose left, positive pitch up, positive roll clockwise."""
    assert direction(from_euler([0, 0, 0])) == pytest.approx([0, 0, 1])
    assert direction(from_euler([0, 40, 0]))[0] < 0
    assert direction(from_euler([40, 0, 0]))[1] < 0
    assert direction(from_euler([0, 180, 0])) == pytest.approx([0, 0, -1])
    rolled = from_euler([0, 0, 40])
    assert direction(rolled) == pytest.approx([0, 0, 1])
    assert rolled[1, 0] > 0  # the head's right-hand side (in the picture) has gone down


def test_the_formula_is_the_designs():
    p, y, r = np.radians([17.0, -130.0, 44.0])
    rx = np.array([[1, 0, 0], [0, np.cos(p), -np.sin(p)], [0, np.sin(p), np.cos(p)]])
    ry = np.array([[np.cos(-y), 0, np.sin(-y)], [0, 1, 0], [-np.sin(-y), 0, np.cos(-y)]])
    rz = np.array([[np.cos(r), -np.sin(r), 0], [np.sin(r), np.cos(r), 0], [0, 0, 1]])
    assert from_euler([17.0, -130.0, 44.0]) == pytest.approx(rx @ ry @ rz)


@given(rotations(), st.sampled_from(CONVENTIONS))
def test_every_rotation_survives_every_convention(rotation, convention):
    assert is_rotation(rotation, 1e-9)
    back = from_euler(to_euler(rotation, convention), convention)
    assert geodesic(rotation, back) < 2e-4


@given(rotations(), st.sampled_from(CONVENTIONS))
def test_angles_are_canonical(rotation, convention):
    """Equal poses have equal numbers, whatever numbers they were made of."""
    numbers = to_euler(rotation, convention)
    if convention == "opencv":
        assert np.linalg.norm(numbers) <= np.pi + 1e-9
        return
    degrees = np.degrees(numbers) if convention == "300w-lp" else numbers
    limited = 0 if convention == "directmhp" else 1
    assert abs(degrees[limited]) <= 90 + 1e-9
    assert (degrees > -180).all() and (degrees <= 180 + 1e-9).all()


@st.composite
def nearly(draw):
    """An angle hardly beside a corner, by any power of ten."""
    corner, sign = draw(st.sampled_from([-180, -90, 0, 90, 180])), draw(st.sampled_from([-1, 1]))
    return corner + sign * 10 ** draw(st.floats(-12, 1))


@given(st.tuples(nearly(), nearly(), nearly()), st.sampled_from([np.float64, np.float32]))
@example((-2.48, 89.99994, 90.08), np.float64)  # became a pitch of 177
@example((84.5, -90.0002, 0.1), np.float32)
def test_ranges_hold_hardly_beside_a_profile(angles, kind):
    rotation = from_euler(angles).astype(kind).astype(np.float64)
    for convention, limited in (("directmhp", 0), ("biwi", 1)):
        numbers = to_euler(rotation, convention)
        assert abs(numbers[limited]) <= 90
        assert (numbers > -180).all() and (numbers <= 180).all()
        assert geodesic(rotation, from_euler(numbers, convention)) < 2e-4


@given(
    st.floats(-89.9, 89.9),
    st.floats(-179.9, 180) | CORNER.filter(lambda a: a > -180),
    st.floats(-89.9, 89.9),
)
def test_directmhp_angles_come_back_as_they_are(pitch, yaw, roll):
    """Full range: the turn away from the viewer is in the yaw, not in pitch and roll."""
    angles = np.array([pitch, yaw, roll])
    got = to_euler(from_euler(angles))
    if abs(abs(yaw) - 90) < 1e-3:
        assert geodesic(from_euler(angles), from_euler(got)) < 2e-4
    else:
        assert np.abs(wrap(got - angles)).max() < 1e-4


@pytest.mark.parametrize("angles", [[90, 30, 10], [-90, -150, 5], [90, 0, 0], [30, 180, -20]])
def test_straight_up_and_straight_away_in_float32(angles):
    assert to_euler(from_euler(angles).astype(np.float32)) == pytest.approx(angles, abs=1e-3)


@given(st.sampled_from([-90.0, 90.0]), st.floats(-80, 80), st.floats(-80, 80))
def test_gimbal_lock_is_shared_evenly(yaw, pitch, roll):
    got = to_euler(from_euler([pitch, yaw, roll]))
    turn = roll - pitch if yaw > 0 else roll + pitch
    expected = [-turn / 2 if yaw > 0 else turn / 2, yaw, turn / 2]
    assert got == pytest.approx(expected, abs=1e-4)


@given(st.floats(170, 190), st.floats(-20, 20))
def test_no_jump_in_the_rotation_where_yaw_wraps(yaw, pitch):
    near = from_euler([pitch, yaw + 0.01, 0])
    assert geodesic(from_euler([pitch, yaw, 0]), near) < 0.011


@given(rotations())
def test_mirroring_negates_yaw_and_roll(rotation):
    pitch, yaw, roll = to_euler(rotation)
    mirrored = mirror(rotation)
    assert geodesic(mirrored, from_euler([pitch, -yaw, -roll])) < 2e-4
    assert mirror(mirrored) == pytest.approx(rotation)
    nose = direction(rotation)
    assert direction(mirrored) == pytest.approx([-nose[0], nose[1], nose[2]])


@given(rotations(), st.floats(-360, 360), st.floats(-360, 360))
def test_turning_the_picture_turns_the_nose(rotation, theta, more):
    turned = rotate_in_plane(rotation, theta)
    nose, seen = direction(rotation), direction(turned)
    t = np.radians(theta)
    # y is down, so clockwise takes x (right) to y (down).
    assert seen[0] == pytest.approx(np.cos(t) * nose[0] - np.sin(t) * nose[1], abs=1e-9)
    assert seen[1] == pytest.approx(np.sin(t) * nose[0] + np.cos(t) * nose[1], abs=1e-9)
    both = rotate_in_plane(turned, more)
    assert geodesic(both, rotate_in_plane(rotation, theta + more)) < 1e-6
    # Mirroring the turned picture is turning the mirrored one the other way.
    assert geodesic(mirror(turned), rotate_in_plane(mirror(rotation), -theta)) < 1e-6


def test_turning_a_frontal_face_is_rolling_it():
    assert to_euler(rotate_in_plane(np.eye(3), 30)) == pytest.approx([0, 0, 30])


@given(rotations(), rotations(), rotations())
def test_geodesic_is_a_distance(a, b, c):
    assert geodesic(a, a) < 1e-6
    assert geodesic(a, b) == pytest.approx(geodesic(b, a), abs=1e-6)
    assert 0 <= geodesic(a, b) <= 180
    assert geodesic(a, c) <= geodesic(a, b) + geodesic(b, c) + 1e-6
    assert geodesic(mirror(a), mirror(b)) == pytest.approx(geodesic(a, b), abs=1e-6)


@given(st.floats(0, 180), rotations())
def test_geodesic_is_the_angle_of_the_turn(angle, rotation):
    assert geodesic(rotation, rotate_in_plane(rotation, angle)) == pytest.approx(angle, abs=1e-6)


@given(rotations())
def test_rotation_vectors_are_opencvs(rotation):
    flip = np.diag([1.0, 1.0, -1.0])
    vector = to_euler(rotation, "opencv")
    assert cv2.Rodrigues(vector)[0] == pytest.approx(flip @ rotation @ flip, abs=1e-6)
    if np.linalg.norm(vector) < np.radians(179):
        # Nearer to half a turn OpenCV's way back is off by up to 0.1 degrees from its way there.
        again = from_euler(cv2.Rodrigues(flip @ rotation @ flip)[0].ravel(), "opencv")
        assert geodesic(again, rotation) < 1e-4


def test_a_frontal_face_has_no_rotation_vector():
    assert to_euler(np.eye(3), "opencv").tolist() == [0, 0, 0]
    # Nodding up turns about x: in camera axes (y down, z away) by the right-hand rule, -x.
    assert to_euler(from_euler([30, 0, 0]), "opencv") == pytest.approx([-np.pi / 6, 0, 0])


@given(rotations())
def test_biwi_matrices_give_the_angles_the_literature_takes_from_them(rotation):
    """Angles of the transposed matrix about z, y, x, with yaw and roll negated."""
    assert from_biwi(to_biwi(rotation)) == pytest.approx(rotation)
    t = to_biwi(rotation).T
    level = np.hypot(t[2, 1], t[2, 2])
    if level < 1e-4:
        return
    pitch = np.arctan2(t[2, 1], t[2, 2])
    yaw = -np.arctan2(-t[2, 0], level)
    roll = -np.arctan2(t[1, 0], t[0, 0])
    expected = np.degrees([pitch, yaw, roll])
    assert np.abs(wrap(to_euler(rotation, "biwi") - expected)).max() < 1e-4


@given(rotations(), st.floats(0.01, 100), st.floats(0.01, 100), st.floats(-5, 5))
def test_six_numbers_of_any_length_give_the_rotation(rotation, first, second, lean):
    six = to_6d(rotation)
    assert geodesic(from_6d(six), rotation) < 1e-5
    skewed = np.concatenate([six[:3] * first, six[3:] * second + lean * six[:3]])
    assert geodesic(from_6d(skewed), rotation) < 1e-3


def test_six_numbers_of_many_at_once():
    many = from_euler([[[10, 20, 30], [-40, 150, 5]], [[0, -90, 80], [70, 0, 0]]])
    six = to_6d(many)
    assert six.shape == (2, 2, 6) and six[1, 0] == pytest.approx(to_6d(many[1, 0]))
    assert from_6d(six * 3) == pytest.approx(many)


def test_six_numbers_without_a_direction_are_unknown():
    assert np.isnan(from_6d([0, 0, 0, 0, 1, 0])).all()
    assert np.isnan(from_6d([1, 0, 0, 2, 0, 0])[:, 1:]).all()


@each_convention
def test_unknown_stays_unknown_beside_known(convention):
    angles = np.array([[1.0, 2.0, 3.0], [np.nan, 0.0, 0.0], [0.1, 0.2, 0.3]])
    matrix = from_euler(angles, convention)
    assert np.isnan(matrix[1]).any()
    assert np.isfinite(matrix[[0, 2]]).all()
    matrix[1] = np.nan
    for result in (to_euler(matrix, convention), geodesic(matrix, np.eye(3)), mirror(matrix)):
        assert np.isnan(result[1]).all()
        assert np.isfinite(result[[0, 2]]).all()
    assert np.isnan(nearest_rotation(matrix)[1]).all()
    assert is_rotation(matrix).tolist() == [True, False, True]


@given(EULER)
def test_upright_triples_mean_the_same_rotation(angles):
    same = upright(angles)
    assert (np.abs(same) <= [90, 180, 180]).all()
    assert geodesic(from_euler(same), from_euler(angles)) < 1e-6
    assert upright(same).tolist() == same.tolist()
    if (np.abs(angles) <= [90, 180, 180]).all():
        assert same.tolist() == angles.tolist()


def test_upright_keeps_shapes_and_unknown_poses():
    assert upright(np.zeros((0, 3))).shape == (0, 3)
    assert np.isnan(upright([[np.nan] * 3, [1, 2, 3]])[0]).all()


def test_shapes_are_kept():
    angles = np.random.default_rng(0).uniform(-80, 80, (4, 5, 3))
    assert from_euler(angles).shape == (4, 5, 3, 3)
    assert to_euler(from_euler(angles)) == pytest.approx(angles)
    assert geodesic(from_euler(angles), np.eye(3)).shape == (4, 5)
    assert to_euler(np.zeros((0, 3, 3))).shape == (0, 3)
    assert from_euler(np.zeros((0, 3)), "opencv").shape == (0, 3, 3)


@given(rotations(), st.integers(0, 2**32 - 1))
def test_the_nearest_rotation(rotation, seed):
    noise = np.random.default_rng(seed).normal(size=(3, 3)) * 1e-3
    near = nearest_rotation(rotation + noise)
    assert is_rotation(near, 1e-9)
    assert geodesic(near, rotation) < 1
    assert np.linalg.norm(near - rotation - noise) <= np.linalg.norm(noise) + 1e-12
    assert not is_rotation(-rotation)
    assert not is_rotation(0.9 * rotation) and not is_rotation(1.1 * rotation)


def test_mistakes_are_named():
    with pytest.raises(UserError, match="unknown convention 'xyz'; known: directmhp, 300w-lp"):
        from_euler([0, 0, 0], "xyz")
    with pytest.raises(UserError, match="unknown convention"):
        to_euler(np.eye(3), "xyz")
    with pytest.raises(ValueError, match="last axis must be 3"):
        from_euler([0, 0])
    with pytest.raises(ValueError, match="3 x 3"):
        to_euler(np.eye(4))
    with pytest.raises(ValueError, match="must be 6"):
        from_6d([1, 0, 0])
