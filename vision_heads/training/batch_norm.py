"""Batch norm by head: each head's rows of a mixed batch are normalised on their own.

Data sets differ in their looks; in a mixed batch every picture is normalised by the statistics
of all of them together. Here the trunk's batch norms take the rows of each head by themselves in
training, and their running statistics follow the heads' mean, so that inference stays as it is.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional

from vision_heads.network import Network


class BatchNormByHead(nn.BatchNorm2d):
    """A batch norm whose rows in training are normalised in the groups that `groups` lists.

    Without groups, and in eval mode, it is the batch norm it was made of. It shares the other's
    parameters and buffers, under the same names.
    """

    groups: tuple[Tensor, ...] | None = None
    """Rows of each group; together every row once."""

    @classmethod
    def of(cls, norm: nn.BatchNorm2d) -> BatchNormByHead:
        """Take a batch norm's place."""
        made = cls(norm.num_features, norm.eps, norm.momentum)
        made._parameters, made._buffers = norm._parameters, norm._buffers
        return made.train(norm.training)

    def forward(self, x: Tensor) -> Tensor:
        """Normalise (B, C, H, W)."""
        if not self.training or self.groups is None:
            plain: Tensor = super().forward(x)
            return plain
        parts, means, variances = [], [], []
        for rows in self.groups:
            part = x[rows]
            # One value has no spread; it is taken as in eval mode.
            alone = part.numel() <= self.num_features
            mean, variance = (self._buffers[n] for n in ("running_mean", "running_var"))
            assert mean is not None and variance is not None
            if not alone:
                mean, variance = torch.zeros_like(mean), torch.ones_like(variance)
                means.append(mean)
                variances.append(variance)
            # With a momentum of 1 the buffers hold this group's statistics afterwards.
            parts.append(
                functional.batch_norm(
                    part, mean, variance, self.weight, self.bias, not alone, 1.0, self.eps
                )
            )
        self._follow(means, variances)
        place = torch.argsort(torch.cat(self.groups))
        return torch.cat(parts)[place]

    @torch.no_grad()
    def _follow(self, means: list[Tensor], variances: list[Tensor]) -> None:
        if means and self.running_mean is not None and self.running_var is not None:
            assert self.momentum is not None and self.num_batches_tracked is not None
            self.running_mean.lerp_(torch.stack(means).mean(0), self.momentum)
            self.running_var.lerp_(torch.stack(variances).mean(0), self.momentum)
            self.num_batches_tracked.add_(1)


def split_by_head(network: Network) -> None:
    """Replace the trunk's batch norms, in place; heads have their own rows already."""
    for part in (network.backbone, network.neck):
        for parent in list(part.modules()):
            for name, child in parent.named_children():
                if isinstance(child, nn.BatchNorm2d):
                    setattr(parent, name, BatchNormByHead.of(child))


@contextmanager
def grouped(network: Network, routes: Mapping[str, Tensor]) -> Iterator[None]:
    """Tell the trunk's batch norms whose rows are whose, for one pass.

    Args:
        network: prepared by `split_by_head`.
        routes: rows of the batch by head, sorted; every row belongs to exactly one head.
    """
    try:
        _assign(network.backbone, list(routes.values()))
        for stage in network.spec.stages:
            for copy in range(len(network.spec.groups(stage))):
                heads = [n for n in routes if network.spec.route(n).get(stage) == copy]
                if heads:
                    _assign(network.neck.copy_of(stage, copy), [routes[name] for name in heads])
        yield
    finally:
        for module in network.modules():
            if isinstance(module, BatchNormByHead):
                module.groups = None


def _assign(part: nn.Module, rows: list[Tensor]) -> None:
    """Number the rows within those that reach this part, which keep their order."""
    reaching = torch.cat(rows).sort().values
    groups = tuple(torch.searchsorted(reaching, own) for own in rows if len(own))
    for module in part.modules():
        if isinstance(module, BatchNormByHead):
            module.groups = groups or None
