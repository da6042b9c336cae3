"""How the generator's people look: who they are, and the texture of their heads."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from vision_heads.data.synthetic.head_shape import (
    SWATCH,
    SWATCHES,
    TEXTURE,
    Build,
    cover_limit,
    hairiness,
)
from vision_heads.data.synthetic.surface import Floats
from vision_heads.data.synthetic.texture import TILE, noise_tile

Color = tuple[float, float, float]

# BGR, as lit from the front.
_SKINS: tuple[Color, ...] = (
    (190, 208, 238),
    (170, 190, 226),
    (150, 176, 216),
    (126, 156, 202),
    (104, 136, 184),
    (82, 112, 160),
    (62, 88, 130),
    (46, 66, 100),
)
_HAIRS: tuple[Color, ...] = (
    (24, 22, 22),
    (30, 32, 40),
    (34, 44, 64),
    (40, 60, 92),
    (70, 110, 150),
    (110, 160, 196),
    (40, 70, 140),
    (150, 152, 156),
    (206, 208, 210),
)
_COVERS = ("cap", "beanie", "brim", "helmet", "scarf")


@dataclass(frozen=True, slots=True)
class Look:
    """One person.

    Attributes:
        build: proportions.
        texture: float32 BGR (376, 720, 3), or an even fraction of it, of the head and, in the
            last rows, of plain parts.
    """

    build: Build
    texture: Floats


def draw_look(rng: np.random.Generator, pixels: float = 200.0) -> Look:
    """Draw a person: any colour of skin and hair, one in four with something on the head.

    Args:
        rng: decides everything.
        pixels: size the head is painted at; small ones get a coarser texture.
    """
    per_degree = 2.0 if pixels > 200 else 1.0 if pixels > 70 else 0.5
    build = _draw_build(rng)
    skin = _near(_SKINS[int(rng.integers(len(_SKINS)))], rng, 0.07)
    dark = skin.mean() < 110
    hair = _near(_HAIRS[int(rng.integers(3 if dark else len(_HAIRS)))], rng, 0.15)
    hat, shirt, trim = (_cloth(rng) for _ in range(3))
    height, width = (round(side * per_degree / 2) for side in TEXTURE)
    texture = np.zeros((height + round(SWATCH * per_degree / 2), width, 3), np.float32)
    colors = {"skin": skin, "hair": hair, "hat": hat, "shirt": shirt, "trim": trim}
    if build.cover in ("brim", "helmet") or rng.uniform() < 0.5:
        colors["trim"] = hat * 0.85
    wide = width // len(SWATCHES)
    for column, name in enumerate(SWATCHES):
        texture[height:, column * wide : (column + 1) * wide] = colors[name]
    texture[:height] = _paint_head(build, colors, per_degree, rng)
    return Look(build, texture)


def _draw_build(rng: np.random.Generator) -> Build:
    style = rng.choice(["bald", "short", "full", "long"], p=[0.1, 0.42, 0.2, 0.28])
    cover = str(rng.choice(_COVERS)) if rng.uniform() < 0.25 else ""
    hair = {"bald": 0.0, "short": 0.03, "full": 0.1, "long": 0.055}[str(style)]
    hair *= rng.uniform(0.7, 1.4)
    bald = style == "bald"
    covered = cover == "scarf" or style == "long" or (style == "full" and rng.uniform() < 0.5)
    return Build(
        width=rng.uniform(0.64, 0.74),
        depth=rng.uniform(0.8, 0.9),
        jaw=rng.uniform(0.1, 0.42),
        nose=rng.uniform(0.07, 0.125),
        brow=rng.uniform(0.0, 0.03),
        chin=rng.uniform(0.01, 0.05),
        hair=hair,
        hairline=0.0 if bald else rng.uniform(38, 58),
        sides=0.0 if bald else rng.uniform(78, 108) + 20 * (style == "long"),
        nape=(0.0 if rng.uniform() < 0.5 else 118.0) if bald else rng.uniform(118, 140),
        cover=cover,
        long=rng.uniform(0.15, 0.7) if style == "long" or cover == "scarf" else 0.0,
        bun=rng.uniform(0.1, 0.17) if rng.uniform() < 0.1 and not cover and not bald else 0.0,
        shoulders=rng.uniform(0.82, 1.1),
        ears=0.0 if covered else rng.uniform(0.85, 1.2),
    )


def _near(color: Color, rng: np.random.Generator, spread: float) -> NDArray[np.float64]:
    values = np.array(color) * rng.normal(1, spread) * rng.normal(1, 0.03, 3)
    return np.clip(values, 8, 245)


def _cloth(rng: np.random.Generator) -> NDArray[np.float64]:
    """Draw a colour as clothes have it: mostly dull, often dark, at times bright."""
    hue, bright = rng.uniform(0, 180), rng.beta(1.4, 1.6) * 215 + 20
    dull = rng.beta(1.2, 2.2) * 200
    pixel = np.array([[[hue, dull, bright]]], np.float32).astype(np.uint8)
    return np.asarray(cv2.cvtColor(pixel, cv2.COLOR_HSV2BGR)[0, 0], np.float64)


def _paint_head(
    build: Build,
    colors: dict[str, NDArray[np.float64]],
    per_degree: float,
    rng: np.random.Generator,
) -> Floats:
    """Return (180, 360, 3) times `per_degree`: BGR, the face in the middle."""
    skin, hair = colors["skin"], colors["hair"].astype(np.float32)
    height, width = round(180 * per_degree), round(360 * per_degree)
    longitude = np.linspace(-180, 180, width, dtype=np.float32)[None, :]
    polar = np.linspace(0, 180, height, dtype=np.float32)[:, None]
    corner = rng.integers(0, TILE, 2)
    noise = np.roll(np.tile(noise_tile(8, 0.9), (1, 2)), corner, (0, 1))[:height, :width]
    face = np.empty((height, width, 3), np.float32)
    face[:] = skin
    part = tuple(
        slice(round(first * per_degree), round(last * per_degree))
        for first, last in ((70, 145), (120, 240))
    )
    face[part] = _draw_face(skin, colors["hair"], face[part].shape, rng)
    face *= 1 + 0.025 * noise[..., None]
    if rng.uniform() < 0.25 and not build.long:
        _grow_beard(face, longitude, polar, hair, float(rng.uniform(0.35, 0.95)), noise)
    # Strands run down: noise that is stretched along the polar angle.
    strands = cv2.resize(np.ascontiguousarray(noise[::10]), (width, height)) + 0.3 * noise
    grown = np.clip(hairiness(build, longitude, polar + 4 * noise), 0, 1)[..., None]
    if not build.hair:
        grown = grown * 0.35  # shaved
    face += (hair * (1 + 0.16 * strands[..., None]) - face) * grown
    if rng.uniform() < 0.22:
        _draw_glasses(face, per_degree, rng)
    if build.cover:
        worn = np.clip((cover_limit(build, longitude) - polar) / 1.5 + 0.5, 0, 1)[..., None]
        ribs = 1 + 0.1 * np.sign(np.sin(longitude * 0.9)) * (build.cover == "beanie")
        cloth = colors["hat"].astype(np.float32) * (1 + 0.03 * noise[..., None]) * ribs[..., None]
        face += (cloth - face) * worn
    return np.clip(face, 3, 250).astype(np.float32)


def _draw_face(
    skin: NDArray[np.float64],
    hair: NDArray[np.float64],
    shape: tuple[int, ...],
    rng: np.random.Generator,
) -> Floats:
    """Paint longitudes -60..60 and polar angles 70..145 with what faces have, then resize."""
    face = np.empty((150, 240, 3), np.float32)
    face[:] = skin
    red, shade = (cv2.resize(part, (240, 150))[..., None] for part in _blush())
    face += ((skin * np.array([0.86, 0.86, 1.03])).astype(np.float32) - face) * red
    face = _draw_features(face * shade, skin, hair, rng)
    return np.asarray(cv2.resize(face, shape[1::-1], interpolation=cv2.INTER_AREA), np.float32)


@lru_cache(maxsize=1)
def _blush() -> tuple[Floats, Floats]:
    """How red cheeks and nose are, and how dark eye sockets, nostrils and under the lip are."""
    longitude = np.linspace(-60, 60, 120, dtype=np.float32)[None, :]
    polar = np.linspace(70, 145, 75, dtype=np.float32)[:, None]

    def spot(x: float, y: float, wide: float, high: float) -> Floats:
        away = ((np.abs(longitude) - x) / wide) ** 2 + ((polar - y) / high) ** 2
        return np.asarray(np.exp(-away), np.float32)

    red = 0.55 * (spot(34, 104, 14, 11) + spot(0, 105, 7, 6))
    shade = (1 - 0.2 * spot(22, 93, 13, 8)) * (1 - 0.3 * spot(7, 108.5, 3, 2))
    return np.clip(red, 0, 1), shade * (1 - 0.12 * spot(0, 133, 22, 3))


def _draw_features(
    face: Floats, skin: NDArray[np.float64], hair: NDArray[np.float64], rng: np.random.Generator
) -> Floats:
    """Draw eyes, brows and mouth with OpenCV, at four texels a degree for smooth edges."""
    fine = cv2.resize(face, None, fx=2, fy=2, interpolation=cv2.INTER_LINEAR)
    fine = np.ascontiguousarray(fine, np.float32)

    def at(longitude: float, polar: float) -> tuple[int, int]:
        return round((longitude + 60) * 4), round((polar - 70) * 4)

    def oval(where: tuple[float, float], size: tuple[float, float], color: object) -> None:
        axes = (max(1, round(size[0] * 4)), max(1, round(size[1] * 4)))
        cv2.ellipse(fine, at(*where), axes, 0, 0, 360, _bgr(color), -1, cv2.LINE_AA)

    brow = np.minimum(hair, skin * 0.62)
    iris = np.array([(60, 40, 30), (40, 60, 90), (130, 110, 70), (30, 35, 45)][rng.integers(4)])
    open_eye = float(rng.choice([1.0, 0.75, 0.15], p=[0.6, 0.3, 0.1]))
    thick = int(rng.integers(4, 11))
    lift = rng.uniform(-2, 2)
    for side in (-1, 1):
        eye = (side * 22.5, 93.0)
        oval(eye, (8.2, 4.2 * open_eye + 0.6), skin * 0.55)
        oval(eye, (7.4, 3.6 * open_eye), np.array([222, 224, 226]))
        oval((eye[0] + rng.uniform(-0.6, 0.6), eye[1]), (3.3, min(3.3, 3.6 * open_eye)), iris)
        oval(eye, (1.5, min(1.5, 2 * open_eye)), np.array([14, 14, 14]))
        arch = [
            at(side * 11.5, 84.5 - lift * 0.3),
            at(side * 21, 81.5 - lift),
            at(side * 33, 85 - lift * 0.3),
        ]
        cv2.polylines(fine, [np.array(arch)], False, _bgr(brow), thick, cv2.LINE_AA)
    _draw_mouth(np.asarray(fine, np.float32), at, skin, rng)
    return np.asarray(fine, np.float32)


def _draw_mouth(
    fine: Floats,
    at: Callable[[float, float], tuple[int, int]],
    skin: NDArray[np.float64],
    rng: np.random.Generator,
) -> None:
    lips = skin * np.array([0.72, 0.66, 0.92])
    smile, wide = rng.uniform(-1.5, 3.5), rng.uniform(14, 19)
    corners = [(-wide, 123 - smile), (0, 119.5), (wide, 123 - smile), (0, 128 + 0.3 * smile)]
    outline = np.array([at(*corner) for corner in corners])
    middle = at(0.0, 123.5)
    axes = (round(wide * 4 * 0.8), round(4.2 * 4))
    cv2.fillPoly(fine, [outline], _bgr(lips), cv2.LINE_AA)
    cv2.ellipse(fine, middle, axes, 0, 0, 360, _bgr(lips), -1, cv2.LINE_AA)
    inner = np.array([232, 234, 236]) if smile > 1.5 and rng.uniform() < 0.6 else skin * 0.3
    gap = rng.uniform(0.4, 2.2) if smile > 1.5 else 0.4
    axes = (round(wide * 4 * 0.72), max(1, round(gap * 4)))
    cv2.ellipse(fine, middle, axes, 0, 0, 360, _bgr(inner), -1, cv2.LINE_AA)


def _grow_beard(
    face: Floats,
    longitude: Floats,
    polar: Floats,
    hair: Floats,
    strength: float,
    noise: Floats,
) -> None:
    away = np.abs(longitude)
    start = np.interp(away, [0, 14, 22, 50, 78, 100], [128, 126, 116, 118, 98, 190])
    chin = np.clip((polar - start + 4 * noise) / 5, 0, 1)
    lip = np.exp(-((away / 20) ** 4) - ((polar - 115.5) / 2.6) ** 2)
    mouth = np.exp(-((away / 16) ** 4) - ((polar - 123.5) / 4.5) ** 4)
    weight = (np.maximum(chin, lip) * (1 - 0.9 * mouth) * strength)[..., None]
    face += (hair * (1 + 0.12 * noise[..., None]) - face) * weight


def _draw_glasses(face: Floats, per_degree: float, rng: np.random.Generator) -> None:
    color = _bgr([(20, 20, 22), (40, 50, 90), (150, 150, 155)][rng.integers(3)])
    line, high, dark = rng.uniform(1, 2.4), rng.uniform(8.5, 11.5), rng.uniform() < 0.3

    def at(longitude: float, polar: float) -> tuple[int, int]:
        return round((longitude + 180) * per_degree), round(polar * per_degree)

    thick = max(1, round(line * per_degree))
    for side in (-1, 1):
        centre, axes = at(side * 23, 94), (round(12 * per_degree), round(high * per_degree))
        if dark:
            cv2.ellipse(face, centre, axes, 0, 0, 360, (28, 26, 26), -1, cv2.LINE_AA)
        cv2.ellipse(face, centre, axes, 0, 0, 360, color, thick, cv2.LINE_AA)
        cv2.line(face, at(side * 35, 91), at(side * 90, 90), color, thick, cv2.LINE_AA)
    cv2.line(face, at(-11, 92), at(11, 92), color, thick, cv2.LINE_AA)


def _bgr(color: object) -> tuple[float, float, float]:
    blue, green, red = np.asarray(color, np.float64).tolist()
    return blue, green, red
