"""Muon: momentum whose every step is made orthogonal, for convolutions; AdamW for the rest.

K. Jordan et al., "Muon: an optimizer for hidden layers in neural networks", 2024; the step's size
as in "Muon is scalable for LLM training" (arXiv 2502.16982), so that it has AdamW's learning rate.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

# Newton-Schulz: x -> a x + b x^3 + c x^5 takes singular values of 0.05 to 1 close to 1.
QUINTIC = (3.4445, -4.7750, 2.0315)
ITERATIONS = 5
RMS = 0.2
"""Root mean square of a step's entries, times the learning rate: about that of AdamW."""


class Muon(torch.optim.Optimizer):
    """Steps of orthogonal matrices for groups with `matrix: True`, of AdamW for the others.

    Args:
        groups: parameter groups. Those with `matrix: True` hold tensors of two or more
            dimensions, taken as matrices of (first dimension, all others).
        lr: learning rate.
        momentum: of the matrices' gradients, and the first beta of the others.
        second: second beta of the others.
    """

    def __init__(
        self,
        groups: Iterable[dict[str, Any]],
        lr: float,
        momentum: float = 0.9,
        second: float = 0.999,
    ) -> None:
        defaults = {"lr": lr, "momentum": momentum, "second": second, "weight_decay": 0.0}
        super().__init__(groups, {**defaults, "matrix": False})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Move the weights one step."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            moving = [p for p in group["params"] if p.grad is not None]
            for parameter in moving:
                parameter.mul_(1 - group["lr"] * group["weight_decay"])
            if group["matrix"]:
                self._matrices(moving, group)
            else:
                self._others(moving, group)
        return loss

    def _matrices(self, moving: list[Tensor], group: dict[str, Any]) -> None:
        """Nesterov momentum, made orthogonal; matrices of one shape together."""
        alike: dict[tuple[int, int], list[tuple[Tensor, Tensor]]] = defaultdict(list)
        for parameter in moving:
            state = self.state[parameter]
            if not state:
                state["momentum"] = torch.zeros_like(parameter)
            mean: Tensor = state["momentum"]
            gradient: Any = parameter.grad
            mean.lerp_(gradient, 1 - group["momentum"])
            matrix = torch.lerp(gradient, mean, group["momentum"]).flatten(1)
            alike[matrix.shape[0], matrix.shape[1]].append((parameter, matrix))
        for (rows, columns), pairs in alike.items():
            steps = orthogonal(torch.stack([matrix for _, matrix in pairs]))
            size = group["lr"] * RMS * max(rows, columns) ** 0.5
            for (parameter, _), step in zip(pairs, steps, strict=True):
                parameter.sub_(step.view_as(parameter), alpha=size)

    def _others(self, moving: list[Tensor], group: dict[str, Any]) -> None:
        first, second = group["momentum"], group["second"]
        for parameter in moving:
            state = self.state[parameter]
            if not state:
                state["step"] = torch.zeros(())
                state["mean"] = torch.zeros_like(parameter)
                state["square"] = torch.zeros_like(parameter)
            state["step"] += 1
            step = float(state["step"])
            gradient: Any = parameter.grad
            state["mean"].lerp_(gradient, 1 - first)
            state["square"].lerp_(gradient.square(), 1 - second)
            spread = (state["square"] / (1 - second**step)).sqrt_().add_(1e-8)
            parameter.addcdiv_(state["mean"], spread, value=-group["lr"] / (1 - first**step))


def orthogonal(matrices: Tensor) -> Tensor:
    """Return the orthogonal matrices nearest to (N, rows, columns), roughly (Newton-Schulz)."""
    wide = matrices.shape[1] <= matrices.shape[2]
    x: Tensor = matrices if wide else matrices.mT
    x = x / (x.flatten(1).norm(dim=1).view(-1, 1, 1) + 1e-7)
    a, b, c = QUINTIC
    for _ in range(ITERATIONS):
        square = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(square, square, square, beta=b, alpha=c), x, beta=a)
    return x if wide else x.mT
