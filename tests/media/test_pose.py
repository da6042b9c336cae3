from __future__ import annotations

import numpy as np
import pytest

from vision_heads.geometry.rotations import from_euler
from vision_heads.media.draw import draw_axes, draw_result
from vision_heads.media.pose import DOWN, NOSE, SIDE
from vision_heads.results import Detections, Result


def grey(height: int = 200, width: int = 300) -> np.ndarray:
    return np.full((height, width, 3), 90, np.uint8)


def middle_of(picture: np.ndarray, color: tuple) -> np.ndarray:
    """Mean x, y of the pixels of a colour."""
    y, x = np.nonzero((picture == color).all(axis=2))
    return np.array([x.mean(), y.mean()])


BOX = np.array([110, 60, 190, 140])
CENTRE = np.array([150, 100])


@pytest.mark.parametrize(
    ("angles", "way"),
    [((0, 60, 0), (-1, 0)), ((0, -60, 0), (1, 0)), ((50, 0, 0), (0, -1)), ((0, 130, 0), (-1, 0))],
)
def test_the_nose_is_drawn_where_it_points(angles: tuple, way: tuple) -> None:
    out = draw_axes(grey(), BOX, from_euler(angles))
    moved = middle_of(out, NOSE) - CENTRE
    assert moved @ way > 10
    assert abs(moved @ way[::-1]) < 6


def test_roll_turns_the_other_axes_clockwise() -> None:
    out = draw_axes(grey(), BOX, from_euler([0, 0, 30]))
    side, down = middle_of(out, SIDE) - CENTRE, middle_of(out, DOWN) - CENTRE
    assert np.degrees(np.arctan2(side[1], side[0])) == pytest.approx(30, abs=4)
    assert np.degrees(np.arctan2(down[1], down[0])) == pytest.approx(120, abs=4)


def test_looking_away_ends_in_a_ring_and_looking_here_in_a_dot() -> None:
    def filled(yaw: float) -> int:
        return int((draw_axes(grey(), BOX, from_euler([0, yaw, 0])) == NOSE).all(axis=2).sum())

    assert filled(50) > filled(130) + 15  # lines of equal length


def test_small_heads_get_the_nose_only_and_axes_grow_with_the_head() -> None:
    small = draw_axes(grey(), [140, 90, 160, 110], from_euler([0, 45, 0]))
    assert not (small == SIDE).all(axis=2).any() and (small == NOSE).all(axis=2).any()
    big = draw_axes(grey(), BOX, from_euler([0, 45, 0]))
    reach = [np.nonzero((p != 90).any(axis=2))[1] for p in (small, big)]
    assert np.ptp(reach[1]) > 2.5 * np.ptp(reach[0])


def test_unknown_poses_and_far_boxes_draw_nothing_and_the_picture_is_left_alone() -> None:
    image = grey()
    boxes = np.array([BOX, [np.nan] * 4, [1e9, 0, 1.1e9, 5], [5, 5, 5, 5]], float)
    turns = np.stack([np.full((3, 3), np.nan), np.eye(3), np.eye(3), np.eye(3)])
    assert np.array_equal(draw_axes(image, boxes, turns), image)
    draw_axes(image, BOX, np.eye(3))
    assert (image == 90).all()
    with pytest.raises(ValueError, match="4 boxes"):
        draw_axes(image, boxes, np.eye(3))


def test_results_with_poses_show_axes_and_what_they_mean() -> None:
    plain = Detections(BOX, [0.9], [0], ("head",))
    posed = Detections(BOX, [0.9], [0], ("head",), (), from_euler([0, 40, 0])[None])
    without, having = (
        draw_result(grey(400, 600), Result({"h": found}, 600, 400)) for found in (plain, posed)
    )
    assert not (without == NOSE).all(axis=2).any()
    at_head = having[60:140, 110:190]
    assert (at_head == NOSE).all(axis=2).any()
    corner = (having[:150, :200] == DOWN).all(axis=2) | (having[250:, 400:] == DOWN).all(
        axis=2
    ).any()
    assert corner.any()
