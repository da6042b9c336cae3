"""Colour and blur: HSV by lookup tables, the rest by albumentations."""

from __future__ import annotations

import os
from functools import cache
from typing import Any

import cv2
import numpy as np

from vision_heads.data.warp import Picture
from vision_heads.errors import UserError


def shift_hsv(
    picture: Picture, rng: np.random.Generator, hue: float, saturation: float, value: float
) -> Picture:
    """Shift hue, scale saturation and value at random.

    Args:
        picture: BGR uint8 (H, W, 3).
        rng: source of the three numbers; three are drawn whatever the strengths.
        hue: largest shift, as a fraction of the colour circle.
        saturation, value: largest change, as a fraction.

    Returns:
        BGR uint8 (H, W, 3).
    """
    by_hue, by_saturation, by_value = rng.uniform(-1, 1, 3) * (hue, saturation, value)
    if not (by_hue or by_saturation or by_value):
        return picture
    levels = np.arange(256)
    # OpenCV's hue counts 0..179.
    tables = (
        (levels + round(by_hue * 180)) % 180,
        np.clip(levels * (1 + by_saturation), 0, 255),
        np.clip(levels * (1 + by_value), 0, 255),
    )
    # One block for the planes: fresh memory for each costs more than the arithmetic.
    hsv = cv2.cvtColor(picture, cv2.COLOR_BGR2HSV)
    planes = list(np.empty((3, *picture.shape[:2]), np.uint8))
    cv2.split(hsv, planes)
    for plane, table in zip(planes, tables, strict=True):
        cv2.LUT(plane, table.astype(np.uint8), plane)
    cv2.merge(planes, hsv)
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2BGR, hsv)  # type: ignore[return-value]


def degrade(
    picture: Picture, rng: np.random.Generator, blur: float, grey: float, contrast: float
) -> Picture:
    """Blur, turn grey, or equalise the contrast, each with its own probability.

    Args:
        picture: BGR uint8 (H, W, 3).
        rng: decides which are done and how strongly.
        blur, grey, contrast: probabilities.

    Returns:
        BGR uint8 (H, W, 3).
    """
    chances = rng.random(3) < (blur, grey, contrast)
    for name, chosen in zip(("blur", "grey", "contrast"), chances, strict=True):
        if chosen:
            transform = transforms()[name]
            transform.set_random_seed(int(rng.integers(2**31)))
            picture = transform(image=picture)["image"]
    return picture


@cache
def transforms() -> dict[str, Any]:
    """Return albumentations' transforms by name, built once a process.

    Raises:
        UserError: albumentations is not installed.
    """
    # Read when it is imported: without it, it asks PyPI for a newer version.
    os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"
    try:
        import albumentations as alb  # noqa: PLC0415
    except ImportError as error:
        raise UserError(
            'augmentation needs albumentations: pip install "vision-heads[train]"'
        ) from error
    blurs = [alb.Blur((3, 5), p=1.0), alb.GaussianBlur((3, 5), p=1.0), alb.MedianBlur(3, p=1.0)]
    return {
        "blur": alb.Compose([alb.OneOf(blurs, p=1.0)]),
        "grey": alb.Compose([alb.ToGray(p=1.0)]),
        "contrast": alb.Compose([alb.CLAHE(p=1.0)]),
    }
