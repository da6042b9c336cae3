"""Augmented labels of heads against what the same view does to the heads' own points."""

from __future__ import annotations

import numpy as np
import pytest

from tests.data.scenes import make_sample
from vision_heads.data.augment import AugmentConfig, check_poses, compose
from vision_heads.errors import UserError
from vision_heads.geometry.rotations import from_euler, is_rotation, mirror, to_euler

# A head's nose, ear and crown in its own axes, head sizes.
POINTS = np.array([[0, 0, 0.5], [0.4, 0, 0], [0, -0.5, 0]])
SIZE = 60.0


def _marks(
    rotation: np.ndarray, centre: np.ndarray, size: float, points: np.ndarray = POINTS
) -> np.ndarray:
    """Where the points are seen, (3, 2) pixels."""
    return (rotation @ points.T).T[:, :2] * size + centre


def _picture(marks: np.ndarray) -> np.ndarray:
    """Draw each point as a soft dot in a channel of its own."""
    y, x = np.mgrid[:256, :320] + 0.5
    dots = [np.exp(-((x - u) ** 2 + (y - v) ** 2) / 18) * 255 for u, v in marks]
    return np.stack(dots, 2).astype(np.uint8)


def _found(picture: np.ndarray) -> np.ndarray:
    """Middle of each dot, sub-pixel."""
    y, x = np.mgrid[: picture.shape[0], : picture.shape[1]] + 0.5
    light = picture * (picture > 120.0)  # brighter than the border
    return np.stack(
        [(light * x[..., None]).sum((0, 1)), (light * y[..., None]).sum((0, 1))], 1
    ) / light.sum((0, 1))[:, None]  # fmt: skip


@pytest.mark.parametrize("flip", [0.0, 1.0])
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("angles", [(0, 0, 0), (25, 60, -15), (-10, 170, 20), (5, -100, 0)])
def test_the_label_is_the_label_of_the_transformed_head(
    seed: int, flip: float, angles: tuple
) -> None:
    rotation, centre = from_euler(angles), np.array([160.0, 128.0])
    image = _picture(_marks(rotation, centre, SIZE))
    box = (*(centre - SIZE / 2), *(centre + SIZE / 2))
    sample = make_sample(320, 256, [box], [0], rotations=rotation[None].astype(np.float32))
    config = AugmentConfig(mosaic=0, degrees=180, scale=0.2, translate=0.05, flip=flip)
    rng = np.random.default_rng(seed)
    picture, labels = compose([sample], lambda _: image, config, (320, 320), rng)
    assert len(labels.boxes) == 1 and is_rotation(labels.rotations[0])
    seen = _found(picture)
    middle = (labels.boxes[0, :2] + labels.boxes[0, 2:]) / 2
    # The zoom is not in the label: take the one that fits best, and see what is left over.
    # A mirrored head's left ear is where its right one was.
    ends = POINTS * ([-1, 1, 1] if flip else [1, 1, 1])
    wanted = _marks(labels.rotations[0], np.zeros(2), 1.0, ends)
    zoom = ((seen - middle) * wanted).sum() / (wanted**2).sum()
    assert 0.75 * SIZE < zoom < 1.25 * SIZE * 1.25
    assert np.abs(wanted * zoom + middle - seen).max() < 1.5


def test_a_mirrored_picture_mirrors_the_pose() -> None:
    rotation = from_euler([12, 130, -25])
    sample = make_sample(64, 64, [(10, 10, 40, 40)], rotations=rotation[None].astype(np.float32))
    blank = np.zeros((64, 64, 3), np.uint8)
    config = AugmentConfig(mosaic=0, flip=1, scale=0, translate=0)
    _, labels = compose([sample], lambda _: blank, config, (64, 64), np.random.default_rng(0))
    np.testing.assert_allclose(labels.rotations[0], mirror(rotation), atol=1e-6)
    np.testing.assert_allclose(to_euler(labels.rotations[0]), [12, -130, 25], atol=1e-3)


@pytest.mark.parametrize("field", ["shear", "perspective"])
def test_one_posed_picture_among_others_is_enough_to_refuse(field: str) -> None:
    posed = make_sample(64, 64, [(1, 1, 9, 9)], rotations=np.eye(3, dtype=np.float32)[None])
    plain = make_sample(64, 64, [(1, 1, 9, 9)])
    config = AugmentConfig(**{field: 0.1})
    check_poses(config, [plain], "boxes only")
    with pytest.raises(UserError, match=rf"augment\.{field}.*mixed"):
        check_poses(config, [plain, posed], "mixed")
