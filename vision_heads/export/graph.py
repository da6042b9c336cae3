"""The network in the shape that exported graphs run fastest in."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from vision_heads._ultralytics import C2f, Conv
from vision_heads.network import Network, fuse
from vision_heads.spec import LEVELS, ModelSpec
from vision_heads.trunk.blocks import IRDCB


class Exported(nn.Module):
    """A network that returns its exported tensors as a tuple, as exporters want them.

    Args:
        network: any network; a copy of it is fused and rearranged, it stays as it is.
        spec: the description the exported file will carry: input size, candidates.

    Attributes:
        names: of the outputs, `<head>/<suffix>`.
    """

    def __init__(self, network: Network, spec: ModelSpec) -> None:
        super().__init__()
        inner = copy.deepcopy(network).cpu().float().requires_grad_(False)
        inner.spec = self.spec = spec
        without_splits(fuse(inner))
        self.network = inner
        # The neck starts from the coarsest map, whichever levels the heads read.
        side = 2 ** max(LEVELS) * 2
        with torch.inference_mode():
            self.names = list(inner.export(torch.zeros(1, 3, side, side)))

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Pictures (B, 3, H, W), RGB / 255, to the tensors called `names`."""
        found = self.network.export(images)
        return tuple(found[name] for name in self.names)


class Twofold(nn.Module):
    """A C2f or IRDCB whose entering convolution is two, one for each half of its channels.

    The numbers are exactly the same, but nothing is left to split: ONNX Runtime would leave its
    blocked memory layout at every split and come back after it, 6 % of the network's time.

    Args:
        enter: fused 1x1 convolution with its activation.
        blocks: inner blocks, each fed with the one before it.
        leave: convolution over everything concatenated.
    """

    def __init__(self, enter: Conv, blocks: nn.ModuleList, leave: nn.Module) -> None:
        super().__init__()
        self.first, self.second = _half(enter, 0), _half(enter, 1)
        self.blocks = blocks
        self.leave = leave

    def forward(self, x: Tensor) -> Tensor:
        """(B, c_in, H, W) to (B, c_out, H, W)."""
        parts = [self.first(x), self.second(x)]
        for block in self.blocks:
            parts.append(block(parts[-1]))
        out: Tensor = self.leave(torch.cat(parts, 1))
        return out


def without_splits(network: nn.Module) -> None:
    """Replace every C2f and IRDCB of a fused network by a `Twofold`, in place."""
    for name, block in list(network.named_modules()):
        if isinstance(block, IRDCB):
            twofold = Twofold(block.enter, block.blocks, block.leave)
        elif isinstance(block, C2f):
            twofold = Twofold(block.cv1, block.m, block.cv2)
        else:
            continue
        parent, _, child = name.rpartition(".")
        # Sequential and ModuleDict keep their children under names too, "0", "p3", ...
        network.get_submodule(parent)._modules[child] = twofold


def _half(enter: Any, which: int) -> nn.Module:
    whole = enter.conv
    width = whole.out_channels // 2
    rows = slice(which * width, (which + 1) * width)
    half = nn.Conv2d(whole.in_channels, width, 1)
    half.load_state_dict({"weight": whole.weight[rows], "bias": whole.bias[rows]})
    half.requires_grad_(False)
    return nn.Sequential(half, enter.act)
