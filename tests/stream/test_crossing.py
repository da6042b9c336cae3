from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.stream.scenes import around
from vision_heads.stream.crossing import LineCounter, Spot

LEVEL = [[100, 100], [300, 100]]  # looking right: in is downwards
PLACE = st.tuples(st.floats(0, 400), st.floats(0, 400))


def spot(x, y, track=1, side=20, label="car"):
    return Spot("vehicles", label, track, tuple(around(x, y, side)))


def walk(way, line=LEVEL, counter=None, step=0.1, anchor="center", **more):
    """Directions counted on a way of points (x, y); None is a frame without the object."""
    counter = counter or LineCounter()
    directions = []
    for index, point in enumerate(way):
        spots = [] if point is None else [spot(*point, **more)]
        crossed = counter.update(spots, line, anchor, index * step, patience=1.0)
        directions += [direction for _, direction in crossed]
    return directions


@pytest.mark.parametrize(
    ("line", "way", "direction"),
    [
        (LEVEL, [(200, 80), (200, 120)], "in"),
        (LEVEL, [(200, 120), (200, 80)], "out"),
        (LEVEL[::-1], [(200, 80), (200, 120)], "out"),
        ([[200, 300], [200, 100]], [(150, 200), (250, 200)], "in"),  # looking up: in is rightwards
        ([[200, 300], [200, 100]], [(250, 200), (150, 200)], "out"),
    ],
)
def test_directions_by_hand(line, way, direction):
    assert walk(way, line) == [direction]


def test_only_the_line_itself_counts_not_its_extension():
    assert walk([(350, 80), (350, 120)]) == []
    # Around the end of the line and back through it: one crossing, not two.
    assert walk([(200, 80), (350, 80), (350, 120), (200, 120), (200, 80)]) == ["out"]


def test_a_box_that_trembles_on_the_line_counts_nothing():
    random = np.random.default_rng(0)
    resting = [(200, 100 + dy) for dy in random.uniform(-1.9, 1.9, 50)]
    assert walk([(200, 80), *resting]) == []
    assert walk([(200, 80), *resting, (200, 120)]) == ["in"]
    assert walk([(200, 80), *resting, (200, 80)]) == []


def test_how_far_past_the_line_goes_by_the_boxs_smaller_side():
    for box, past in ((160, -60, 240, 260), 8), ((40, 90, 360, 130), 4):
        for offset, directions in ((past - 0.1, []), (past + 0.1, ["in"])):
            middle, counter = (box[1] + box[3]) / 2, LineCounter()
            crossed = []
            for y in (middle - 99, 100 + offset):
                moved = (box[0], box[1] + y - middle, box[2], box[3] + y - middle)
                one = Spot("vehicles", "car", 1, moved)
                crossed += counter.update([one], LEVEL, "center", 0.0, 1.0)
            assert [direction for _, direction in crossed] == directions


def test_the_ends_belong_to_the_line():
    assert walk([(100, 80), (100, 120), (300, 120), (300, 80)]) == ["in", "out"]


def test_there_and_back_counts_twice():
    assert walk([(200, 80), (200, 120), (200, 80), (200, 120)]) == ["in", "out", "in"]


def test_objects_hidden_while_they_cross_count_until_they_are_forgotten():
    hidden = [(200, 80), *[None] * 8, (200, 120)]
    assert walk(hidden) == ["in"]
    assert walk(hidden, step=0.2) == []


def test_an_object_on_the_line_from_the_start_counts_when_it_has_a_side():
    assert walk([(200, 100), (200, 120)]) == []
    assert walk([(200, 100), (200, 80), (200, 120)]) == ["in"]


def test_the_anchor_may_be_the_bottom_edge():
    way = [(200, 75), (200, 95)]  # centre above, bottom edge (10 below) from above to below
    assert walk(way) == []
    assert walk(way, anchor="bottom") == ["in"]


def test_counts_by_class_and_forgetting():
    counter = LineCounter()
    walk([(200, 80), (200, 120)], counter=counter)
    walk([(220, 80), (220, 120), (220, 80)], counter=counter, track=2, label="van")
    assert counter.entered == {"car": 1, "van": 1} and counter.left == {"van": 1}
    counter.update([spot(200, 80, track=3)], LEVEL, "center", 9.0, 1.0)
    counter.forget()
    crossed = counter.update([spot(200, 120, track=3)], LEVEL, "center", 9.1, 1.0)
    assert crossed == [] and counter.entered.total() == 2


@given(st.integers(0, 2**32 - 1), st.integers(2, 12))
def test_reversing_the_line_swaps_the_directions(seed, number):
    """In general position: on the line's very ends, rounding decides."""
    random = np.random.default_rng(seed)
    way, (start, end) = random.uniform(0, 400, (number, 2)), random.uniform(0, 400, (2, 2))
    swapped = {"in": "out", "out": "in"}
    there = walk(way, [start, end])
    assert [swapped[one] for one in walk(way, [end, start])] == there


@given(st.lists(PLACE, min_size=2, max_size=12))
def test_crossings_of_an_endless_line_alternate_and_add_up(way):
    """In less out is the difference of sides between the first and the last clear sight."""
    directions = walk(way, [[-1e5, 200], [1e5, 200]], side=1e-6)
    assert all(a != b for a, b in pairwise(directions))
    sides = [y > 200 for _, y in way if abs(y - 200) > 1e-6]
    if sides:
        expected = int(sides[-1]) - int(sides[0])
        assert directions.count("in") - directions.count("out") == expected
