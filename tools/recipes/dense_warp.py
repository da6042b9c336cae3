"""Crops of heads in memory, turned, zoomed, shifted and mirrored with all that is known of them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from tools.recipes.dense_crops import NOWHERE, SIDE, UNIT
from vision_heads.errors import UserError

MAPS = (2, 3, 4)
"""Levels that tell places."""
TURN, MOST_TURN = 12.0, 30.0
"""Degrees: spread and most of the turns in the picture's plane."""
ZOOM = (0.65, 1.35)
SHIFT = 0.14
"""Half sides of the crop."""


def _arrays(file: Path) -> list[NDArray[Any]]:
    try:
        with np.load(file) as part:
            return [part[key] for key in "XNRB"]
    except OSError as error:
        raise UserError(f"{file}: {error.strerror or error}") from error
    except (KeyError, ValueError, TypeError, AttributeError, BadZipFile) as error:
        raise UserError(f"{file}: is no file of crops: {error}") from error


@dataclass(frozen=True, slots=True)
class Crops:
    """Rows of what tools/recipes/dense_crops.py writes: images, places, rotations, boxes."""

    images: Tensor
    places: Tensor
    rotations: Tensor
    boxes: Tensor

    @classmethod
    def load(cls, files: list[Path]) -> Crops:
        """Read files and put their rows together; `UserError` names one that cannot be read."""
        parts = [_arrays(file) for file in files]
        return cls(*(torch.from_numpy(np.concatenate(rows)) for rows in zip(*parts, strict=True)))

    def __len__(self) -> int:
        return len(self.rotations)

    def rows(self, index: Tensor) -> Crops:
        """Return some rows."""
        return Crops(
            self.images[index], self.places[index], self.rotations[index], self.boxes[index]
        )

    def join(self, other: Crops) -> Crops:
        """Return these rows, then another's."""
        return Crops(
            torch.cat((self.images, other.images)),
            torch.cat((self.places, other.places)),
            torch.cat((self.rotations, other.rotations)),
            torch.cat((self.boxes, other.boxes)),
        )


@dataclass(frozen=True, slots=True)
class Heads:
    """Augmented crops of one size, S pixels.

    Attributes:
        images: (N, 3, S, S) RGB 0..255.
        places: by level, (N, 3, S / stride, S / stride) in head heights, and the cells
            (N, S / stride, S / stride) where they are known.
        rotations: (N, 3, 3).
        middles, halves: (N, 2) of the boxes, pixels.
    """

    images: Tensor
    places: dict[int, tuple[Tensor, Tensor]]
    rotations: Tensor
    middles: Tensor
    halves: Tensor


@dataclass(frozen=True, slots=True)
class Move:
    """How N crops are moved: mirrored, then turned clockwise, zoomed and shifted.

    Attributes:
        mirror: (N,) -1 or 1.
        turn: (N,) radians.
        zoom: (N,).
        shift: (N, 2) half sides of the crop.
    """

    mirror: Tensor
    turn: Tensor
    zoom: Tensor
    shift: Tensor

    @classmethod
    def draw(cls, count: int) -> Move:
        """Draw moves from torch's generator."""
        turn = (torch.randn(count) * TURN).clamp(-MOST_TURN, MOST_TURN) * (math.pi / 180)
        zoom = torch.empty(count).uniform_(math.log(ZOOM[0]), math.log(ZOOM[1])).exp()
        shift = torch.empty(count, 2).uniform_(-SHIFT, SHIFT)
        return cls(torch.where(torch.rand(count) < 0.5, -1.0, 1.0), turn, zoom, shift)

    def back(self) -> Tensor:
        """Return (N, 2, 3), from the moved crop's coordinates, -1..1, to the crop's own."""
        c, s = self.turn.cos() / self.zoom, self.turn.sin() / self.zoom
        turn = torch.stack(
            (torch.stack((c * self.mirror, s * self.mirror), 1), torch.stack((-s, c), 1)), 1
        )
        return torch.cat((turn, -turn @ self.shift[:, :, None]), 2)

    def points(self, points: Tensor) -> Tensor:
        """Move (N, 2) points, -1..1."""
        x, y = (points * self.zoom[:, None]).unbind(1)
        x = x * self.mirror
        c, s = self.turn.cos(), self.turn.sin()
        return torch.stack((c * x - s * y, s * x + c * y), 1) + self.shift

    def rotations(self, rotations: Tensor) -> Tensor:
        """Move (N, 3, 3): the mirror turns x over on both sides, a turn is one about z."""
        flip = torch.ones(len(self.turn), 3)
        flip[:, 0] = self.mirror
        about_z = torch.zeros(len(self.turn), 3, 3)
        about_z[:, 0, 0] = about_z[:, 1, 1] = self.turn.cos()
        about_z[:, 1, 0] = self.turn.sin()
        about_z[:, 0, 1] = -about_z[:, 1, 0]
        about_z[:, 2, 2] = 1
        return about_z @ (flip[:, :, None] * rotations * flip[:, None, :])


def moved(crops: Crops, move: Move, side: int) -> Heads:
    """Move crops and bring them to `side` pixels, averaging what is made smaller."""
    count, back = len(crops), move.back()
    fine = 2 * side if side < SIDE else side
    grid = functional.affine_grid(back, [count, 3, fine, fine], align_corners=False)
    images = functional.grid_sample(
        crops.images.permute(0, 3, 1, 2).flip(1).float(),
        grid,
        padding_mode="border",
        align_corners=False,
    )
    if fine > side:
        images = functional.avg_pool2d(images, 2)
    known = crops.places.permute(0, 3, 1, 2).float()
    corners = (crops.boxes * (2 / SIDE) - 1).view(count, 2, 2)
    return Heads(
        images,
        {level: _places(known, move, back, side >> level) for level in MAPS},
        move.rotations(crops.rotations),
        (move.points(corners.mean(1)) + 1) * (side / 2),
        (corners[:, 1] - corners[:, 0]) * move.zoom[:, None] * (side / 4),
    )


def _places(known: Tensor, move: Move, back: Tensor, cells: int) -> tuple[Tensor, Tensor]:
    grid = functional.affine_grid(back, [len(known), 3, cells, cells], align_corners=False)
    found = functional.grid_sample(
        known, grid, mode="nearest", padding_mode="border", align_corners=False
    )
    places = found / UNIT
    mirrored = torch.cat((places[:, :1] * move.mirror.view(-1, 1, 1, 1), places[:, 1:]), 1)
    return mirrored, found[:, 0] > NOWHERE + 0.5


def coloured(images: Tensor) -> Tensor:
    """Change light, contrast, white balance and noise of (N, 3, S, S), 0..255; a few are grey."""
    count = len(images)

    def spread(width: float) -> Tensor:
        return width * (2 * torch.rand(count, 1, 1, 1) - 1)

    tint = 1 + 0.06 * torch.randn(count, 3, 1, 1)
    images = (images - 118) * (1 + spread(0.25)) * tint + 118 + spread(30)
    grey = torch.rand(count, 1, 1, 1) < 0.05
    images = torch.where(grey, images.mean(1, keepdim=True).expand_as(images), images)
    return (images + torch.randn_like(images) * 4 * torch.rand(count, 1, 1, 1)).clamp(0, 255)


def tiled(maps: Tensor, across: int) -> Tensor:
    """Lay (N, C, H, W) side by side: (N / across^2, C, across * H, across * W)."""
    _, channels, height, width = maps.shape
    maps = maps.view(-1, across, across, channels, height, width).permute(0, 3, 1, 4, 2, 5)
    return maps.reshape(-1, channels, across * height, across * width)


def untiled(maps: Tensor, across: int) -> Tensor:
    """Undo `tiled`."""
    _, channels, height, width = maps.shape
    maps = maps.reshape(-1, channels, across, height // across, across, width // across)
    return maps.permute(0, 2, 4, 1, 3, 5).reshape(-1, channels, height // across, width // across)
