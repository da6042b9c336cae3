"""How the heads' losses become one: fixed weights, or weights learned from their uncertainty.

Learned weights follow Kendall, Gal and Cipolla (arXiv 1705.07115). Each head has a log-variance
s, and the sum is taken over exp(-s) * loss + s: a head whose loss stays large gets a smaller
factor, and the second term keeps factors from shrinking to nothing. The paper's halves are left
out, so that s = 0 starts at the fixed weights.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Protocol

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from vision_heads.training.config import TrainConfig


class Weighting(Protocol):
    """Makes one loss of all; each part's fixed weights are already in it."""

    def parameters(self) -> list[nn.Parameter]:
        """Return what the optimizer moves."""
        ...

    def total(self, losses: Mapping[str, Tensor], present: Collection[str]) -> Tensor:
        """Return the scalar to minimise.

        Args:
            losses: by `<head>/<part>`.
            present: heads with pictures in this batch, of whichever process.
        """
        ...

    def share(self, accelerator: Accelerator) -> None:
        """Average its gradients over processes; accelerate does it for the network's alone."""
        ...

    def figures(self) -> dict[str, float]:
        """Return the learned factor of each head, for the journal."""
        ...

    def to_dict(self) -> dict[str, float]:
        """Return JSON values; floats survive exactly."""
        ...

    def restore(self, record: Mapping[str, float]) -> None:
        """Take over what `to_dict` gave."""
        ...


class Fixed:
    """The plain sum."""

    def parameters(self) -> list[nn.Parameter]:
        """None."""
        return []

    def total(self, losses: Mapping[str, Tensor], present: Collection[str]) -> Tensor:
        """Sum everything."""
        return torch.stack(list(losses.values())).sum()

    def share(self, accelerator: Accelerator) -> None:
        """Nothing to average."""

    def figures(self) -> dict[str, float]:
        """None."""
        return {}

    def to_dict(self) -> dict[str, float]:
        """Empty."""
        return {}

    def restore(self, record: Mapping[str, float]) -> None:
        """Nothing to take over."""


class Uncertainty:
    """A learned log-variance for each head.

    A head without pictures in a batch has no say in its factor, as its loss says nothing.

    Args:
        heads: names.
        device: of the losses.
    """

    def __init__(self, heads: Collection[str], device: torch.device) -> None:
        self.log_variances = {name: nn.Parameter(torch.zeros((), device=device)) for name in heads}

    def parameters(self) -> list[nn.Parameter]:
        """One number a head."""
        return list(self.log_variances.values())

    def total(self, losses: Mapping[str, Tensor], present: Collection[str]) -> Tensor:
        """Sum exp(-s) * loss + s over the heads that have pictures."""
        terms = []
        for name, value in sums_by_head(losses).items():
            if name in present:
                spread = self.log_variances[name]
                terms.append(torch.exp(-spread) * value + spread)
            else:
                # Still part of the graph: every process must give every weight a gradient.
                terms.append(value)
        return torch.stack(terms).sum()

    def share(self, accelerator: Accelerator) -> None:
        """Average the gradients of the log-variances."""
        if accelerator.num_processes == 1:
            return
        for parameter in self.parameters():
            if parameter.grad is not None:
                parameter.grad = accelerator.reduce(parameter.grad, "mean")

    def figures(self) -> dict[str, float]:
        """Return exp(-s) as `<head>`."""
        return {n: float(torch.exp(-v.detach())) for n, v in self.log_variances.items()}

    def to_dict(self) -> dict[str, float]:
        """Return the log-variances."""
        return {name: float(value.detach()) for name, value in self.log_variances.items()}

    def restore(self, record: Mapping[str, float]) -> None:
        """Set the log-variances."""
        with torch.no_grad():
            for name, value in record.items():
                self.log_variances[name].fill_(value)


def make_weighting(config: TrainConfig, device: torch.device) -> Weighting:
    """Return what the settings ask for."""
    if config.loss_weighting == "fixed":
        return Fixed()
    return Uncertainty(config.heads, device)


def sums_by_head(losses: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Add up `<head>/<part>` losses by head."""
    sums: dict[str, Tensor] = {}
    for name, value in losses.items():
        head = name.partition("/")[0]
        sums[head] = sums[head] + value if head in sums else value
    return sums
