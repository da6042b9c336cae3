"""Trained single-head models that teach their heads in a joint one (response distillation).

A teacher sees the same augmented pixels as its pupil, in eval mode and without gradients; what
of its raw predictions is learned, and how, is the kind's own (`heads/<kind>/distil.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from vision_heads.errors import UserError, require
from vision_heads.network import Network, fuse, load_network
from vision_heads.runtime.engines import safetensors_of
from vision_heads.spec import HeadSpec
from vision_heads.training.config import TrainConfig


class Teachers:
    """The teachers of a run's heads; none where no head has one.

    Args:
        config: `heads.<name>.teacher` and `teacher_weight` are read.
        network: the pupil.

    Raises:
        UserError: a teacher cannot be read or does not fit its head; names the setting.
    """

    def __init__(self, config: TrainConfig, network: Network) -> None:
        self.weights = {n: h.teacher_weight for n, h in config.heads.items() if h.teacher}
        self.networks: dict[str, Network] = {}
        self.names: dict[str, str] = {}
        for name, head in config.heads.items():
            if head.teacher:
                place = f"heads.{name}.teacher"
                teacher = load_network(safetensors_of(head.teacher))
                theirs = _head_of(teacher, name, f"{place}: {head.teacher}")
                _check_fit(network, name, teacher, theirs, f"{place}: {head.teacher}")
                device = next(network.parameters()).device
                fuse(teacher).requires_grad_(False).to(device)
                teacher.to(memory_format=torch.channels_last)
                self.networks[name], self.names[name] = teacher, theirs.name

    def losses(
        self,
        images: Tensor,
        routes: Mapping[str, Tensor],
        raw: Mapping[str, Mapping[str, Tensor]],
        heads: nn.ModuleDict,
    ) -> dict[str, Tensor]:
        """Return what each teacher has to say as `<head>/teacher_<part>`, weighted.

        Args:
            images: (B, 3, H, W) the whole batch.
            routes: rows of each head.
            raw: the pupil's predictions on these rows.
            heads: of the pupil.
        """
        losses: dict[str, Tensor] = {}
        for name, teacher in self.networks.items():
            if name not in routes:
                continue
            with torch.no_grad():
                theirs = self.names[name]
                maps = teacher.features(images[routes[name]], [theirs])[theirs]
                said = teacher.heads[theirs](maps)
            pupil: Any = heads[name]
            for part, value in pupil.distil(raw[name], said).items():
                losses[f"{name}/teacher_{part}"] = value * self.weights[name]
        return losses


def _head_of(teacher: Network, name: str, where: str) -> HeadSpec:
    heads = {head.name: head for head in teacher.spec.heads}
    if name in heads:
        return heads[name]
    require(len(heads) == 1, f"{where}: has no head {name!r}, but {list(heads)}")
    return next(iter(heads.values()))


def _check_fit(network: Network, name: str, teacher: Network, theirs: HeadSpec, where: str) -> None:
    ours = network.spec.head(name)
    for field in ("kind", "classes", "levels"):
        mine, other = getattr(ours, field), getattr(theirs, field)
        if mine != other:
            raise UserError(f"{where}: its {field} {_plain(other)} are not {_plain(mine)}")
    require(
        hasattr(network.heads[name], "distil"), f"{where}: the kind {ours.kind} cannot be taught"
    )
    # What options make of the raw predictions, e.g. their bins, shows in their shapes.
    shapes = [_shapes(network, name), _shapes(teacher, theirs.name)]
    if shapes[0] != shapes[1]:
        key = next(k for k in shapes[0] | shapes[1] if shapes[0].get(k) != shapes[1].get(k))
        raise UserError(
            f"{where}: its options {theirs.options} give other predictions than {ours.options} "
            f"({key}: {shapes[1].get(key)}, not {shapes[0].get(key)})"
        )


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _shapes(network: Network, name: str) -> dict[str, tuple[int, ...]]:
    """Channels of a head's raw predictions by name; found on a model without memory."""
    with torch.device("meta"):
        empty = Network(network.spec).eval()
        raw = empty.heads[name](empty.features(torch.empty(1, 3, 64, 64), [name])[name])
    return {key: tuple(value.shape) for key, value in raw.items()}
