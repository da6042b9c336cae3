"""Solids of flat faces with a part name each, as convex pieces.

Model axes: x forward, y left, z up, metres, standing on z = 0. A model is a list of convex
pieces; a camera above the ground sees a piece's front faces without overlap, so painting
pieces from far to near, lower ones first, shows the model correctly.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from vision_heads.data.synthetic.camera import Floats

Point = tuple[float, float]


@dataclass
class Model:
    """Faces of one model.

    Attributes:
        faces: (k, 3) corners each, counter-clockwise seen from outside.
        parts: name of each face's material.
        pieces: (level, index) of the piece each face belongs to; lower levels are painted first.
        minor: whether a face is a detail that vanishes on small objects.
    """

    faces: list[Floats] = field(default_factory=list)
    parts: list[str] = field(default_factory=list)
    pieces: list[tuple[int, int]] = field(default_factory=list)
    minor: list[bool] = field(default_factory=list)
    piece: int = 0

    def face(self, corners: Floats, part: str, level: int = 0, minor: bool = False) -> None:
        """Add one face to the current piece."""
        self.faces.append(np.asarray(corners, np.float64))
        self.parts.append(part)
        self.pieces.append((level, self.piece))
        self.minor.append(minor)

    def prism(
        self,
        bottom: Sequence[Point],
        top: Sequence[Point],
        heights: tuple[float, float],
        parts: tuple[str | Sequence[str], str],
        *,
        level: int = 0,
    ) -> None:
        """Add a piece between two outlines of equal length, counter-clockwise from above.

        Args:
            bottom, top: outlines.
            heights: z of each.
            parts: material of the sides (one, or one a side) and of the top.
            level: see `Model.pieces`.
        """
        self.piece += 1
        low = np.array([(x, y, heights[0]) for x, y in bottom])
        high = np.array([(x, y, heights[1]) for x, y in top])
        sides = [parts[0]] * len(low) if isinstance(parts[0], str) else list(parts[0])
        for i, side in enumerate(sides):
            j = (i + 1) % len(low)
            self.face(np.array([low[i], low[j], high[j], high[i]]), side, level)
        self.face(high, parts[1], level)

    def box(
        self,
        x: Point,
        y: Point,
        z: Point,
        parts: tuple[str, str],
        *,
        level: int = 0,
    ) -> None:
        """Add a box piece."""
        corners = [(x[0], y[0]), (x[1], y[0]), (x[1], y[1]), (x[0], y[1])]
        self.prism(corners, corners, z, parts, level=level)

    @cached_property
    def corners(self) -> Floats:
        """(V, 3) all corners, in the order of the faces."""
        return np.concatenate(self.faces)

    @cached_property
    def starts(self) -> list[int]:
        """Where each face begins in `corners`, and the end."""
        return [0, *np.cumsum([len(face) for face in self.faces]).tolist()]

    @cached_property
    def normals(self) -> Floats:
        """(F, 3) outward, length 1."""
        out = []
        for face in self.faces:
            normal = np.cross(face, np.roll(face, -1, axis=0)).sum(axis=0)
            out.append(normal / max(float(np.linalg.norm(normal)), 1e-9))
        return np.array(out)

    @cached_property
    def centres(self) -> Floats:
        """(F, 3) middle of each face."""
        return np.array([face.mean(axis=0) for face in self.faces])

    @cached_property
    def size(self) -> tuple[float, float, float]:
        """Length, width and height in metres."""
        span = self.corners.max(axis=0) - self.corners.min(axis=0)
        return float(span[0]), float(span[1]), float(self.corners[:, 2].max())

    @cached_property
    def piece_centres(self) -> dict[int, Floats]:
        """Middle of each piece."""
        index = np.array([piece for _, piece in self.pieces])
        return {int(piece): self.centres[index == piece].mean(axis=0) for piece in np.unique(index)}


def rounded(x: Point, y: Point, cut: float) -> list[Point]:
    """Return a rectangle's outline with its corners cut off, counter-clockwise."""
    return [
        (x[0], y[0] + cut),
        (x[0] + cut, y[0]),
        (x[1] - cut, y[0]),
        (x[1], y[0] + cut),
        (x[1], y[1] - cut),
        (x[1] - cut, y[1]),
        (x[0] + cut, y[1]),
        (x[0], y[1] - cut),
    ]
