"""Boxes, pictures and poses go through the same matrix."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.data.scenes import extent, make_sample, picture_of
from vision_heads.data.warp import (
    PAD_VALUE,
    Labels,
    in_view,
    is_upright,
    paint,
    pose_transform,
    shear,
    shift,
    stretch,
    transform_boxes,
    transform_points,
    turn,
    warp_labels,
)
from vision_heads.geometry.boxes import area

degrees = st.floats(-180, 180)
factor = st.floats(0.2, 3)
move = st.floats(-300, 300)
coordinate = st.floats(0, 600)


@st.composite
def boxes(draw: st.DrawFn) -> np.ndarray:
    x, y = draw(coordinate), draw(coordinate)
    return np.array([[x, y, x + draw(st.floats(0.5, 200)), y + draw(st.floats(0.5, 200))]])


@st.composite
def matrices(draw: st.DrawFn) -> np.ndarray:
    scale = draw(factor)
    mirror = draw(st.sampled_from([-1, 1]))
    linear = shear(draw(st.floats(-30, 30)), 0) @ turn(draw(degrees)) @ stretch(scale * mirror, 1)
    return shift(draw(move), draw(move)) @ linear


@given(boxes(), matrices(), st.floats(0, 1), st.floats(0, 1))
def test_a_box_holds_what_it_held(box: np.ndarray, matrix: np.ndarray, u: float, v: float) -> None:
    x1, y1, x2, y2 = box[0]
    inside = np.array([[x1 + u * (x2 - x1), y1 + v * (y2 - y1)]])
    moved = transform_points(inside, matrix)[0]
    hull = transform_boxes(box, matrix)[0]
    assert (moved >= hull[:2] - 1e-6).all() and (moved <= hull[2:] + 1e-6).all()


@given(boxes(), matrices())
def test_a_hull_is_tight(box: np.ndarray, matrix: np.ndarray) -> None:
    x1, y1, x2, y2 = box[0]
    corners = transform_points(np.array([[x1, y1], [x2, y1], [x1, y2], [x2, y2]]), matrix)
    hull = transform_boxes(box, matrix)[0]
    assert np.allclose(hull, [*corners.min(0), *corners.max(0)])


@given(boxes(), factor, factor, st.sampled_from([-1, 1]), st.sampled_from([-1, 1]), move, move)
def test_upright_boxes_take_the_short_way_to_the_same_place(
    box: np.ndarray, fx: float, fy: float, sx: int, sy: int, x: float, y: float
) -> None:
    matrix = shift(x, y) @ stretch(fx * sx, fy * sy)
    assert is_upright(matrix)
    almost = matrix.copy()
    almost[0, 1] = 1e-300
    assert np.allclose(transform_boxes(box, matrix), transform_boxes(box, almost))


@given(boxes(), matrices())
def test_the_way_back_holds_the_box(box: np.ndarray, matrix: np.ndarray) -> None:
    there = transform_boxes(box, matrix)
    back = transform_boxes(there, np.linalg.inv(matrix))
    assert (back[:, :2] <= box[:, :2] + 1e-4).all() and (back[:, 2:] >= box[:, 2:] - 1e-4).all()


@given(boxes(), factor, st.sampled_from([-1, 1]), move, st.floats(0, 1), st.floats(0, 20))
def test_an_object_in_view_is_an_object_or_an_ignore_area(
    box: np.ndarray, scale: float, sign: int, x: float, min_visible: float, min_box: float
) -> None:
    matrix = shift(x, -x) @ stretch(scale * sign, scale)
    sample = make_sample(1000, 1000, [tuple(box[0])])
    labels = warp_labels(sample, matrix, (480, 640), min_box, min_visible)
    seen = transform_boxes(sample.boxes, matrix)
    seen[:, [0, 2]] = seen[:, [0, 2]].clip(0, 640)
    seen[:, [1, 3]] = seen[:, [1, 3]].clip(0, 480)
    assert len(labels.boxes) + len(labels.ignore) == int(area(seen)[0] > 0)
    assert np.allclose(np.concatenate([labels.boxes, labels.ignore]), seen[area(seen) > 0])


def test_a_turned_object_is_cut_before_its_hull_is_taken() -> None:
    # A square on its tip: only its right corner is in view, half as high as its hull is.
    sample = make_sample(200, 200, [(0, 0, 100, 100)])
    matrix = turn(45) @ shift(-50, -50)
    labels = warp_labels(sample, shift(-10, 100) @ matrix, (200, 200), 1.5, 0.1)
    tip = 50 * 2**0.5
    assert np.allclose(labels.boxes, [[0, 110 - tip, tip - 10, 90 + tip]], atol=1e-3)


@given(boxes(), matrices())
def test_a_turned_object_is_never_lost(box: np.ndarray, matrix: np.ndarray) -> None:
    sample = make_sample(1000, 1000, [tuple(box[0])])
    labels = warp_labels(sample, matrix, (480, 640), 0, 0)
    inside = box[0].reshape(2, 2).T
    points = np.stack(np.meshgrid(np.linspace(*inside[0], 9), np.linspace(*inside[1], 9)), -1)
    moved = transform_points(points.reshape(-1, 2), matrix)
    seen = moved[((moved > 1) & (moved < (639, 479))).all(1)]
    if len(seen):
        assert (seen >= labels.boxes[0, :2] - 1e-2).all()
        assert (seen <= labels.boxes[0, 2:] + 1e-2).all()


def test_a_mostly_hidden_object_is_an_ignore_area() -> None:
    sample = make_sample(100, 100, [(0, 0, 40, 40), (50, 50, 70, 70)], [3, 4])
    labels = warp_labels(sample, shift(-35, 0), (100, 100), 1.5, 0.2)
    assert labels.labels.tolist() == [4]
    assert labels.ignore.tolist() == [[0, 0, 5, 40]]
    kept = warp_labels(sample, shift(-35, 0), (100, 100), 1.5, 0.1)
    assert kept.labels.tolist() == [3, 4] and len(kept.ignore) == 0


def test_tiny_objects_stay() -> None:
    sample = make_sample(1000, 1000, [(100, 100, 108, 108), (200, 200, 206, 240)])
    labels = warp_labels(sample, stretch(0.25, 0.25), (250, 250), 1.5, 0.2)
    assert np.allclose(labels.boxes, [[25, 25, 27, 27], [50, 50, 51.5, 60]])
    smaller = warp_labels(sample, stretch(0.2, 0.2), (250, 250), 1.5, 0.2)
    assert np.allclose(smaller.boxes, [[20, 20, 21.6, 21.6]])
    # Too thin to be an object of the input, and still no background.
    assert np.allclose(smaller.ignore, [[40, 40, 41.2, 48]])


def test_labels_beyond_the_picture_do_not_reach_a_neighbour() -> None:
    sample = make_sample(100, 100, [(90, 10, 140, 30)], ignore=[(-50, 0, 20, 20)])
    labels = warp_labels(sample, shift(100, 0), (200, 400), 1.5, 0.2)
    assert labels.boxes.tolist() == [[190, 10, 200, 30]]
    assert labels.ignore.tolist() == [[100, 0, 120, 20]]


@given(factor, factor, move, move, st.booleans())
def test_a_resized_picture_lies_where_the_returned_matrix_says(
    fx: float, fy: float, x: float, y: float, mirrored: bool
) -> None:
    matrix = shift(x, y) @ stretch(fx, fy)
    if mirrored:
        matrix = matrix @ shift(200, 0) @ stretch(-1, 1)
    applied = paint(np.zeros((320, 320, 3), np.uint8), np.zeros((150, 200, 3), np.uint8), matrix)
    view = np.array([[0, 0, 200, 150]], np.float64)
    if not in_view(matrix, 200, 150, (320, 320)):
        return
    seen = transform_boxes(view, matrix).clip(0, 320)
    there = transform_boxes(view, applied).clip(0, 320)
    # Half a pixel at each end of what is resized, more only beyond the view.
    assert np.abs(seen - there).max() <= 0.5 + 1e-6


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize(("scale", "x", "y"), [(0.5, 10.3, 20.7), (1, 0, 0), (1.7, -60.2, -41.9)])
def test_pixels_follow_the_returned_matrix(
    scale: float, x: float, y: float, mirrored: bool
) -> None:
    sample = make_sample(200, 150, [(60, 50, 110, 90)])
    matrix = shift(x, y) @ stretch(scale, scale)
    if mirrored:
        matrix = matrix @ shift(200, 0) @ stretch(-1, 1)
    canvas = np.full((160, 180, 3), PAD_VALUE, np.uint8)
    applied = paint(canvas, picture_of(sample), matrix)
    box = transform_boxes(sample.boxes, applied)[0].clip(0, [180, 160, 180, 160])
    assert np.abs(extent(canvas, 0) - box).max() <= 0.75


def test_neighbours_leave_no_gap() -> None:
    white = np.full((50, 70, 3), 255, np.uint8)
    for split in np.linspace(20, 60, 23):
        canvas = np.full((64, 128, 3), PAD_VALUE, np.uint8)
        paint(canvas, white, shift(split - 70, 0) @ stretch(1, 2))
        paint(canvas, white, shift(split, 0) @ stretch(2, 2))
        assert (canvas == 255).all()


def test_pictures_out_of_view_are_not_painted() -> None:
    canvas = np.full((32, 32, 3), PAD_VALUE, np.uint8)
    for matrix in (shift(40, 0), shift(0, -60), turn(45) @ shift(100, 100)):
        assert not in_view(matrix, 20, 20, (32, 32)) or not is_upright(matrix)
        paint(canvas, np.full((20, 20, 3), 255, np.uint8), matrix)
    assert (canvas == PAD_VALUE).all()


@given(degrees, factor, st.booleans(), degrees)
def test_the_nose_turns_with_the_picture(
    angle: float, scale: float, mirrored: bool, yaw: float
) -> None:
    matrix = shift(5, 7) @ turn(angle) @ stretch(scale * (-1 if mirrored else 1), scale)
    y, r = np.radians(yaw), np.radians(20)
    about_y = np.array([[np.cos(y), 0, np.sin(y)], [0, 1, 0], [-np.sin(y), 0, np.cos(y)]])
    about_x = np.array([[1, 0, 0], [0, np.cos(r), -np.sin(r)], [0, np.sin(r), np.cos(r)]])
    rotation = (about_x @ about_y).astype(np.float32)
    sample = make_sample(100, 100, [(20, 20, 60, 60)], rotations=rotation[None])
    left, right = pose_transform(matrix)
    turned = left @ rotation @ right
    assert np.linalg.det(turned) == pytest.approx(1, abs=1e-4)
    # In the picture plane the nose moves as the pixels do, in depth not at all.
    assert np.allclose(turned[:2, 2], (matrix[:2, :2] / scale) @ rotation[:2, 2], atol=1e-4)
    assert turned[2, 2] == pytest.approx(rotation[2, 2], abs=1e-4)
    labels = warp_labels(sample, matrix, (4000, 4000), 0, 0)
    if len(labels.boxes):
        assert np.allclose(labels.rotations[0], turned, atol=1e-4)


def test_mirroring_changes_the_sign_of_yaw_and_roll_only() -> None:
    """R = Rx(pitch) Ry(-yaw) Rz(roll), as docs and data sets have it."""

    def rotation(pitch: float, yaw: float, roll: float) -> np.ndarray:
        p, y = np.radians(pitch), np.radians(-yaw)
        about_x = [[1, 0, 0], [0, np.cos(p), -np.sin(p)], [0, np.sin(p), np.cos(p)]]
        about_y = [[np.cos(y), 0, np.sin(y)], [0, 1, 0], [-np.sin(y), 0, np.cos(y)]]
        return np.array(about_x) @ np.array(about_y) @ turn(roll)

    left, right = pose_transform(shift(100, 0) @ stretch(-1, 1))
    assert np.allclose(left @ rotation(10, 30, 20) @ right, rotation(10, -30, -20), atol=1e-6)
    left, right = pose_transform(turn(25))
    assert np.allclose(left @ rotation(0, 0, 5) @ right, rotation(0, 0, 30), atol=1e-6)


def test_unknown_poses_stay_unknown() -> None:
    turns = np.stack([np.full((3, 3), np.nan), np.eye(3)]).astype(np.float32)
    sample = make_sample(100, 100, [(0, 0, 20, 20), (50, 50, 70, 70)], rotations=turns)
    labels = warp_labels(sample, stretch(-1, 1) @ shift(-100, 0), (100, 100), 1.5, 0.2)
    assert np.isnan(labels.rotations[0]).all()
    assert np.allclose(labels.rotations[1], np.eye(3))


def test_labels_join_in_order() -> None:
    one = warp_labels(make_sample(50, 50, [(0, 0, 9, 9)], [2]), np.eye(3), (50, 50), 0, 0)
    joined = Labels.join([one, Labels.none(), one])
    assert joined.labels.tolist() == [2, 2] and joined.rotations.shape == (2, 3, 3)
