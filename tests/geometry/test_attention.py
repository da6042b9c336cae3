from __future__ import annotations

import numpy as np
import pytest

from vision_heads.errors import UserError
from vision_heads.geometry.attention import (
    AT_CAMERA,
    AT_NOBODY,
    angle_to,
    attention,
    places,
    point_place,
)
from vision_heads.geometry.rotations import direction


def turned(yaw: float, pitch: float = 0.0) -> np.ndarray:
    """A head's rotation; positive yaw to the picture's left, positive pitch up."""
    y, p = np.radians([-yaw, pitch])
    ry = np.array([[np.cos(y), 0, np.sin(y)], [0, 1, 0], [-np.sin(y), 0, np.cos(y)]])
    rx = np.array([[1, 0, 0], [0, np.cos(p), -np.sin(p)], [0, np.sin(p), np.cos(p)]])
    return rx @ ry


def box(x: float, y: float, side: float) -> list[float]:
    return [x - side / 2, y - side / 2, x + side / 2, y + side / 2]


def test_direction_is_where_the_nose_points():
    left, up = direction(np.stack([turned(90), turned(0, 90)]))
    assert left == pytest.approx([-1, 0, 0], abs=1e-9)
    assert up == pytest.approx([0, -1, 0], abs=1e-9)


@pytest.mark.parametrize("x", [50, 500, 950])
def test_a_frontal_face_is_turned_to_the_camera_anywhere_in_the_picture(x):
    found = attention(turned(0)[None], np.array([box(x, 300, 40)]), 1000, 600)
    assert found.camera[0] == pytest.approx(0, abs=1e-5)
    assert found.target.tolist() == [AT_CAMERA]


def test_camera_angle_is_the_yaw_of_a_level_head():
    angles = [0.0, 14.9, 15.1, 90.0, 180.0]
    boxes = np.array([box(100 + 150 * i, 300, 40) for i in range(5)])
    found = attention(np.stack([turned(a) for a in angles]), boxes, 800, 600, within=15)
    assert found.camera == pytest.approx(angles, abs=1e-4)
    assert (found.target == AT_CAMERA).tolist() == [True, True, False, False, False]


def test_two_who_face_each_other_are_a_pair_and_a_third_watches():
    boxes = np.array([box(400, 300, 60), box(600, 300, 60), box(100, 300, 60)])
    # -90: to the picture's right; the third sees the first one before the second.
    rotation = np.stack([turned(-90), turned(90), turned(-90)])
    found = attention(rotation, boxes, 1000, 600, within=25)
    assert found.target[:2].tolist() == [1, 0]
    assert found.mutual.tolist() == [[0, 1]]
    assert found.target[2] in (0, 1)
    assert np.isnan(np.diag(found.others)).all()


def test_one_above_and_one_below_who_face_each_other():
    boxes = np.array([box(500, 150, 60), box(500, 450, 60)])
    found = attention(np.stack([turned(0, -90), turned(0, 90)]), boxes, 1000, 600, within=25)
    assert found.target.tolist() == [1, 0] and found.mutual.tolist() == [[0, 1]]
    away = attention(np.stack([turned(0, 90), turned(0, -90)]), boxes, 1000, 600, within=25)
    assert away.target.tolist() == [AT_NOBODY] * 2


def test_a_small_head_is_far_behind():
    near, far = places(np.array([box(500, 300, 100), box(500, 300, 20)]), 1000, 600)
    assert far[2] == pytest.approx(5 * near[2]) and near[2] < 0
    # Somebody in front, looking straight away from the camera, looks at who is behind.
    boxes = np.array([box(500, 300, 100), box(500, 300, 20)])
    found = attention(np.stack([turned(180), turned(0)]), boxes, 1000, 600)
    assert found.target.tolist()[0] == 1


def test_a_point_beside_a_head():
    boxes = np.array([box(200, 300, 50)])
    board = point_place((800, 300), 50, 1000, 600)
    angles = [float(angle_to(turned(y)[None], places(boxes, 1000, 600), board[None])[0, 0])
              for y in (90, 0, -70, -90)]  # fmt: skip
    assert angles[0] > angles[1] > angles[3] and angles[3] < 30


def test_unknown_poses_look_at_nobody():
    rotation = np.stack([np.full((3, 3), np.nan), turned(60)])
    found = attention(rotation, np.array([box(100, 100, 30), box(300, 100, 30)]), 600, 400)
    assert found.target[0] == AT_NOBODY and np.isnan(found.camera[0])
    assert np.isfinite(found.others[1, 0])


def test_nobody_there():
    found = attention(np.zeros((0, 3, 3)), np.zeros((0, 4)), 600, 400)
    assert found.target.shape == (0,) and found.mutual.shape == (0, 2)


def test_wrong_values_are_named():
    rotation, boxes = turned(0)[None], np.array([box(100, 100, 30)])
    with pytest.raises(UserError, match="no rotation"):
        attention(None, boxes, 600, 400)
    with pytest.raises(UserError, match="180 degrees"):
        attention(rotation, boxes, 600, 400, within=0)
    with pytest.raises(UserError, match="180 degrees"):
        attention(rotation, boxes, 600, 400, within=180.1)
    assert attention(rotation, boxes, 600, 400, within=180).target.tolist() == [AT_CAMERA]
    with pytest.raises(UserError, match="size must be positive"):
        point_place((5, 5), 0, 600, 400)
    with pytest.raises(UserError, match="focal"):
        attention(rotation, boxes, 600, 400, focal=-1)
    with pytest.raises(UserError, match="empty"):
        attention(rotation, np.array([[5, 5, 5, 9]]), 600, 400)
