"""What the network is fed."""

from __future__ import annotations

import numpy as np
import pytest

from vision_heads.errors import UserError
from vision_heads.geometry.letterbox import letterbox
from vision_heads.runtime.inputs import fill, load_picture
from vision_heads.spec import InputSpec


def test_inputs_of_any_shape_are_the_letterbox_in_rgb_by_channels():
    image = np.random.default_rng(0).integers(0, 256, (37, 90, 3)).astype(np.uint8)
    # One after the other in one thread: what one leaves behind is none of the next.
    for height, width in ((64, 96), (96, 64), (64, 96), (32, 96)):
        spec = InputSpec(height=height, width=width, scale=0.5, pad_value=7)
        out = np.full((3, height, width), -1, np.float32)
        fit = fill(image, spec, out)
        expected, applied = letterbox(image, height, width, 7)
        assert fit == applied
        np.testing.assert_array_equal(out, expected[..., ::-1].transpose(2, 0, 1) * 0.5)


@pytest.mark.parametrize("mode", ["I", "F"])
def test_pil_images_of_numbers_must_hold_grey_levels(mode):
    pil = pytest.importorskip("PIL.Image")
    dtype = np.int32 if mode == "I" else np.float32
    grey = np.array([[0, 255, 7]], dtype)
    loaded = load_picture(pil.fromarray(grey)).image
    assert loaded.tolist() == [[[value] * 3 for value in (0, 255, 7)]]
    for wrong in (-1, 256):
        with pytest.raises(UserError, match=f"mode '{mode}' needs values in 0..255"):
            load_picture(pil.fromarray(np.array([[5, wrong]], dtype)))
