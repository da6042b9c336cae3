"""Optimizer, learning-rate schedule and the moving average of the weights."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn

from vision_heads.training.config import OptimizerConfig
from vision_heads.training.muon import Muon

COLOURS = 3


def make_optimizer(
    network: nn.Module, config: OptimizerConfig, others: Sequence[nn.Parameter] = ()
) -> torch.optim.Optimizer:
    """Build the optimizer; only weights of two or more dimensions decay.

    Args:
        network: whose weights move.
        config: how.
        others: parameters beside the network's.
    """
    parameters = [p for p in network.parameters() if p.requires_grad]
    matrices = _matrices(network) if config.name == "muon" else set()
    groups: list[dict[str, Any]] = [
        {
            "params": [p for p in parameters if p.ndim > 1 and p not in matrices],
            "weight_decay": config.weight_decay,
        },
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    if others:
        groups.append({"params": list(others), "weight_decay": 0.0})
    if config.name == "muon":
        moved = [p for p in parameters if p in matrices]
        groups.append({"params": moved, "weight_decay": config.weight_decay, "matrix": True})
        return Muon(groups, lr=config.lr, momentum=config.momentum)
    if config.name == "adamw":
        return torch.optim.AdamW(groups, lr=config.lr, betas=(config.momentum, 0.999))
    momentum = config.momentum
    # Nesterov's step needs a momentum.
    return torch.optim.SGD(groups, lr=config.lr, momentum=momentum, nesterov=momentum > 0)


def _matrices(network: nn.Module) -> set[Tensor]:
    """Weights that mix channels of hidden layers: not the first, depthwise or last convolutions."""
    return {
        module.weight
        for module in network.modules()
        if isinstance(module, nn.Conv2d)
        and (module.groups, module.bias) == (1, None)
        and module.in_channels > COLOURS
        and module.weight.requires_grad
    }


def learning_rate(
    config: OptimizerConfig, step: float, steps_per_epoch: int, total_steps: int
) -> float:
    """Return the learning rate of a step: linear warm-up, then a cosine to `final`.

    Args:
        config: peak, `final` and warm-up.
        step: batches since the run began; parts of one where frozen heads shorten epochs.
        steps_per_epoch, total_steps: of the whole run, as if no head froze.
    """
    warmup = max(int(config.warmup_epochs * steps_per_epoch), config.warmup_steps)
    warmup = min(warmup, total_steps // 2)
    if step < warmup:
        return config.lr * min(step + 1, warmup) / warmup  # frozen heads make steps of parts
    progress = (step - warmup) / max(1, total_steps - warmup)
    cosine = (1 + math.cos(math.pi * min(progress, 1.0))) / 2
    return config.lr * (config.final + (1 - config.final) * cosine)


class Ema:
    """Moving average of weights and batch-norm statistics.

    The decay ramps up, so that the average forgets the random start.

    Args:
        network: whose weights are averaged; copied.
        decay: 0 keeps a plain copy of the latest weights.
        still: names of tensors that do not move; they are never touched.
    """

    RAMP = 2000

    def __init__(self, network: nn.Module, decay: float, still: Collection[str] = ()) -> None:
        self.network = deepcopy(network).eval().requires_grad_(False)
        self.decay, self.updates, self.still = decay, 0, still

    @torch.no_grad()
    def update(self, network: nn.Module) -> None:
        """Take one step towards `network`."""
        self.updates += 1
        keep = self.decay * (1 - math.exp(-self.updates / self.RAMP))
        new: dict[str, Tensor] = network.state_dict()
        for name, value in self.network.state_dict().items():
            if name in self.still:
                continue
            if value.is_floating_point():
                value.lerp_(new[name], 1 - keep)
            else:
                value.copy_(new[name])
