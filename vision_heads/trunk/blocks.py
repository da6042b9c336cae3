"""The blocks of HierLight-YOLO (arXiv 2509.22365): DCB, IRDCB and LDown."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from vision_heads._ultralytics import C2f, Conv


class DCB(nn.Module):
    """Depthwise convolution block: 1x1 expansion, two 3x3 depthwise, 1x1 compression, residual.

    The last 1x1 has no activation, so that the residual path stays linear.

    Args:
        channels: in and out.
        expansion: hidden width as a multiple of `channels`.
    """

    def __init__(self, channels: int, expansion: int = 2) -> None:
        super().__init__()
        hidden = channels * expansion
        self.expand = Conv(channels, hidden, 1)
        self.depthwise = nn.Sequential(
            Conv(hidden, hidden, 3, g=hidden), Conv(hidden, hidden, 3, g=hidden)
        )
        self.compress = Conv(hidden, channels, 1, act=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to the same shape."""
        out: Tensor = x + self.compress(self.depthwise(self.expand(x)))
        return out


class IRDCB(nn.Module):
    """Inverted residual depthwise convolution block: a C2f whose inner blocks are DCB.

    Args:
        c_in, c_out: channels.
        repeats: number of DCB.
    """

    def __init__(self, c_in: int, c_out: int, repeats: int = 1) -> None:
        super().__init__()
        self.hidden = c_out // 2
        self.enter = Conv(c_in, 2 * self.hidden, 1)
        self.blocks = nn.ModuleList(DCB(self.hidden) for _ in range(repeats))
        self.leave = Conv((2 + repeats) * self.hidden, c_out, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, c_in, H, W) to (B, c_out, H, W)."""
        parts = list(self.enter(x).chunk(2, 1))
        for block in self.blocks:
            parts.append(block(parts[-1]))
        out: Tensor = self.leave(torch.cat(parts, 1))
        return out


class LDown(nn.Module):
    """Lightweight downsampling: 3x3 depthwise with stride 2, then 1x1."""

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__()
        self.depthwise = Conv(c_in, c_in, 3, 2, g=c_in, act=False)
        self.pointwise = Conv(c_in, c_out, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, c_in, H, W) to (B, c_out, H / 2, W / 2)."""
        weight = self.depthwise.conv.weight
        if x.device.type == "cpu" and x.dtype != weight.dtype:
            # Under autocast. The CPU's bf16 gradient of a strided depthwise convolution is 4 to
            # 40 times slower than the FP32 one (oneDNN has no kernel for it).
            with torch.autocast("cpu", enabled=False):
                x = self.depthwise(x.to(weight.dtype))
        else:
            x = self.depthwise(x)
        out: Tensor = self.pointwise(x)
        return out


def fusion_block(name: str) -> Callable[[int, int, int], nn.Module]:
    """Return the constructor (c_in, c_out, repeats) of the neck's fusion blocks."""
    blocks: dict[str, Callable[[int, int, int], nn.Module]] = {"c2f": C2f, "irdcb": IRDCB}
    return blocks[name]
