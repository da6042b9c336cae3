"""Counts of a network: layers, parameters and multiply-adds of each part."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from vision_heads.spec import STAGES, ModelSpec

if TYPE_CHECKING:
    from torch import nn

METADATA_KEY = "vision_heads_measures"
"""Where exported files carry their measures, so that reading them needs no torch."""


@dataclass(frozen=True, slots=True)
class Part:
    """One part of a network.

    Attributes:
        name: "backbone", "neck" or a head's name.
        layers: convolutions.
        parameters: trained numbers; batch norms count, as everywhere in this field.
        flops: 2 x multiply-adds of one picture; activations and resizing are not counted.
    """

    name: str
    layers: int
    parameters: int
    flops: int


@dataclass(frozen=True, slots=True)
class StageCopy:
    """One copy of a neck stage; what it has is part of the neck's.

    Attributes:
        stage: one of `spec.STAGES`.
        copy: its number among the stage's groups.
        layers, parameters, flops: as of a `Part`.
    """

    stage: str
    copy: int
    layers: int
    parameters: int
    flops: int


@dataclass(frozen=True, slots=True)
class Measures:
    """A network's parts, and the input size their flops are for.

    Attributes:
        height, width: of the input, pixels.
        parts: backbone, neck and every head.
        neck: every copy of every neck stage, in the order they run; empty where a file that was
            exported before there were copies does not tell.
    """

    height: int
    width: int
    parts: tuple[Part, ...]
    neck: tuple[StageCopy, ...] = ()

    @property
    def total(self) -> Part:
        """Sum of all parts."""
        return Part(
            "total",
            sum(part.layers for part in self.parts),
            sum(part.parameters for part in self.parts),
            sum(part.flops for part in self.parts),
        )

    def to_json(self) -> str:
        """Serialise for a file's metadata."""
        return json.dumps(asdict(self), separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> Measures:
        """Parse what `to_json` wrote; `ValueError` when it is something else."""
        try:
            content: dict[str, Any] = json.loads(text)
            parts = tuple(Part(**part) for part in content["parts"])
            neck = tuple(StageCopy(**copy) for copy in content.get("neck", ()))
            return cls(int(content["height"]), int(content["width"]), parts, neck)
        except (KeyError, TypeError, OverflowError, RecursionError) as error:
            raise ValueError(f"no measures: {error}") from error


def measure(spec: ModelSpec, height: int | None = None, width: int | None = None) -> Measures:
    """Count a network without building its weights.

    Args:
        spec: the model.
        height, width: input size the flops are for, pixels; the spec's own when None.

    Raises:
        ImportError: torch is not installed.
    """
    import torch  # noqa: PLC0415
    from torch.utils.flop_counter import FlopCounterMode  # noqa: PLC0415

    from vision_heads.network import Network  # noqa: PLC0415
    from vision_heads.trunk.hepan import place_of  # noqa: PLC0415

    height, width = height or spec.input.height, width or spec.input.width
    with torch.device("meta"):  # shapes only: no memory, no arithmetic
        network = Network(spec).eval()
        images = torch.empty(1, 3, height, width)
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        network(images)
    counts = counter.get_flop_counts()
    modules = {"backbone": network.backbone, "neck": network.neck}
    modules |= {f"heads.{name}": head for name, head in network.heads.items()}
    parts = tuple(
        Part(path.removeprefix("heads."), *_counted(module, counts.get(f"Network.{path}", {})))
        for path, module in modules.items()
    )
    neck = tuple(
        StageCopy(stage, copy, *_counted(network.neck.copy_of(stage, copy), counts.get(path, {})))
        for stage, copy in used_copies(spec)
        for path in [f"Network.neck.{'.'.join(place_of(stage, copy))}"]
    )
    return Measures(height, width, parts, neck)


def used_copies(spec: ModelSpec) -> list[tuple[str, int]]:
    """Return the (stage, copy) pairs of a model's neck that some head's maps come through."""
    used = {pair for head in spec.heads for pair in spec.route(head.name).items()}
    return sorted(used, key=lambda pair: (STAGES.index(pair[0]), pair[1]))


def separate(spec: ModelSpec, measures: Measures) -> tuple[Part, ...] | None:
    """Return what a model of each head alone would count; needs no torch.

    A stage costs the same in every model of a size, so a head's own model is the backbone, the
    stages that its levels need and the head.

    Returns:
        By head; None when the measures do not tell the neck's stages.
    """
    if not measures.neck:
        return None
    backbone, _, *heads = measures.parts
    stages = {copy.stage: copy for copy in measures.neck}
    found = []
    for head, part in zip(spec.heads, heads, strict=True):
        alone = ModelSpec(size=spec.size, heads=(head,))
        own: list[Part | StageCopy] = [backbone, part]
        own += [stages[stage] for stage in alone.stages]
        found.append(
            Part(
                head.name,
                sum(counted.layers for counted in own),
                sum(counted.parameters for counted in own),
                sum(counted.flops for counted in own),
            )
        )
    return tuple(found)


def _counted(module: nn.Module, flops: Mapping[Any, int]) -> tuple[int, int, int]:
    """Return layers, parameters and flops of a module whose operators' flops are given."""
    from torch import nn  # noqa: PLC0415

    return (
        sum(isinstance(layer, nn.Conv2d) for layer in module.modules()),
        sum(parameter.numel() for parameter in module.parameters()),
        int(sum(flops.values())),
    )
