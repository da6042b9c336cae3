"""Cells of the pyramid: their centres, strides, and boxes from distances."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Grid(NamedTuple):
    """One level's cells: stride in pixels, rows, columns."""

    stride: int
    height: int
    width: int

    @classmethod
    def of(cls, level: int, values: Tensor) -> Grid:
        """Return the grid of a level's map (B, C, H, W)."""
        return cls(2**level, int(values.shape[2]), int(values.shape[3]))

    @property
    def cells(self) -> int:
        """Number of cells."""
        return self.height * self.width


def centers_and_strides(grids: list[Grid], device: torch.device) -> tuple[Tensor, Tensor]:
    """Return the cells' centres (A, 2) as x, y in pixels and their strides (A, 1), row by row."""
    centers, strides = [], []
    for stride, height, width in grids:
        y = (torch.arange(height, dtype=torch.float32, device=device) + 0.5) * stride
        x = (torch.arange(width, dtype=torch.float32, device=device) + 0.5) * stride
        grid_y, grid_x = torch.meshgrid(y, x, indexing="ij")
        centers.append(torch.stack((grid_x, grid_y), -1).reshape(-1, 2))
        strides.append(torch.full((height * width, 1), float(stride), device=device))
    return torch.cat(centers), torch.cat(strides)


def distances_to_boxes(distances: Tensor, centers: Tensor, strides: Tensor) -> Tensor:
    """Distances (.., 4) left, top, right, bottom in cells to xyxy (.., 4) in pixels."""
    left_top, right_bottom = (distances * strides).chunk(2, -1)
    return torch.cat((centers - left_top, centers + right_bottom), -1)
