"""Procedural textures: seamless noise and tree crowns. Made once a process, then reused."""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

TILE = 512
"""Pixels a side of a noise tile, which repeats without a seam."""
CROWNS = 10
_CROWN_PIXELS = 144


@lru_cache(maxsize=8)
def noise_tile(seed: int, steepness: float) -> NDArray[np.float32]:
    """Return (TILE, TILE) seamless noise of mean 0 and deviation 1.

    Args:
        seed: which one.
        steepness: how fast amplitude falls with frequency: 0.6 grainy, 1.6 cloudy.
    """
    rng = np.random.default_rng([77, seed])
    frequency = np.hypot(np.fft.fftfreq(TILE)[:, None], np.fft.rfftfreq(TILE)[None, :]) * TILE
    amplitude = np.where(frequency > 0, np.maximum(frequency, 1) ** -steepness, 0)
    phase = rng.uniform(0, 2 * np.pi, frequency.shape)
    field = np.fft.irfft2(amplitude * np.exp(1j * phase), s=(TILE, TILE))
    return np.asarray((field - field.mean()) / field.std(), np.float32)


def sample_noise(
    tile: NDArray[np.float32], x: NDArray[np.float32], y: NDArray[np.float32], period: float
) -> NDArray[np.float32]:
    """Return the tile's values at world x, y (metres), one tile spanning `period` metres."""
    factor = TILE / period
    u, v = np.mod(x * factor, TILE), np.mod(y * factor, TILE)
    values = cv2.remap(tile, u, v, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)
    return np.asarray(values, np.float32)


@lru_cache(maxsize=CROWNS)
def _crown_shape(variant: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return a crown's normals (n, n, 3) and its height (n, n), negative outside of it.

    A crown is a heap of leafy balls; x right, y down, z to the viewer, radius 1 = half of n.
    """
    rng = np.random.default_rng([78, variant])
    n = _CROWN_PIXELS
    axis = (np.arange(n, dtype=np.float32) + 0.5) * (2 / n) - 1
    x, y = axis[None, :], axis[:, None]
    height = np.full((n, n), -1, np.float32)
    for _ in range(int(rng.integers(38, 60))):
        away = 0.72 * np.sqrt(rng.uniform())
        angle = rng.uniform(0, 2 * np.pi)
        cx, cy = away * np.cos(angle), away * np.sin(angle)
        radius = rng.uniform(0.14, 0.3) * (1.1 - 0.35 * away)
        base = 0.75 * np.sqrt(1 - away * away)
        inside = radius**2 - (x - cx) ** 2 - (y - cy) ** 2
        ball = base + np.sqrt(np.maximum(inside, 0))
        height = np.where(inside > 0, np.maximum(height, ball), height).astype(np.float32)
    leaves = noise_tile(5, 0.5)[:n, :n] * 0.035
    rough = np.where(height > 0, height + leaves, 0).astype(np.float32)
    slope_x = cv2.Sobel(rough, cv2.CV_32F, 1, 0, ksize=3) * (n / 16)
    slope_y = cv2.Sobel(rough, cv2.CV_32F, 0, 1, ksize=3) * (n / 16)
    normals = np.stack([-slope_x, -slope_y, np.ones_like(rough)], axis=2)
    normals /= np.linalg.norm(normals, axis=2, keepdims=True)
    edge = np.where(height > 0, height + noise_tile(6, 0.4)[:n, :n] * 0.05, -1)
    return normals.astype(np.float32), edge.astype(np.float32)


def crown(variant: int, sun: NDArray[np.float64], color: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Return a lit tree crown, (n, n, 4) BGR and alpha.

    Args:
        variant: 0..CROWNS-1.
        sun: direction to the sun in picture axes (right, down, to the viewer), length 1.
        color: BGR of a sunlit leaf.
    """
    normals, height = _crown_shape(variant)
    light = np.clip(normals @ sun.astype(np.float32), 0, 1)
    depth = np.clip(height, 0, 1.1) / 1.1
    n = len(height)
    mottle = 1 + 0.13 * noise_tile(7, 0.7)[40 : 40 + n, 40 : 40 + n]
    shade = (0.26 + 0.34 * depth + 0.62 * light) * mottle
    picture = np.zeros((n, n, 4), np.uint8)
    tint = np.array([0.85, 1.0, 1.0]) + 0.25 * (light[..., None] - 0.4) * np.array([-0.4, 0.2, 0.6])
    picture[..., :3] = np.clip(color * tint * shade[..., None], 0, 255)
    picture[..., 3] = np.where(height > 0.12, 255, 0)
    return picture
