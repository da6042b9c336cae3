"""The shape of heads and bodies of the generator's people, in head heights.

A head's own axes: x right and y down as its face is seen from the front, z out of the face; 0 in
its middle, the crown at y = -0.5 and the chin at 0.5. Its surface is a deformed sphere with one
point a direction, which its texture covers: longitude across, polar angle down.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from vision_heads.data.synthetic.surface import Floats, Mesh, ball, from_grid

TEXTURE = (360, 720)
"""Height and width of a head's texture; below it are `SWATCH` rows of plain colours."""
SWATCH = 16
SWATCHES = ("skin", "hair", "hat", "shirt", "trim")
HEAD, BODY, FALL = 0, 1, 2
"""Tags: what counts as the head, and what does not: neck and body, hair that hangs down."""


def swatch(name: str) -> tuple[float, float]:
    """Return the texture coordinates of a plain colour."""
    column = SWATCHES.index(name) + 0.5
    return column * TEXTURE[1] / len(SWATCHES), TEXTURE[0] + SWATCH / 2


@dataclass(frozen=True, slots=True)
class Build:
    """Proportions of a person; see `draw_build` in `head_looks` for their spread.

    Attributes:
        width, depth: of the skull, head heights.
        jaw: how much the lower face narrows, 0.1 broad .. 0.5 pointed.
        nose, brow, chin: how far they stand out.
        hair: thickness of the hair; hairline, sides and nape: polar angle in degrees down to
            which it grows in front, at the temples and behind.
        cover: what is worn: "", "cap", "beanie", "brim", "helmet", "scarf".
        long: length of hair below the chin, 0 for none.
        bun: radius of a knot of hair behind, 0 for none.
        shoulders: half their width.
        ears: their size, 0 where they are covered.
    """

    width: float
    depth: float
    jaw: float
    nose: float
    brow: float
    chin: float
    hair: float
    hairline: float
    sides: float
    nape: float
    cover: str
    long: float
    bun: float
    shoulders: float
    ears: float


def hair_limit(build: Build, longitude: Floats) -> Floats:
    """Return the polar angle (degrees) down to which hair grows, by longitude in degrees."""
    away = np.abs(longitude)
    knots = [0, 35, 52, 72, 84, 105, 180]
    limits = [
        build.hairline,
        build.hairline + 2,
        (build.hairline + build.sides) / 2,
        build.sides,
        build.sides - 12,
        build.nape - 8,
        build.nape,
    ]
    return np.interp(away, knots, limits).astype(np.float32)


def hairiness(build: Build, longitude: Floats, polar: Floats) -> Floats:
    """Return 1 well inside the hair, 0 on bare skin, and between at its edge (degrees in)."""
    return np.clip((hair_limit(build, longitude) - polar) / 7 + 0.5, 0, 1).astype(np.float32)


def head_mesh(build: Build, detail: int) -> list[Mesh]:
    """Return the parts of a head.

    Args:
        build: proportions.
        detail: rows of the skull's grid, 10 for heads of a few pixels, 30 for large ones.
    """
    columns = detail * 3 // 2
    polar, longitude = np.meshgrid(np.linspace(0, 180, detail), _longitudes(columns), indexing="ij")
    points = _skull(build, np.radians(longitude), np.radians(polar))
    points = _dress(build, points, longitude, polar)
    uv = np.stack([(longitude + 180) / 360 * TEXTURE[1], polar / 180 * TEXTURE[0]], 2)
    parts = [from_grid(points.astype(np.float32), uv, HEAD, np.zeros(3))]
    small = max(5, detail // 4)
    if build.ears:
        for side in (-1, 1):
            centre = (side * (build.width * 0.49 + 0.012), 0.03, -0.05)
            radii = (0.035, 0.1 * build.ears, 0.06 * build.ears)
            parts.append(ball(centre, radii, swatch("skin"), HEAD, small))
    if build.bun:
        place = (0.0, -0.22, -build.depth / 2 - build.hair - build.bun * 0.6)
        parts.append(ball(place, (build.bun,) * 3, swatch("hair"), HEAD, small + 2))
    if build.cover in ("cap", "brim", "helmet"):
        parts.append(_brim(build, columns // 2 + 5))
    return parts


def _longitudes(columns: int) -> Floats:
    """Degrees, closer together in front, where the nose is."""
    even = np.linspace(-1, 1, columns)
    return (180 * (0.72 * even + 0.28 * even**3)).astype(np.float32)


def _skull(build: Build, longitude: Floats, polar: Floats) -> Floats:
    """Return (rows, columns, 3) points of the bare head; angles in radians."""
    y = -0.5 * np.cos(polar)
    ring = np.sin(polar) ** np.where(y > 0, 0.72, 0.9)
    low = np.clip((y - 0.02) / 0.48, 0, 1)
    side = build.width / 2 * ring * (1 - build.jaw * low**1.4)
    across, out = np.sin(longitude), np.cos(longitude)
    x = side * np.sign(across) * np.abs(across) ** 0.92
    front = (0.8 * build.depth - 0.36) * (1 - 0.08 * low)
    # The back of the head bulges above and draws in towards the neck.
    back = build.depth - front
    back = back * (1 - 0.42 * np.clip((y - 0.08) / 0.4, 0, 1)) * (1 + 0.06 * _bump(y, -0.12, 0.2))
    z = np.where(out > 0, front, back) * ring * np.sign(out) * np.abs(out) ** 0.88
    face = np.clip(out * 1.6, 0, 1)
    bridge = np.clip((y + 0.12) / 0.24, 0, 1)
    tip = 1 / (1 + np.exp((y - 0.155) / 0.012))
    z = z + build.nose * face * tip * bridge**1.2 * np.exp(-((x / (0.035 + 0.03 * bridge)) ** 2))
    z = z + build.brow * face * _bump(y, -0.1, 0.035) * _bump(np.abs(x), 0.13, 0.1)
    z = z - 0.035 * face * _bump(y, -0.025, 0.045) * _bump(np.abs(x), 0.145, 0.06)
    z = z + 0.018 * face * _bump(y, 0.1, 0.09) * _bump(np.abs(x), 0.19, 0.07)
    z = z + 0.016 * face * _bump(y, 0.25, 0.03) * _bump(x, 0, 0.09)
    z = z - 0.014 * face * _bump(y, 0.33, 0.03) * _bump(x, 0, 0.1)
    z = z + build.chin * face * _bump(y, 0.42, 0.06) * _bump(x, 0, 0.1)
    return np.stack([x, y, z], 2)


def _bump(value: Floats, middle: float, width: float) -> Floats:
    return np.asarray(np.exp(-(((value - middle) / width) ** 2)))


def _dress(build: Build, points: Floats, longitude: Floats, polar: Floats) -> Floats:
    """Grow hair or what is worn instead out of the skull."""
    grown = build.hair * hairiness(build, longitude, polar)
    outward = points / np.maximum(np.linalg.norm(points, axis=2, keepdims=True), 1e-6)
    if build.cover:
        edge = cover_limit(build, longitude)
        thick = {"helmet": 0.09, "beanie": 0.06, "scarf": 0.035}.get(build.cover, 0.045)
        worn = thick * np.clip((edge - polar) / 5 + 0.5, 0, 1)
        grown = np.where(polar < edge + 2.5, np.maximum(worn, grown * 0.4), grown)
    return np.asarray(points + outward * grown[..., None])


def cover_limit(build: Build, longitude: Floats) -> Floats:
    """Return the polar angle (degrees) down to which what is worn reaches, by longitude."""
    away = np.abs(longitude)
    if build.cover == "scarf":
        return np.interp(away, [0, 30, 48, 60, 180], [50, 54, 85, 175, 175]).astype(np.float32)
    low = {"beanie": 62, "helmet": 60}.get(build.cover, 56)
    return np.interp(away, [0, 60, 110, 180], [low, low + 6, low + 16, low + 20]).astype(np.float32)


def _brim(build: Build, columns: int) -> Mesh:
    """Return the peak of a cap, or the brim all around of a hat or helmet."""
    reach = {"cap": 0.28, "brim": 0.3, "helmet": 0.09}[build.cover]
    span = 62 if build.cover == "cap" else 180
    longitude = np.radians(np.linspace(-span, span, columns))[None, :]
    out = np.array([0.0, 0.5, 1.0])[:, None]
    peak = np.cos(longitude * 90 / span) ** 0.7 if build.cover == "cap" else 1.0
    # It starts inside the crown, so that no gap shows.
    far = 0.72 + (0.22 + reach / 0.42) * out * (0.35 + 0.65 * peak)
    x = (build.width / 2 + 0.045) * np.sin(longitude) * far
    front = 0.8 * build.depth - 0.32
    z = np.where(np.cos(longitude) > 0, front, build.depth - front + 0.03)
    z = z * np.cos(longitude) * far
    level = -0.5 * np.cos(np.radians(56 + 10 * (1 - np.cos(longitude))))
    y = level + 0.05 * out * peak + 0 * z
    points = np.stack([x, y, z], 2)
    uv = np.broadcast_to(np.array(swatch("trim")), (*points.shape[:2], 2))
    mesh = from_grid(points.astype(np.float32), uv, HEAD, np.array([0, 0.5, 0]))
    return replace(mesh, closed=False)


def body_mesh(build: Build, detail: int) -> list[Mesh]:
    """Return neck and shoulders in axes of the body; the neck's root is at 0."""
    neck = ball((0.0, -0.08, -0.02), (0.17, 0.36, 0.18), swatch("skin"), BODY, max(7, detail // 3))
    level = np.array([0, 0.05, 0.1, 0.15, 0.2, 0.28, 0.4, 0.6, 1.2, 2.0, 2.3, 2.35, 2.8, 4.4, 6.2])
    knots = [0, 0.08, 0.2, 0.32, 0.5, 1.2, 2.2, 2.8, 4.4, 6.2]
    half = np.interp(level, knots, [0.17, 0.3, 0.64, 0.88, 0.97, 0.96, 0.8, 0.62, 0.45, 0.34])
    thick = np.interp(level, knots, [0.16, 0.2, 0.26, 0.31, 0.36, 0.37, 0.36, 0.34, 0.25, 0.2])
    f = np.radians(np.linspace(-180, 180, max(14, detail)))[None, :]
    x = (half * build.shoulders)[:, None] * np.sign(np.sin(f)) * np.abs(np.sin(f)) ** 0.75
    z = thick[:, None] * np.sign(np.cos(f)) * np.abs(np.cos(f)) ** 0.9
    # The collar is lower in front.
    y = level[:, None] + 0.1 * np.cos(f) * np.exp(-level * 4)[:, None]
    points = np.stack([x, y, z], 2)
    uv = np.empty((*points.shape[:2], 2))
    uv[:] = swatch("shirt")
    uv[:2] = uv[11:] = swatch("trim")
    body = from_grid(points.astype(np.float32), uv, BODY, np.array([0, 0.8, 0]))
    return [neck, replace(body, coarse=True)]


def fall_meshes(build: Build, detail: int) -> list[Mesh]:
    """Return long hair, or a scarf's end, from behind the ears down to below the chin.

    Down to the chin it is part of the head, as people who draw boxes see it.
    """
    columns = max(9, detail // 2)
    longitude = np.radians(np.linspace(78, 282, columns))[None, :]
    length = 0.42 + build.long
    chin = 0.46 / length
    rows = max(4, detail // 6)
    down = np.concatenate([np.linspace(0, chin, rows), np.linspace(chin, 1, rows)])[:, None]
    # It starts inside the head's own surface and comes out of it where the skull draws in.
    full = 0.84 + 0.16 * np.minimum(down / chin * 1.4, 1)
    x = (build.width / 2 + build.hair) * full * np.sin(longitude) * (1 + 0.05 * np.sin(down * 3))
    z = (build.depth * 0.5 + build.hair) * full * np.cos(longitude) * (1 - 0.25 * down)
    y = -0.02 + length * down + 0 * x
    points = np.stack([x, y, z + 0 * down], 2)
    name = "hat" if build.cover == "scarf" else "hair"
    uv = np.broadcast_to(np.array(swatch(name)), (*points.shape[:2], 2))
    points = points.astype(np.float32)
    inside = np.array([0, 0.2, 0])
    return [
        replace(from_grid(points[part], uv[part], tag, inside), closed=False)
        for part, tag in ((slice(None, rows), HEAD), (slice(rows, None), FALL))
    ]
