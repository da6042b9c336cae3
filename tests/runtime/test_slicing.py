from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from vision_heads.errors import UserError
from vision_heads.runtime.slicing import (
    WHOLE,
    Slicing,
    TileBoxes,
    count_tiles,
    cut_sides,
    merge,
    plan_tiles,
)

PICTURE = (1800, 1300)


def _see(objects, tiles, *, size=PICTURE, whole=False, jitter=0.0, seed=0):
    """What a perfect detector reports: in each tile the part of each object it can see."""
    rng = np.random.default_rng(seed)
    boxes, scores, labels, origin, cut = [], [], [], [], []
    views = list(enumerate(tiles)) + ([(WHOLE, np.array([0, 0, *size]))] if whole else [])
    for number, tile in views:
        for label, box in objects:
            part = np.array(
                [*np.maximum(box[:2], tile[:2]), *np.minimum(box[2:], tile[2:])], np.float32
            )
            if (part[2:] - part[:2] < 4).any():
                continue
            part += rng.uniform(-jitter, jitter, 4)
            part = np.clip(part, [*tile[:2]] * 2, [*tile[2:]] * 2).astype(np.float32)
            boxes.append(part)
            scores.append(rng.uniform(0.3, 0.9))
            labels.append(label)
            origin.append(number)
            cut.append(cut_sides(part[None], tile, *size)[0])
    count = len(boxes)
    return TileBoxes(
        np.array(boxes, np.float32).reshape(count, 4),
        np.array(scores, np.float32),
        np.array(labels, np.int64),
        np.array(origin, np.int64),
        np.array(cut, bool).reshape(count, 4),
    )


@given(st.integers(1, 3000), st.integers(1, 3000), st.integers(96, 1500), st.floats(0, 0.7))
def test_tiles_cover_the_picture_and_overlap_as_asked(width, height, size, share):
    tiles = plan_tiles(width, height, size, share)
    assert (tiles[:, :2] >= 0).all() and (tiles[:, 2:] <= [width, height]).all()
    for axis, length in ((0, width), (1, height)):
        spans = np.unique(tiles[:, [axis, axis + 2]], axis=0)
        assert (spans[:, 1] - spans[:, 0] == min(size, length)).all()
        assert spans[0, 0] == 0 and spans[-1, 1] == length
        shared = spans[:-1, 1] - spans[1:, 0]
        # One pixel of a tile must always be new, whatever share is asked.
        assert (shared >= min(np.ceil(size * share), size - 1)).all()
    rows, columns = len(np.unique(tiles[:, 1])), len(np.unique(tiles[:, 0]))
    assert len(tiles) == rows * columns == len(np.unique(tiles, axis=0))
    assert len(tiles) == count_tiles(width, height, size, share)


def test_no_more_tiles_than_needed():
    assert len(plan_tiles(3840, 2160, 640, 0.2)) == 8 * 4
    assert len(plan_tiles(640, 640, 640, 0.2)) == 1
    assert len(plan_tiles(641, 640, 640, 0.2)) == 2


@pytest.mark.parametrize("mode", ["nms", "nmm"])
@pytest.mark.parametrize("metric", ["iou", "ios"])
@pytest.mark.parametrize("whole", [False, True])
@given(
    corner=st.tuples(st.floats(0, 1500), st.floats(0, 1000)),
    size=st.tuples(st.floats(12, 1700), st.floats(12, 1200)),
    share=st.sampled_from([0.0, 0.1, 0.2, 0.5]),
    seed=st.integers(0, 99),
)
def test_an_object_anywhere_gives_one_box(mode, metric, whole, *, corner, size, share, seed):
    end = np.minimum(np.add(corner, size), PICTURE)
    box = np.array([*corner, *end], np.float32)
    tiles = plan_tiles(*PICTURE, 640, share)
    # A sliver of an object that a tile sees is no evidence for anything; a detector gives none.
    for axis in (0, 1):
        for border in np.unique(tiles[:, [axis, axis + 2]]):
            assume(not 0 < abs(box[axis] - border) < 9)
            assume(not 0 < abs(box[axis + 2] - border) < 9)
    found = _see([(0, box)], tiles, whole=whole, seed=seed)
    slicing = Slicing(640, share, merge=mode, metric=metric)
    index, boxes, scores = merge(found, slicing)
    assert len(index) == 1
    np.testing.assert_allclose(boxes[0], box, atol=4.5)  # parts under 4 px were not seen
    assert scores[0] == found.scores.max()


def test_neighbours_at_a_border_stay_two():
    tiles = plan_tiles(*PICTURE, 640, 0.2)
    border = tiles[0, 2]
    # Two long vehicles side by side, both across the border, and two in a row along it.
    objects = [
        (0, np.array([border - 60, 100, border + 60, 130])),
        (0, np.array([border - 70, 132, border + 50, 162])),
        (0, np.array([border - 60, 300, border - 4, 330])),
        (0, np.array([border + 4, 300, border + 60, 330])),
    ]
    _, boxes, _ = merge(_see(objects, tiles), Slicing(640, 0.2))
    assert len(boxes) == 4
    for _, box in objects:
        assert np.abs(boxes - box).max(axis=1).min() < 1e-3


def test_classes_are_kept_apart():
    tiles = plan_tiles(*PICTURE, 640, 0.2)
    box = np.array([600, 100, 660, 150])
    index, _, _ = merge(_see([(0, box), (1, box)], tiles), Slicing(640, 0.2))
    assert len(index) == 2


def test_a_whole_box_beats_a_piece_of_higher_score():
    found = TileBoxes(
        np.array([[600, 100, 640, 150], [600, 100, 700, 150]], np.float32),
        np.array([0.9, 0.4], np.float32),
        np.zeros(2, np.int64),
        np.array([0, 1]),
        np.array([[False, False, True, False], [False] * 4]),
    )
    for metric in ("iou", "ios"):
        index, boxes, scores = merge(found, Slicing(640, 0.2, metric=metric))
        assert index.tolist() == [1]
        assert boxes.tolist() == [[600, 100, 700, 150]]
        assert scores.tolist() == [np.float32(0.9)]


def test_boxes_of_one_tile_are_left_to_its_own_nms():
    boxes = np.array([[0, 0, 50, 50], [2, 2, 48, 48]], np.float32)
    scores = np.array([0.9, 0.8], np.float32)
    one_tile = TileBoxes(boxes, scores, np.zeros(2, int), np.zeros(2, int), np.zeros((2, 4), bool))
    assert len(merge(one_tile, Slicing())[0]) == 2
    two_tiles = TileBoxes(boxes, scores, np.zeros(2, int), np.arange(2), np.zeros((2, 4), bool))
    assert len(merge(two_tiles, Slicing())[0]) == 1


def test_nmm_grows_the_box_and_nms_does_not():
    found = TileBoxes(
        np.array([[0, 0, 50, 50], [10, 0, 60, 50]], np.float32),
        np.array([0.9, 0.8], np.float32),
        np.zeros(2, int),
        np.arange(2),
        np.zeros((2, 4), bool),
    )
    assert merge(found, Slicing(merge="nms"))[1].tolist() == [[0, 0, 50, 50]]
    assert merge(found, Slicing(merge="nmm"))[1].tolist() == [[0, 0, 60, 50]]


def test_results_come_best_first():
    corners = np.arange(5)[:, None] * 100.0
    boxes = np.concatenate([corners, corners, corners + 50, corners + 50], 1).astype(np.float32)
    scores = np.array([0.3, 0.9, 0.5, 0.9, 0.4], np.float32)
    apart = TileBoxes(boxes, scores, np.zeros(5, int), np.arange(5), np.zeros((5, 4), bool))
    index, found, best = merge(apart, Slicing())
    assert index.tolist() == [1, 3, 2, 4, 0]  # equal ones as they were given
    np.testing.assert_array_equal(found, boxes[index])
    np.testing.assert_array_equal(best, scores[index])


@pytest.mark.parametrize(("shared", "left"), [(50, 2), (51, 1)])
def test_boxes_of_two_tiles_are_one_object_above_the_threshold(shared, left):
    boxes = np.array([[0, 0, 100, 10], [100 - shared, 0, 200 - shared, 10]], np.float32)
    two = TileBoxes(boxes, boxes[:, 0], np.zeros(2, int), np.arange(2), np.zeros((2, 4), bool))
    assert len(merge(two, Slicing(threshold=0.5))[0]) == left


@pytest.mark.parametrize(
    ("tile", "margin"),
    [((100, 100, 740, 740), 3.2), ((100, 100, 740, 150), 3.2), ((100, 100, 150, 140), 1.0)],
)
def test_a_side_is_cut_within_a_200th_of_the_tile_and_at_least_a_pixel(tile, margin):
    tile = np.array(tile)
    inwards = np.array([1, 1, -1, -1])
    near, far = tile + inwards * (margin - 0.1), tile + inwards * (margin + 0.1)
    both = np.stack([near, far]).astype(np.float32)
    assert cut_sides(both, tile, 2000, 2000).tolist() == [[True] * 4, [False] * 4]
    # Where the picture ends too, nothing is cut.
    assert cut_sides(both, tile, *tile[2:]).tolist() == [[True, True, False, False], [False] * 4]


def test_nothing_found_gives_nothing():
    index, boxes, scores = merge(_see([], plan_tiles(*PICTURE, 640, 0.2)), Slicing())
    assert len(index) == len(scores) == 0 and boxes.shape == (0, 4)


def test_a_crowd_survives_with_jitter():
    """Hundreds of separate small objects: as many as there are, whatever tiles saw them."""
    rng = np.random.default_rng(4)
    grid = np.stack(np.meshgrid(np.arange(20, 1760, 34), np.arange(20, 1260, 34)), -1).reshape(
        -1, 2
    )
    size = rng.uniform(14, 30, (len(grid), 2))
    objects = [(0, np.array([*g, *(g + s)])) for g, s in zip(grid, size, strict=True)]
    found = _see(objects, plan_tiles(*PICTURE, 640, 0.2), jitter=0.5, whole=True)
    index, _, _ = merge(found, Slicing(640, 0.2))
    assert len(found.scores) > 2 * len(objects)
    assert len(index) == len(objects)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("size", 8),
        ("size", 100.5),
        ("overlap", "x"),
        ("threshold", "x"),
        ("overlap", 1.0),
        ("overlap", -0.1),
        ("merge", "x"),
        ("metric", "giou"),
        ("threshold", 0),
    ],
)
def test_a_wrong_setting_is_named(field, value):
    with pytest.raises(UserError, match=field):
        Slicing(**{field: value})
