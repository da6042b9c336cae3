"""Where pictures lie before the random view, and what each strength of the view does alone."""

from __future__ import annotations

import numpy as np
import pytest

from tests.data.scenes import make_sample, picture_of, still
from vision_heads.data.augment import random_view
from vision_heads.data.mosaic import place_four, place_one
from vision_heads.data.sample import Sample
from vision_heads.data.warp import transform_points
from vision_heads.geometry.letterbox import letterbox

SIZE = (256, 320)
SIDES = ((400, 300), (300, 400), (640, 360), (200, 200))
FOUR = [make_sample(*sides, [], name=f"{n}.png") for n, sides in enumerate(SIDES)]
rng = np.random.default_rng


def places_of(samples: list[Sample], matrices: list[np.ndarray]) -> np.ndarray:
    """Where pictures lie, (N, 4): left, top, right, bottom; mirrored ones from right to left."""
    corners = [np.array([[0, 0], [one.width, one.height]], float) for one in samples]
    return np.stack(
        [transform_points(c, m).reshape(4) for c, m in zip(corners, matrices, strict=True)]
    )


def test_a_mirrored_picture_lies_where_its_letterbox_does() -> None:
    tall = make_sample(101, 256, [])
    for flipped, expected in ((False, [109, 0, 210, 256]), (True, [210, 0, 109, 256])):
        (place,) = places_of([tall], [place_one(tall, SIZE, flipped)])
        assert place == pytest.approx(expected)


def test_four_pictures_meet_in_one_point_as_large_as_their_letterboxes() -> None:
    fits = [letterbox(picture_of(sample), *SIZE)[1] for sample in FOUR]
    sides = [(fit.resized_width, fit.resized_height) for fit in fits]
    points = []
    for seed in range(300):
        flipped = [bool(seed >> i & 1) for i in range(4)]
        places = places_of(FOUR, place_four(FOUR, SIZE, flipped, rng(seed)))
        places[flipped] = places[flipped][:, [2, 1, 0, 3]]
        np.testing.assert_allclose(places[:, 2:] - places[:, :2], sides)
        inner = places[[0, 1, 2, 3], [2, 0, 2, 0]], places[[0, 1, 2, 3], [3, 3, 1, 1]]
        assert np.ptp(inner[0]) == pytest.approx(0) and np.ptp(inner[1]) == pytest.approx(0)
        points.append([inner[0][0], inner[1][0]])
    # Between where the narrowest on the right ends and the narrowest on the left begins.
    low = [320 - min(sides[1][0], sides[3][0]), 256 - min(sides[2][1], sides[3][1])]
    high = [min(sides[0][0], sides[2][0]), min(sides[0][1], sides[1][1])]
    low, high = np.sort([low, high], axis=0)
    assert (np.array(points) >= low).all() and (np.array(points) <= high).all()
    np.testing.assert_allclose(np.min(points, axis=0), low, atol=3)
    np.testing.assert_allclose(np.max(points, axis=0), high, atol=3)


def views(**strengths: float) -> np.ndarray:
    """Many views drawn with one strength alone."""
    return np.stack([random_view(still(**strengths), SIZE, rng(seed)) for seed in range(200)])


def about_the_middle(views: np.ndarray) -> np.ndarray:
    """The views as seen from the input's middle, which they must leave where it is."""
    away = np.array([[1, 0, -160], [0, 1, -128], [0, 0, 1]])
    found = away @ views @ np.linalg.inv(away)
    np.testing.assert_allclose(found[:, :2, 2], 0, atol=1e-9)
    return found[:, :2, :2]


def reaches(drawn: np.ndarray, limit: float) -> bool:
    """Whether numbers are spread from minus to plus a limit."""
    inside = np.abs(drawn).max() <= limit * (1 + 1e-9)
    return bool(inside and drawn.min() < -0.9 * limit and drawn.max() > 0.9 * limit)


def test_each_strength_alone_does_what_it_says() -> None:
    zoomed = about_the_middle(views(scale=0.4))
    np.testing.assert_allclose(zoomed, zoomed[:, :1, :1] * np.eye(2), atol=1e-9)
    assert reaches(zoomed[:, 0, 0] - 1, 0.4)
    moved = views(translate=0.2)
    np.testing.assert_array_equal(moved[:, :2, :2], np.broadcast_to(np.eye(2), (200, 2, 2)))
    assert reaches(moved[:, 0, 2], 0.2 * 320) and reaches(moved[:, 1, 2], 0.2 * 256)
    turned = about_the_middle(views(degrees=30))
    np.testing.assert_allclose(
        turned @ turned.mT, np.broadcast_to(np.eye(2), (200, 2, 2)), atol=1e-9
    )
    assert reaches(np.degrees(np.arctan2(turned[:, 1, 0], turned[:, 0, 0])), 30)
    bent = about_the_middle(views(shear=20))
    assert reaches(bent[:, 0, 1], np.tan(np.radians(20)))
    assert reaches(bent[:, 1, 0], np.tan(np.radians(20)))
    tilted = views(perspective=0.1)
    middle, edges = np.array([160, 128, 1]), np.array([[320, 128, 1], [160, 256, 1]])
    near = tilted @ middle
    np.testing.assert_allclose(near / near[:, 2:], np.broadcast_to(middle, near.shape))
    # An edge is up to a tenth nearer, or farther, than the middle.
    depth = (tilted @ edges.T)[:, 2] / near[:, 2:] - 1
    assert reaches(depth[:, 0], 0.1) and reaches(depth[:, 1], 0.1)
