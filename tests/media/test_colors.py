import numpy as np

from vision_heads.media.colors import _lab, class_color


def test_classes_of_several_heads_are_told_apart():
    """Forty classes: no two nearer than what an eye sees as clearly another colour."""
    rgb = np.array([class_color(index)[::-1] for index in range(40)], np.float64)
    lab = _lab(rgb)
    apart = np.linalg.norm(lab[:, None] - lab, axis=2) + 1e9 * np.eye(40)
    assert apart.min() > 20
    assert lab[:, 0].min() > 50  # visible on asphalt and leaves


def test_every_index_has_a_colour_of_its_own_that_stays():
    colors = [class_color(index) for index in range(300)]
    assert len(set(colors)) == 300
    assert colors == [class_color(index) for index in range(300)]
    assert all(0 <= channel <= 255 for color in colors for channel in color)


def test_lab_of_known_colours():
    """White, black and sRGB's red, from the definition."""
    known = _lab(np.array([[255, 255, 255], [0, 0, 0], [255, 0, 0]], np.float64))
    np.testing.assert_allclose(known, [[100, 0, 0], [0, 0, 0], [53.2, 80.1, 67.2]], atol=0.1)
