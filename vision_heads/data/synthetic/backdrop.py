"""What is behind the generator's people, and the lens they are seen through."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from vision_heads.data.synthetic.texture import TILE, noise_tile


def paint_backdrop(width: int, height: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Paint a room, a street or nothing in particular, more or less out of focus.

    Among other things there are round and skin-coloured ones: not every ball is a head.

    Args:
        width, height: pixels.
        rng: decides everything.

    Returns:
        (height, width, 3) BGR uint8.
    """
    # At half size: it is blurred anyway, and an eighth of the time.
    wide, high = max(width // 2, 8), max(height // 2, 8)
    top, bottom = _color(rng), _color(rng)
    down = np.linspace(0, 1, high)[:, None, None]
    picture = (top * (1 - down) + bottom * down).repeat(wide, 1).astype(np.float32)
    if rng.uniform() < 0.6:
        horizon = int(high * rng.uniform(0.3, 0.85))
        picture[horizon:] = _color(rng)
    picture = np.ascontiguousarray(picture)
    for _ in range(int(rng.integers(4, 40))):
        _paint_thing(picture, rng)
    cloudy = _noise(rng, float(rng.uniform(0.8, 1.5)), wide, high)
    picture *= 1 + float(rng.uniform(0.02, 0.16)) * cloudy[..., None]
    blur = float(rng.choice([0.6, 2.0, 5.0], p=[0.45, 0.3, 0.25])) * wide / 640
    picture = cv2.GaussianBlur(picture, (0, 0), max(blur, 0.3)).astype(np.float32)
    fine = _noise(rng, 0.6, wide, high)
    picture *= 1 + float(rng.uniform(0, 0.06)) * fine[..., None]
    whole = cv2.resize(picture, (width, height), interpolation=cv2.INTER_LINEAR)
    return np.clip(whole, 0, 255).astype(np.uint8)


def _noise(rng: np.random.Generator, steepness: float, width: int, height: int) -> NDArray:
    tile = np.roll(noise_tile(9, round(steepness, 1)), rng.integers(0, TILE, 2), (0, 1))
    rows, columns = -(-height // TILE), -(-width // TILE)
    return np.asarray(np.tile(tile, (rows, columns))[:height, :width])


def _paint_thing(picture: NDArray[np.float32], rng: np.random.Generator) -> None:
    """Paint a panel, a post, a ball, a bar or a heap of lines."""
    high, wide = picture.shape[:2]
    x, y = int(rng.integers(0, wide)), int(rng.integers(0, high))
    size = int(high * rng.uniform(0.03, 0.4))
    color = tuple(_color(rng).tolist())
    what = rng.choice(["panel", "post", "ball", "lines", "oval"], p=[0.4, 0.2, 0.15, 0.15, 0.1])
    if what == "panel":
        other = (x + int(size * rng.uniform(0.4, 2.5)), y + size)
        cv2.rectangle(picture, (x, y), other, color, -1, cv2.LINE_AA)
        if rng.uniform() < 0.5:
            edge = tuple(_color(rng).tolist())
            cv2.rectangle(picture, (x, y), other, edge, int(rng.integers(1, 5)), cv2.LINE_AA)
    elif what == "post":
        cv2.rectangle(picture, (x, 0), (x + max(2, size // 6), high), color, -1)
    elif what == "ball":
        radius = max(3, size // 4)
        cv2.circle(picture, (x, y), radius, color, -1, cv2.LINE_AA)
        light = tuple(min(255.0, 1.25 * value) for value in color)
        spot = (x - radius // 3, y - radius // 3)
        cv2.circle(picture, spot, max(1, radius // 3), light, -1, cv2.LINE_AA)
    elif what == "oval":
        axes = (max(2, size // 6), max(3, size // 4))
        cv2.ellipse(picture, (x, y), axes, rng.uniform(0, 180), 0, 360, color, -1, cv2.LINE_AA)
    else:
        step = max(3, size // 6)
        for line in range(int(rng.integers(3, 9))):
            start = (x, y + line * step)
            cv2.line(picture, start, (x + size, start[1]), color, max(1, step // 3), cv2.LINE_AA)


def _color(rng: np.random.Generator) -> NDArray[np.float64]:
    """Draw a BGR colour: mostly dull ones; one in eight is like skin or hair."""
    if rng.uniform() < 0.125:
        return np.array([110, 145, 195]) * rng.uniform(0.25, 1.2)
    pixel = np.array([[[rng.uniform(0, 180), rng.beta(1.2, 3) * 255, rng.uniform(25, 240)]]])
    return np.asarray(cv2.cvtColor(pixel.astype(np.uint8), cv2.COLOR_HSV2BGR)[0, 0], np.float64)


def through_lens(
    clean: NDArray[np.uint8], rng: np.random.Generator, smallest: float
) -> NDArray[np.uint8]:
    """Add blur, contrast, white balance and noise.

    Args:
        clean: (H, W, 3) BGR.
        rng: decides how much.
        smallest: size in pixels of the smallest head, which the blur must leave recognisable.
    """
    image = clean.astype(np.float32)
    blur = float(rng.uniform(0.2, 0.9)) * min(1.0, smallest / 40)
    image = cv2.GaussianBlur(image, (0, 0), max(blur, 0.2)).astype(np.float32)
    image = (image - 118) * float(rng.uniform(0.8, 1.15)) + 118 * float(rng.uniform(0.85, 1.12))
    image *= rng.normal(1, 0.025, 3).astype(np.float32)
    if rng.uniform() < 0.05:
        image[:] = image.mean(2, keepdims=True)
    image += rng.standard_normal(image.shape, np.float32) * float(rng.uniform(0.5, 5))
    return np.clip(np.round(image), 0, 255).astype(np.uint8)
