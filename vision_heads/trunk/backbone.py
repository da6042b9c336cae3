"""The backbone: one picture to maps at strides 4, 8, 16 and 32."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from vision_heads._ultralytics import SPPF, Conv
from vision_heads.spec import LEVELS, Size
from vision_heads.trunk.blocks import IRDCB, LDown


@dataclass(frozen=True, slots=True)
class Scale:
    """YOLOv8's scaling of one size.

    Attributes:
        channels: of the backbone's maps by level.
        stem: channels of the stem.
        repeats: inner blocks of the backbone's stages by level.
        neck_repeats: inner blocks of each fusion stage.
    """

    channels: dict[int, int]
    stem: int
    repeats: dict[int, int]
    neck_repeats: int


_FACTORS: dict[Size, tuple[float, float, int]] = {
    "n": (0.33, 0.25, 1024),
    "s": (0.33, 0.50, 1024),
    "m": (0.67, 0.75, 768),
}
"""Depth factor, width factor, most channels before the width factor."""


def scale_of(size: Size) -> Scale:
    """Return the channel and repeat counts of a size."""
    depth, width, most = _FACTORS[size]

    def wide(channels: int) -> int:
        return int(min(channels, most) * width)

    def deep(repeats: int) -> int:
        return max(round(repeats * depth), 1)

    return Scale(
        channels={level: wide(32 * 2**level) for level in LEVELS},
        stem=wide(64),
        repeats={level: deep(count) for level, count in zip(LEVELS, (3, 6, 6, 3), strict=True)},
        neck_repeats=deep(3),
    )


class Backbone(nn.Module):
    """Two strided convolutions, then LDown + IRDCB stages; SPPF ends it.

    Args:
        scale: channel and repeat counts.
    """

    def __init__(self, scale: Scale) -> None:
        super().__init__()
        channels = scale.channels
        self.stem = Conv(3, scale.stem, 3, 2)
        self.stages = nn.ModuleDict()
        for level in LEVELS:
            c_in = channels[level - 1] if level > LEVELS[0] else scale.stem
            down = LDown(c_in, channels[level]) if level > LEVELS[0] else None
            layers: list[nn.Module] = [down or Conv(c_in, channels[level], 3, 2)]
            layers.append(IRDCB(channels[level], channels[level], scale.repeats[level]))
            if level == LEVELS[-1]:
                layers.append(SPPF(channels[level], channels[level]))
            self.stages[f"p{level}"] = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> dict[int, Tensor]:
        """Pictures (B, 3, H, W) to maps by level, (B, C_l, H / 2**l, W / 2**l)."""
        x = self.stem(x)
        maps: dict[int, Tensor] = {}
        for level in LEVELS:
            x = self.stages[f"p{level}"](x)
            maps[level] = x
        return maps
