"""Training new heads on a trunk that stays as it is, down to the last bit.

What the base model's file holds is frozen: no gradient, no weight decay, no averaging, and its
batch norms use and keep their stored statistics. So the old heads compute after the training what
they computed before it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from vision_heads.errors import UserError, require
from vision_heads.network import Network, read_spec
from vision_heads.spec import ModelSpec
from vision_heads.surgery.compose import first_difference
from vision_heads.surgery.grow import Growth, grow
from vision_heads.surgery.model import is_half, read_model, stored_state
from vision_heads.training.config import TrainConfig

_OF_THE_BASE = ("size", "fusion", "activation", "candidates")


def complete(settings: dict[str, Any], model: Path) -> None:
    """Fill up the settings of a run that adds heads with the model's own, in place.

    Args:
        settings: nested plain values, as given.
        model: the weights that get the heads.

    Raises:
        UserError: the file cannot be read.
    """
    spec = read_spec(model)
    for field in _OF_THE_BASE:
        settings.setdefault(field, getattr(spec, field))
    settings.setdefault("imgsz", [spec.input.height, spec.input.width])
    settings.setdefault("keep_half", is_half(model))
    add_to = settings.setdefault("add_to", {})
    heads = settings.get("heads")
    require(isinstance(add_to, dict), "add_to: must be settings: branch, like")
    add_to["model"] = str(model)
    for head in heads.values() if isinstance(heads, dict) else ():
        if isinstance(head, dict):
            head.setdefault("levels", list(spec.levels))


def growth_of(config: TrainConfig, new: ModelSpec) -> Growth | None:
    """Return what a run adds to which model, None when it trains a model of its own.

    Args:
        config: the run's settings; `add_to` names the model.
        new: the spec that the settings alone describe, with the new heads.

    Raises:
        UserError: the model does not fit the settings, or cannot take the heads.
    """
    add = config.add_to
    if add is None:
        return None
    base = read_model(add.model)
    for field in _OF_THE_BASE:
        wanted, there = getattr(new, field), getattr(base.spec, field)
        require(wanted == there, f"{field}: {wanted}, but {base.file} has {there}")
    require(not config.branches, "branches: are the model's; use add_to.branch")
    require(not config.merge, "merge: is the model's; give one to vh detect instead")
    require(not config.init, f"init: the start is {base.file} itself")
    require(
        base.half or not config.keep_half,
        f"keep_half: {base.file} is FP32, and rounding it to FP16 would change what its heads "
        "find; use --set keep_half=false",
    )
    return grow(base, new.heads, branch=add.branch, like=add.like, provenance=new.provenance)


def grown_network(growth: Growth) -> Network:
    """Build the network to train: the base, copies of it in new branches, new heads at random."""
    network = Network(growth.spec)
    network.load_state_dict(growth.start, strict=False)
    return network


def described(network: Network, growth: Growth) -> str:
    """Say in one line what is added to what, and how much of it is trained."""
    counts = {name: value.numel() for name, value in network.named_parameters()}
    trained = sum(count for name, count in counts.items() if name not in growth.frozen)
    return (
        f"add {', '.join(growth.added)} to {growth.base.file}: {trained:,} of "
        f"{sum(counts.values()):,} parameters are trained, the others stay as they are"
    )


def freeze(network: nn.Module, growth: Growth) -> None:
    """Take everything that the base holds out of training."""
    for name, parameter in network.named_parameters():
        if name in growth.frozen:
            parameter.requires_grad_(False)


def rest_frozen_norms(network: nn.Module) -> None:
    """Keep batch norms whose weights are frozen on their statistics; call after `train()`."""
    for module in network.modules():
        if isinstance(module, _BatchNorm) and not module.weight.requires_grad:
            module.eval()


def check_unchanged(network: Network, growth: Growth) -> None:
    """Check that a resumed run holds the same base as its settings name.

    Raises:
        UserError: the file has been replaced since the run began.
    """
    held = stored_state(network)
    name = first_difference(growth.base.state, {n: held[n].cpu() for n in growth.frozen})
    if name:
        raise UserError(
            f"{growth.base.file}: {name} differs from what this run began with; put that file back"
        )
