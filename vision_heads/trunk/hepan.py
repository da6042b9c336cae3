"""HEPAN, the neck of HierLight-YOLO (arXiv 2509.22365), as stages by name.

Top-down P5 -> P4 -> P3 -> P2, each step compressing with a 1x1 before it upsamples (hierarchical
channel compression); bottom-up back to P5; at P3 and P4 the bottom-up fusion also takes the
backbone's map of that level (hierarchical cross-level connection).
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from vision_heads._ultralytics import Conv
from vision_heads.spec import LEVELS
from vision_heads.trunk.backbone import Scale
from vision_heads.trunk.blocks import LDown, fusion_block

TOP = LEVELS[-1]
CROSS_LEVEL = (3, 4)
"""Levels whose bottom-up fusion takes the backbone's map too."""


class TopDown(nn.Module):
    """One step down the pyramid: compress the upper map, upsample it, fuse with the backbone's."""

    def __init__(self, upper: int, lateral: int, repeats: int, fusion: str) -> None:
        super().__init__()
        self.compress = Conv(upper, lateral, 1)
        self.fuse = fusion_block(fusion)(2 * lateral, lateral, repeats)

    def forward(self, upper: Tensor, lateral: Tensor) -> tuple[Tensor, Tensor]:
        """Return the fused map and the compressed upper map, which the way up takes again."""
        slim = self.compress(upper)
        large = functional.interpolate(slim, scale_factor=2.0, mode="nearest")
        return self.fuse(torch.cat((large, lateral), 1)), slim


class BottomUp(nn.Module):
    """One step up the pyramid: downsample the lower map and fuse it with this level's."""

    def __init__(self, lower: int, inputs: int, out: int, repeats: int, fusion: str) -> None:
        super().__init__()
        self.down = LDown(lower, lower)
        self.fuse = fusion_block(fusion)(lower + inputs, out, repeats)

    def forward(self, lower: Tensor, same: list[Tensor]) -> Tensor:
        """(B, lower, 2H, 2W) and maps of (B, ., H, W) to (B, out, H, W)."""
        fused: Tensor = self.fuse(torch.cat((self.down(lower), *same), 1))
        return fused


class Hepan(nn.Module):
    """The neck for a range of levels; stages outside the range are neither built nor run.

    Args:
        scale: channel counts; the maps keep the backbone's channels.
        levels: every level some head reads.
        fusion: block of the fusion stages.
    """

    def __init__(self, scale: Scale, levels: tuple[int, ...], fusion: str) -> None:
        super().__init__()
        self.low, self.high = min(levels), max(levels)
        width, repeats = scale.channels, scale.neck_repeats
        self.down_stages = nn.ModuleDict()
        for level in range(TOP - 1, self.low - 1, -1):
            self.down_stages[f"p{level}"] = TopDown(width[level + 1], width[level], repeats, fusion)
        self.up_stages = nn.ModuleDict()
        for level in range(self.low + 1, self.high + 1):
            # The compressed map of this level is as wide as the level below.
            inputs = width[level - 1] + (width[level] if level in CROSS_LEVEL else 0)
            self.up_stages[f"p{level}"] = BottomUp(
                width[level - 1], inputs, width[level], repeats, fusion
            )

    def forward(self, maps: Mapping[int, Tensor]) -> dict[int, Tensor]:
        """Backbone maps by level to fused maps of levels low..high, channels unchanged."""
        fused, slim = maps[TOP], {}
        for level in range(TOP - 1, self.low - 1, -1):
            fused, slim[level + 1] = self.down_stages[f"p{level}"](fused, maps[level])
        pyramid = {self.low: fused}
        for level in range(self.low + 1, self.high + 1):
            same = [slim[level]] + ([maps[level]] if level in CROSS_LEVEL else [])
            pyramid[level] = self.up_stages[f"p{level}"](pyramid[level - 1], same)
        return pyramid
