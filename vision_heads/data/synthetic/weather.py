"""How a scene is lit and what its materials look like."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vision_heads.data.synthetic.camera import Floats
from vision_heads.data.synthetic.plan import Ground


@dataclass(frozen=True)
class Weather:
    """Light, air and lens of one scene.

    Attributes:
        sun: (3,) direction to the sun, world axes, length 1.
        shade: how dark a shadow is, 0 none .. 1 black.
        haze: share of haze at 100 m.
        haze_color, cast: (3,) BGR of the haze, and gain of each channel.
        gain, contrast: of the whole picture.
        blur: sigma in pixels.
        noise: deviation in grey levels.
        leaves: (3,) BGR of a sunlit leaf.
        colors: (materials, 3) BGR of the ground.
    """

    sun: Floats
    shade: float
    haze: float
    haze_color: Floats
    cast: Floats
    gain: float
    contrast: float
    blur: float
    noise: float
    leaves: Floats
    colors: Floats

    def slide(self, height: float) -> Floats:
        """Return how far (x, y) the shadow of a point `height` metres up falls."""
        return np.asarray(-self.sun[:2] / self.sun[2] * height)


_BASE: dict[Ground, tuple[int, int, int]] = {
    Ground.ASPHALT: (122, 119, 116),
    Ground.PATCH_DARK: (115, 112, 109),
    Ground.PATCH_LIGHT: (134, 131, 128),
    Ground.KERB: (164, 166, 168),
    Ground.PAVING: (150, 155, 160),
    Ground.GRASS: (72, 112, 98),
    Ground.DRY_GRASS: (84, 132, 134),
    Ground.SOIL: (74, 96, 114),
    Ground.CONCRETE: (150, 154, 158),
    Ground.LOT: (124, 121, 119),
    Ground.WHITE: (206, 208, 210),
    Ground.YELLOW: (92, 176, 206),
    Ground.PATH: (140, 158, 172),
    Ground.TILES: (150, 156, 164),
    Ground.TILES_B: (118, 122, 136),
    Ground.BIKE_LANE: (84, 88, 140),
    Ground.IRON: (72, 72, 74),
}
# Amplitudes of cloudy (tens of metres), mottled (metres) and grainy (decimetres) noise, and of
# the pattern of slabs.
_ROUGH: dict[Ground, tuple[float, float, float, float]] = {
    Ground.ASPHALT: (0.045, 0.035, 0.045, 0.0),
    Ground.PATCH_DARK: (0.045, 0.045, 0.045, 0.0),
    Ground.PATCH_LIGHT: (0.045, 0.04, 0.045, 0.0),
    Ground.KERB: (0.03, 0.03, 0.03, 0.0),
    Ground.PAVING: (0.04, 0.035, 0.03, 0.055),
    Ground.GRASS: (0.11, 0.12, 0.15, 0.0),
    Ground.DRY_GRASS: (0.11, 0.13, 0.13, 0.0),
    Ground.SOIL: (0.06, 0.12, 0.12, 0.0),
    Ground.CONCRETE: (0.06, 0.05, 0.035, 0.02),
    Ground.LOT: (0.06, 0.05, 0.045, 0.0),
    Ground.WHITE: (0.02, 0.06, 0.08, 0.0),
    Ground.YELLOW: (0.02, 0.07, 0.08, 0.0),
    Ground.PATH: (0.04, 0.06, 0.05, 0.0),
    Ground.TILES: (0.03, 0.04, 0.03, 0.07),
    Ground.TILES_B: (0.03, 0.05, 0.03, 0.05),
    Ground.BIKE_LANE: (0.04, 0.04, 0.04, 0.0),
    Ground.IRON: (0.02, 0.02, 0.05, 0.0),
}


def roughness() -> Floats:
    """Return (materials, 4) noise amplitudes: cloudy, mottled, grainy, slabs."""
    return np.array([_ROUGH[material] for material in Ground])


def make_weather(rng: np.random.Generator) -> Weather:
    """Draw a weather: mostly sunny or thinly clouded, sometimes grey, low or high sun."""
    azimuth = rng.uniform(0, 2 * np.pi)
    height = np.radians(rng.uniform(28, 68))
    sun = np.array(
        [np.cos(height) * np.sin(azimuth), np.cos(height) * np.cos(azimuth), np.sin(height)]
    )
    grey = rng.uniform() < 0.3
    shade = rng.uniform(0.12, 0.28) if grey else rng.uniform(0.42, 0.62)
    colors = np.array([_BASE[material] for material in Ground], np.float64)
    colors *= rng.normal(1, 0.05, (len(colors), 1)) * rng.normal(1, 0.018, (len(colors), 3))
    road = rng.uniform(0.78, 1.22)
    colors[: Ground.KERB] *= road
    colors[Ground.LOT] *= rng.uniform(0.85, 1.2)
    if rng.uniform() < 0.4:
        # Red or warm slabs instead of grey ones.
        colors[[Ground.PAVING, Ground.TILES]] *= np.array([0.86, 0.93, 1.04])
    season = rng.uniform(-1, 1)
    leaves = np.array([66 + 10 * season, 119 - 6 * season, 83 + 22 * season])
    haze = float(rng.choice([0.02, rng.uniform(0.04, 0.14)], p=[0.6, 0.4]))
    warm = rng.normal(0, 0.03)
    return Weather(
        sun=sun,
        shade=float(shade),
        haze=haze,
        haze_color=np.array([214, 210, 204]) * rng.uniform(0.88, 1.08),
        cast=np.array([1 - warm, 1.0, 1 + warm]),
        gain=float(rng.uniform(0.92, 1.16)),
        contrast=float(rng.uniform(0.9, 1.18)),
        blur=float(rng.uniform(0.0, 0.55)),
        noise=float(rng.uniform(0.6, 3.2)),
        leaves=leaves,
        colors=np.clip(colors, 10, 240),
    )
