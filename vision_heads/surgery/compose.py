"""Which tensors compute a head, and how they move into a model where they have other names.

A head is computed by the backbone, one copy of each neck stage on its way, and its own layers.
Copies are numbered by their group's place in the model's plan, so the same tensors have other
names in a model with other heads. Every operation here is therefore: describe the new model, say
where each of its heads comes from, and carry the tensors over part by part.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from vision_heads.spec import ModelSpec
from vision_heads.surgery.model import Model
from vision_heads.trunk.hepan import place_of

BACKBONE, HEAD = "backbone", "head"
"""Parts of a head beside the neck's stages."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a head of a new model comes from.

    Attributes:
        model: that has it.
        head: its name there.
    """

    model: Model
    head: str

    def tensors(self, part: str) -> dict[str, Tensor]:
        """Return a part's tensors by their name within it; none where the head has no such part."""
        module = modules_of(self.model.spec, self.head).get(part)
        return {} if module is None else _within(self.model.state, module)


def modules_of(spec: ModelSpec, head: str) -> dict[str, str]:
    """Return what computes a head: its parts (`BACKBONE`, neck stages, `HEAD`) and their modules.

    Example:
        >>> modules_of(spec, "b")
        {'backbone': 'backbone', 'down_p4': 'neck.down_stages.p4_1', ..., 'head': 'heads.b'}
    """
    stages = {
        stage: ".".join(("neck", *place_of(stage, copy)))
        for stage, copy in spec.route(head).items()
    }
    return {BACKBONE: "backbone", **stages, HEAD: f"heads.{head}"}


def compose(spec: ModelSpec, origins: Mapping[str, Origin]) -> dict[str, Tensor]:
    """Return the tensors of a model whose heads come from other models.

    Args:
        spec: the new model.
        origins: where each of its heads comes from. Heads that share a module in the new model
            must have equal tensors for it; which one's are taken makes no difference then.

    Returns:
        Tensors by their new names; parts that an origin lacks are left out.
    """
    state: dict[str, Tensor] = {}
    for name, origin in origins.items():
        for part, module in modules_of(spec, name).items():
            state |= {f"{module}.{n}": v for n, v in origin.tensors(part).items()}
    return state


def first_difference(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> str | None:
    """Return the first name whose tensors are not bit-equal in both, None when all are."""
    for name in (*one, *(name for name in other if name not in one)):
        if name not in one or name not in other or not torch.equal(one[name], other[name]):
            return name
    return None


def _within(state: Mapping[str, Tensor], module: str) -> dict[str, Tensor]:
    prefix = f"{module}."
    return {n.removeprefix(prefix): v for n, v in state.items() if n.startswith(prefix)}
