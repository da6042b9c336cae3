"""Textured triangle meshes, and a painter that shades them pixel by pixel.

Axes are those of head rotations: x right, y down, z to the viewer. Faces are painted from far to
near as numbers; what each pixel shows is then interpolated for all pixels at once.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]
_SUB = 4
"""Binary digits behind the point of the coordinates that OpenCV paints with."""


@dataclass(slots=True)
class Mesh:
    """Triangles with a place in a texture.

    Attributes:
        points: (V, 3).
        normals: (V, 3) outward, length 1.
        uv: (V, 2) texture coordinates in pixels of the texture.
        faces: (F, 3) indices of points.
        tag: what it belongs to.
        closed: nothing of its inside can be seen.
        coarse: painted at half the resolution, a quarter of the time.
    """

    points: Floats
    normals: Floats
    uv: Floats
    faces: NDArray[np.int64]
    tag: int
    closed: bool = True
    coarse: bool = False

    def moved(self, rotation: NDArray[np.floating], shift: NDArray[np.floating]) -> Mesh:
        """Return the mesh rotated, then shifted."""
        turn = rotation.astype(np.float32)
        points = self.points @ turn.T + shift.astype(np.float32)
        return replace(self, points=points, normals=self.normals @ turn.T)


def grid_faces(rows: int, columns: int) -> NDArray[np.int64]:
    """Return the triangles (F, 3) of a grid of points, numbered row by row."""
    start = (np.arange(rows - 1)[:, None] * columns + np.arange(columns - 1)).reshape(-1)
    below, right = start + columns, start + 1
    first = np.stack([start, right, below], 1)
    return np.concatenate([first, np.stack([right, below + 1, below], 1)])


def from_grid(points: Floats, uv: Floats, tag: int, outward: Floats | None = None) -> Mesh:
    """Make a mesh of a grid of points.

    Args:
        points: (rows, columns, 3).
        uv: (rows, columns, 2).
        tag: of the mesh.
        outward: (3,) point inside, which normals turn away from; the middle when None.
    """
    along_rows = np.gradient(points, axis=0)
    along_columns = np.gradient(points, axis=1)
    normals = np.cross(along_rows, along_columns)
    length = np.linalg.norm(normals, axis=2, keepdims=True)
    inside = points.reshape(-1, 3).mean(0) if outward is None else outward
    away = points - inside
    # Poles, where a row is one point, have no normal of their own.
    flat = (length < 1e-9)[..., 0]
    normals[flat] = away[flat]
    normals /= np.maximum(np.linalg.norm(normals, axis=2, keepdims=True), 1e-9)
    if np.allclose(points[:, 0], points[:, -1]):
        # It closes on itself: no seam.
        normals[:, 0] += normals[:, -1]
        normals[:, 0] /= np.maximum(np.linalg.norm(normals[:, 0], axis=1, keepdims=True), 1e-9)
        normals[:, -1] = normals[:, 0]
    normals *= np.where((normals * away).sum(2, keepdims=True) < 0, -1, 1)
    rows, columns = points.shape[:2]
    faces = grid_faces(rows, columns)
    return Mesh(
        points.reshape(-1, 3).astype(np.float32),
        normals.reshape(-1, 3).astype(np.float32),
        uv.reshape(-1, 2).astype(np.float32),
        faces,
        tag,
    )


def ball(
    centre: tuple[float, float, float],
    radii: tuple[float, float, float],
    uv: tuple[float, float],
    tag: int,
    detail: int = 8,
) -> Mesh:
    """Return an ellipsoid of one colour: that of the texture at `uv`."""
    theta = np.linspace(0, np.pi, detail)[:, None]
    phi = np.linspace(0, 2 * np.pi, detail + 3)[None, :]
    around = np.stack(
        [np.sin(theta) * np.sin(phi), -np.cos(theta) + 0 * phi, np.sin(theta) * np.cos(phi)], 2
    )
    points = around * np.array(radii) + np.array(centre)
    places = np.broadcast_to(np.array(uv), (*points.shape[:2], 2))
    return from_grid(points.astype(np.float32), places, tag, np.array(centre))


@dataclass(slots=True)
class Fragment:
    """What was painted of a mesh: a rectangle of the canvas.

    Attributes:
        left, top: of the rectangle in the canvas.
        tags: (h, w) tag of the face each pixel shows, -1 where there is none.
        depth: (h, w) z of what is shown.
        uv: (h, w, 2) texture coordinates.
        normals: (h, w, 3), not normalised.
    """

    left: int
    top: int
    tags: NDArray[np.int64]
    depth: Floats
    uv: Floats
    normals: Floats

    def cover(self, other: Fragment) -> None:
        """Add, in place, what another fragment inside this one shows in front of it."""
        top, left = other.top - self.top, other.left - self.left
        rows = slice(top, top + other.tags.shape[0])
        columns = slice(left, left + other.tags.shape[1])
        nearer = (other.tags >= 0) & (other.depth > self.depth[rows, columns])
        for name in ("tags", "depth", "uv", "normals"):
            mine, theirs = getattr(self, name)[rows, columns], getattr(other, name)
            np.copyto(mine, theirs, where=nearer if mine.ndim == 2 else nearer[..., None])

    def doubled(self, width: int, height: int) -> Fragment:
        """Return it for a canvas of twice the size, which is `width` x `height`."""
        left, top = 2 * self.left, 2 * self.top

        def twice(values: Any) -> Any:
            return values.repeat(2, 0).repeat(2, 1)[: height - top, : width - left]

        return Fragment(
            left, top, twice(self.tags), twice(self.depth), twice(self.uv), twice(self.normals)
        )


def paint(parts: list[Mesh], flats: list[Floats], width: int, height: int) -> Fragment:
    """Find out what each pixel shows of several meshes that hide one another.

    Args:
        parts: as seen: x right, y down, z to the viewer. Each is near enough to convex that its
            faces can be painted from far to near; between meshes every pixel is compared.
        flats: (V, 2) pixel of each point of each part.
        width, height: of the canvas.

    Returns:
        The part of the canvas the meshes may touch; of no pixels when they are out of view.
    """
    low, high = _extent(np.concatenate(flats), width, height)
    # Coarse parts are rounded outwards.
    low, high = np.maximum(low - 4, 0), np.minimum(high + 4, (width, height))
    shape = (int(high[1] - low[1]), int(high[0] - low[0]))
    whole = Fragment(
        int(low[0]),
        int(low[1]),
        np.full(shape, -1, np.int64),
        np.full(shape, -np.inf, np.float32),
        np.zeros((*shape, 2), np.float32),
        np.zeros((*shape, 3), np.float32),
    )
    for part, flat in zip(parts, flats, strict=True):
        if part.coarse:
            half = _paint_one(part, flat / 2, -(-width // 2), -(-height // 2))
            whole.cover(half.doubled(width, height))
        else:
            whole.cover(_paint_one(part, flat, width, height))
    return whole


def _extent(flat: Floats, width: int, height: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    low = np.clip(np.floor(flat.min(0)).astype(np.int64) - 1, 0, (width, height))
    high = np.clip(np.ceil(flat.max(0)).astype(np.int64) + 2, 0, (width, height))
    return low, np.maximum(high, low)


def _paint_one(mesh: Mesh, flat: Floats, width: int, height: int) -> Fragment:
    low, high = _extent(flat, width, height)
    columns, rows = (high - low).tolist()
    owner = np.full((rows, columns), -1, np.int32)
    corners = flat[mesh.faces] - low.astype(np.float32)
    shown = np.arange(len(mesh.faces))
    if mesh.closed:
        shown = shown[mesh.normals[mesh.faces, 2].max(1) > -0.05]
    shown = shown[np.argsort(mesh.points[mesh.faces[shown], 2].mean(1), kind="stable")]
    if owner.size:
        whole = np.round((corners - 0.5) * (1 << _SUB)).astype(np.int32)
        for face in shown.tolist():
            cv2.fillConvexPoly(owner, whole[face], face, cv2.LINE_8, _SUB)
    return _interpolate(mesh, corners, owner, (int(low[0]), int(low[1])))


def _interpolate(
    mesh: Mesh, corners: Floats, owner: NDArray[np.int32], start: tuple[int, int]
) -> Fragment:
    y, x = np.nonzero(owner >= 0)
    face = owner[y, x]
    a, b, c = corners[face].transpose(1, 0, 2)
    point = np.stack([x, y], 1).astype(np.float32) + 0.5
    area = _cross(b - a, c - a)
    area = np.where(np.abs(area) < 1e-6, 1e-6, area)
    second = np.clip(_cross(point - a, c - a) / area, 0, 1)
    third = np.clip(_cross(b - a, point - a) / area, 0, 1)
    over = np.maximum(second + third, 1)
    second, third = second / over, third / over
    weights = np.stack([1 - second - third, second, third])
    vertices = mesh.faces[face].T

    def mixed(values: Floats) -> Floats:
        one, two, three = (values[index] for index in vertices)
        a, b, c = weights if values.ndim == 1 else weights[..., None]
        return np.asarray(one * a + two * b + three * c, np.float32)

    tags = np.full(owner.shape, -1, np.int64)
    tags[y, x] = mesh.tag
    depth = np.full(owner.shape, -np.inf, np.float32)
    depth[y, x] = mixed(mesh.points[:, 2])
    uv = np.zeros((*owner.shape, 2), np.float32)
    uv[y, x] = mixed(mesh.uv)
    normals = np.zeros((*owner.shape, 3), np.float32)
    normals[y, x] = mixed(mesh.normals)
    return Fragment(*start, tags, depth, uv, normals)


def _cross(a: Floats, b: Floats) -> Floats:
    return np.asarray(a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0], np.float32)
