"""What groups of heads have computed so far, and how it passes from a group to a part of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor


class Flow:
    """The maps of one group of heads, by name; what the group lacks comes from the wider one.

    Passing on picks the rows that the smaller group needs, and on the way back averages: what
    n heads share gets the mean of the n heads' gradients (CerberusDet's rule,
    arXiv 2407.12632), so the gradient of a group of k of them is scaled by k / n.

    Args:
        heads: that take part in this pass.
        rows: of the batch that these maps hold, (R,) sorted; None for all of them.
        parent: the wider group.
    """

    def __init__(
        self, heads: Sequence[str], rows: Tensor | None, parent: Flow | None = None
    ) -> None:
        self.heads, self.rows, self.parent = tuple(heads), rows, parent
        self.maps: dict[str, Tensor] = {}
        self._index: Tensor | None = None
        if parent is not None and rows is not None:
            self._index = rows if parent.rows is None else torch.searchsorted(parent.rows, rows)

    def part(self, heads: Sequence[str], rows: Tensor | None) -> Flow:
        """Return the flow of a smaller group, or this one where nothing would change."""
        if len(heads) == len(self.heads) and (rows is None or self.rows is not None):
            return self
        return Flow(heads, rows, self)

    def __getitem__(self, name: str) -> Tensor:
        if name not in self.maps:
            assert self.parent is not None, f"nothing computed {name}"
            share = len(self.heads) / len(self.parent.heads)
            self.maps[name] = _pass_on(self.parent[name], self._index, share)
        return self.maps[name]

    def __setitem__(self, name: str, value: Tensor) -> None:
        self.maps[name] = value


def rows_of(heads: Sequence[str], routes: Mapping[str, Tensor] | None, batch: int) -> Tensor | None:
    """Return the sorted rows that some of the heads see, None when they see the whole batch."""
    if routes is None:
        return None
    rows = torch.unique(torch.cat([routes[name] for name in heads]))
    return None if len(rows) == batch else rows


class _ScaleGradient(torch.autograd.Function):
    """Identity forward; scales the gradient on its way back."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, factor: float) -> Tensor:
        ctx.factor = factor
        return value.view_as(value)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return grads[0] * ctx.factor, None


def _pass_on(value: Tensor, index: Tensor | None, share: float) -> Tensor:
    picked = value if index is None else value[index]
    if share == 1 or not torch.is_grad_enabled():
        return picked
    scaled: Tensor = _ScaleGradient.apply(picked, share)
    return scaled
