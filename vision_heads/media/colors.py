"""A colour of its own for every class."""

from __future__ import annotations

import colorsys
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Color = tuple[int, int, int]
"""Blue, green, red, 0..255."""

# Hues of Okabe and Ito's and Paul Tol's schemes for colour-blind readers, raised in lightness
# where the original would vanish on asphalt or leaves. RGB.
_PALETTE = (
    (255, 176, 0),  # orange
    (86, 200, 255),  # sky blue
    (255, 90, 60),  # vermilion
    (0, 214, 160),  # bluish green
    (244, 240, 66),  # yellow
    (226, 120, 210),  # reddish purple
    (60, 120, 255),  # blue
    (255, 255, 255),  # white
    (190, 140, 255),  # lavender
    (170, 220, 80),  # lime
    (255, 170, 187),  # pink
    (0, 170, 190),  # teal
)
_COUNT = 200
"""Colours that are chosen for being unlike each other."""


def class_color(index: int) -> Color:
    """Return the colour of class `index`, BGR: always the same one, and never a repeated one.

    The first twelve are told apart by colour-blind readers too. Each later one is as unlike all
    before it as the range of lightness that shows on pictures allows; from 200 on, they walk
    around the colour circle by the golden angle.
    """
    if 0 <= index < _COUNT:
        red, green, blue = _sequence()[index]
        return blue, green, red
    hue = (index * 0.61803398875) % 1.0
    rgb = colorsys.hls_to_rgb(hue, (0.45, 0.6, 0.75)[index % 3], 0.85)
    red, green, blue = (round(channel * 255) for channel in rgb)
    return blue, green, red


@lru_cache(maxsize=1)
def _sequence() -> tuple[tuple[int, int, int], ...]:
    """`_COUNT` RGB colours: the palette, then always the candidate farthest from all before."""
    levels = np.linspace(0, 255, 12).round()
    candidates = np.stack(np.meshgrid(levels, levels, levels, indexing="ij"), -1).reshape(-1, 3)
    lab = _lab(candidates)
    shows = (lab[:, 0] > 55) & (lab[:, 0] < 95)
    candidates, lab = candidates[shows], lab[shows]
    chosen = list(_PALETTE)
    distance = np.full(len(lab), np.inf)
    for color in _lab(np.array(_PALETTE, np.float64)):
        distance = np.minimum(distance, _apart(lab, color))
    while len(chosen) < _COUNT:
        best = int(distance.round(6).argmax())
        red, green, blue = (int(channel) for channel in candidates[best])
        chosen.append((red, green, blue))
        distance = np.minimum(distance, _apart(lab, lab[best]))
    return tuple(chosen)


def _apart(colors: NDArray[np.float64], one: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(np.linalg.norm(colors - one, axis=1))


def _lab(rgb: NDArray[np.float64]) -> NDArray[np.float64]:
    """(N, 3) sRGB 0..255 to CIE L*a*b* under D65, in which distances are as eyes see them."""
    part = rgb / 255
    linear = np.where(part > 0.04045, ((part + 0.055) / 1.055) ** 2.4, part / 12.92)
    to_xyz = np.array(
        [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
    )
    xyz = linear @ to_xyz.T / to_xyz.sum(axis=1)
    root = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    x, y, z = root.T
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=1)
