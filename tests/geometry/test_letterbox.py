from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.geometry.strategies import NETWORK_SIDES, SIDES, boxes_in
from vision_heads.geometry.letterbox import letterbox, plan


@given(SIDES, SIDES, NETWORK_SIDES, NETWORK_SIDES, st.data())
def test_boxes_return_exactly(width, height, network_height, network_width, data):
    fit = plan(width, height, network_height, network_width)
    boxes = data.draw(boxes_in(width, height))
    back = fit.to_original(fit.to_network(boxes))
    # float32 network pixels hold 1/10000 px at 640; enlarged by the picture's own scale.
    tolerance = 2e-4 * max(1 / fit.scale_x, 1 / fit.scale_y, 1) + 1e-3
    np.testing.assert_allclose(back, boxes, atol=tolerance)


@given(SIDES, SIDES, NETWORK_SIDES, NETWORK_SIDES)
def test_resized_picture_fills_one_side_and_stays_inside(
    width, height, network_height, network_width
):
    fit = plan(width, height, network_height, network_width)
    assert fit.resized_width == network_width or fit.resized_height == network_height
    assert 1 <= fit.resized_width <= network_width
    assert 1 <= fit.resized_height <= network_height
    right = network_width - fit.left - fit.resized_width
    bottom = network_height - fit.top - fit.resized_height
    assert 0 <= right - fit.left <= 1
    assert 0 <= bottom - fit.top <= 1
    # The shape is kept but for the rounding to whole pixels, and for the one pixel at least.
    exact = min(network_width / width, network_height / height)
    assert abs(fit.resized_width - max(width * exact, 1)) <= 0.5
    assert abs(fit.resized_height - max(height * exact, 1)) <= 0.5
    whole = fit.to_network(np.array([[0, 0, width, height]], np.float32))[0]
    np.testing.assert_allclose(
        whole,
        [fit.left, fit.top, fit.left + fit.resized_width, fit.top + fit.resized_height],
        atol=1e-3,
    )


@given(st.integers(1, 90), st.integers(1, 90), st.sampled_from([32, 64]), st.sampled_from([32, 96]))
def test_the_transform_is_the_one_applied(width, height, network_height, network_width):
    image = np.full((height, width, 3), 255, np.uint8)
    picture, fit = letterbox(image, network_height, network_width, pad_value=7)
    assert picture.shape == (network_height, network_width, 3)
    ys, xs = np.nonzero(picture[..., 0] == 255)
    assert (xs.min(), xs.max() + 1) == (fit.left, fit.left + fit.resized_width)
    assert (ys.min(), ys.max() + 1) == (fit.top, fit.top + fit.resized_height)
    border = picture[picture[..., 0] != 255]
    assert (border == 7).all()


@pytest.mark.parametrize(("width", "height"), [(1360, 765), (500, 375), (333, 501), (64, 640)])
def test_a_rectangle_is_found_where_the_transform_says(width, height):
    """A painted rectangle's outline in the network's picture, mapped back, is where it was."""
    box = np.array([[width * 0.25, height * 0.3, width * 0.7, height * 0.9]]).round()
    x1, y1, x2, y2 = box[0].astype(int)
    image = np.zeros((height, width, 3), np.uint8)
    image[y1:y2, x1:x2] = 255
    picture, fit = letterbox(image, 640, 640, pad_value=0)
    light = picture[..., 0].astype(float) / 255
    # The painted area's mean position is sharp below a pixel, whatever the interpolation.
    total = light.sum()
    centre_x = (light.sum(0) * (np.arange(640) + 0.5)).sum() / total
    centre_y = (light.sum(1) * (np.arange(640) + 0.5)).sum() / total
    mapped = fit.to_original(np.array([[centre_x, centre_y, centre_x, centre_y]]))[0]
    scale = max(1, 1 / fit.scale_x)
    np.testing.assert_allclose(mapped[:2], [(x1 + x2) / 2, (y1 + y2) / 2], atol=0.05 * scale)


def test_to_original_clips_only_when_asked():
    fit = plan(100, 50, 64, 64)
    outside = np.array([[-10, -10, 700, 700]], np.float32)
    np.testing.assert_array_equal(fit.to_original(outside)[0], [0, 0, 100, 50])
    assert fit.to_original(outside, clip=False)[0, 2] > 100
    assert fit.to_original(outside.astype(float)).dtype == np.float32
    assert fit.to_network(outside.astype(float)).dtype == np.float32


def test_a_picture_of_the_right_size_is_copied_not_shared():
    image = np.zeros((64, 64, 3), np.uint8)
    picture, fit = letterbox(image, 64, 64)
    picture[:] = 9
    assert image.max() == 0
    assert (fit.left, fit.top, fit.scale_x, fit.scale_y) == (0, 0, 1, 1)


def test_no_boxes_map_to_no_boxes():
    fit = plan(100, 50, 64, 64)
    assert fit.to_original(np.zeros((0, 4))).shape == (0, 4)
    assert fit.to_network(np.zeros((0, 4))).shape == (0, 4)
