"""The picture being painted, with the depth of buildings and the owner of each sub-pixel."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from vision_heads.data.synthetic.camera import NEAR, Camera, Floats
from vision_heads.data.synthetic.plan import Tree
from vision_heads.data.synthetic.weather import Weather

_BITS = 4
_ONE = 1 << _BITS


def to_fixed(outline: Floats) -> NDArray[np.int32]:
    """Return OpenCV's fixed-point corners; OpenCV puts pixel centres on whole numbers."""
    return np.rint((outline - 0.5) * _ONE).astype(np.int32)


def fill(image: NDArray[np.uint8], outline: Floats, value: int | Floats) -> None:
    """Fill a convex polygon given in continuous pixels."""
    color = (
        (float(value), 0.0, 0.0, 0.0)
        if isinstance(value, int)
        else (float(value[0]), float(value[1]), float(value[2]), 0.0)
    )
    cv2.fillConvexPoly(image, to_fixed(outline), color, cv2.LINE_8, _BITS)


@dataclass(slots=True)
class Canvas:
    """What is painted so far, at the fine resolution.

    Attributes:
        picture: (H, W, 3) BGR uint8.
        depth: (H, W) float32 metres to the nearest building, inf where there is none.
        owner: (H, W) int32 actor seen at each sub-pixel, -1 for none.
        camera: the view, in sub-pixels.
        weather: the light.
    """

    picture: NDArray[np.uint8]
    depth: NDArray[np.float32]
    owner: NDArray[np.int32]
    camera: Camera
    weather: Weather

    def light(self, normals: Floats, sunny: float = 1.0) -> Floats:
        """Return (F,) brightness of surfaces with these world normals.

        Args:
            normals: (F, 3), length 1.
            sunny: 1 in the sun, 0 in a shadow.
        """
        direct = np.clip(normals @ self.weather.sun, 0, 1)
        sky = 0.62 + 0.38 * normals[:, 2]
        power = self.weather.shade * 1.05
        flat = float(self.weather.sun[2])
        lit = (1 - power) * sky + power * sunny * direct / max(flat, 0.45)
        return np.asarray(np.clip(lit, 0.16, 1.2))

    def window(self, low: Floats, high: Floats) -> tuple[slice, slice] | None:
        """Return rows and columns that a bounding box covers; None when outside the picture."""
        height, width = self.owner.shape
        x0, y0 = max(int(low[0]) - 1, 0), max(int(low[1]) - 1, 0)
        x1, y1 = min(int(high[0]) + 2, width), min(int(high[1]) + 2, height)
        return (slice(y0, y1), slice(x0, x1)) if x1 > x0 and y1 > y0 else None

    def solid(
        self, outlines: list[Floats], colors: list[Floats], depth: float, owner: int
    ) -> float:
        """Paint the faces of one actor in order, behind buildings that are nearer.

        Args:
            outlines: (k, 2) sub-pixels each.
            colors: BGR each.
            depth: metres from the camera.
            owner: the actor's index.

        Returns:
            Area of the whole outline in sub-pixels, also where hidden or outside.
        """
        if not outlines:
            return 0.0
        every = np.concatenate(outlines)
        low = np.floor(every.min(axis=0)) - 2
        high = np.ceil(every.max(axis=0)) + 3
        size = (high - low).astype(int)
        window = self.window(low + 1, high - 2)
        if window is None or size.max() > 4 * max(self.owner.shape):
            return 0.0
        # The whole outline is drawn on its own sheet, so that what lies outside counts too.
        sheet = np.zeros((size[1], size[0]), np.uint8)
        paint = np.zeros((size[1], size[0], 3), np.uint8)
        fixed = to_fixed(every - low)
        shades = np.clip(colors, 0, 255).tolist()
        start = 0
        for outline, value in zip(outlines, shades, strict=True):
            corners = fixed[start : start + len(outline)]
            start += len(outline)
            cv2.fillConvexPoly(sheet, corners, (255.0,), cv2.LINE_8, _BITS)
            cv2.fillConvexPoly(paint, corners, value, cv2.LINE_8, _BITS)
        rows, columns = window
        shift_y, shift_x = int(low[1]), int(low[0])
        part = (
            slice(rows.start - shift_y, rows.stop - shift_y),
            slice(columns.start - shift_x, columns.stop - shift_x),
        )
        mask = (sheet[part] > 0) & (self.depth[window] > depth - 0.4)
        self.picture[window][mask] = paint[part][mask]
        self.owner[window][mask] = owner
        return float(np.count_nonzero(sheet))

    def tree(self, tree: Tree, crown: NDArray[np.uint8]) -> None:
        """Paint a crown and the trunk under it; its pixels belong to nobody."""
        foot = np.array([[tree.x, tree.y, 0.0], [tree.x, tree.y, tree.height]])
        seen = self.camera.project(foot)
        if seen[:, 2].min() < NEAR + 1:
            return
        radius = tree.radius * self.camera.focal / float(seen[1, 2])
        side = max(2, round(2 * radius))
        x0, y0 = round(seen[1, 0] - side / 2), round(seen[1, 1] - side / 2)
        height, width = self.owner.shape
        if side < 2 or x0 >= width or y0 >= height or x0 + side <= 0 or y0 + side <= 0:
            return
        if side > 4 * max(width, height):
            return
        self._trunk(seen, radius)
        way = cv2.INTER_AREA if side < len(crown) else cv2.INTER_LINEAR
        sprite = cv2.resize(crown, (side, side), interpolation=way)
        window = (
            slice(max(y0, 0), min(y0 + side, height)),
            slice(max(x0, 0), min(x0 + side, width)),
        )
        part = sprite[
            window[0].start - y0 : window[0].stop - y0, window[1].start - x0 : window[1].stop - x0
        ]
        mask = (part[..., 3] > 127) & (self.depth[window] > float(seen[1, 2]) - tree.radius)
        self.picture[window][mask] = part[..., :3][mask]
        self.owner[window][mask] = -1

    def _trunk(self, seen: Floats, radius: float) -> None:
        thick = max(1, round(radius * 0.16))
        ends = [(round(float(u)), round(float(v))) for u, v in seen[:, :2]]
        if thick < 2 or np.hypot(ends[0][0] - ends[1][0], ends[0][1] - ends[1][1]) < radius:
            return
        low = np.minimum(ends[0], ends[1]) - float(thick)
        high = np.maximum(ends[0], ends[1]) + float(thick)
        window = self.window(low, high)
        if window is None:
            return
        mask = np.zeros(self.owner[window].shape, np.uint8)
        corner = np.array([window[1].start, window[0].start])
        a, b = (tuple(int(v) for v in np.array(end) - corner) for end in ends)
        cv2.line(mask, a, b, (255.0,), thick)
        bark = (mask > 0) & (self.depth[window] > float(seen[0, 2]) - 0.5)
        self.picture[window][bark] = (44, 58, 70)
        self.owner[window][bark] = -1
