"""Untrained models whose every number is their own, and how to tell that two compute the same."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import nn

from vision_heads.network import Network, fill_network
from vision_heads.spec import HeadSpec, InputSpec, ModelSpec
from vision_heads.surgery.cut import Made
from vision_heads.surgery.model import Model, stored_state

LEVELS = {"a": (2, 3, 4, 5), "b": (3, 4, 5), "c": (2, 3)}
BRANCHES = {"down_p3": [["a", "b"], ["c"]], "up_p4": [["a"], ["b"], ["c"]]}


def spec_of(levels: Mapping[str, tuple[int, ...]] = LEVELS, **changes) -> ModelSpec:
    heads = tuple(HeadSpec(name=n, classes=("x", "y"), levels=v) for n, v in levels.items())
    settings = {"input": InputSpec(height=64, width=64), "heads": heads, "candidates": 20}
    return ModelSpec.model_validate(settings | changes)


@torch.no_grad()
def network_of(spec: ModelSpec, seed: int = 0, *, half: bool = False) -> Network:
    """Build a network with statistics of batch norms that are not the identity's."""
    torch.manual_seed(seed)
    network = Network(spec)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
            module.bias.normal_(0, 0.1)
    network.backbone.stem.conv.weight[0, 0, 0, 0] = -0.0
    if half:
        for value in network.state_dict().values():
            if value.is_floating_point():
                value.copy_(value.half())
    return network.eval()


def model_of(spec: ModelSpec, seed: int = 0, name: str = "m.safetensors") -> Model:
    network = network_of(spec, seed)
    return Model(Path(name), spec, stored_state(network), half=False)


def built(made: Made | Model) -> Network:
    spec, state = (made.spec, made.state) if isinstance(made, Model) else made
    return fill_network(spec, state, "made").eval()


def pictures(seed: int = 0, height: int = 64, width: int = 64) -> torch.Tensor:
    return torch.rand(2, 3, height, width, generator=torch.Generator().manual_seed(seed))


@torch.no_grad()
def assert_same_outputs(
    one: Network, other: Network, names: Mapping[str, str], images: torch.Tensor
) -> None:
    """Each head of `one` gives bit by bit what its namesake in `other` gives, also exported."""
    before, after = one(images), other(images)
    for old, new in names.items():
        assert before[old].keys() == after[new].keys()
        for key, value in before[old].items():
            assert torch.equal(value, after[new][key]), (old, new, key)
        exported = [
            network.heads[name].export(raw[name], network.spec.candidates)
            for network, raw, name in ((one, before, old), (other, after, new))
        ]
        assert all(torch.equal(value, exported[1][key]) for key, value in exported[0].items())


def assert_same_bits(one: Mapping[str, torch.Tensor], other: Mapping[str, torch.Tensor]) -> None:
    """Every tensor of `one` is in `other`, also the sign of its zeros."""
    for name, value in one.items():
        assert value.dtype == other[name].dtype, name
        bits = torch.int16 if value.element_size() == 2 else torch.int32
        assert torch.equal(value.view(bits), other[name].view(bits)), name
