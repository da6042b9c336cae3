"""Heads that stop before the run ends: when, and what stays as it was.

A frozen head trains nothing: its pictures are no longer drawn, its own layers are no longer run
in training, and what n heads share is averaged over those that still train. Its layers, and the
neck stages that only frozen heads use, take their averaged weights, which validation judges, and
keep them. The trunk that others still train moves on beneath it, so a head is best stopped late.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

import torch
from torch import nn

from vision_heads.network import Network
from vision_heads.training.config import HeadConfig


class Freezing:
    """Which heads stop after which epoch; part of the resumable state.

    Args:
        heads: settings by name; `freeze_after` and `patience` are read.
    """

    def __init__(self, heads: Mapping[str, HeadConfig]) -> None:
        self.patience = {name: head.patience for name, head in heads.items() if head.patience}
        self.after: dict[str, int] = {
            name: head.freeze_after for name, head in heads.items() if head.freeze_after
        }
        """Epochs that each head trains, of those of which it is known."""
        self.best: dict[str, float] = {}
        self.waited: dict[str, int] = {}

    def judge(self, marks: Mapping[str, float], epochs: int) -> None:
        """Take in a validation: a head that has waited too long stops.

        Args:
            marks: figure of each head, larger is better; see `validate.marks`.
            epochs: done so far.
        """
        for name, patience in self.patience.items():
            if name not in marks or self.frozen(name, epochs):
                continue
            # A head that has found nothing yet has not begun.
            if marks[name] > self.best.get(name, 0.0) or not self.best.get(name):
                self.best[name], self.waited[name] = marks[name], 0
                continue
            self.waited[name] += 1
            if self.waited[name] >= patience:
                self.after[name] = epochs

    def frozen(self, name: str, epochs: int) -> bool:
        """Whether a head trains no more after that many epochs."""
        return name in self.after and self.after[name] <= epochs

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        return {"after": self.after, "best": self.best, "waited": self.waited}

    def restore(self, record: Mapping[str, Any]) -> None:
        """Take over what `to_dict` gave."""
        self.after = dict(record["after"])
        self.best, self.waited = dict(record["best"]), dict(record["waited"])

    def resume(self, record: Mapping[str, Any], epochs: int) -> None:
        """Take over what `to_dict` gave, and stop the heads that still train as settings say now.

        Args:
            record: of the run that is resumed.
            epochs: done so far; a head that should have stopped before stops after the next one.
        """
        planned = self.after
        self.restore(record)
        stopped = {name: after for name, after in self.after.items() if after <= epochs}
        self.after = {name: max(after, epochs + 1) for name, after in planned.items()} | stopped


@torch.no_grad()
def settle(network: Network, average: Network, frozen: Collection[str]) -> None:
    """Give what only frozen heads use its averaged weights, in place.

    Args:
        network: in training.
        average: its moving average, of the same spec.
        frozen: names of all heads that train no more.
    """
    for part, source in zip(own_parts(network, frozen), own_parts(average, frozen), strict=True):
        part.load_state_dict(source.state_dict())


def own_parts(network: Network, names: Collection[str]) -> Iterator[nn.Module]:
    """Yield the heads of these names and the copies of neck stages that no other head uses."""
    yield from (network.heads[name] for name in names)
    routes = {head.name: set(network.spec.route(head.name).items()) for head in network.spec.heads}
    used = set().union(*(places for name, places in routes.items() if name not in names))
    own = set().union(*(routes[name] for name in names)) - used
    yield from (network.neck.copy_of(stage, copy) for stage, copy in sorted(own))
