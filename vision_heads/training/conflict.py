"""How far the heads' gradients agree in each stage of the trunk.

A cosine of 1: both heads want the same of a stage; 0: they do not care for one another; below 0:
what helps one harms the other, which is a reason to let them branch off before that stage.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations

import torch
from torch import Tensor, nn

from vision_heads.network import Network


def trunk_stages(network: Network) -> dict[str, nn.Module]:
    """Return the trunk's stages by name, e.g. "backbone.p3" and "neck.down_p3"."""
    stages = {"backbone.stem": network.backbone.stem}
    stages |= {f"backbone.{level}": stage for level, stage in network.backbone.stages.items()}
    for way, copies in (("down", network.neck.down_stages), ("up", network.neck.up_stages)):
        stages |= {f"neck.{way}_{key}": stage for key, stage in copies.items()}
    return stages


def gradient_cosines(network: Network, losses: Mapping[str, Tensor]) -> dict[str, float]:
    """Compare the gradients of the heads' losses, stage by stage.

    Runs a backward pass a head over the graph that is there and leaves it usable; no gradient
    is stored in any parameter.

    Args:
        network: that the losses came through.
        losses: one scalar a head.

    Returns:
        Cosines as `<stage>/<head>~<other head>`, for heads that both have a gradient there.
    """
    stages = {
        name: [p for p in stage.parameters() if p.requires_grad]
        for name, stage in trunk_stages(network).items()
        if any(p.requires_grad for p in stage.parameters())
    }
    parameters = [parameter for stage in stages.values() for parameter in stage]
    if not parameters:  # new heads on a frozen trunk
        return {}
    found: dict[str, dict[str, Tensor]] = {name: {} for name in stages}
    for head, loss in losses.items():
        grads = torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True)
        by_parameter = dict(zip(parameters, grads, strict=True))
        for name, stage in stages.items():
            flat = [_or_zero(by_parameter[p], p).flatten() for p in stage]
            found[name][head] = torch.cat(flat).double()
    return {
        f"{name}/{one}~{other}": cosine
        for name, gradients in found.items()
        for one, other in combinations(gradients, 2)
        if (cosine := _cosine(gradients[one], gradients[other])) is not None
    }


def _cosine(one: Tensor, other: Tensor) -> float | None:
    lengths = float(one.norm() * other.norm())
    return float(one @ other) / lengths if lengths else None


def _or_zero(gradient: Tensor | None, like: Tensor) -> Tensor:
    return torch.zeros_like(like) if gradient is None else gradient
